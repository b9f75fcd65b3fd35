"""The labels of a split by video, as exporters write them for other tools.

Legend: n frames of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detection.datasets.actor_table import read_ground_truth_rows
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import open_video
from detection.errors import UserError, first_few, printable
from detection.importers.cvat_actions import NO_ACTION
from detection.structures import LabelMap
from detection.video.frame_folder import nearest_frames

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelledBox:
    """One person at one keyframe.

    time_s: seconds on the video's clock.  box_01: x1, y1, x2, y2.  actions: columns of the label
    map, none twice.  person: id within the video, None where the rows have none.
    """

    time_s: float
    box_01: Box
    actions: tuple[int, ...]
    person: int | None


@dataclass
class SplitVideo:
    """A video's boxes, in the order of the file, and its keyframes without persons.

    file_name: of the video (of a folder of frames: its name).
    """

    video_id: str
    file_name: str
    boxes: list[LabelledBox] = field(default_factory=list)
    empty_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class SplitLabels:
    """The labels of a split; notes: what was left out of them, a line each."""

    videos: list[SplitVideo]
    label_map: LabelMap
    exclusive: dict[str, tuple[int, ...]]
    notes: list[str]

    @property
    def num_keyframes(self) -> int:
        """Number of keyframes, with persons and without."""
        return sum(len(v.empty_s) + len({box.time_s for box in v.boxes}) for v in self.videos)

    def one_of(self) -> dict[str, tuple[int, ...]]:
        """Return the exclusive groups of which every person does one at most."""
        several = {
            group
            for video in self.videos
            for box in video.boxes
            for group, members in self.exclusive.items()
            if len(set(members) & set(box.actions)) > 1
        }
        return {name: columns for name, columns in self.exclusive.items() if name not in several}


def read_split_labels(folder: DatasetFolder, split: str) -> SplitLabels:
    """Read a split's ground truth; rows of one person at one keyframe become one box.

    Raises `UserError` where the split has no keyframe, and what reading its files raises.
    """
    rows = read_ground_truth_rows(folder.split(split))
    label_map = folder.read_label_map()
    column = {class_id: number for number, class_id in enumerate(label_map.ids)}
    found: dict[str, dict[tuple[float, Box, int | None], dict[int, None]]] = {}
    unknown = 0
    times_s, boxes = (rows.time_us / 1e6).tolist(), rows.boxes_01.tolist()
    for row, (video, action) in enumerate(
        zip(rows.video_index.tolist(), rows.action_id.tolist(), strict=True)
    ):
        person = None if rows.person_id is None else int(rows.person_id[row])
        x1, y1, x2, y2 = boxes[row]
        of_video = found.setdefault(rows.video_names[video], {})
        actions = of_video.setdefault((times_s[row], (x1, y1, x2, y2), person), {})
        if action in column:
            actions[column[action]] = None
        elif action >= 0:
            unknown += 1
    empty: dict[str, list[float]] = {}
    for key in rows.empty_keyframes:
        empty.setdefault(key.video_id, []).append(key.time_s)
    videos = []
    for name in sorted({*found, *empty}):
        people = found.get(name, {})
        made = [LabelledBox(t, box, tuple(does), who) for (t, box, who), does in people.items()]
        shown = {box.time_s for box in made}
        alone = sorted(set(empty.get(name, [])) - shown)
        videos.append(SplitVideo(name, folder.video_path(name).name, made, alone))
    if not videos:
        raise UserError(f"{folder.root}: split '{split}' has no keyframe to write")
    notes = [f"warning: {unknown:,} rows of actions that are not in the label map left out"] * bool(
        unknown
    )
    return SplitLabels(videos, label_map, folder.exclusive_groups(label_map), notes)


def frames_of(
    folder: DatasetFolder, video: SplitVideo
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the (n,) times of a video's frames, and their width and height in pixels.

    Raises `UserError` for boxes before the first frame or after the last.
    """
    with open_video(folder, video.video_id) as source:
        times_s, (width, height) = source.frame_times_s(), source.frame_size()
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.04
    first_s, last_s = times_s[0] - step_s / 2 - 1e-3, times_s[-1] + step_s / 2 + 1e-3
    every_s = [*(box.time_s for box in video.boxes), *video.empty_s]
    outside = [time_s for time_s in every_s if not first_s <= time_s <= last_s]
    if outside:
        raise UserError(
            f"video '{printable(video.video_id)}': {len(outside):,} boxes at times outside it, the "
            f"first at {outside[0]:g} s; it shows {times_s[0]:.3f} to {times_s[-1]:.3f} s"
        )
    return times_s, (float(width), float(height))


def nearest_frame_numbers(
    times_s: NDArray[np.float64], required_s: Sequence[float]
) -> tuple[list[int], int]:
    """Return the frames from 0 shown nearest, and how many times are not their frame's own.

    Times are held to the microsecond.
    """
    frames = nearest_frames(times_s, required_s)
    moved = np.round(times_s[frames], 6) != np.round(np.asarray(required_s, np.float64), 6)
    return frames.tolist(), int(moved.sum())


def counted_note(count: int, total: int, what: str, why: str) -> list[str]:
    """Return a line that a form cannot hold some of what there is, none where it holds all."""
    return [f"{count:,} of {total:,} {what}: {why}"] * bool(count)


def size_note(inexact: int, total: int) -> list[str]:
    """Return a line about boxes that do not read back exactly."""
    why = "read back with an edge off by the last digit of a double (below 1e-10 of the frame)"
    return counted_note(inexact, total, "boxes", why)


def check_names(labels: SplitLabels) -> None:
    """Refuse names of classes that an import would take for "no action"."""
    bad = [name for name in labels.label_map.names if name.strip().lower() in NO_ACTION]
    if bad:
        shown = first_few([*map(printable, bad)])
        raise UserError(
            f"class '{shown}': it means no action to the importers, another name is required"
        )
