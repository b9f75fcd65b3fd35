r"""How are events decided best after teaching a few clips? Kept features of JHMDB's training clips.

    python benchmarks/few_shot.py features --cfg configs/mine_x3d_xs.yaml --features DIR ...
    python benchmarks/event_rules.py --features DIR/split1_train [--actions stand sit wave]

A draw takes three actions (at random, or `--actions`), K clips of each, labelled, 4 others of each
that stay unseen, and clips of other actions, in which people do none of the three: some of them
labelled as that ("idle"), 24 unseen. No film is on both sides. Boxes are the annotated ones (ground
truth), three keyframes a clip, scores smoothed over them as `detect_actions` does by default.

The three exclude each other. "each": every action at its threshold; "likeliest": of those, the
likeliest alone at a keyframe. Thresholds: learned out of fold at keyframes (what `teach` does), or
on the highest smoothed score of each clip ("clips"), or 0.5. Printed, as means over draws: the
share of unseen clips with their action found, of those with a wrong one, and of people who do none
that are given one.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from few_shot import Clips, read_clips  # noqa: E402

from detection.engine.probe import fit_linear, scores_out_of_fold  # noqa: E402
from detection.evaluation.thresholds import learn_thresholds  # noqa: E402
from detection.pipeline.options import PipelineOptions  # noqa: E402
from detection.tracking.events import (  # noqa: E402
    EventFinder,
    ScoreSmoother,
    TrackedKeyframe,
)

CLASSES = [
    *("brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour"),
    *("pullup", "push", "run", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand"),
    *("swing_baseball", "throw", "walk", "wave"),
]
UNSEEN, UNSEEN_IDLE = 4, 24  # clips of each action, of people who do none
INTERVAL_S = 0.4  # between the three keyframes of a clip of about 1.2 s
DEFAULTS = PipelineOptions()


@dataclass(frozen=True)
class Draw:
    """Places of clips: labelled and unseen, with and without one of the actions."""

    actions: list[int]
    labelled: list[int]
    unseen: list[int]
    idle: list[int]


def draw(clips: Clips, actions: list[int], *, shots: int, idle: int, seed: int) -> Draw:
    """Draw clips, no film both labelled and unseen."""
    chance = np.random.default_rng(seed)
    film = np.array(clips.film)
    by_action = [chance.permutation(np.flatnonzero(clips.label == one)) for one in actions]
    others = chance.permutation(np.flatnonzero(~np.isin(clips.label, actions)))
    labelled = [*np.concatenate([places[:shots] for places in by_action]), *others[:idle]]
    free = ~np.isin(film, film[labelled])
    unseen = np.concatenate([places[free[places]][:UNSEEN] for places in by_action])
    return Draw(actions, labelled, unseen.tolist(), others[free[others]][:UNSEEN_IDLE].tolist())


def find_actions(
    probabilities: NDArray[np.float32], thresholds: NDArray[np.float64], *, grouped: bool
) -> set[int]:
    """Return the columns of a clip's events, from (K, A) probabilities of its keyframes."""
    width = probabilities.shape[1]
    names = tuple(map(str, range(width)))
    finder = EventFinder(
        "clip", names, tuple(range(width)), on=thresholds, off=thresholds * DEFAULTS.off_share,
        interval_s=INTERVAL_S, max_gap_s=DEFAULTS.max_gap_s,
        exclusive=(tuple(range(width)),) if grouped else (),
    )  # fmt: skip
    events = [event for one in smoothed(probabilities) for event in finder.feed(one)]
    return {event.action_id for event in events + finder.finish()}


def smoothed(probabilities: NDArray[np.float32]) -> list[TrackedKeyframe]:
    """Return the keyframes of one person with smoothed scores."""
    smoother = ScoreSmoother(DEFAULTS.smoothing_s)
    one = np.ones(1, np.int64)
    keyframes = [
        TrackedKeyframe(INTERVAL_S * place, one, np.zeros((1, 4), np.float32),
                        np.ones(1, np.float32), scores[None])
        for place, scores in enumerate(probabilities)
    ]  # fmt: skip
    return [*(done for each in keyframes for done in smoother.feed(each)), *smoother.finish()]


