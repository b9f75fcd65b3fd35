"""Which clips should a person label first? A simulated annotator on JHMDB's training films.

    python benchmarks/few_shot.py features --cfg configs/mine_x3d_xs.yaml --features DIR ...
    python benchmarks/teach_order.py --features DIR/split1_train [--starts classes random]

The annotator labels ten clips, each by its one action, the last layer is fitted to all that is
labelled, the order of the rest is made anew, and so on. Clips to label and clips that are scored
are of different films: seed s holds out part s of five (`probe_folds.py`). Printed: frame-mAP on
the part held out, ground-truth boxes, after each number of clips labelled.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from few_shot import Clips, grams_of, logits_in_span, one_hot, read_clips, rows_of  # noqa: E402
from probe_folds import mean_ap, spread  # noqa: E402

from detection.teaching.order import suggest_order  # noqa: E402

PICKS = (10, 20, 40, 80, 160, 320)


@dataclass(frozen=True)
class Known:
    """What an order may look at.

    scores: (T, A) probabilities of clips without labels.  counts: (A,) labelled clips a class.
    nearness: (T, T) inner products among them, and labelled: (T, L) with those that are labelled,
    of features of length 1.  film: (T,).
    """

    scores: NDArray[np.float64]
    counts: NDArray[np.int64]
    among: NDArray[np.float64]
    labelled: NDArray[np.float64]
    random: np.random.Generator


Order = Callable[[Known], NDArray[np.int64]]


def by(value: Callable[[Known], NDArray[np.float64]]) -> Order:
    """Return the order of the largest value first."""
    return lambda known: np.argsort(-value(known), kind="stable")


def uncertain(known: Known) -> NDArray[np.float64]:
    """1 for a class at a probability of a half, 0 for classes that are sure."""
    value: NDArray[np.float64] = (1 - np.abs(2 * known.scores - 1)).max(1)
    return value


def margin(known: Known) -> NDArray[np.float64]:
    best = np.sort(known.scores, axis=1)
    value: NDArray[np.float64] = best[:, -2] - best[:, -1]
    return value


def entropy(known: Known) -> NDArray[np.float64]:
    p = np.clip(known.scores, 1e-7, 1 - 1e-7)
    value: NDArray[np.float64] = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(1)
    return value


def rarity(known: Known) -> NDArray[np.float64]:
    """(T,) the larger, the fewer clips of the likely class are labelled."""
    value: NDArray[np.float64] = 1 / (1 + known.counts[known.scores.argmax(1)])
    return value


def uncertain_by_class(known: Known) -> NDArray[np.float64]:
    value: NDArray[np.float64] = ((1 - np.abs(2 * known.scores - 1)) / (1 + known.counts)).max(1)
    return value


def farthest(known: Known) -> NDArray[np.int64]:
    """Each next is the one least like all that are labelled or come before it (core-set)."""
    nearest = known.labelled.max(1, initial=-1.0)
    chosen = np.zeros(len(nearest), bool)
    order = []
    for _ in range(min(10, len(nearest))):
        place = int(np.where(chosen, np.inf, nearest).argmin())
        order.append(place)
        chosen[place] = True
        nearest = np.maximum(nearest, known.among[place])
    return np.concatenate([np.array(order, np.int64), np.flatnonzero(~chosen)])


def spread_by(value: Callable[[Known], NDArray[np.float64]], threshold: float = 0.7) -> Order:
    """Return the order of the largest value first, without clips much like one before."""

    def order(known: Known) -> NDArray[np.int64]:
        first: list[int] = []
        later: list[int] = []
        for place in by(value)(known).tolist():
            alike = len(first) < 10 and any(known.among[place, o] > threshold for o in first)
            (later if alike else first).append(place)
        return np.array(first + later, np.int64)

    return order


def in_turns(value: Callable[[Known], NDArray[np.float64]]) -> Order:
    """Return an order that takes likely classes in turns, the least labelled one first."""

    def order(known: Known) -> NDArray[np.int64]:
        likely = known.scores.argmax(1)
        ranked = by(value)(known)
        turn = np.zeros(len(ranked))
        counts = known.counts.astype(float)
        for place in ranked.tolist():
            turn[place] = counts[likely[place]]
            counts[likely[place]] += 1
        return ranked[np.argsort(turn[ranked], kind="stable")]

    return order


def mixed(first: Order, second: Order) -> Order:
    """Return an order that takes from two by turns."""

    def order(known: Known) -> NDArray[np.int64]:
        pairs = np.stack([first(known), second(known)], 1).reshape(-1)
        _, places = np.unique(pairs, return_index=True)
        return pairs[np.sort(places)]

    return order


def shipped(known: Known) -> NDArray[np.int64]:
    """Return the order in which `teach` suggests."""
    return suggest_order(known.scores, known.counts)


def chance(known: Known) -> NDArray[np.float64]:
    """(T,) random numbers."""
    return known.random.random(len(known.scores))


def at_random(known: Known) -> NDArray[np.int64]:
    return known.random.permutation(len(known.scores))


ORDERS: dict[str, Order] = {
    "random": at_random,
    "least certain: a class near a half": by(uncertain),
    "least certain: margin of the two best": by(margin),
    "least certain: entropy": by(entropy),
    "least certain: lowest best score": by(lambda known: -known.scores.max(1)),
    "rarest likely class": by(lambda known: rarity(known) + 1e-6 * chance(known)),
    "least certain x rarest likely class": by(lambda known: uncertain(known) * rarity(known)),
    "least certain x rare, class by class": by(uncertain_by_class),
    "most confident x rarest likely class": by(lambda known: known.scores.max(1) * rarity(known)),
    "likely classes in turns, margin (suggest_order)": shipped,
    "likely classes in turns, most confident": in_turns(lambda known: known.scores.max(1)),
    "likely classes in turns, random": in_turns(
        lambda known: known.random.random(len(known.scores))
    ),
    "least like the labelled": farthest,
    "margin, none alike": spread_by(margin),
    "lowest best score, none alike": spread_by(lambda known: -known.scores.max(1)),
    "margin and random by turns": mixed(by(margin), at_random),
    "least like the labelled and margin by turns": mixed(farthest, by(margin)),
}


def main() -> None:
    """Label, fit, score, for every order and start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, required=True, help="kept features of a split")
    parser.add_argument(
        "--starts", nargs="+", choices=("classes", "random"), default=("classes", "random")
    )
    parser.add_argument("--orders", nargs="+", choices=list(ORDERS), default=list(ORDERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--l2", type=float, default=1e-4)
    parser.add_argument("--keyframes", type=int, default=1, help="of each clip learned (1)")
    parser.add_argument("--most", type=int, default=PICKS[-1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = read_clips(options.features)
    num_classes = int(clips.label.max()) + 1
    parts = spread(clips.film, one_hot(clips.label, num_classes), 5)
    width = clips.features.shape[1] // 2
    grams = grams_of(clips.features, (width, width))
    picks = [number for number in PICKS if number <= options.most]
    print(f"{len(clips.videos)} clips of {len(set(clips.film))} films; picks {picks}")
    for start in options.starts:
        print(f"start: {start}")
        for name in options.orders:
            began = time.process_time()
            rows = [
                simulate(
                    clips,
                    grams,
                    ORDERS[name],
                    pool=parts != seed % 5,
                    start=start,
                    seed=seed,
                    picks=picks,
                    l2=options.l2,
                    keyframes=options.keyframes,
                )
                for seed in range(options.seeds)
            ]
            values = " ".join(f"{value:.3f}" for value in np.mean(rows, 0))
            deviation = " ".join(f"{value:.3f}" for value in np.std(rows, 0))
            print(
                f"{values} | mean {np.mean(rows):.4f} | {name} | deviation {deviation} "
                f"({time.process_time() - began:.0f} s)",
                flush=True,
            )


def simulate(
    clips: Clips,
    grams: list[NDArray[np.float64]],
    order: Order,
    *,
    pool: NDArray[np.bool_],
    start: str,
    seed: int,
    picks: list[int],
    l2: float,
    keyframes: int,
) -> list[float]:
    """Return the frame-mAP on clips outside the pool after each number of picks."""
    random = np.random.default_rng(seed)
    num_classes = int(clips.label.max()) + 1
    clip_of = np.repeat(np.arange(len(clips.rows)), [len(rows) for rows in clips.rows])
    truth = one_hot(clips.label[clip_of], num_classes)
    middle = np.array([rows[len(rows) // 2] for rows in clips.rows])
    alike = sum(gram[np.ix_(middle, middle)] for gram in grams) / len(grams)
    labelled = first_clips(clips.label, pool, start, random)
    found = []
    while True:
        learned = rows_of(clips, np.array(labelled), keyframes)
        logits = logits_in_span(grams, learned, truth[learned], l2=l2)
        if len(labelled) in picks:
            held = ~pool[clip_of]
            found.append(mean_ap(logits[held], truth[held]))
            if len(labelled) == picks[-1]:
                return found
        rest = np.setdiff1d(np.flatnonzero(pool), labelled)
        sums = np.zeros((len(clips.rows), num_classes))
        np.add.at(sums, clip_of, 1 / (1 + np.exp(-logits.astype(np.float64))))
        known = Known(
            scores=(sums / np.bincount(clip_of)[:, None])[rest],
            counts=np.bincount(clips.label[labelled], minlength=num_classes),
            among=alike[np.ix_(rest, rest)],
            labelled=alike[np.ix_(rest, np.array(labelled, np.int64))],
            random=random,
        )
        count = 10 - len(labelled) % 10
        labelled = labelled + rest[order(known)[:count]].tolist()


def first_clips(
    label: NDArray[np.int64], pool: NDArray[np.bool_], start: str, random: np.random.Generator
) -> list[int]:
    """Return one clip of each of three classes, or ten clips, at random."""
    shuffled = random.permutation(np.flatnonzero(pool))
    if start == "random":
        return [int(number) for number in shuffled[:10]]
    classes = random.permutation(np.unique(label[shuffled]))[:3]
    return [int(shuffled[label[shuffled] == one][0]) for one in classes]


if __name__ == "__main__":
    main()
