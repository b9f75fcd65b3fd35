"""How good is a linear probe on films it has not seen? Training clips alone, test clips untouched.

    python benchmarks/probe_folds.py --cfg configs/jhmdb_probe_x3d_xs.yaml [a.b=value ...]

The training clips are put into parts so that no source film is in two of them and actions are
spread evenly. Some keyframes of every clip, evenly spaced, go through the frozen trunk once; each
part is scored by a last layer that is fitted to the others: to `probe.keyframes_per_video` of those
keyframes of each clip, drawn by the seed (`--draws` seeds from `seed` on), as a run draws them.
Printed: one frame-mAP over all of them, ground-truth boxes, the mean over the parts, and that over
all where every keyframe has the mean of its clip's scores. For choosing sampling, size and head
before test is looked at. `--frames 1` scores middle keyframes alone: an easier question.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection import build  # noqa: E402
from detection.config import load_config, load_people_config  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.loader import (  # noqa: E402
    ClipLoader,
    choose_keyframes,  # noqa: E402
    collate,
)
from detection.datasets.workers import FixedBatches  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.engine.probe import collect_features, fit_linear, set_last_layer  # noqa: E402
from detection.evaluation.average_precision import average_precision  # noqa: E402
from detection.models.action_detector import ActionDetector  # noqa: E402


def main() -> None:
    """Collect, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cfg", required=True, help="configuration, as for train_ava.py")
    parser.add_argument(
        "--films",
        default=str(REPOSITORY / "configs" / "people_jhmdb.yaml"),
        help="people configuration whose data.source_pattern names a clip's film",
    )
    parser.add_argument("--parts", type=int, default=5, help="how many (5)")
    parser.add_argument("--frames", type=int, default=3, help="keyframes of each clip (3)")
    parser.add_argument("--draws", type=int, default=3, help="seeds, where one is drawn (3)")
    parser.add_argument("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    config = load_config(options.cfg, options.overrides)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_malloc_memory()

    folder = DatasetFolder.open(config.data.root)
    label_map = folder.read_label_map()
    table = build.read_train_table(config, folder, label_map)
    dataset = build.build_val_dataset(config, folder, table)
    positions: dict[str, list[int]] = defaultdict(list)
    for position, keyframe in enumerate(table.keyframes()):
        positions[keyframe.video_id].append(position)
    spaced = [
        [found[i] for i in evenly(len(found), options.frames)] for found in positions.values()
    ]
    chosen = [position for found in spaced for position in found]
    clips = np.repeat(np.arange(len(spaced)), [len(found) for found in spaced])
    device = build.build_device(config)
    model = build.build_model(config, num_classes=len(label_map))
    build.start_from_pretrained(config, model, label_map)
    order = FixedBatches(spaced, batch_size=options.frames)
    loader = ClipLoader(dataset, order, workers=config.workers, collate=collate)
    bar = tqdm(loader, desc="features", unit="clip")
    placed = build.place_model(model, device)
    assert isinstance(placed, ActionDetector)
    features, labels = collect_features(placed, bar, device=device)

    pattern = load_people_config(options.films).data.source_pattern
    assert pattern is not None
    films = [film_of(pattern, video_id) for video_id in positions]
    sizes = [len(table.boxes(place)) for place in chosen]
    keyframes = np.repeat(np.arange(len(chosen)), sizes)
    actors = np.repeat(clips, sizes)  # the clip of each actor
    truth = labels.numpy()
    parts = spread(films, _per_clip(truth, actors, len(spaced)), options.parts)[actors]
    print(
        f"{len(chosen)} keyframes of {len(spaced)} clips of {len(set(films))} films "
        f"in {options.parts} parts",
        flush=True,
    )
    per_clip = config.probe.keyframes_per_video or options.frames
    for draw in range(options.draws if per_clip < options.frames else 1):
        seed = config.seed + draw
        drawn = choose_keyframes(
            [table.keyframe(position) for position in chosen], per_video=per_clip, seed=seed
        )
        learned = np.isin(keyframes, drawn)
        scores = np.zeros(labels.shape, np.float32)
        for part in range(options.parts):
            inside = parts == part
            others = torch.from_numpy(~inside & learned)
            weights, biases = fit_linear(
                features[others],
                labels[others],
                parts=model.head.feature_parts,
                l2=config.probe.l2,
            )
            set_last_layer(model, weights, biases)
            with torch.inference_mode():
                scores[inside] = model.head.logits(features[torch.from_numpy(inside)]).sigmoid()
        means = [mean_ap(scores[parts == p], truth[parts == p]) for p in range(options.parts)]
        print(
            f"seed {seed}: frame-mAP {mean_ap(scores, truth):.4f}, "
            f"mean of the parts {np.mean(means):.4f}, "
            f"mean over a clip {mean_ap(over_clips(scores, actors), truth):.4f}",
            flush=True,
        )


def evenly(count: int, required: int) -> list[int]:
    """Return at most `required` places among `count`, each in the middle of its share."""
    return sorted({int((i + 0.5) * count / required) for i in range(required)})


def over_clips(scores: NDArray[np.float32], clips: NDArray[np.int64]) -> NDArray[np.floating]:
    """Give every keyframe's actor the mean of the clip's scores: one person a clip is assumed."""
    sums = np.zeros((clips.max() + 1, scores.shape[1]), np.float32)
    np.add.at(sums, clips, scores)
    return (sums / np.bincount(clips)[:, None])[clips]


def spread(films: list[str], labels: NDArray[np.float32], num_parts: int) -> NDArray[np.int64]:
    """Return the part of each clip: films stay whole, the largest first, actions spread evenly."""
    groups: dict[str, list[int]] = defaultdict(list)
    for clip, film in enumerate(films):
        groups[film].append(clip)
    counts = np.zeros((num_parts, labels.shape[1]))
    parts = np.zeros(len(films), np.int64)
    for _, clips in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        added = labels[clips].sum(0)
        growth = ((counts + added) ** 2).sum(1) - (counts**2).sum(1) + 0.01 * counts.sum(1)
        part = int(np.argmin(growth))
        counts[part] += added
        parts[clips] = part
    return parts


def mean_ap(scores: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    """Return the mean AP of actors whose boxes are given, over classes that a person does."""
    aps = [
        average_precision(scores[:, j], labels[:, j] > 0, int(labels[:, j].sum()))
        for j in range(labels.shape[1])
        if labels[:, j].any()
    ]
    return float(np.mean(aps))


def film_of(pattern: str, video_id: str) -> str:
    """Return the source film of a clip; its own id where the pattern names none."""
    match = re.match(pattern, video_id)
    return video_id if match is None else match[1]


def _per_clip(
    labels: NDArray[np.float32], actors: NDArray[np.int64], num_clips: int
) -> NDArray[np.float32]:
    found = np.zeros((num_clips, labels.shape[1]), np.float32)
    np.maximum.at(found, actors, labels)
    return found


if __name__ == "__main__":
    main()
