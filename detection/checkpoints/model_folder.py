"""A model as a folder: whoever has it needs nothing else, and nothing of it is run.

config.json         what a checkpoint says beside its weights, in the same words, and `folder`
model.safetensors   the weights alone
README.md           the model's card, which is never read
SHA256SUMS          the hash of each file, as `sha256sum --check` takes it
people/             the people detector that goes with it: a folder of the same form
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from detection.checkpoints.plain_file import (
    MODEL_CONFIG,
    MODEL_SUMS,
    MODEL_WEIGHTS,
    SavedValues,
    brief,
    read_plain,
    read_safetensors,
    write_safetensors,
)
from detection.checkpoints.weights import shown
from detection.errors import UserError, at_row, first_few, printable
from detection.files import read_text, sha256_of, write_text
from detection.formats.json_text import json_text, read_json_object

ACTION_FORMAT, PEOPLE_FORMAT = "x3d-action-detection", "people-detector"
FOLDER_VERSION = 1
MODEL_CARD = "README.md"
PEOPLE_FOLDER = "people"
_PART = "folder"  # of config.json: what is of the folder, and of no checkpoint
# What config.json may have beside `format`, `version` and `folder`.
_KEYS = {
    ACTION_FORMAT: ("network", "label_map", "sampling", "config", "thresholds", "relevance"),
    PEOPLE_FORMAT: ("network", "classes", "config", "best_score"),
}
_READ = (MODEL_CONFIG, MODEL_WEIGHTS)
_SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_MOST_CONFIG_BYTES = 1 << 26
_MOST_SUMS_BYTES = 1 << 20
_SIDE_RESULTS = ("exported",)  # what commands keep beside a network
_COCO = re.compile(r"coco(:\w{1,40})?")
_STEPS_PER_SECOND = 30  # `step` of a sampling is in 1/30 s


def write_model_folder(
    folder: Path,
    values: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    card: str,
    people: str | None = None,
) -> None:
    """Write the files of a model into an empty folder, SHA256SUMS last.

    values: of a checkpoint, in plain types that JSON has; its `format` and `version` among them.
    card: text of README.md.  people: "coco", "coco:NETWORK", or `PEOPLE_FOLDER`, which then is in
    the folder already; None: no detector goes with it.
    """
    write_safetensors(folder / MODEL_WEIGHTS, state, None)
    of_folder = {
        "version": FOLDER_VERSION,
        "weights_sha256": sha256_of(folder / MODEL_WEIGHTS),
        "people": people,
    }
    content = {**_in_seconds(values), _PART: of_folder}
    write_text(folder / MODEL_CONFIG, json_text(content))
    write_text(folder / MODEL_CARD, card)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names]
    write_text(folder / MODEL_SUMS, "".join(lines))


def read_saved_content(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return what a checkpoint file holds as plain types, and notes on it, a sentence each.

    path: as `find_checkpoint` gives it: config.json stands for its folder, whose hashes are
    compared first. Raises `UserError` for a file that is missing, or another one than was written.
    """
    if path.name != MODEL_CONFIG:
        return read_plain(path), ()
    folder = path.parent
    sums = read_sums(folder)
    for name in _READ:
        _check_file(folder, name, sums)
    values = _read_config(path)
    stated = values.pop(_PART)["weights_sha256"]
    if stated != sums[MODEL_WEIGHTS]:
        raise UserError(
            f"{path}: is of weights with the hash {brief(stated)}, {MODEL_WEIGHTS} has "
            f"{sums[MODEL_WEIGHTS][:8]}...: files of two models"
        )
    _leave_out_seconds(path, values)
    state = read_safetensors(folder / MODEL_WEIGHTS)["model_state"]
    return {**values, "model_state": state, "training": {}}, _notes(folder, sums)


def people_of_folder(folder: Path) -> str | Path | None:
    """Return the people detector of a model folder, as `load_people_detector` takes it, or None."""
    path = folder / MODEL_CONFIG
    _check_file(folder, MODEL_CONFIG, read_sums(folder))
    named: str | None = _folder_part(path, read_json_object(path))["people"]
    return folder / PEOPLE_FOLDER if named == PEOPLE_FOLDER else named


def read_sums(folder: Path) -> dict[str, str]:
    """Return the hashes that SHA256SUMS states, by path within the folder.

    Raises `UserError` with the line of one that is no hash and path, or that leads elsewhere.
    """
    path = folder / MODEL_SUMS
    if not path.is_file():
        raise UserError(f"{path}: not found; a model folder has the hashes of its files there")
    sums: dict[str, str] = {}
    text = read_text(path, what="list of hashes", limit_bytes=_MOST_SUMS_BYTES)
    for number, line in enumerate(text.splitlines(), 1):
        match = _SUM_LINE.fullmatch(line)
        if match is None:
            raise at_row(path, number, f"{brief(line)}: a SHA-256, two blanks and a path required")
        digest, name = match[1].lower(), match[2]
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or ".." in parts or ":" in parts[0]:
            raise at_row(path, number, f"{brief(name)} leads out of the folder")
        if name in sums:
            raise at_row(path, number, f"{brief(name)} is there twice")
        sums[name] = digest
    return sums


