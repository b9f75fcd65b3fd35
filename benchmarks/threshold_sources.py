r"""Thresholds of a probe: from the validation split, from train out of fold, or from both?

    python benchmarks/few_shot.py features --cfg configs/mine_x3d_xs.yaml --features DIR \
        data.root=data/jhmdb data.train_split=split1_train data.val_split=split1_val
    python benchmarks/threshold_sources.py --features DIR/split1_train

Some actions are drawn, K clips of each to fit the last layer to and V clips of each for validation;
the mean F1 of the actions is that on all their other clips of the folder, at thresholds that
`learn_thresholds` chooses from either or both. Mean of `--draws` draws; the last column is what
both gain over validation alone, with the standard error of the draws.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.engine.probe import fit_linear, scores_out_of_fold  # noqa: E402
from detection.evaluation.thresholds import learn_thresholds  # noqa: E402

L2 = 1e-4
PLANS = [(a, k, v) for a in (3, 8) for k, v in ((4, 1), (4, 2), (8, 2), (8, 4))]
HEADS = ("0.5", "validation", "out of fold", "both")


def main() -> None:
    """Draw, learn from each source, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, required=True, help="of `few_shot.py features`")
    parser.add_argument("--draws", type=int, default=12, help="of each row (12)")
    options = parser.parse_args()
    paths = sorted(options.features.glob("*.npz"))
    files = [np.load(path) for path in paths]
    features = torch.from_numpy(np.concatenate([file["features"] for file in files]))
    truth = np.concatenate([file["labels"] for file in files]) > 0
    clip = np.repeat(np.arange(len(files)), [len(file["labels"]) for file in files])
    generator = np.random.default_rng(0)
    print(f"| actions, clips each, for validation | {' | '.join(HEADS)} | both - validation |")
    print(f"|---|{'---|' * (len(HEADS) + 1)}")
    for actions, learned, held in PLANS:
        draws = [
            draw(features, truth, clip, generator, actions, learned, held)
            for _ in range(options.draws)
        ]
        mean = np.mean(draws, axis=0)
        gain = np.array(draws)[:, 3] - np.array(draws)[:, 1]
        error = gain.std(ddof=1) / len(gain) ** 0.5
        figures = " | ".join(f"{value:.3f}" for value in mean)
        print(
            f"| {actions}, {learned}, {held} | {figures} | {gain.mean():+.3f} ± {error:.3f} |",
            flush=True,
        )


def draw(
    features: torch.Tensor,
    all_truth: NDArray[np.bool_],
    clip: NDArray[np.int64],
    generator: np.random.Generator,
    actions: int,
    learned: int,
    held: int,
) -> list[float]:
    """Return the mean F1 of each source in one draw."""
    truth = all_truth[:, generator.choice(all_truth.shape[1], actions, replace=False)]
    part = np.full(clip[-1] + 1, -1)  # of clips: 0 learned, 1 validation, 2 the rest
    for column in truth.T:
        ours = generator.permutation(np.unique(clip[column]))
        part[ours] = np.repeat([0, 1, 2], [learned, held, len(ours) - learned - held])
    train, val, rest = (part[clip] == number for number in range(3))
    mine, labels = features[torch.from_numpy(train)], torch.from_numpy(truth[train]).float()
    kinds = (features.shape[1] // 2,) * 2
    weights, biases = fit_linear(mine, labels, parts=kinds, l2=L2)

    def scores(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        logits = features[torch.from_numpy(rows)] @ weights.T + biases
        return np.asarray(torch.sigmoid(logits).double().numpy())

    folds = scores_out_of_fold(mine, labels, clip[train], kinds, L2).double().numpy()
    sources = (
        (scores(val), truth[val]),
        (folds, truth[train]),
        (np.concatenate([scores(val), folds]), np.concatenate([truth[val], truth[train]])),
    )
    found, rows = [np.full(actions, 0.5)], scores(rest)
    for judged, is_true in sources:
        thresholds = learn_thresholds(judged, is_true, source="")
        assert thresholds is not None
        found.append(thresholds.score)
    result = []
    for values in found:
        above = rows >= values
        both = 2 * (above & truth[rest]).sum(0)
        result.append(float(np.mean(both / (above.sum(0) + truth[rest].sum(0)))))
    return result


if __name__ == "__main__":
    main()
