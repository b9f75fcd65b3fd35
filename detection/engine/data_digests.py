"""Whether a resumed run learns from what it learned from: its data may move, not change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from detection.datasets.folder import FILE_NAME, DatasetFolder
from detection.errors import UserError
from detection.files import sha256_of, sha256_of_text


def split_files(data: DatasetFolder, name: str, boxes: tuple[str, ...] = ()) -> dict[str, Path]:
    """Return the files that say what a split holds, by what they are."""
    split = data.split(name)
    files = {f"annotations of '{name}'": split.annotations}
    if split.exclusions is not None:
        files[f"exclusions of '{name}'"] = split.exclusions
    if split.videos is not None:
        files[f"videos of '{name}'"] = split.videos
    for box_name in boxes:
        files[f"boxes '{box_name}' of '{name}'"] = data.boxes_path(split, box_name)
    return files


def digests(files: Mapping[str, Path | str]) -> dict[str, str]:
    """Return the SHA-256 of each file, or of a text, by what it is."""
    found = {}
    for what, content in files.items():
        try:
            if isinstance(content, Path):
                found[what] = sha256_of(content)
            else:
                found[what] = sha256_of_text(content)
        except OSError as error:
            raise UserError(f"{content}: cannot be read ({error.strerror})") from error
    return found


def rules_of(data: DatasetFolder) -> str:
    """Return what `dataset.yaml` says of times, rules and groups; where files lie may change."""
    values = data.file.model_dump(mode="json")
    frames = values["frames"] and {key: values["frames"][key] for key in ("fps", "start_s")}
    kept = {"frames": frames, "evaluation": values["evaluation"], "exclusive": values["exclusive"]}
    return json.dumps(kept, sort_keys=True)


RULES = f"{FILE_NAME} (frames, evaluation, exclusive)"


def check_data(path: str, before: object, now: Mapping[str, str]) -> bool:
    """Refuse data that are not those of the checkpoint `path`; return False where it has no record.

    Raises `UserError` with what differs.
    """
    if not isinstance(before, Mapping) or not before:
        return False
    changed = [what for what in now if before.get(what) != now[what]]
    changed += [what for what in before if what not in now]
    if changed:
        raise UserError(
            f"{path}: learned from other data than are there now: {', '.join(changed)} changed; a "
            f"resumed run needs the same, start a new one with model.pretrained={path} say"
        )
    return True
