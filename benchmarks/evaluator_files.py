"""Write ground truth and detections of the size of AVA val, by rule.

python benchmarks/evaluator_files.py --out FOLDER [--fraction 1.0]

52,400 keyframes of 64 videos, 94,000 labelled people, 5.66 million scores (94,400 boxes times the
60 scored classes), no two equal within a class, so that every evaluator must give the same number.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.datasets.label_map import write_label_map
from detection.structures import LabelMap

KEYFRAMES, PEOPLE, BOXES, VIDEOS = 52_400, 94_000, 94_400, 64
IDS = (
    *(1, *range(3, 16), 17, 20, 22, 24, *range(26, 31), 34, 36, 37, 38, 41, 43, *range(45, 50)),
    *(51, 52, 54, *range(56, 71), 72, 73, 74, *range(76, 81)),
)


@dataclass(frozen=True)
class Files:
    """Paths of one written problem."""

    ground_truth: Path
    detections: Path
    label_map: Path


def write(
    folder: Path, *, fraction: float = 1.0, seed: int = 0, with_detections: bool = True
) -> Files:
    """Write the three files, or two of them, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"ava_val_{fraction:g}_{seed}"
    files = Files(*(folder / f"{name}_{part}" for part in ("gt.csv", "det.csv", "map.pbtxt")))
    required = [files.ground_truth, files.label_map, *[files.detections] * with_detections]
    if all(path.exists() for path in required):
        return files
    rng = np.random.default_rng(seed)
    keyframes, people = int(KEYFRAMES * fraction), int(PEOPLE * fraction)
    boxes = int(BOXES * fraction)
    per_video = -(-keyframes // VIDEOS)
    key_text = [
        f"video{key // per_video:06d},{902 + key % per_video:04d}" for key in range(keyframes)
    ]
    person_key = np.sort(
        np.concatenate([np.arange(keyframes), rng.integers(keyframes, size=people)])[:people]
    )
    corners = rng.uniform(0, 0.7, (people, 2))
    person_box = np.concatenate([corners, corners + rng.uniform(0.08, 0.3, (people, 2))], axis=1)
    frequency = 1 / np.arange(1, len(IDS) + 1) ** 1.2
    labels = rng.random((people, len(IDS))) < 2.5 * frequency / frequency.sum()
    labels[np.arange(people), rng.integers(5, size=people)] = True

    with files.ground_truth.open("w") as file:
        for row in range(people):
            head = f"{key_text[person_key[row]]},{_text(person_box[row])}"
            for column in np.flatnonzero(labels[row]).tolist():
                file.write(f"{head},{IDS[column]},{row}\n")
    write_label_map(files.label_map, LabelMap(tuple(f"action {i}" for i in IDS), IDS))
    if not with_detections:
        return files

    # Nine in ten detected boxes lie near a person, the others anywhere.
    of_person = rng.integers(people, size=boxes)
    near = rng.random(boxes) < 0.9
    found_key = np.where(near, person_key[of_person], rng.integers(keyframes, size=boxes))
    jittered = person_box[of_person] + rng.normal(0, 0.015, (boxes, 4))
    jittered = np.clip(np.where(near[:, None], jittered, rng.permuted(jittered, axis=0)), 0, 1)
    order = np.argsort(found_key, kind="stable")
    found_key, jittered = found_key[order], jittered[order]
    right = (labels[of_person] & near[:, None])[order]
    logit = rng.normal(-3, 1.5, (boxes, len(IDS))) + 2.0 * right
    scores = _distinct((1e8 / (1 + np.exp(-logit))).astype(np.int64))

    with files.detections.open("w") as file:
        for row in range(boxes):
            head = f"{key_text[found_key[row]]},{_text(jittered[row])}"
            pairs = zip(IDS, scores[row].tolist(), strict=True)
            file.write("".join(f"{head},{i},0.{score:08d}\n" for i, score in pairs))
    return files


def _distinct(scores: np.ndarray) -> np.ndarray:
    """Raise equal scores of a class (column) until all differ."""
    order = np.argsort(scores, axis=0)
    ramp = np.arange(len(scores))[:, None]
    ranked = np.take_along_axis(scores, order, axis=0)
    ranked = np.maximum.accumulate(ranked - ramp, axis=0) + ramp
    out = np.empty_like(scores)
    np.put_along_axis(out, order, ranked, axis=0)
    return np.asarray(np.minimum(out, 99_999_999))


def _text(box: np.ndarray) -> str:
    return ",".join(f"{value:.3f}" for value in box)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fraction", type=float, default=1.0)
    options = parser.parse_args()
    print(write(options.out, fraction=options.fraction))