def _check_file(folder: Path, name: str, sums: Mapping[str, str]) -> None:
    """Raise `UserError` unless a file is there, with the hash that SHA256SUMS states."""
    path = folder / name
    if name not in sums:
        raise UserError(f"{folder / MODEL_SUMS}: has no hash of {name}, which is required")
    try:
        found = sha256_of(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; a model folder has it ({MODEL_SUMS})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if found != sums[name]:
        raise UserError(
            f"{path}: changed since the folder was made: its SHA-256 is {found[:16]}..., "
            f"{MODEL_SUMS} says {sums[name][:16]}...; take the folder anew from where it came"
        )


def _read_config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_CONFIG_BYTES:
        raise UserError(f"{path}: larger than {_MOST_CONFIG_BYTES >> 20} MiB, no description")
    values = read_json_object(path)
    kind = values.get("format")
    if type(kind) is not str or kind not in _KEYS:
        found = "states no format" if kind is None else f"of the format {brief(kind)}"
        raise UserError(f"{path}: {found}, no model folder of this project")
    _folder_part(path, values)
    SavedValues(str(path), values).refuse_others(("format", "version", _PART, *_KEYS[kind]))
    return values


def _folder_part(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json says of the folder, checked."""
    said = SavedValues(str(path), values).within(_PART)
    version = said.raw("version")
    if type(version) is not int or version != FOLDER_VERSION:
        raise UserError(
            f"{path}: a model folder of version {brief(version)}, this program reads "
            f"{FOLDER_VERSION}; a later version of it is required"
        )
    said.refuse_others(("version", "weights_sha256", "people"))
    digest, people = said.raw("weights_sha256"), said.raw("people")
    if type(digest) is not str or re.fullmatch("[0-9a-f]{64}", digest) is None:
        said.refuse("weights_sha256", digest, "a SHA-256 is")
    is_name = type(people) is str and (people == PEOPLE_FOLDER or _COCO.fullmatch(people))
    if people is not None and not is_name:
        said.refuse("people", people, f"null, '{PEOPLE_FOLDER}', coco or coco:NETWORK is")
    return {"weights_sha256": digest, "people": people}


def _in_seconds(values: Mapping[str, Any]) -> dict[str, Any]:
    """Say in seconds, too, which frames a clip holds; `step` is in 1/30 s."""
    sampling = values.get("sampling")
    if sampling is None:
        return dict(values)
    step_s = sampling["step"] / _STEPS_PER_SECOND
    return {**values, "sampling": {**sampling, "step_s": step_s}}


def _leave_out_seconds(path: Path, values: dict[str, Any]) -> None:
    """Take out what `_in_seconds` added; `UserError` where it says another time than `step`."""
    sampling = values.get("sampling")
    if sampling is None:
        return
    said = SavedValues(str(path), sampling, "sampling")
    step = said.number("step", 0, 1e9)
    step_s = said.number("step_s", 0, 1e9)
    if abs(step_s * _STEPS_PER_SECOND - step) > 1e-6 * max(1, step):
        said.refuse("step_s", step_s, f"step / {_STEPS_PER_SECOND}, {step / 30:g} s, is")
    values["sampling"] = {key: value for key, value in said.items() if key != "step_s"}


def _listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def _notes(folder: Path, sums: Mapping[str, str]) -> tuple[str, ...]:
    """Name the files that were not looked at, and those that are no longer what was written."""
    tops = {PurePosixPath(name).parts[0] for name in sums} | {MODEL_SUMS, *_SIDE_RESULTS}
    extra = [name for name in _listed(folder) if name not in tops]
    people = folder / PEOPLE_FOLDER
    if PEOPLE_FOLDER in tops and people.is_dir():
        below = {*(PurePosixPath(name).name for name in sums), MODEL_SUMS, *_SIDE_RESULTS}
        extra += [f"{PEOPLE_FOLDER}/{name}" for name in _listed(people) if name not in below]
    notes = []
    if extra:
        names = first_few([shown(name, 60) for name in extra], separator=", ")
        notes.append(f"{folder}: files that {MODEL_SUMS} does not name are ignored: {names}")
    card = folder / MODEL_CARD
    if MODEL_CARD in sums and card.is_file() and sha256_of(card) != sums[MODEL_CARD]:
        notes.append(f"{card}: changed since the folder was made (it is not read)")
    return tuple(map(printable, notes))
