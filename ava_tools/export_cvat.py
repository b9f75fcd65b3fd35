"""Export a data set for CVAT with people already boxed: annotators only choose actions."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, named_lists, number, run_command, seconds_above_0, share
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

In CVAT: make a task per video, paste labels.json into the label editor's "Raw" tab, upload ID.xml
as "CVAT 1.1", choose the actions, export as "CVAT for video 1.1"; then
  python -m ava_tools.import_dataset cvat --source exports/ --videos data/raw/videos \\
      --out data/mine
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.datasets.folder import DatasetFolder
    from detection.datasets.open_video import open_video
    from detection.files import write_text
    from detection.importers.cvat_export import VideoHeader, cvat_text, same_labels, write_labels
    from detection.video.frame_folder import nearest_frames

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
    ready = []  # everything is made before the first file is written
    merged: list[str] = []
    for video_id, timed in tracks_of_all:
        with open_video(folder, video_id) as video:
            times_s, size_px = video.frame_times_s(), video.frame_size()
        _check_times(video_id, timed, times_s)
        frames = nearest_frames(times_s, [time_s for track in timed for time_s, _, _ in track])
        tracks, taken = [], 0
        for track in timed:
            numbers = frames[taken : taken + len(track)].tolist()
            taken += len(track)
            tracks.append(_boxes(numbers, track))
        merged += [video_id] * (taken - sum(map(len, tracks)))
        head = VideoHeader(video_id, folder.video_path(video_id).name, len(times_s), size_px)
        span_s = max(times_s[-1] - times_s[0], 1e-9)
        step = max(1, round(options.every * (len(times_s) - 1) / span_s))
        ready.append((head, tracks, step, cvat_text(head, tracks, choices, step, options.keep_iou)))
    for head, _, _, (text, _) in ready:
        write_text(options.out / f"{head.name}.xml", text)
    write_labels(label_path, choices)
    people = sum(len(tracks) for _, tracks, _, _ in ready)
    boxes = sum(len(track) for _, tracks, _, _ in ready for track in tracks)
    written = sum(count for *_, (_, count) in ready)
    print(
        f"{len(tracks_of_all)} videos, {people} people, {boxes:,} boxes ({written:,} written, CVAT "
        f"draws the others) -> {options.out}"
    )
    if merged:
        print(
            f"warning: {len(merged)} boxes left out, a person's second at one frame (times closer "
            f"than frames), the first in {merged[0]}"
        )
    print(f"labels for CVAT's task: {label_path}")
    return 0


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
    add("--every", type=seconds_above_0, default=1.0, metavar="S",
        help="seconds from box to box (default %(default)g, as detect_people's)")
    add("--keep-iou", type=number(0, 2), default=0.9, metavar="X",
        help="leave out boxes predicted with this IoU by even motion (default %(default)s)")
    parser.shared("--overwrite")
    # fmt: on
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
