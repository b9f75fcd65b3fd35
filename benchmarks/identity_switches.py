"""How often the tracker takes a person for another, against known person ids.

    python benchmarks/identity_switches.py --ground-truth data/demo/annotations/val.csv

Boxes are those of the file (ground truth); their person ids are known to the count alone. For each
person seen again, it is a switch where the number is another than before; a takeover is a number
that goes from one person to another. Motion is compared with no motion, and the tracker with
pairing the largest overlaps first (IoU of 0.3 at least), which is what it has to beat.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.boxes import iou_matrix
from detection.datasets.ava_csv import read_ground_truth
from detection.errors import UserError
from detection.structures import ActorBoxes
from detection.tracking.tracker import Tracker, count_switches, link_boxes

TimedBoxes = list[tuple[float, ActorBoxes, NDArray[np.int64]]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="CSV")
    parser.add_argument("--similarity", type=float, nargs="+", default=[-0.3])
    options = parser.parse_args()
    videos = list(read_people(options.ground_truth))
    people = sum(len(set(np.concatenate([m[2] for m in video]).tolist())) for video in videos)
    print(f"{len(videos)} videos, {people} people; of the times that one is seen again")
    print(f"{'':<24}{'identity switches':>17}{'takeovers':>12}")
    report("greedy IoU", [greedy(video) for video in videos], videos)
    for similarity in options.similarity:
        for motion in (False, True):
            found = [
                link_boxes(
                    [(time_s, boxes) for time_s, boxes, _ in video],
                    Tracker(min_similarity=similarity, predict_motion=motion),
                )
                for video in videos
            ]
            name = f"GIoU {similarity:g}" + (", motion" if motion else "")
            report(name, found, videos)


def report(name: str, found: list[list[NDArray[np.int64]]], videos: list[TimedBoxes]) -> None:
    counts = [
        count_switches([m[2] for m in video], tracks)
        for video, tracks in zip(videos, found, strict=True)
    ]
    switches, links = np.sum(counts, axis=0).tolist() if counts else (0, 0)
    taken = [
        count_switches(tracks, [m[2] for m in video])
        for video, tracks in zip(videos, found, strict=True)
    ]
    takeovers, _ = np.sum(taken, axis=0).tolist() if taken else (0, 0)
    print(f"{name:<24}{switches:>6} of {links}{takeovers:>12}")


def read_people(path: Path) -> Iterator[TimedBoxes]:
    """Yield a video's keyframes: time, boxes, person ids."""
    rows = read_ground_truth(path)
    if rows.person_id is None:
        raise UserError(f"{path}: has no person ids")
    for video in range(len(rows.video_names)):
        keyframes: TimedBoxes = []
        mine = rows.video_index == video
        for time_us in np.unique(rows.time_us[mine]).tolist():
            chosen = np.flatnonzero(mine & (rows.time_us == time_us))
            _, first = np.unique(rows.person_id[chosen], return_index=True)
            chosen = chosen[first]
            boxes = ActorBoxes(
                rows.boxes_01[chosen].astype(np.float32), np.ones(len(chosen), np.float32)
            )
            keyframes.append((time_us / 1e6, boxes, rows.person_id[chosen]))
        yield keyframes


def greedy(video: TimedBoxes) -> list[NDArray[np.int64]]:
    """Pair boxes with those of the keyframe before, the largest overlap first."""
    numbers: list[NDArray[np.int64]] = []
    fresh = 1
    for index, (_, boxes, _) in enumerate(video):
        mine = np.full(len(boxes), -1, np.int64)
        if index:
            overlap = iou_matrix(video[index - 1][1].xyxy_01, boxes.xyxy_01)
            while overlap.size and overlap.max() >= 0.3:
                row, column = np.unravel_index(overlap.argmax(), overlap.shape)
                mine[column] = numbers[-1][row]
                overlap[row], overlap[:, column] = -1, -1
        for position in np.flatnonzero(mine < 0):
            mine[position], fresh = fresh, fresh + 1
        numbers.append(mine)
    return numbers


if __name__ == "__main__":
    main()
