"""Export a data set for CVAT with people already boxed: annotators only choose actions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import (
    auto_or_seconds_above_0,
    command_parser,
    named_lists,
    number,
    run_command,
    share,
)
from detection.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from detection.datasets.ava_csv import AvaRows
    from detection.datasets.folder import DatasetFolder
    from detection.importers.cvat_export import ActionChoices, TrackBox

EXAMPLE = """examples:
  python -m ava_tools.export_cvat --dataset data/raw --split all --boxes people \\
      --one-of pose=stand,sit,lie --actions wave phone --out cvat/
  python -m ava_tools.export_cvat --dataset data/mine --split train --out cvat/     (to correct)

With CVAT's command line (pip install cvat-cli), before and after the actions are chosen:
  python cvat/tasks.py upload -- --server-host https://app.cvat.ai --auth NAME
  python cvat/tasks.py download -- --server-host https://app.cvat.ai --auth NAME
By hand: make a task per video, paste labels.json into the label editor's "Raw" tab, upload ID.xml
as "CVAT 1.1", choose the actions, export as "CVAT for video 1.1" into cvat/exports. Then
  python -m ava_tools.import_dataset cvat --source cvat/exports --videos data/raw/videos \\
      --out data/mine
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.datasets.folder import DatasetFolder
    from detection.datasets.keyframe_times import describe_intervals
    from detection.importers.cvat_export import same_labels

    folder = DatasetFolder.open(options.dataset)
    choices = _choices(folder, options)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"{options.out}: is a file, a folder is required")
    tracks_of_all = list(_tracks(folder, options))
    if not tracks_of_all:
        raise UserError(f"{options.boxes or options.split}: no person to write")
    for video_id, _ in tracks_of_all:
        _check_free(options, video_id)
    label_path = options.out / "labels.json"
    if label_path.exists() and not options.overwrite and not same_labels(label_path, choices):
        raise UserError(f"{label_path}: holds other actions; --overwrite replaces it")
    ready = [
        _made(folder, video_id, tracks, choices, options) for video_id, tracks in tracks_of_all
    ]
    _write(folder, options.out, ready, choices)
    boxes, written = sum(made.boxes for made in ready), sum(made.written for made in ready)
    print(
        f"{len(ready)} videos, {sum(made.people for made in ready)} people, {boxes:,} boxes "
        f"({written:,} written, CVAT draws the others) -> {options.out}"
    )
    print(describe_intervals(made.every_s for made in ready))
    if merged := [made for made in ready if made.merged]:
        print(
            f"warning: {sum(made.merged for made in merged)} boxes left out, a person's second at "
            f"one frame (times closer than frames), the first in {merged[0].video_id}"
        )
    print(f"labels for CVAT's task: {label_path}; all tasks at once: {options.out / 'tasks.py'}")
    return 0


@dataclass(frozen=True)
class _Made:
    """A video's file: its text, what is in it, and the seconds between its boxes.

    merged: boxes that were left out, a person's second at one frame.
    """

    video_id: str
    text: str
    people: int
    boxes: int
    written: int
    merged: int
    every_s: float


def _made(
    folder: DatasetFolder,
    video_id: str,
    timed: list[_Timed],
    choices: ActionChoices,
    options: argparse.Namespace,
) -> _Made:
    """Make the file of one video, without writing it."""
    from detection.datasets.open_video import open_video
    from detection.importers.cvat_export import VideoHeader, cvat_text
    from detection.video.frame_folder import nearest_frames

    with open_video(folder, video_id) as video:
        times_s, size_px = video.frame_times_s(), video.frame_size()
    _check_times(video_id, timed, times_s)
    frames = nearest_frames(times_s, [time_s for track in timed for time_s, _, _ in track])
    tracks, taken = [], 0
    for track in timed:
        tracks.append(_boxes(frames[taken : taken + len(track)].tolist(), track))
        taken += len(track)
    head = VideoHeader(video_id, folder.video_path(video_id).name, len(times_s), size_px)
    every_s = options.every_s or _usual_interval(timed, times_s)
    span_s = max(times_s[-1] - times_s[0], 1e-9)
    step = max(1, round(every_s * (len(times_s) - 1) / span_s))
    text, written = cvat_text(head, tracks, choices, step, options.keep_iou)
    boxes = sum(map(len, tracks))
    return _Made(video_id, text, len(tracks), boxes, written, taken - boxes, every_s)


