"""What a probe should see of a person: the box, the box that follows, a crop, halves of the clip.

    python benchmarks/actor_inputs.py given --cfg FILE --features F.npz [a.b=value ...]
    python benchmarks/actor_inputs.py detected --cfg FILE --features F.npz [a.b=value ...]

On training videos alone, from what `actor_looks.py` wrote. The last layer is fitted to the other
parts of the videos (no source video is in two, `probe_folds.py`), three seeds. `given` prints
frame-mAP on ground-truth boxes of every recipe; `detected` on the detected boxes, of each keyframe
alone and along tracks, times the person's score: over all videos, and the mean over the parts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]

from actor_looks import SHARES, pretrained  # noqa: E402
from probe_folds import film_of, mean_ap, over_clips, spread  # noqa: E402

from detection.boxes import paired_iou  # noqa: E402
from detection.config import RunConfig, load_config, load_people_config  # noqa: E402
from detection.datasets.actor_table import read_ground_truth_rows  # noqa: E402
from detection.datasets.ava_csv import time_us_of  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.loader import choose_keyframes  # noqa: E402
from detection.engine.probe import fit_linear  # noqa: E402
from detection.evaluation.evaluator import ActionEvaluator  # noqa: E402
from detection.structures import ActorBoxes, Detections, FillMisses, Keyframe  # noqa: E402
from detection.tracking.scoring import TrackScoring, score_along_tracks  # noqa: E402

FILMS = REPOSITORY / "configs" / "people_jhmdb.yaml"  # its pattern names a clip's film
PARTS = 5
SEEDS = 3
PLACES = {1: [0], 2: [1, 2], 4: [3, 4, 5, 6]}  # of the means of whole, halves and quarters
Rows = NDArray[np.float32]


def main() -> None:
    """Fit, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("boxes", choices=("given", "detected"))
    add("--cfg", required=True, help="configuration, as for train_ava.py")
    add("--features", type=Path, required=True, help="what actor_looks.py wrote")
    add("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    config = load_config(options.cfg, options.overrides)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    people = SeenPeople(config, options.features)
    if options.boxes == "given":
        print_given(config, people)
    else:
        print_detected(config, people)


class SeenPeople:
    """What `look` wrote, as rows of people, with what a last layer sees of each.

    truth, detected: rows of each kind.  owner: the row of the labelled person whose box is nearest,
    of the same keyframe.  part: of the training videos.
    """

    def __init__(self, config: RunConfig, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.fc1 = pretrained(config).head.hidden
        self.keyframes = [
            Keyframe(str(video), time_us / 1e6)
            for video, time_us in zip(self.arrays["video"], self.arrays["time_us"], strict=True)
        ]
        self.truth = np.flatnonzero(self.arrays["truth"])
        self.detected = np.flatnonzero(~self.arrays["truth"])
        classes = len(DatasetFolder.open(config.data.root).read_label_map())
        at = {self.keyframes[row]: row for row in self.truth}  # one labelled person a keyframe
        self.owner = np.array([at[key] for key in self.keyframes])
        label = self.arrays["label"][self.owner]
        self.labels = np.eye(classes, dtype=np.float32)[label]
        self.video_ids, video = np.unique(self.arrays["video"], return_inverse=True)
        self.video = video.reshape(-1)
        of_video = np.zeros((len(self.video_ids), classes), np.float32)
        of_video[self.video, label] = 1
        pattern = load_people_config(FILMS).data.source_pattern
        assert pattern is not None
        films = [film_of(pattern, str(one)) for one in self.video_ids]
        self.part = spread(films, of_video, PARTS)[self.video]
        self.iou = paired_iou(self.arrays["box"], self.arrays["box"][self.owner])

    def features(self, inputs: Sequence[str], shares: int, rows: NDArray[np.int64]) -> list[Tensor]:
        """Return an (N, hidden) tensor of length-1 rows for each input and share of the clip."""
        found = []
        for name in (*inputs, "frame"):
            values = self.arrays[name]
            chosen = values[self.arrays["clip"][rows] if name == "frame" else rows]
            for place in PLACES[shares]:
                pooled = torch.from_numpy(chosen[:, place]).float()
                with torch.inference_mode():
                    found.append(normalize(torch.relu(self.fc1(pooled)), dim=1))
        return found

    def drawn(self, per_video: int, seed: int) -> NDArray[np.int64]:
        """Return the labelled rows that a seed's probe learns from."""
        keyframes = [self.keyframes[row] for row in self.truth]
        return self.truth[choose_keyframes(keyframes, per_video=per_video, seed=seed)]


@dataclass(frozen=True)
class Recipe:
    """What a probe sees and learns from.

    matched: detected boxes that overlap a labelled person by more than this IoU are learned too.
    """

    inputs: tuple[str, ...] = ("roi",)
    shares: int = 1
    per_video: int = 1
    l2: float = 1e-4
    matched: float | None = None

    def __str__(self) -> str:
        also = "" if self.matched is None else f", boxes above IoU {self.matched} too"
        return (
            f"{' + '.join(self.inputs)}, {self.shares} in time, {self.per_video} of a video, "
            f"l2 {self.l2:g}{also}"
        )


def scores_of_folds(people: SeenPeople, recipe: Recipe, rows: NDArray[np.int64], seed: int) -> Rows:
    """Return (N, A) probabilities of rows by last layers that were fitted to the other parts."""
    learned = people.drawn(recipe.per_video, seed)
    if recipe.matched is not None:
        fits = np.isin(people.owner, learned) & (people.iou > recipe.matched)
        learned = np.concatenate([learned, np.setdiff1d(np.flatnonzero(fits), people.truth)])
    known = people.features(recipe.inputs, recipe.shares, learned)
    asked = torch.cat(people.features(recipe.inputs, recipe.shares, rows), 1)
    labels = torch.from_numpy(people.labels[learned])
    scores = np.zeros((len(rows), labels.shape[1]), np.float32)
    for part in range(PARTS):
        others = torch.from_numpy(people.part[learned] != part)
        weights, biases = fit_wide([one[others] for one in known], labels[others], recipe.l2)
        inside = people.part[rows] == part
        logits = asked[torch.from_numpy(inside)] @ weights.T + biases
        scores[inside] = logits.softmax(1).numpy()  # a person does exactly one of the actions
    return scores


def fit_wide(kinds: Sequence[Tensor], labels: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """Return what `fit_linear` does of features side by side, many more than rows, in less time.

    The weights lie in the span of the rows, so the fit is made in its coordinates.
    """
    centres = [kind.mean(0) for kind in kinds]
    scales = [
        (kind - centre).square().sum(1).mean().sqrt().clamp(min=1e-12).expand(kind.shape[1])
        for kind, centre in zip(kinds, centres, strict=True)
    ]
    centre, scale = torch.cat(centres), torch.cat(scales)
    rows = (torch.cat(list(kinds), 1) - centre) / scale
    values, vectors = torch.linalg.eigh((rows @ rows.T).double())
    kept = values > values.max() * 1e-7
    lengths = values[kept].sqrt()
    basis = rows.T @ (vectors[:, kept] / lengths).float()  # (F, S), orthonormal
    inside = (vectors[:, kept] * lengths).float()
    # fit_linear scales its features to a mean squared length of 1; that of rows is len(kinds).
    weights, biases = fit_linear(inside, labels, parts=[inside.shape[1]], l2=l2 / len(kinds))
    whole = weights @ basis.T / scale
    return whole, biases - whole @ centre


def print_given(config: RunConfig, people: SeenPeople) -> None:
    """Print frame-mAP on ground-truth boxes of every recipe, means of three seeds."""
    inputs: list[tuple[str, ...]] = [("roi",), ("tube",)]
    if "crop" in people.arrays:
        inputs += [("tube", "crop"), ("crop",)]
    recipes = [Recipe(one, shares) for one in inputs for shares in SHARES]
    best = ("tube",)
    recipes += [Recipe(best, shares, per_video) for shares in SHARES for per_video in (2, 3)]
    recipes += [Recipe(best, shares, l2=l2) for shares in SHARES for l2 in (1e-3, 1e-5)]
    rows = people.truth
    print("| a probe of | frame-mAP | least, most | mean of parts | mean over a clip |")
    print("|---|---|---|---|---|")
    for recipe in recipes:
        found = []
        for seed in range(config.seed, config.seed + SEEDS):
            scores, truth = scores_of_folds(people, recipe, rows, seed), people.labels[rows]
            parts = [people.part[rows] == part for part in range(PARTS)]
            means = [mean_ap(scores[inside], truth[inside]) for inside in parts]
            over = mean_ap(over_clips(scores, people.video[rows]), truth)
            found.append((mean_ap(scores, truth), float(np.mean(means)), over))
        whole, of_parts, over_clip = np.array(found).T
        print(
            f"| {recipe} | {whole.mean():.4f} | {whole.min():.4f}, {whole.max():.4f} "
            f"| {of_parts.mean():.4f} | {over_clip.mean():.4f} |",
            flush=True,
        )


def print_detected(config: RunConfig, people: SeenPeople) -> None:
    """Print frame-mAP on detected boxes, means of three seeds, of each recipe and way to score."""
    print("| a probe of | boxes from | scores | plain | times the person's | mean of parts |")
    print("|---|---|---|---|---|---|")
    shapes = [Recipe(inputs, shares) for inputs in (("roi",), ("tube",)) for shares in SHARES]
    best = Recipe(("tube",), 4, per_video=2)
    shapes += [best, *(replace(best, matched=iou) for iou in (0.5, 0.7, 0.9))]
    for recipe in shapes:
        of_seeds = range(config.seed, config.seed + SEEDS)
        scores = [scores_of_folds(people, recipe, people.detected, seed) for seed in of_seeds]
        ways: list[TrackScoring | None] = [None]
        ways += [TrackScoring(fill=fill) for fill in get_args(FillMisses)]
        leasts = [0.05]
        if recipe == best:
            leasts += [0.1, 0.3]
            ways += [
                TrackScoring(reach_s, fill)
                for reach_s in (0.3, 0.6, 1.0)
                for fill in get_args(FillMisses)
            ]
        for least in leasts:
            for way in ways:
                found = [DetectedScores(config, people, one, least).mean_aps(way) for one in scores]
                plain, times, parts = np.mean(found, axis=0)
                how = "of each keyframe alone" if way is None else str(way)
                print(
                    f"| {recipe} | {least} | {how} | {plain:.4f} | {times:.4f} | {parts:.4f} |",
                    flush=True,
                )


class DetectedScores:
    """Detections of the keyframes that were looked at.

    scores: (N, A) of `people.detected`.  least: boxes with lower scores do not count.
    """

    def __init__(self, config: RunConfig, people: SeenPeople, scores: Rows, least: float) -> None:
        folder = DatasetFolder.open(config.data.root)
        label_map = folder.read_label_map()
        self.keyframes = [people.keyframes[row] for row in people.truth]
        part_of = dict(zip(people.arrays["video"].tolist(), people.part.tolist(), strict=True))
        looked_at = {(key.video_id, time_us_of(key.time_s)) for key in self.keyframes}
        rows = read_ground_truth_rows(folder.split(config.data.train_split))
        names = [rows.video_names[video] for video in rows.video_index.tolist()]
        part = np.array(
            [
                part_of[name] if (name, time_us) in looked_at else -1
                for name, time_us in zip(names, rows.time_us.tolist(), strict=True)
            ]
        )
        asked = [part >= 0, *(part == one for one in range(PARTS))]
        self.evaluators = [
            ActionEvaluator(rows.select(one), label_map, protocol="frame-map") for one in asked
        ]
        self.part_of = part_of
        at: dict[Keyframe, list[int]] = {}
        for index, row in enumerate(people.detected.tolist()):
            if people.arrays["score"][row] >= least:
                at.setdefault(people.keyframes[row], []).append(index)
        self.found = []
        for key, places in at.items():
            of_key = people.detected[places]
            boxes = ActorBoxes(people.arrays["box"][of_key], people.arrays["score"][of_key])
            self.found.append(Detections(key, boxes, scores[places]))

    def mean_aps(self, way: TrackScoring | None) -> tuple[float, float, float]:
        """Return plain, times the person's score, and of that the mean over the parts."""
        found = self.found
        if way is not None:
            found = score_along_tracks(found, way, keyframes=self.keyframes)
        parts: list[list[Detections]] = [[] for _ in range(PARTS)]
        for one in found:
            parts[self.part_of[one.keyframe.video_id]].append(one)
        whole, of_parts = self.evaluators[0], self.evaluators[1:]
        several = zip(of_parts, parts, strict=True)
        means = [_mean_ap(evaluator, inside, multiply=True) for evaluator, inside in several]
        return (
            _mean_ap(whole, found, multiply=False),
            _mean_ap(whole, found, multiply=True),
            float(np.mean(means)),
        )


def _mean_ap(evaluator: ActionEvaluator, found: Sequence[Detections], *, multiply: bool) -> float:
    evaluator.reset()
    evaluator.multiply_person_score = multiply
    evaluator.update(found)
    return float(evaluator.compute().mean_ap)


if __name__ == "__main__":
    main()
