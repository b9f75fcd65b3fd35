"""A network, or a people detector, as a folder to hand on, and back.

    save_pretrained("runs/demo_x3d_xs", "demo_model", people="runs/people_demo")
    file = from_pretrained("demo_model")  # or from_pretrained("user/name")
    network = load_network(file)

The form is that of `detection.checkpoints.model_folder`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detection.checkpoints.file import FORMAT, FORMAT_VERSION, ModelFile, plain_facts
from detection.checkpoints.huggingface import fetch_repository, is_repository_name, local_source
from detection.checkpoints.load import load_network
from detection.checkpoints.model_folder import (
    PEOPLE_FOLDER,
    people_of_folder,
    write_model_folder,
)
from detection.checkpoints.network_file import read_network_file
from detection.checkpoints.plain_file import MODEL_CONFIG, MODEL_SUMS, is_model_folder
from detection.errors import UserError, printable
from detection.export.artefact import find_artefact
from detection.files import adding_to_folder, sha256_of
from detection.people.beside_run import people_beside
from detection.people.coco import is_coco
from detection.people.onnx_detector import is_onnx
from detection.people.weights import (
    PeopleFile,
    is_people_file,
    plain_people_facts,
    read_as_people_file,
)
from detection.publishing.card import CardFacts, card_text
from detection.publishing.run_facts import read_run_facts

Model = ModelFile | PeopleFile


def save_pretrained(
    source: str | Path | Model,
    folder: str | Path,
    *,
    people: str | Path | None = None,
    licence: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    on_note: Callable[[str], object] = lambda note: None,
) -> Path:
    """Write a model folder, whole; return it.

    source: a run folder or checkpoint, of actions, of whole clips or of people; what
        `read_network_file` takes; or a file that was read.
    people: the detector that goes with a network, as `load_people_detector` takes it, but no ONNX
        file and no exported one. None: the one that is stored beside the run.
    licence: of the data and so of the weights, in words, or as SPDX has it; for the card.
    name: user/name, where the folder is to be uploaded; for the card.
    overwrite: replace the files of a model folder that is there.
    on_note: told a line about what is left out.
    Raises `UserError` for what cannot be read, and where `folder` holds anything else.
    """
    folder = Path(folder)
    _check_place(folder, overwrite=overwrite)
    model = _read_source(source)
    detector: PeopleFile | str | None = None
    if isinstance(model, PeopleFile):
        if people is not None:
            raise UserError(f"{model.path}: a people detector; none goes with it (--people)")
        values = _people_values(model, on_note)
    else:
        for note in model.notes:
            on_note(note)
        detector = _open_people(model, people, on_note)
        values = _network_values(model, on_note)
    state = _state(model)
    named = None if detector is None else detector if isinstance(detector, str) else PEOPLE_FOLDER
    facts = CardFacts(
        model,
        read_run_facts(model),
        name=name,
        folder=folder.resolve().name,
        licence=licence,
        people=named,
    )
    with _made(folder) as building:
        if isinstance(detector, PeopleFile):
            _write_detector(building / PEOPLE_FOLDER, detector, facts, on_note)
            _follow_detector(values, detector, building / PEOPLE_FOLDER)
        write_model_folder(building, values, state, card=card_text(facts), people=named)
        _compare(building, state)
    return folder


def from_pretrained(source: str | Path) -> Model:
    """Read a model folder: a `ModelFile` (for `load_network`) or a `PeopleFile`.

    source: a folder, or user/name (or user/name@REVISION) on the Hugging Face Hub, where no
    path has that name; "hub:user/name" always is on the Hub. Nothing of a folder is run, its hashes
    are compared before it is read. Raises `UserError`, one line, for a file that is missing or
    changed, for another kind of folder, and for what cannot be fetched.
    """
    place = local_source(source)
    if not Path(place).exists() and is_repository_name(str(place)):
        place = fetch_repository(str(place))
    place = Path(place)
    if not place.exists():
        raise UserError(
            f"{printable(str(source))}: folder not found, and no name on the Hub (user/name)"
        )
    if place.is_dir() and not is_model_folder(place):
        raise UserError(f"{place}: no model folder: {MODEL_CONFIG} not found")
    return _read(place)


def _read(source: str | Path) -> Model:
    if find_artefact(source) is not None:
        raise UserError(f"{source}: an exported network; the run or checkpoint is required")
    if is_people_file(source):
        return read_as_people_file(source)
    return read_network_file(source)


def _read_source(source: str | Path | Model) -> Model:
    return source if isinstance(source, Model) else _read(source)


def _open_people(
    model: ModelFile, asked: str | Path | None, on_note: Callable[[str], object]
) -> PeopleFile | str | None:
    """Return the detector that goes with a network; "coco" and "coco:NETWORK" stay names."""
    people = _people_beside(Path(model.path)) if asked is None else asked
    if people is None:
        if model.network is not None and model.network.task == "actions":
            on_note("no people detector goes with it; whoever uses it has to give one (--people)")
        return None
    if is_coco(people):
        return str(people)
    if find_artefact(people) is not None or is_onnx(people):
        raise UserError(
            f"{people}: an exported or ONNX detector, which is no part of a model folder; the run "
            "or weights that it was made of are required"
        )
    return read_as_people_file(people)


def _people_beside(path: Path) -> str | Path | None:
    if path.name == MODEL_CONFIG:
        return people_of_folder(path.parent)
    return people_beside(path.parent.parent) if path.parent.name == "checkpoints" else None


def _network_values(model: ModelFile, on_note: Callable[[str], object]) -> dict[str, Any]:
    if model.network is None or model.classes is None or model.sampling is None:
        raise UserError(
            f"{model.path}: no network with classes and sampling; read_network_file gives one"
        )
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **plain_facts(
            network=model.network,
            classes=model.classes,
            sampling=model.sampling,
            short_side_px=model.short_side_px,
            config=_without_places(model.config, on_note),
            thresholds=model.thresholds,
            relevance=model.relevance,
        ),
    }


def _people_values(model: PeopleFile, on_note: Callable[[str], object]) -> dict[str, Any]:
    config = _without_places(model.config, on_note)
    return plain_people_facts(
        model.numbers, model.classes, config=config, best_score=model.best_score
    )


def _write_detector(
    folder: Path, detector: PeopleFile, facts: CardFacts, on_note: Callable[[str], object]
) -> None:
    """Write the folder of the people detector that goes with a network; facts: of the network."""
    folder.mkdir()
    of_detector = dataclasses.replace(
        facts,
        model=detector,
        run=read_run_facts(detector),
        name=None,
        folder=f"{facts.folder}/{folder.name}",
        people=None,
    )
    values = _people_values(detector, on_note)
    write_model_folder(folder, values, _state(detector), card=card_text(of_detector))


def _state(model: Model) -> dict[str, Tensor]:
    """Return the weights of a network that was built of them, so that each has its place."""
    network = model.build_network() if isinstance(model, PeopleFile) else load_network(model)
    return dict(network.state_dict())


def _without_places(
    config: Mapping[str, Any] | None, on_note: Callable[[str], object]
) -> dict[str, Any] | None:
    """Return a configuration without this machine's folders; of whole paths the names stay."""
    shortened: list[str] = []

    def plain(value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(inner, f"{key}.{name}") for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner, key) for inner in value]
        if isinstance(value, str) and re.match(r"[/~]|[A-Za-z]:[/\\]", value):
            shortened.append(key.removeprefix("."))
            return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        return value

    if config is None:
        return None
    result: dict[str, Any] = plain(config, "")
    if shortened:
        keys = ", ".join(dict.fromkeys(shortened))
        on_note(f"of paths on this machine the folder's configuration has the last name: {keys}")
    return result


