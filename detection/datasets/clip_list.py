"""Reads and writes lists of labelled videos, one per row, as used for Kinetics; no torch.

Rows are `path label` or `path,label` without a header (SlowFast's format), or have a header:
`path,label`, or Kinetics' own `label,youtube_id,time_start,time_end,split`. A label is a class's id
or name; several are joined by `;`, an empty one is a video with none of the classes.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.datasets.actor_table import read_ground_truth_rows
from detection.datasets.folder import DatasetFolder
from detection.datasets.label_map import label_map_of, read_label_map
from detection.errors import UserError, at_row
from detection.files import read_text, replacing, write_text
from detection.formats.csv_rows import csv_rows
from detection.structures import LabelMap


@dataclass(frozen=True)
class ClipList:
    """A list of n videos and their classes.

    source: the list's file.
    names: paths as written in the list.
    paths: the video files.
    lines: lines of the rows, from 1.
    labels: (n, K) of 0 and 1.
    """

    source: Path
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    lines: tuple[int, ...]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)

    def row_error(self, position: int, message: str) -> UserError:
        """Make an error with the row of a video."""
        return at_row(self.source, self.lines[position], message)


def read_clip_list(
    path: str | Path, classes: LabelMap, *, folder: str | Path, multi_label: bool = False
) -> ClipList:
    """Read a list whose relative paths start at `folder`.

    multi_label: a video has any number of classes, else exactly one. Raises `UserError` with file
    and line for an invalid row, an unknown label, a video listed twice, a missing file, and for a
    list without rows.
    """
    path = Path(path)
    columns = {**classes.index_by_name, **{str(i): c for i, c in classes.index_by_id.items()}}
    names: dict[str, int] = {}
    paths: list[Path] = []
    labels: list[NDArray[np.float32]] = []
    for line, name, label in _rows(path):
        if name in names:
            raise at_row(path, line, f"'{name}' is listed twice (first in line {names[name]})")
        names[name] = line
        labels.append(_one_row(path, line, label, columns, len(classes), multi_label))
        file = _find(Path(folder), name, label)
        if file is None:
            raise at_row(path, line, f"{Path(folder) / name}: video file not found")
        paths.append(file)
    if not names:
        raise UserError(f"{path}: lists no video; rows of 'path label' are required")
    return ClipList(path, tuple(names), tuple(paths), tuple(names.values()), np.stack(labels))


def read_class_file(path: str | Path) -> LabelMap:
    """Read class names: text with one per line (ids from 0), JSON, or a label map (`.pbtxt`).

    JSON is a list of names, or a mapping from name to id or from id to name.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: file of class names not found")
    if path.suffix == ".pbtxt":
        return read_label_map(path)
    text = read_text(path, what="file of class names")
    try:
        names = _names_of_json(path, json.loads(text)) if path.suffix == ".json" else None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a file of class names ({error})") from error
    if names is None:
        names = {
            i: line.strip() for i, line in enumerate(text.rstrip().split("\n") * bool(text.strip()))
        }
        if not names:
            raise UserError(f"{path}: contains no class name; one per line is required")
        if "" in names.values():
            empty = list(names.values()).index("") + 1
            raise at_row(path, empty, "an empty line, a class name is required")
    return label_map_of(path, names)


def write_clip_list(path: str | Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write rows of (path, class name) under the header `path,label`."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label"), *rows])