def measure(clips: Clips, drawn: Draw, l2: float) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return by thresholds and rule the shares of right, wrong and idle clips with an event."""
    parts = [clips.features.shape[1] // 2] * 2
    rows = np.concatenate([clips.rows[clip] for clip in drawn.labelled])
    clip_of = np.repeat(drawn.labelled, [len(clips.rows[clip]) for clip in drawn.labelled])
    truth = clips.label[clip_of][:, None] == np.array(drawn.actions)
    features, labels = torch.from_numpy(clips.features[rows]), torch.from_numpy(truth).float()
    weights, biases = fit_linear(features, labels, parts=parts, l2=l2)
    held_out = scores_out_of_fold(features, labels, clip_of, parts, l2).numpy()
    peaks = np.stack([
        np.max([one.scores[0] for one in smoothed(held_out[clip_of == clip])], axis=0)
        for clip in drawn.labelled
    ])  # fmt: skip
    does = clips.label[drawn.labelled][:, None] == np.array(drawn.actions)
    thresholds = {"0.5": np.full(len(drawn.actions), 0.5)}
    for name, scores, is_true in (("keyframes", held_out, truth), ("clips", peaks, does)):
        learned = learn_thresholds(scores, is_true, source=name)
        assert learned is not None
        thresholds[name] = learned.score

    def found(clip: int, values: NDArray[np.float64], grouped: bool) -> set[int]:
        seen = torch.from_numpy(clips.features[clips.rows[clip]])
        return find_actions(
            torch.sigmoid(seen @ weights.T + biases).numpy(), values, grouped=grouped
        )

    results = {}
    for name, values in thresholds.items():
        for rule, grouped in (("each", False), ("likeliest", True)):
            by_clip = [found(clip, values, grouped) for clip in drawn.unseen]
            own = [drawn.actions.index(int(clips.label[clip])) for clip in drawn.unseen]
            right = [mine in events for mine, events in zip(own, by_clip, strict=True)]
            wrong = [bool(events - {mine}) for mine, events in zip(own, by_clip, strict=True)]
            idle = [bool(found(clip, values, grouped)) for clip in drawn.idle]
            results[name, rule] = tuple(float(np.mean(each)) for each in (right, wrong, idle))
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, decide by every rule, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=Path, required=True, help="DIR/SPLIT of few_shot.py")
    parser.add_argument("--actions", nargs=3, choices=CLASSES, help="default: others in each draw")
    parser.add_argument("--shots", type=int, nargs="+", default=[3, 8], help="labelled clips")
    parser.add_argument("--idle", type=int, nargs="+", default=[0, 12], help="labelled idle clips")
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--l2", type=float, default=1e-4, help="of the probe (1e-4, its default)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    clips = read_clips(options.features)
    print("| clips an action | idle clips | thresholds | of the group | right | wrong | idle |")
    print("|---|---|---|---|---|---|---|")
    for shots in options.shots:
        for idle in options.idle:
            results = defaultdict[tuple[str, str], list[tuple[float, ...]]](list)
            for seed in range(options.draws):
                chance = np.random.default_rng(1000 + seed)
                actions = chance.choice(len(CLASSES), 3, replace=False).tolist()
                if options.actions:
                    actions = [CLASSES.index(name) for name in options.actions]
                drawn = draw(clips, actions, shots=shots, idle=idle, seed=seed)
                for key, shares in measure(clips, drawn, options.l2).items():
                    results[key].append(shares)
            for (name, rule), of_draws in results.items():
                figures = " | ".join(f"{mean:.3f}" for mean in np.mean(of_draws, axis=0))
                print(f"| {shots} | {idle} | {name} | {rule} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
