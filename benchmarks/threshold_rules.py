r"""Which rule for thresholds is best from few examples? Real few-shot scores, and made-up ones.

    python benchmarks/threshold_rules.py --cfg configs/mine_x3d_xs.yaml data.root=data/jhmdb \
        data.train_split=split1_train data.val_split=split1_val
    python benchmarks/threshold_rules.py --made-up

Real: three keyframes of every training clip go through the frozen trunk once. Some actions are
drawn and K clips of each; a last layer is fitted to half of them and thresholds to the scores of
the other half ("held out"), or both to all, scores out of fold ("out of fold", parts by clip, 5 at
most). The mean F1 of the actions is that on all their other clips. Made-up: scores of two normal
distributions a class, whose place varies from class to class by a standard deviation; four
keyframes of a video share half of their variance. Printed: the mean F1 over `--draws` draws by
rule; "mean, N" weighs the common threshold as N examples do; "best" knows the data that it is
measured on.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection import build  # noqa: E402
from detection.config import RunConfig, load_config  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.loader import ClipLoader, collate  # noqa: E402
from detection.datasets.workers import FixedBatches  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.engine.probe import collect_features, fit_linear  # noqa: E402
from detection.evaluation.thresholds import best_cut, mean_threshold  # noqa: E402
from detection.models.action_detector import ActionDetector  # noqa: E402

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]
Drawn = tuple[Scores, Truth, Scores, Truth]  # to learn from, and to measure on
CLIPS = (2, 4, 6, 10, 15)


def main() -> None:
    """Draw, learn by every rule, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cfg", help="configuration, as for train_ava.py")
    parser.add_argument("--made-up", action="store_true", help="made-up scores")
    parser.add_argument("--draws", type=int, default=12, help="of each row (12)")
    parser.add_argument("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    rows = made_up_rows() if options.made_up else real_rows(
        load_config(options.cfg, options.overrides)
    )  # fmt: skip
    heads: list[str] = []
    for name, draw in rows:
        found: dict[str, list[float]] = defaultdict(list)
        for _ in range(options.draws):
            for rule, value in measure(draw()).items():
                found[rule].append(value)
        if not heads:
            heads = list(found)
            print(f"| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
        print(f"| {name} | {' | '.join(f'{np.mean(found[h]):.3f}' for h in heads)} |", flush=True)


def measure(drawn: Drawn) -> dict[str, float]:
    """Return the mean F1 of each rule."""
    scores, truth, other_scores, other_truth = drawn
    rules = {**thresholds(scores, truth), "best": own_cuts(other_scores, other_truth)}
    return {name: mean_f1_at(values, other_scores, other_truth) for name, values in rules.items()}


def thresholds(scores: Scores, truth: Truth) -> Mapping[str, NDArray[np.float64]]:
    """Return the thresholds of every rule."""
    classes, examples = truth.shape[1], truth.sum(0)
    common = best_cut(scores.reshape(-1), truth.reshape(-1), int(truth.sum()))
    own = own_cuts(scores, truth, otherwise=common)
    found = {"0.5": np.full(classes, 0.5), "0.3": np.full(classes, 0.3)}
    found |= {"common": np.full(classes, common), "own": own}
    for weight in (5, 10, 20, 40):
        found[f"mean, {weight}"] = np.array([
            mean_threshold(own[c], common, weight=examples[c] / (examples[c] + weight))
            for c in range(classes)
        ])  # fmt: skip
    return found


def own_cuts(scores: Scores, truth: Truth, *, otherwise: float = 0.5) -> NDArray[np.float64]:
    """Return each class's threshold of best F1; `otherwise` for one without examples."""
    columns = range(truth.shape[1])
    return np.array([
        best_cut(scores[:, c], truth[:, c], int(truth[:, c].sum())) if truth[:, c].any()
        else otherwise for c in columns
    ])  # fmt: skip


def mean_f1_at(values: NDArray[np.float64], scores: Scores, truth: Truth) -> float:
    """Return the mean F1 of all classes at thresholds."""
    above = scores >= values
    return float(np.mean(2 * (above & truth).sum(0) / (above.sum(0) + truth.sum(0))))


def made_up_rows() -> Iterator[tuple[str, Callable[[], Drawn]]]:
    """Yield rows of made-up scores."""
    generator = np.random.default_rng(0)
    for classes in (3, 20):
        for spread in (0.3, 1.0):
            for videos in (1, 2, 3, 5, 10, 25):
                name = f"{classes} classes, spread {spread:g}, {4 * videos} examples"
                yield name, partial(made_up, generator, classes, spread, videos)


def made_up(generator: np.random.Generator, classes: int, spread: float, videos: int) -> Drawn:
    """Draw classes, then a few videos to learn from and many to measure on."""
    apart, place = generator.uniform(1, 4.5, classes), generator.normal(-1.5, spread, classes)
    scale = generator.uniform(0.7, 1.5, classes)
    parts: list[tuple[Scores, Truth]] = []
    for count in (videos, 400):
        of_video = np.repeat(np.arange(classes), count)
        shared = np.repeat(generator.normal(0, 0.5**0.5, (len(of_video), classes)), 4, axis=0)
        truth = np.repeat(of_video, 4)[:, None] == np.arange(classes)
        noise = shared + generator.normal(0, 0.5**0.5, truth.shape)
        logits = place + scale * (noise + (truth - 0.5) * apart)
        parts.append((1 / (1 + np.exp(-logits)), truth))
    return *parts[0], *parts[1]


def real_rows(config: RunConfig) -> Iterator[tuple[str, Callable[[], Drawn]]]:
    """Yield rows of a linear probe's scores on the training clips."""
    pool = Pool(config)
    for fold in ("held out", "out of fold"):
        for classes in (3, 8, 21):
            for clips in CLIPS:
                name = f"{fold}, {classes} classes, {clips} clips each"
                yield name, partial(pool.draw, classes, clips, held_out=fold == "held out")


class Pool:
    """Features of three keyframes of every training clip."""

    def __init__(self, config: RunConfig) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        keep_malloc_memory()
        folder = DatasetFolder.open(config.data.root)
        label_map = folder.read_label_map()
        table = build.read_train_table(config, folder, label_map)
        positions: dict[str, list[int]] = defaultdict(list)
        for position, keyframe in enumerate(table.keyframes()):
            positions[keyframe.video_id].append(position)
        middles = (np.arange(3) + 0.5) / 3  # of the thirds of a clip
        spaced = [
            [found[int(m * len(found))] for m in middles if len(found) >= 3]
            for found in positions.values()
        ]
        spaced = [found for found in spaced if found]
        model = build.build_model(config, num_classes=len(label_map))
        build.start_from_pretrained(config, model, label_map)
        dataset = build.build_val_dataset(config, folder, table)
        order = FixedBatches(spaced, batch_size=3)
        loader = ClipLoader(dataset, order, workers=config.workers, collate=collate)
        placed = build.place_model(model, build.build_device(config))
        assert isinstance(placed, ActionDetector)
        bar = tqdm(loader, desc="features", unit="clip")
        self.features, labels = collect_features(placed, bar, device=build.build_device(config))
        sizes = [sum(len(table.boxes(place)) for place in found) for found in spaced]
        self.truth = labels.numpy() > 0
        self.clip = np.repeat(np.arange(len(spaced)), sizes)
        self.parts, self.l2 = model.head.feature_parts, config.probe.l2
        self.generator = np.random.default_rng(0)

    def draw(self, classes: int, clips: int, *, held_out: bool) -> Drawn:
        """Draw actions and clips of each; fit, and score what is learned from and the rest."""
        chosen = self.generator.choice(self.truth.shape[1], classes, replace=False)
        truth = self.truth[:, chosen]
        action = np.array([truth[self.clip == c].any(0).argmax() for c in range(self.clip[-1] + 1)])
        known = np.array([truth[self.clip == c].any() for c in range(self.clip[-1] + 1)])
        part = np.full(len(action), -1)  # of each labelled clip
        for column in range(classes):
            ours = self.generator.permutation(np.flatnonzero(known & (action == column)))[:clips]
            parts = 2 if held_out else min(5, max(2, clips))
            part[ours] = np.arange(len(ours)) % parts
        of_row = part[self.clip]
        rest = known[self.clip] & (of_row < 0)
        if held_out:
            learned = of_row == 1
            layer = self.fit(of_row == 0, truth)
            return (
                self.scores(layer, learned),
                truth[learned],
                self.scores(layer, rest),
                truth[rest],
            )
        labelled = of_row >= 0
        scores = np.zeros((len(of_row), classes))
        for fold in range(int(part.max()) + 1):
            layer = self.fit(labelled & (of_row != fold), truth)
            scores[of_row == fold] = self.scores(layer, of_row == fold)
        layer = self.fit(labelled, truth)
        return scores[labelled], truth[labelled], self.scores(layer, rest), truth[rest]

    def fit(self, rows: Truth, truth: Truth) -> tuple[torch.Tensor, torch.Tensor]:
        """Fit a last layer to some rows."""
        labels = torch.from_numpy(truth[rows]).float()
        return fit_linear(
            self.features[torch.from_numpy(rows)], labels, parts=self.parts, l2=self.l2
        )

    def scores(self, layer: tuple[torch.Tensor, torch.Tensor], rows: Truth) -> Scores:
        """Return the scores of some rows."""
        weights, biases = layer
        logits = self.features[torch.from_numpy(rows)] @ weights.T + biases
        found: Scores = logits.double().sigmoid().numpy()
        return found


if __name__ == "__main__":
    main()
