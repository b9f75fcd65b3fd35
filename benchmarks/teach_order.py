"""Which clips should a person label first? A simulated annotator on JHMDB's training films.

    python benchmarks/few_shot.py features --cfg configs/mine_x3d_xs.yaml --features DIR ...
    python benchmarks/teach_order.py --features DIR/split1_train --rows FILE.jsonl [--wanted 3]

The annotator labels ten clips, each by its one action, the last layer is fitted to all that is
labelled, the order of the rest is made anew, and so on. Clips to label and clips that are scored
are of different films: seed s holds out part s of five (`probe_folds.py`), beginning again at the
sixth with other clips to start from. Printed for each order: frame-mAP on the part held out,
ground-truth boxes, after each number of clips labelled, and what it is beside random order of the
same seeds: the mean difference and its standard error over seeds.

`--wanted 3` is a user's case: three actions are taught, of each seed three others, and the people
of the other 18 do none of them. Then frame-mAP is the mean of the three, and what is counted too
is how many clips are labelled until each of the three has `ENOUGH` examples.

`--rows` keeps a line for every seed, start and order; those that are there are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from few_shot import Clips, grams_of, logits_in_span, one_hot, read_clips, rows_of  # noqa: E402
from probe_folds import mean_ap, spread  # noqa: E402

from detection.teaching.order import doubtful_order, likely_order, suggest_order  # noqa: E402

PICKS = (10, 20, 40, 80, 160, 320)
ENOUGH = 10  # examples of a class


@dataclass(frozen=True)
class Known:
    """What an order may look at.

    scores: (T, A) probabilities of clips without labels, 0 of classes without an example.
    counts: (A,) labelled clips a class.  features: (T, F).  labelled: (L, F) of those that are
    labelled.  num_none: labelled clips of no class.
    """

    scores: NDArray[np.float64]
    counts: NDArray[np.int64]
    features: NDArray[np.float32]
    labelled: NDArray[np.float32]
    random: np.random.Generator
    num_none: int


Order = Callable[[Known], NDArray[np.int64]]


def at_random(known: Known) -> NDArray[np.int64]:
    """Return a random order."""
    return known.random.permutation(len(known.scores))


def shipped(known: Known) -> NDArray[np.int64]:
    """Return the order in which `teach` suggests."""
    return suggest_order(
        known.scores,
        known.counts,
        num_none=known.num_none,
        num_labelled=len(known.labelled),
        seed=int(known.random.integers(2**32)),
    )


def likely(known: Known) -> NDArray[np.int64]:
    """Return likely classes in turns, by the margin of the two best probabilities."""
    return likely_order(known.scores, known.counts)


def likely_or_none(known: Known) -> NDArray[np.int64]:
    """Return the same with "none of these" as a class, once there is an example of it."""
    if not known.num_none:
        return likely(known)
    none = 1 - known.scores.max(1, keepdims=True)
    counts = np.append(known.counts, known.num_none)
    return likely_order(np.concatenate([known.scores, none], 1), counts)


def doubtful(known: Known) -> NDArray[np.int64]:
    """Return the nearest to a half of each class in turns; random while none has an example."""
    return doubtful_order(known.scores, known.counts) if known.counts.any() else at_random(known)


def near_a_half(known: Known) -> NDArray[np.int64]:
    """Return the order of any class's nearness to a half."""
    return np.argsort(np.abs(2 * known.scores - 1).min(1), kind="stable")


def least_like(known: Known) -> NDArray[np.int64]:
    """Return an order in which each is the one least like all before it, by the cosine."""
    unit, labelled = (
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        for rows in (known.features, known.labelled)
    )
    nearest = (unit @ labelled.T).max(1, initial=-1.0)
    chosen = np.zeros(len(unit), bool)
    order: list[int] = []
    for _ in range(min(10, len(unit))):
        place = int(np.where(chosen, np.inf, nearest).argmin())
        order.append(place)
        chosen[place] = True
        nearest = np.maximum(nearest, unit @ unit[place])
    return np.array(order + np.flatnonzero(~chosen).tolist(), np.int64)