def _follow_detector(values: Mapping[str, Any], detector: PeopleFile, folder: Path) -> None:
    """Say of a relevance that was fitted to this detector's file that it is of the folder's."""
    origin = (values.get("relevance") or {}).get("origin", {})
    if origin.get("detector") == f"weights {sha256_of(detector.path)}":
        origin["detector"] = f"weights {sha256_of(folder / MODEL_CONFIG)}"


def _check_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder with anything but a model, and one that is to be kept."""
    if not folder.exists() or folder.is_dir() and not any(folder.iterdir()):
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is there already and is no folder")
    if not all((folder / name).is_file() for name in (MODEL_CONFIG, MODEL_SUMS)):
        raise UserError(f"{folder}: holds files but no model, choose another folder (--out)")
    if not overwrite:
        raise UserError(f"{folder}: holds a model; --overwrite replaces it")


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose files are in `folder` when the block ends well."""
    with adding_to_folder(folder) as building:
        yield building
        people = building / PEOPLE_FOLDER
        if people.is_dir() and (folder / PEOPLE_FOLDER).is_dir():
            with adding_to_folder(folder / PEOPLE_FOLDER) as below:
                for path in people.iterdir():
                    path.rename(below / path.name)
            people.rmdir()


def _compare(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Read back what was written: the same weights, to the bit."""
    again = _read(folder)
    assert again.state.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(again.state[name], value.cpu()), name
