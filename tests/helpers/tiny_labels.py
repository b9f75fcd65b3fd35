"""A data set whose people can be labelled and taught: squares of `tiny_data` as detected boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny_data
import torch

from detection.build import build_model
from detection.checkpoints.file import save_model_file
from detection.config import config_from_dict
from detection.datasets.ava_csv import read_ground_truth, write_person_boxes
from detection.datasets.folder import DatasetFolder, write_dataset_file
from detection.datasets.label_file import LabelFile, LabelledPerson, LabelledVideo, write_label_file
from detection.datasets.labelling_task import LabellingTask, write_labelling_task
from detection.structures import ActorBoxes, Keyframe

TASK = LabellingTask(
    boxes="people", split="train", one_of={"colour": ("be red", "be blue")}, actions=("be here",)
)
OPTIONS = {
    "workers": 0,
    "threads": 1,
    "data": {"root": "replaced"},
    "clip": {"num_frames": 2, "step": 3, "test_short_side_px": 48},
    "model": {
        "variant": "xs",
        "depth_factor": 1.0,
        "width_factor": 1.0,
        "head_width": 64,
        "dropout": 0.0,
        "roi_pool": "mean",
        "context": "frame",
        "unit_features": True,
        "pretrained": "weights.pt",
    },
    "probe": {"keyframes_per_video": 4},
    "optim": {"epochs": 0},
    "evaluation": {"batch_size": 4},
}


def make_raw(root: Path, *, videos: int = 6) -> Path:
    """Write a data set with `labels.yaml`: one square a video, red in the even ones, twice seen."""
    tiny_data.make_dataset(root, train=videos, val=1)
    folder = DatasetFolder.open(root)
    rows = read_ground_truth(folder.split("train").annotations)
    boxes: dict[Keyframe, ActorBoxes] = {}
    for row in range(len(rows)):
        boxes[rows.keyframe(row)] = ActorBoxes(rows.boxes_01[row : row + 1], [0.9])
    write_person_boxes(root / "annotations" / "people.csv", boxes.items())
    splits = dict(folder.file.splits)
    splits["train"] = splits["train"].model_copy(
        update={"boxes": {"people": "annotations/people.csv"}}
    )
    write_dataset_file(root, folder.file.model_copy(update={"splits": splits}))
    write_labelling_task(root, TASK)
    return root


def write_configuration(folder: Path) -> Path:
    """Write a configuration and the random weights that it starts from; return its path."""
    import yaml

    weights = folder / "weights.pt"
    values = {**OPTIONS, "model": {**OPTIONS["model"], "pretrained": str(weights)}}
    torch.manual_seed(1)
    model = build_model(config_from_dict(values, "test"), num_classes=3)
    for name, value in model.named_parameters():
        if name == "head.hidden.weight":  # random fc1 behind a random trunk hardly varies
            torch.nn.init.normal_(value)
    save_model_file(weights, model.state_dict(), network=None, classes=None, sampling=None)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def write_labels(
    path: Path,
    root: Path,
    chosen: dict[str, tuple[str, ...] | None],
    *,
    annotator: str = "a1",
    exported: str = "2026-01-02T03:04:05Z",
    page: str = "0" * 20,
    shift: float = 0.0,
    names: dict[str, str] | None = None,
) -> Path:
    """Write an export.  chosen: by video, the classes of its person at both keyframes; None: none.

    shift: added to boxes.  names: other ids for videos.
    """
    folder = DatasetFolder.open(root)
    label_map = TASK.label_map(folder)
    from detection.datasets.ava_csv import read_person_boxes

    rows = read_person_boxes(folder.boxes_path(folder.split("train"), "people"))
    videos = []
    for video_id, classes in chosen.items():
        mine = rows.select(rows.video_index == rows.video_names.index(video_id))
        labels = np.zeros((len(mine), len(label_map)), bool)
        for name in classes or ():
            labels[:, label_map.index_by_name[name]] = True
        person = LabelledPerson(1, mine.time_us, mine.boxes_01 + shift, labels)
        people, others = ((person,), ()) if classes is not None else ((), (person,))
        undecided = np.zeros(len(mine), np.int64)
        named = (names or {}).get(video_id, video_id)
        videos.append(LabelledVideo(named, mine.time_us, undecided, people, others))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_file(
        path, LabelFile(str(path), page, annotator, exported, "tiny", label_map, tuple(videos))
    )
    return path


def turn_into_frames(root: Path) -> None:
    """Replace the videos of a data set by folders of numbered JPEG files."""
    import cv2

    from detection.datasets.folder import FramesPart
    from detection.video.reader import VideoReader

    folder = DatasetFolder.open(root)
    for path in sorted((root / "videos").iterdir()):
        place = root / "frames" / path.stem
        place.mkdir(parents=True)
        with VideoReader(path) as video:
            frames = video.read(video.frame_times_s()).frames.permute(0, 2, 3, 1).numpy()
        for number, frame in enumerate(frames, start=1):
            name = place / f"{path.stem}_{number:06d}.jpg"
            assert cv2.imwrite(str(name), frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        path.unlink()
    (root / "videos").rmdir()
    update = {"videos": None, "frames": FramesPart(folder="frames", fps=tiny_data.FPS)}
    write_dataset_file(root, folder.file.model_copy(update=update))
