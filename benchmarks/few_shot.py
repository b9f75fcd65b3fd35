"""How much does a linear probe find with few labelled clips? JHMDB, ground-truth boxes.

    python benchmarks/few_shot.py features --cfg FILE --features DIR [a.b=value ...]
    python benchmarks/few_shot.py folds --cfg FILE --features DIR [a.b=value ...]

`features` runs the frozen trunk once over three keyframes of each training clip (at 1/6, 1/2 and
5/6 of it) and over all of the test clips, and keeps what the last layer sees of each person in
DIR/SPLIT/VIDEO.npz. Killed, it goes on at the video that it had reached. `folds` looks at training
clips alone, in parts of which no two hold clips of one film (`probe_folds.py`): each is scored by
a last layer fitted to k clips a class drawn from the others.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from probe_folds import evenly, mean_ap, spread  # noqa: E402

from detection import build  # noqa: E402
from detection.config import RunConfig, load_config, load_people_config  # noqa: E402
from detection.datasets.actor_table import ActorTable  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.loader import collate  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.engine.probe import fit_linear  # noqa: E402
from detection.files import replacing  # noqa: E402
from detection.models.action_detector import ActionDetector  # noqa: E402
from detection.models.actor_head import exclusive_logits  # noqa: E402

SHOTS = (1, 2, 5, 10, 20, 0)  # clips a class; 0: all of them


@dataclass(frozen=True)
class Clips:
    """What the last layer sees of the person of each clip at its keyframes.

    videos: names of the C clips, sorted.  rows: C arrays of places in `features`, in order of time.
    features: (R, F) float32.  label: (C,) the one action of each clip.  film: (C,) its source.
    """

    videos: list[str]
    rows: list[NDArray[np.int64]]
    features: NDArray[np.float32]
    label: NDArray[np.int64]
    film: list[str]


def main() -> None:
    """Look once, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("features", "folds"))
    parser.add_argument("--cfg", required=True, help="configuration, as for train_ava.py")
    parser.add_argument("--features", type=Path, required=True, help="folder of kept features")
    parser.add_argument("--frames", type=int, default=3, help="keyframes of a training clip (3)")
    parser.add_argument("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    config = load_config(options.cfg, options.overrides)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_malloc_memory()
    if options.work == "features":
        write_features(config, options.features, frames=options.frames)
    elif options.work == "folds":
        choose_on_folds(config, options.features)


def write_features(config: RunConfig, place: Path, *, frames: int) -> None:
    """Write what is missing of both splits, a file for each video."""
    folder = DatasetFolder.open(config.data.root)
    label_map = folder.read_label_map()
    model = build.build_model(config, num_classes=len(label_map))
    build.start_from_pretrained(config, model, label_map)
    device = build.build_device(config)
    placed = build.place_model(model, device).eval()
    assert isinstance(placed, ActionDetector)
    train = build.read_train_table(config, folder, label_map)
    val = build.read_val_table(config, folder, label_map)
    for split, table, count in (
        (config.data.val_split, val, None),
        (config.data.train_split, train, frames),
    ):
        dataset = build.build_val_dataset(config, folder, table)
        bar = tqdm(positions_of(table, count).items(), desc=split, unit="video", mininterval=10)
        for video, positions in bar:
            path = place / split / f"{video}.npz"
            times_us = table.time_us[positions]
            if has_rows(path, times_us):
                continue
            found = []
            for first in range(0, len(positions), config.evaluation.batch_size):
                chosen = positions[first : first + config.evaluation.batch_size]
                batch = collate(dataset.__getitems__(chosen))
                with torch.inference_mode():
                    inputs = [value.to(device) for value in batch.inputs]
                    found.append(placed.actor_features(*inputs).float().cpu().numpy())
            labels = np.concatenate([table.labels(position) for position in positions])
            people = [len(table.boxes(position)) for position in positions]
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(
                    file,
                    time_us=np.repeat(times_us, people),
                    features=np.concatenate(found),
                    labels=labels,
                )


def positions_of(table: ActorTable, count: int | None) -> dict[str, list[int]]:
    """Return places of `count` keyframes of each video, evenly spaced; all for None."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, keyframe in enumerate(table.keyframes()):
        positions[keyframe.video_id].append(position)
    if count is None:
        return dict(positions)
    return {
        video: [found[i] for i in evenly(len(found), count)] for video, found in positions.items()
    }


def has_rows(path: Path, times_us: NDArray[np.int64]) -> bool:
    """Tell whether a file is whole and holds every keyframe asked for."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return bool(np.isin(times_us, file["time_us"]).all())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False


def read_clips(place: Path, films: str | Path | None = None) -> Clips:
    """Read the features of a split's videos, each of one person with one action."""
    config = load_people_config(films or REPOSITORY / "configs" / "people_jhmdb.yaml")
    pattern = config.data.source_pattern
    assert pattern is not None
    videos = sorted(path.stem for path in place.glob("*.npz"))
    rows, features, label, first = [], [], [], 0
    for video in videos:
        with np.load(place / f"{video}.npz", allow_pickle=False) as file:
            order = np.argsort(file["time_us"], kind="stable")
            features.append(file["features"][order])
            label.append(int(file["labels"].max(0).argmax()))
        rows.append(np.arange(first, first + len(order)))
        first += len(order)
    matches = [re.match(pattern, video) for video in videos]
    return Clips(
        videos,
        rows,
        np.concatenate(features) if features else np.zeros((0, 0), np.float32),
        np.array(label, np.int64),
        [match[1] if match else video for match, video in zip(matches, videos, strict=True)],
    )


def draw_clips(
    label: NDArray[np.int64], allowed: NDArray[np.bool_], shots: int, seed: int
) -> NDArray[np.int64]:
    """Return clips, `shots` at random of each class among those allowed; all for 0."""
    shuffled = np.random.default_rng(seed).permutation(len(label))
    places = shuffled[allowed[shuffled]]
    chosen = [places[label[places] == a][: shots or None] for a in range(label.max(initial=-1) + 1)]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


def rows_of(clips: Clips, chosen: NDArray[np.int64], per_clip: int) -> NDArray[np.int64]:
    """Return places of `per_clip` rows of each clip, evenly spaced; all for 0."""
    found = [np.zeros(0, np.int64)]
    for clip in chosen.tolist():
        rows = clips.rows[clip]
        found.append(rows[evenly(len(rows), min(per_clip or len(rows), len(rows)))])
    return np.concatenate(found)


def one_hot(label: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Return (R, A) labels of 0 and 1."""
    return np.eye(num_classes, dtype=np.float32)[label]


def grams_of(features: NDArray[np.float32], parts: Sequence[int]) -> list[NDArray[np.float64]]:
    """Return the (R, R) inner products of rows, of each kind of features."""
    kinds = np.split(features.astype(np.float64), np.cumsum(parts)[:-1], axis=1)
    return [kind @ kind.T for kind in kinds]


def logits_in_span(
    grams: Sequence[NDArray[np.float64]],
    learned: NDArray[np.int64],
    labels: NDArray[np.float32],
    *,
    l2: float,
) -> NDArray[np.float32]:
    """Return (R, A) logits of all rows by `fit_linear` on those that `learned` names.

    The best weights lie in the span of the rows learned, so that the fit is made on coordinates in
    that span, of which there are as many as rows: the same layer in a fraction of the time.
    """
    kernel = np.zeros((len(grams[0]), len(learned)))
    for gram in grams:
        to_learned = gram[:, learned]
        among = to_learned[learned]
        centred = to_learned - to_learned.mean(1, keepdims=True) - among.mean(0) + among.mean()
        kernel += centred / max(float(np.diagonal(centred[learned]).mean()), 1e-24)
    among = kernel[learned]
    values, vectors = np.linalg.eigh((among + among.T) / 2)
    kept = values > 1e-9 * max(values.max(initial=0.0), 1e-9)
    axes = vectors[:, kept] / np.sqrt(values[kept])
    places = torch.from_numpy((kernel @ axes).astype(np.float32))
    weights, biases = fit_linear(
        places[torch.from_numpy(learned)],
        torch.from_numpy(labels),
        parts=(places.shape[1],),
        l2=l2 / len(grams),  # all kinds together are brought to a length of 1 there
    )
    return (places @ weights.T + biases).numpy()


def choose_on_folds(config: RunConfig, place: Path) -> None:
    """Print the mAP on films held out for every number of clips, l2 and number of keyframes."""
    clips = read_clips(place / config.data.train_split)
    num_classes = int(clips.label.max()) + 1
    parts = spread(clips.film, one_hot(clips.label, num_classes), 5)
    width = config.model.head_width
    both = grams_of(clips.features, (width, width))
    clip_of = np.repeat(np.arange(len(clips.rows)), [len(rows) for rows in clips.rows])
    truth = one_hot(clips.label[clip_of], num_classes)
    print(f"{len(clips.videos)} clips, {len(truth)} keyframes, {len(set(clips.film))} films")
    for shots in SHOTS:
        for kinds, grams in (("both", both), ("person", both[:1]), ("frame", both[1:])):
            for per_clip in (1, 3) if kinds == "both" else (3,):
                for l2 in (1e-5, 1e-4, 1e-3, 1e-2):
                    started = time.process_time()
                    rows = []
                    for draw in range(3 if shots else 1):
                        scores = np.zeros((2, *truth.shape), np.float32)
                        for part in range(5):
                            chosen = draw_clips(clips.label, parts != part, shots, draw)
                            learned = rows_of(clips, chosen, per_clip)
                            logits = logits_in_span(grams, learned, truth[learned], l2=l2)
                            held = parts[clip_of] == part
                            scores[0, held] = logits[held]
                            scores[1, held] = exclusive_logits(torch.from_numpy(logits[held]))
                        rows.append([_mean_of_parts(one, truth, parts[clip_of]) for one in scores])
                    mean = np.mean(rows, 0)
                    spent = time.process_time() - started
                    print(
                        f"{shots or 'all':>4} a class, {kinds}, {per_clip} keyframes, l2 {l2:g}: "
                        f"mAP {mean[0]:.4f}, one softmax {mean[1]:.4f} ({spent:.1f} s)",
                        flush=True,
                    )


def _mean_of_parts(
    scores: NDArray[np.float32], truth: NDArray[np.float32], parts: NDArray[np.int64]
) -> float:
    """Return the mean mAP of the parts: each is scored by a layer of its own."""
    return float(np.mean([mean_ap(scores[parts == p], truth[parts == p]) for p in range(5)]))


if __name__ == "__main__":
    main()
