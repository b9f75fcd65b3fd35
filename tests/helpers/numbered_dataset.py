"""A data set folder around videos that a test writes."""

from __future__ import annotations

from pathlib import Path

from detection.datasets.ava_csv import AvaRows, write_ground_truth
from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.structures import Keyframe, LabelMap


def make_dataset(root: Path, keyframes, *, boxes=None):
    """Write annotations for keyframes {video id: times}; the videos are the caller's."""
    (root / "annotations").mkdir(parents=True)
    (root / "videos").mkdir()
    write_label_map(root / "annotations/label_map.pbtxt", LabelMap(("a", "b"), (1, 2), None))
    keys = [Keyframe(name, time_s) for name, times_s in keyframes.items() for time_s in times_s]
    rows = AvaRows.from_rows(
        keys, boxes_01=[[0.1, 0.2, 0.5, 0.9]] * len(keys), action_id=[1] * len(keys)
    )
    write_ground_truth(root / "annotations/train.csv", rows)
    part = SplitPart(annotations="annotations/train.csv", boxes=boxes or {})
    write_dataset_file(root, DatasetFile(name="numbered", videos="videos", splits={"train": part}))
    return root