def write_clip_lists(dataset: str | Path, out: str | Path) -> dict[str, int]:
    """Write SPLIT.csv (`path,label`) and classes.txt; return the number of videos by split.

    dataset: a data set folder of videos.  out: folder to write to; the lists' paths are relative to
    it. A video's label is every action in it, joined by `;`. Raises `UserError` for an action that
    is not in the label map, and for a class name that such a list cannot contain.
    """
    folder, out = DatasetFolder.open(dataset), Path(out)
    label_map = folder.read_label_map()
    for name in label_map.names:
        if ";" in name or "\n" in name or name != name.strip():
            raise UserError(f"{folder.label_map_path}: class '{name}' is invalid in a list")
    if folder.file.frames is not None:
        raise UserError(f"{folder.root}: contains extracted frames, lists of clips need videos")
    lists: dict[str, list[tuple[str, str]]] = {}
    for split in folder.file.splits:
        rows = read_ground_truth_rows(folder.split(split))
        actions: dict[str, set[int]] = {key.video_id: set() for key in rows.empty_keyframes}
        for video, action in zip(rows.video_index.tolist(), rows.action_id.tolist(), strict=True):
            actions.setdefault(rows.video_names[video], set()).add(action)
        lists[split] = []
        for video_id, ids in sorted(actions.items()):
            unknown = sorted(ids - set(label_map.index_by_id))
            if unknown:
                raise UserError(
                    f"{rows.path}: video '{video_id}' shows action {unknown[0]}, which is not in "
                    f"{folder.label_map_path}"
                )
            names = [label_map.names[label_map.index_by_id[number]] for number in sorted(ids)]
            path = os.path.relpath(folder.video_path(video_id), out)
            lists[split].append((path, ";".join(names)))
    for split, entries in lists.items():
        write_clip_list(out / f"{split}.csv", entries)
    write_text(out / "classes.txt", "\n".join(label_map.names) + "\n")
    return {split: len(entries) for split, entries in lists.items()}


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, path, label) of every row of either format."""
    text = read_text(path, what="list of videos")
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if "," not in first:
        separator = "\t" if "\t" in first else " "
        for number, line in enumerate(lines, 1):
            if line.strip():
                name, _, label = line.strip().rpartition(separator)
                if not name.strip():
                    raise at_row(path, number, f"'path label' required, found '{line.strip()}'")
                yield number, name.strip(), label
        return
    first_fields, header = None, ["path", "label"]
    for number, cells in csv_rows(path, io.StringIO(text, newline="")):
        fields = [field.strip() for field in cells]
        if not any(fields):
            continue
        if first_fields is None:
            first_fields = fields
            known = "label" in fields and ("path" in fields or "youtube_id" in fields)
            header = fields if known else header
        if known and fields == first_fields:
            continue
        if len(fields) != len(header):
            raise at_row(path, number, f"{len(fields)} columns, {', '.join(header)} required")
        row = dict(zip(header, fields, strict=True))
        yield number, row.get("path") or _kinetics_name(path, number, row), row["label"]


def _kinetics_name(path: Path, line: int, row: dict[str, str]) -> str:
    """Return the file name that Kinetics' downloaders give a row."""
    try:
        start, end = int(row["time_start"]), int(row["time_end"])
        return f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
    except (KeyError, ValueError) as error:
        raise at_row(path, line, "no path, and no youtube_id, time_start, time_end") from error


def _find(folder: Path, name: str, label: str) -> Path | None:
    """Return the file of a video; some downloaders put it into a folder of its class."""
    beside = (folder / name, folder / label / name, folder / label.replace(" ", "_") / name)
    return next((file for file in beside if file.is_file()), None)


def _one_row(
    path: Path, line: int, text: str, columns: dict[str, int], num_classes: int, multi_label: bool
) -> NDArray[np.float32]:
    """Return the (K,) labels of a row."""
    words = [text] if not multi_label else [word.strip() for word in text.split(";")]
    row = np.zeros(num_classes, np.float32)
    for word in words:
        if multi_label and not word and len(words) == 1:
            break
        if word not in columns:
            hint = "; several classes are for classification.labels=multi" if ";" in word else ""
            raise at_row(path, line, f"label '{word}' is not one of {num_classes} classes{hint}")
        row[columns[word]] = 1
    return row


def _names_of_json(path: Path, values: object) -> dict[int, str]:
    if isinstance(values, list) and all(isinstance(name, str) for name in values):
        return dict(enumerate(values))
    if isinstance(values, dict):
        pairs: list[tuple[int, str]] = []
        if all(key.isdecimal() and isinstance(value, str) for key, value in values.items()):
            pairs = [(int(key), value) for key, value in values.items()]
        elif all(type(n) is int or str(n).isdecimal() for n in values.values()):
            pairs = [(int(number), key.strip('"')) for key, number in values.items()]
        if len(dict(pairs)) == len(values):
            return dict(sorted(pairs))
    raise UserError(f"{path}: a list of class names, or names and ids, is required")
