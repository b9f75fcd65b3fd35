"""Labels as FiftyOne's frame labels, both ways.

https://docs.voxel51.com/user_guide/using_datasets.html#video-datasets: a `Sample` a video, whose
`frames[n]` (from 1) holds `Detections` of `bounding_box` [x, y, width, height] in fractions. Here a
person of several actions is several `Detection` with one `index`, of none one called "none".
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detection.datasets.folder import DatasetFolder
from detection.datasets.plain_names import check_class_name
from detection.errors import Problems, UserError, printable
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.cvat_actions import NO_ACTION
from detection.importers.exact_boxes import corner_and_size
from detection.importers.labels_out import (
    check_names,
    frames_of,
    nearest_frame_numbers,
    read_split_labels,
)
from detection.importers.optional import optional_package

FIELD = "people"
NOTHING = "none"
_SPLITS = ("train", "val")


def write_fiftyone(folder: DatasetFolder, split: str, *, field: str = FIELD) -> list[Any]:
    """Return a `fiftyone.Sample` for each video of a split, tagged with the split's name.

    field: of each keyframe's frame, the nearest; a keyframe without persons has an empty list.
    `fiftyone.Dataset(NAME).add_samples(...)` takes them.  Raises `UserError` where the package is
    absent, and where two keyframes show one frame.
    """
    package = optional_package("fiftyone")
    labels = read_split_labels(folder, split)
    check_names(labels)
    names = labels.label_map.names
    samples = []
    for video in labels.videos:
        shown_s, _ = frames_of(folder, video)
        when_s = sorted({*video.empty_s, *(box.time_s for box in video.boxes)})
        numbers, _ = nearest_frame_numbers(shown_s, when_s)
        if len(set(numbers)) < len(numbers):
            raise UserError(f"video '{printable(video.video_id)}': two keyframes show one frame")
        path = folder.video_path(video.video_id).resolve()
        sample = package.Sample(filepath=str(path), tags=[split])
        for time_s, number in zip(when_s, numbers, strict=True):
            found = [
                package.Detection(
                    label=names[column] if column >= 0 else NOTHING,
                    bounding_box=list(corner_and_size(box.box_01, (1.0, 1.0))[0]),
                    index=box.person,
                )
                for box in video.boxes
                if box.time_s == time_s
                for column in box.actions or (-1,)
            ]
            sample.frames[number + 1] = package.Frame(
                **{field: package.Detections(detections=found)}
            )
        samples.append(sample)
    return samples


def read_fiftyone(samples: Iterable[Any], *, field: str = FIELD) -> AnnotatedData:
    """Return the videos of samples (a `fiftyone.Dataset`, a view, a list) for `import_annotations`.

    Frames whose `field` is not set are no keyframes; those with an empty list are keyframes without
    persons.  A tag train or val says the split.  Raises `UserError` naming video and frame.
    """
    problems = Problems()
    videos, classes = [], dict[str, None]()
    for sample in samples:
        path = Path(sample.filepath)
        named = [tag for tag in _SPLITS if tag in (sample.tags or ())]
        video = AnnotatedVideo(
            path.name, path, str(path), by_frame=True, size=(1.0, 1.0),
            split=named[0] if len(named) == 1 else None,
        )  # fmt: skip
        for number, frame in sorted(sample.frames.items()):
            found = frame[field] if frame.has_field(field) else None
            if found is None:
                continue
            try:
                boxes = _boxes(number, found.detections)
            except ValueError as error:
                problems.add(path, f"frame {number}", str(error))
                continue
            video.boxes += boxes
            if not boxes:
                video.empty.append(number - 1)
            classes |= dict.fromkeys(name for box in boxes for name in box.actions)
        videos.append(video)
    problems.raise_if_any()
    if len({video.name for video in videos}) < len(videos):
        raise UserError("two samples whose videos have one name")
    return AnnotatedData(videos, list(classes))


def _boxes(number: int, detections: Iterable[Any]) -> list[AnnotatedBox]:
    """Return a frame's persons; detections of equal index and box are one."""
    people: dict[tuple[int | None, tuple[float, ...]], list[str]] = {}
    for one in detections:
        box = tuple(float(value) for value in one.bounding_box)
        if len(box) != 4:
            raise ValueError(f"bounding_box of {len(box)} numbers, [x, y, width, height] required")
        actions = people.setdefault((one.index, box), [])
        label = str(one.label or "")
        if label.lower() not in NO_ACTION:
            actions.append(check_class_name(label))
    return [
        AnnotatedBox(
            number - 1,
            (x, y, x + width, y + height),
            tuple(dict.fromkeys(actions)),
            None if index is None else str(index),
            f"frame {number}",
        )
        for (index, (x, y, width, height)), actions in people.items()
    ]
