"""Three actions taught by a few clips: what features of stretches of time are worth.

    python benchmarks/few_actions.py --cfg FILE --features F.npz --clips 3 8 [a.b=value ...]

On training videos alone, from what `actor_looks.py` wrote, ground-truth boxes. Three classes are
drawn (and those of `--actions`, after them), and so many clips of each; independent logistic
regressions are fitted to all their keyframes and asked about the clips of the three classes from
films of which none was fitted to. Printed: the mean AP of the three classes and the share of
keyframes whose likeliest class is right, for the whole clip (`model.time_parts` 1), its halves and
its quarters; two draws of clips each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]

from actor_inputs import FILMS, SeenPeople  # noqa: E402
from actor_looks import SHARES  # noqa: E402
from probe_folds import film_of  # noqa: E402

from detection.config import load_config, load_people_config  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.engine.probe import fit_linear  # noqa: E402
from detection.evaluation.average_precision import average_precision  # noqa: E402

DRAWS_OF_CLIPS = 2


def main() -> None:
    """Draw, fit, ask, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cfg", required=True, help="configuration, as for train_ava.py")
    add("--features", type=Path, required=True, help="what actor_looks.py wrote")
    add("--clips", type=int, nargs="+", default=[3, 8], help="clips a class")
    add("--draws", type=int, default=10, help="random threes of classes")
    add("--actions", action="append", nargs=3, default=[], help="one more three, by name")
    add("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    config = load_config(options.cfg, options.overrides)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    people = SeenPeople(config, options.features)
    names = DatasetFolder.open(config.data.root).read_label_map().names
    random = np.random.default_rng(0)
    drawn = [sorted(random.choice(len(names), 3, False).tolist()) for _ in range(options.draws)]
    named = [[names.index(name) for name in three] for three in options.actions]
    taught = Taught(people, config.probe.l2)
    print("| actions | clips a class | " + " | ".join(f"1/{n} of the clip" for n in SHARES) + " |")
    print("|---|---|" + "---|" * len(SHARES))
    for clips in options.clips:
        rows = [(f"{len(drawn)} random threes", drawn)]
        rows += [(", ".join(names[c] for c in three), [three]) for three in named]
        for words, threes in rows:
            cells = [f"{ap:.3f}, {right:.3f}" for ap, right in taught.mean(threes, clips)]
            print(f"| {words} | {clips} | " + " | ".join(cells) + " |", flush=True)


class Taught:
    """Fits a few clips and asks about others.  l2: as `probe.l2`."""

    def __init__(self, people: SeenPeople, l2: float) -> None:
        rows, self.l2 = people.truth, l2
        self.label = people.labels[rows].argmax(1)
        self.video = people.video[rows]
        pattern = load_people_config(FILMS).data.source_pattern
        assert pattern is not None
        films = np.array([film_of(pattern, str(one)) for one in people.video_ids])
        self.film = films[self.video]
        self.seen = [torch.cat(people.features(["roi", "frame"], n, rows), 1) for n in SHARES]
        self.width = people.fc1.out_features

    def mean(self, threes: list[list[int]], clips: int) -> list[tuple[float, float]]:
        """Return mean AP and share of right keyframes for each share of the clip."""
        found = [
            self._once(three, clips, np.random.default_rng((clips, *three, draw)))
            for three in threes
            for draw in range(DRAWS_OF_CLIPS)
        ]
        return [(float(ap), float(right)) for ap, right in np.mean(found, axis=0)]

    def _once(
        self, three: list[int], clips: int, random: np.random.Generator
    ) -> list[tuple[float, float]]:
        chosen = [
            random.choice(np.unique(self.video[self.label == c]), clips, replace=False)
            for c in three
        ]
        fitted = np.isin(self.video, np.concatenate(chosen))
        asked = np.isin(self.label, three) & ~np.isin(self.film, np.unique(self.film[fitted]))
        labels = torch.from_numpy((self.label[:, None] == three).astype(np.float32))
        truth = labels[asked].numpy() > 0
        results = []
        for features in self.seen:
            parts = (self.width,) * (features.shape[1] // self.width)
            weights, biases = fit_linear(features[fitted], labels[fitted], parts=parts, l2=self.l2)
            scores = (features[asked] @ weights.T + biases).double().numpy()
            aps = [
                average_precision(scores[:, j], truth[:, j], truth[:, j].sum()) for j in (0, 1, 2)
            ]
            right = scores.argmax(1) == truth.argmax(1)
            results.append((float(np.mean(aps)), float(right.mean())))
        return results


if __name__ == "__main__":
    main()