def _usual_interval(timed: list[_Timed], times_s: NDArray[np.float64]) -> float:
    """Return the usual seconds from one time with boxes to the next, else as the length says."""
    import numpy as np

    from detection.datasets.keyframe_times import interval_for

    when_s = np.unique([time_s for track in timed for time_s, _, _ in track])
    return float(np.median(np.diff(when_s)).round(3)) if len(when_s) > 1 else interval_for(times_s)


def _write(
    folder: DatasetFolder, out: Path, ready: Sequence[_Made], choices: ActionChoices
) -> None:
    """Write all files, or none."""
    from detection.files import adding_to_folder, read_text, write_text
    from detection.importers import cvat_script
    from detection.importers.cvat_export import write_labels

    videos = {made.video_id: folder.video_path(made.video_id).resolve() for made in ready}
    tasks = _tasks_there(out) | {
        name: {"name": name, "video": str(path), "annotations": f"{name}.xml"}
        for name, path in videos.items()
    }
    listed = {"labels": "labels.json", "tasks": [tasks[name] for name in sorted(tasks)]}
    with adding_to_folder(out) as building:
        for made in ready:
            write_text(building / f"{made.video_id}.xml", made.text)
        write_labels(building / "labels.json", choices)
        text = json.dumps(listed, indent=1, ensure_ascii=False)
        write_text(building / "tasks.json", text + "\n")
        write_text(building / "tasks.py", read_text(cvat_script.__file__, what="script"))