def by_turns(*orders: Order) -> Order:
    """Return an order that takes from several by turns."""

    def order(known: Known) -> NDArray[np.int64]:
        mixed = np.stack([one(known) for one in orders], 1).reshape(-1)
        _, places = np.unique(mixed, return_index=True)
        return mixed[np.sort(places)]

    return order


ORDERS: dict[str, Order] = {
    "random": at_random,
    "suggest_order": shipped,
    "likely classes in turns, margin": likely,
    "none in turns": likely_or_none,
    "none in turns and random": by_turns(likely_or_none, at_random),
    "least like": least_like,
    "a class near a half": near_a_half,
    "half in turns": doubtful,
    "half in turns and random": by_turns(doubtful, at_random),
    "half in turns and least like": by_turns(doubtful, least_like),
}


def main() -> None:
    """Label, fit, score, for every order and start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, required=True, help="kept features of a split")
    parser.add_argument("--rows", type=Path, required=True, help="JSON lines, gone on with")
    parser.add_argument("--wanted", type=int, help="classes; others are none of them (all)")
    parser.add_argument(
        "--starts", nargs="+", choices=("classes", "random"), default=("classes", "random")
    )
    parser.add_argument("--orders", nargs="+", choices=list(ORDERS), default=list(ORDERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--l2", type=float, default=1e-4)
    parser.add_argument("--keyframes", type=int, default=1, help="of each clip learned (1)")
    parser.add_argument("--most", type=int, default=PICKS[-1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    annotator = Annotator.read(options.features, l2=options.l2, keyframes=options.keyframes)
    picks = [number for number in PICKS if number <= options.most]
    done = read_rows(options.rows)
    same = {"wanted": options.wanted, "picks": picks, "l2": options.l2}
    same["keyframes"] = options.keyframes
    rows = []
    for seed in range(options.seeds):
        for start in options.starts:
            for name in options.orders:
                which = {**same, "seed": seed, "start": start, "order": name}
                row = next((row for row in done if which.items() <= row.items()), None)
                if row is None:
                    row = which | annotator.label(
                        ORDERS[name], start=start, seed=seed, picks=picks, wanted=options.wanted
                    )
                    with options.rows.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                rows.append(row)
    for start in options.starts:
        print_table([row for row in rows if row["start"] == start], f"start: {start}")
    if len(options.starts) > 1:
        print_table(rows, "all starts")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def print_table(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print a line for each order, and what it is beside random order of the same seeds."""
    seeds = sorted({row["seed"] for row in rows})
    print(f"{title}; {len(seeds)} seeds; clips labelled {rows[0]['picks']}")
    for name in dict.fromkeys(row["order"] for row in rows):
        mine = [row for row in rows if row["order"] == name]
        values = " ".join(f"{value:.3f}" for value in np.mean([row["map"] for row in mine], 0))
        means = np.mean([row["map"] for row in mine], 1)
        print(
            f"{values} | mean {means.mean():.4f}, {beside_random(rows, name, mean_map)} | "
            f"until enough {np.mean([row['until_enough'] for row in mine]):.0f}, "
            f"{beside_random(rows, name, lambda row: float(row['until_enough']))} | {name} | "
            "deviation " + " ".join(f"{d:.3f}" for d in np.std([row["map"] for row in mine], 0))
        )


def mean_map(row: Mapping[str, Any]) -> float:
    """Return the mean over the numbers of clips labelled."""
    return float(np.mean(row["map"]))


def beside_random(
    rows: Sequence[Mapping[str, Any]], name: str, value: Callable[[Mapping[str, Any]], float]
) -> str:
    """Return the mean difference from random order of the same seed, and its standard error."""
    differences = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = [value(row) for row in rows if row["seed"] == seed and row["order"] == name]
        chance = [value(row) for row in rows if row["seed"] == seed and row["order"] == "random"]
        if not mine or not chance:
            return "random is not among the orders"
        differences.append(np.mean(mine) - np.mean(chance))
    if len(differences) < 2:
        return f"{differences[0]:+.4f}"
    error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    return f"{np.mean(differences):+.4f} ± {error:.4f}"


