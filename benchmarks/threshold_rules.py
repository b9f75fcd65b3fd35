"""Which rule makes thresholds of few examples? Held against many more of the same made-up scores.

    python benchmarks/threshold_rules.py

Scores are made up: logits of each class are normal, those of its examples lie higher by a distance
of the class's own, and half of the variance is the video's (four people a video). A rule sees a
few examples a class and is judged by the mean F1 of its thresholds on 1,600 others of each class.
`own`: each class's cut of best F1; `common`: one of all classes together; `mean K`: both as
logits, the own one weighted n / (n + K), as `learn_thresholds` does; `best`: cuts of the judging
data, which no rule can beat by much.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detection.evaluation.thresholds import best_cut, blended  # noqa: E402

PEOPLE_PER_VIDEO, JUDGED_VIDEOS = 4, 400
WEIGHTS = (5, 10, 20, 40)
Cuts = NDArray[np.float64]


class MadeUpScores:
    """Classes with a distance, an offset and a scale of their own."""

    def __init__(self, classes: int, offsets: float, random: np.random.Generator) -> None:
        self._distance = random.uniform(1, 4.5, classes)
        self._offset = random.normal(-1.5, offsets, classes)
        self._scale = random.uniform(0.7, 1.5, classes)
        self._random = random

    def draw(self, videos: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return scores (N, A) and which are right; `videos` of each class."""
        classes = len(self._distance)
        of_video = np.repeat(np.arange(classes), videos)
        of_person = np.repeat(of_video, PEOPLE_PER_VIDEO)
        shared = self._random.normal(0, np.sqrt(0.5), (len(of_video), classes))
        noise = self._random.normal(0, np.sqrt(0.5), (len(of_person), classes))
        is_true = of_person[:, None] == np.arange(classes)
        position = np.repeat(shared, PEOPLE_PER_VIDEO, 0) + noise
        logits = self._offset + self._scale * (position + (is_true - 0.5) * self._distance)
        return 1 / (1 + np.exp(-logits)), is_true


def cuts_by_rule(scores: NDArray[np.float64], is_true: NDArray[np.bool_]) -> dict[str, Cuts]:
    """Return the (A,) thresholds of each rule."""
    counts = is_true.sum(0)
    common = best_cut(scores.reshape(-1), is_true.reshape(-1), int(counts.sum()))
    own = np.array(
        [best_cut(scores[:, c], is_true[:, c], int(counts[c])) for c in range(len(counts))]
    )
    rules = {"0.5": np.full(len(own), 0.5), "common": np.full(len(own), common), "own": own}
    for k in WEIGHTS:
        rules[f"mean {k}"] = np.array(
            [blended(o, common, weight=n / (n + k)) for o, n in zip(own, counts, strict=True)]
        )
    return rules


def mean_f1_at(cuts: Cuts, scores: NDArray[np.float64], is_true: NDArray[np.bool_]) -> float:
    """Return the mean F1 of the classes."""
    above = scores >= cuts
    right = (above & is_true).sum(0)
    return float(np.mean(2 * right / (above.sum(0) + is_true.sum(0))))


def compare(classes: int, offsets: float, videos: int, repeats: int) -> dict[str, float]:
    """Return the mean F1 of each rule."""
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        source = MadeUpScores(classes, offsets, random)
        rules = cuts_by_rule(*source.draw(videos))
        judged = source.draw(JUDGED_VIDEOS)
        rules["best"] = cuts_by_rule(*judged)["own"]
        for name, cuts in rules.items():
            found.setdefault(name, []).append(mean_f1_at(cuts, *judged))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=80)
    options = parser.parse_args(arguments)
    names = ["0.5", "common", "own", *(f"mean {k}" for k in WEIGHTS), "best"]
    print(f"| classes differ by | examples | {' | '.join(names)} |\n|{'---|' * (2 + len(names))}")
    for offsets in (0.3, 1.0, 2.0):
        for videos in (1, 2, 3, 5, 10, 25):
            found = compare(options.classes, offsets, videos, options.repeats)
            row = " | ".join(f"{found[name]:.3f}" for name in names)
            print(f"| {offsets} | {videos * PEOPLE_PER_VIDEO} | {row} |", flush=True)


if __name__ == "__main__":
    main()