def _tasks_there(out: Path) -> dict[str, dict[str, str]]:
    """Return the tasks of an earlier export to the same folder whose files are still there."""
    try:
        found = json.loads((out / "tasks.json").read_text(encoding="utf-8"))["tasks"]
        return {task["name"]: task for task in found if (out / task["annotations"]).is_file()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _check_free(options: argparse.Namespace, video_id: str) -> None:
    if Path(video_id).name != video_id or video_id in ("", ".", ".."):
        raise UserError(f"video '{printable(video_id)}': a name that is no name of a file")
    path = options.out / f"{video_id}.xml"
    if path.exists() and not options.overwrite:
        raise UserError(f"{path}: is there already; --overwrite replaces it")


def _check_times(video_id: str, timed: list[_Timed], times_s: NDArray[np.float64]) -> None:
    """Refuse boxes before a video's first frame or after its last: they would be shown there."""
    interval_s = (times_s[-1] - times_s[0]) / max(len(times_s) - 1, 1)
    slack_s = max(interval_s / 2, 1e-3) + 1e-3
    low_s, high_s = times_s[0] - slack_s, times_s[-1] + slack_s
    every_s = [time_s for track in timed for time_s, _, _ in track]
    outside = [time_s for time_s in every_s if not low_s <= time_s <= high_s]
    if outside:
        raise UserError(
            f"video '{printable(video_id)}': {len(outside)} boxes at times outside it, the first "
            f"at {outside[0]:g} s; it shows {times_s[0]:.3f} to {times_s[-1]:.3f} s"
        )


def _choices(folder: DatasetFolder, options: argparse.Namespace) -> ActionChoices:
    """Return the actions that were named; for labels that are there, the label map's."""
    from detection.importers.cvat_export import ActionChoices

    named = named_lists("--one-of", "NAME=ACTION,ACTION,...", options.one_of)
    groups = {name: tuple(actions) for name, actions in named.items()}
    if options.boxes:
        return ActionChoices(tuple(options.actions or ()), groups)
    if options.actions or groups:
        raise UserError("--actions and --one-of go with --boxes; labels have their own classes")
    label_map = folder.read_label_map()
    columns = folder.exclusive_groups(label_map)
    groups = {g: tuple(label_map.names[c] for c in members) for g, members in columns.items()}
    grouped = {name for names in groups.values() for name in names}
    return ActionChoices(tuple(n for n in label_map.names if n not in grouped), groups)


_Timed = list[tuple[float, "NDArray[np.float64]", tuple[str, ...] | None]]


def _tracks(
    folder: DatasetFolder, options: argparse.Namespace
) -> Iterator[tuple[str, list[_Timed]]]:
    """Yield each video with its people: boxes linked over time, or the persons of the labels."""
    from detection.datasets.actor_table import read_ground_truth_rows
    from detection.datasets.ava_csv import read_person_boxes

    split = folder.split(options.split)
    if options.boxes is None:
        yield from _labelled_tracks(read_ground_truth_rows(split), folder)
        return
    path = options.boxes
    if str(path) in split.boxes:
        path = folder.boxes_path(split, str(path))
    rows = read_person_boxes(path)
    if rows.score is None:
        raise UserError(f"{path}: person boxes need a score in column 8")
    for video in sorted(set(rows.video_names)):
        of_video = rows.select(rows.video_index == rows.video_names.index(video))
        yield video, _linked(of_video, options)


def _linked(rows: AvaRows, options: argparse.Namespace) -> list[_Timed]:
    from detection.datasets.linked_boxes import link_person_boxes

    found = link_person_boxes(
        rows,
        least_score=options.min_score,
        least_length=options.min_length,
        max_gap_s=max(2.0, 2 * options.every),
    )
    return [
        [(float(rows.time_us[row] / 1e6), rows.boxes_01[row], None) for row in track.tolist()]
        for track in found.tracks.values()
    ]


def _labelled_tracks(rows: AvaRows, folder: DatasetFolder) -> Iterator[tuple[str, list[_Timed]]]:
    label_map = folder.read_label_map()
    names = dict(zip(label_map.ids, label_map.names, strict=True))
    videos: dict[str, dict[tuple[float, ...], dict[float, tuple[list[float], list[str]]]]] = {}
    for row in range(len(rows)):
        key = rows.keyframe(row)
        box = rows.boxes_01[row].tolist()
        person = (float(rows.person_id[row]),) if rows.person_id is not None else (key.time_s, *box)
        track = videos.setdefault(key.video_id, {}).setdefault(person, {})
        actions = track.setdefault(key.time_s, (box, []))[1]
        if int(rows.action_id[row]) in names:
            actions.append(names[int(rows.action_id[row])])
    import numpy as np

    def timed(track: dict[float, tuple[list[float], list[str]]]) -> _Timed:
        found = sorted(track.items())
        return [(time_s, np.array(box), tuple(sorted(names))) for time_s, (box, names) in found]

    for video, people in sorted(videos.items()):
        yield video, [timed(track) for track in people.values()]


def _boxes(frames: Sequence[int], track: _Timed) -> list[TrackBox]:
    """Return a track's boxes by frame, the first where two times show one frame."""
    from detection.importers.cvat_export import TrackBox

    by_frame: dict[int, TrackBox] = {}
    for frame, (_, box, actions) in zip(frames, track, strict=True):
        by_frame.setdefault(frame, TrackBox(frame, box, actions))
    return [by_frame[frame] for frame in sorted(by_frame)]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("export_cvat", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    parser.shared("--dataset", "--split")
    add("--boxes", type=Path, metavar="CSV",
        help="detected people: a file or a registered name (default: the labels)")
    add("--actions", nargs="+", metavar="ACTION", help="actions to tick, any number at a time")
    add("--one-of", action="append", metavar="NAME=A,B,...",
        help="actions of which one holds at a time; may be repeated")
    parser.shared("--out", help="folder of the XML files")
    add("--min-score", type=share, default=0.5, metavar="S",
        help="lowest score that starts a track (default %(default)s)")
    add("--min-length", type=int, default=1, metavar="N",
        help="leave out tracks of fewer boxes (default %(default)s)")
    add("--every", type=auto_or_seconds_above_0, default="auto", metavar="S",
        help="seconds from box to box; auto: as the boxes of each video are (default %(default)s)")
    add("--keep-iou", type=number(0, 2), default=0.9, metavar="X",
        help="leave out boxes predicted with this IoU by even motion (default %(default)s)")
    parser.shared("--overwrite")
    # fmt: on
    options = parser.parse_args(arguments)
    options.every_s = None if options.every == "auto" else options.every
    options.every = options.every_s or 1.0
    return options


if __name__ == "__main__":
    run_command(main)