@dataclass(frozen=True)
class Annotator:
    """Clips with their parts and what is computed of them once; how the last layer is fitted."""

    clips: Clips
    parts: NDArray[np.int64]
    grams: list[NDArray[np.float64]]
    l2: float
    keyframes: int

    @classmethod
    def read(cls, place: Path, *, l2: float, keyframes: int) -> Annotator:
        """Read the kept features of a split."""
        clips = read_clips(place)
        return cls.of(clips, l2=l2, keyframes=keyframes)

    @classmethod
    def of(cls, clips: Clips, *, l2: float, keyframes: int) -> Annotator:
        """Put clips into five parts by film."""
        parts = spread(clips.film, one_hot(clips.label, int(clips.label.max()) + 1), 5)
        width = clips.features.shape[1] // 2
        return cls(clips, parts, grams_of(clips.features, (width, width)), l2, keyframes)

    def label(
        self, order: Order, *, start: str, seed: int, picks: list[int], wanted: int | None
    ) -> dict[str, Any]:
        """Return frame-mAP on the part held out after each number of picks, and how many it took.

        `until_enough` is the number after which each class has `ENOUGH` examples, the last of
        `picks` where that is not reached.
        """
        random = np.random.default_rng(seed)
        clips, pool = self.clips, self.parts != seed % 5
        num_classes = int(clips.label.max()) + 1
        classes = np.sort(random.permutation(num_classes)[: wanted or num_classes])
        labels = one_hot(clips.label, num_classes)[:, classes]  # (C, A)
        clip_of = np.repeat(np.arange(len(clips.rows)), [len(rows) for rows in clips.rows])
        truth, held = labels[clip_of], ~pool[clip_of]
        middle = clips.features[[rows[len(rows) // 2] for rows in clips.rows]]
        labelled = first_clips(labels, pool, start, random)
        found: list[float] = []
        while True:
            learned = rows_of(clips, np.array(labelled), self.keyframes)
            logits = logits_in_span(self.grams, learned, truth[learned], l2=self.l2)
            if len(labelled) in picks:
                found.append(mean_ap(logits[held], truth[held]))
                if len(labelled) == picks[-1]:
                    return {"map": found, "until_enough": until(labels[labelled])}
            rest = np.setdiff1d(np.flatnonzero(pool), labelled)
            sums = np.zeros((len(clips.rows), len(classes)))
            np.add.at(sums, clip_of, 1 / (1 + np.exp(-logits.astype(np.float64))))
            counts = labels[labelled].sum(0).astype(np.int64)
            scores = (sums / np.bincount(clip_of)[:, None])[rest] * (counts > 0)
            num_none = len(labelled) - int(counts.sum())
            known = Known(scores, counts, middle[rest], middle[labelled], random, num_none=num_none)
            count = 10 - len(labelled) % 10
            labelled = labelled + rest[order(known)[:count]].tolist()


def until(labels: NDArray[np.float32]) -> int:
    """Return how many rows it takes until each class has `ENOUGH`; all where it has not."""
    reached = (np.cumsum(labels, 0) >= ENOUGH).all(1)
    return int(reached.argmax()) + 1 if reached.any() else len(labels)


def first_clips(
    labels: NDArray[np.float32],
    pool: NDArray[np.bool_],
    start: str,
    random: np.random.Generator,
) -> list[int]:
    """Return one clip of each of three classes, or ten clips, at random."""
    shuffled = random.permutation(np.flatnonzero(pool))
    if start == "random":
        return [int(number) for number in shuffled[:10]]
    classes = random.permutation(np.flatnonzero(labels[shuffled].any(0)))[:3]
    return [int(shuffled[labels[shuffled, one] > 0][0]) for one in classes]


if __name__ == "__main__":
    main()
