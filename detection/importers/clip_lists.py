"""Converts a data set in AVA's format to lists of videos, labelled with all actions in them."""

from __future__ import annotations

import os
from pathlib import Path

from detection.datasets.actor_table import read_ground_truth_rows
from detection.datasets.clip_list import write_clip_list
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.files import write_text


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
