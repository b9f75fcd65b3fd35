"""How much does a linear probe find with few labelled clips? JHMDB, ground-truth boxes.

    python benchmarks/few_shot.py features --cfg FILE --features DIR [a.b=value ...]
    python benchmarks/few_shot.py folds --cfg FILE --features DIR [a.b=value ...]
    python benchmarks/few_shot.py curve --cfg FILE --features DIR [--folds] [--out FILE.json]
    python benchmarks/few_shot.py plot FILE.json ... --out FILE.png

`features` runs the frozen trunk once over three keyframes of each training clip (at 1/6, 1/2 and
5/6 of it; `--every 4`: every 4th that has boxes) and over all of the test clips, and keeps what the
last layer sees of each person in DIR/SPLIT/VIDEO.npz. Killed, it goes on at the video that it had
reached. `folds` looks at training clips alone, in parts of which no two hold clips of one film
(`probe_folds.py`): each is scored by a last layer fitted to k clips a class drawn from the others.
`curve` fits to k clips a class of all training clips, at one l2 and number of keyframes, and scores
every test frame; `--folds` draws the same curve on those parts. `plot` draws what `curve` wrote.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
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

from ava_tools.cli import run_command  # noqa: E402
from detection import build  # noqa: E402
from detection.config import RunConfig, load_config, load_people_config  # noqa: E402
from detection.datasets.actor_table import (  # noqa: E402
    ActorTable,  # noqa: E402
    read_exclusions,
    read_ground_truth_rows,
)
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.loader import collate  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.engine.probe import fit_linear  # noqa: E402
from detection.errors import UserError  # noqa: E402
from detection.evaluation.evaluator import ActionEvaluator  # noqa: E402
from detection.files import replacing, write_text  # noqa: E402
from detection.models.action_detector import ActionDetector  # noqa: E402
from detection.models.actor_head import exclusive_logits  # noqa: E402
from detection.structures import Detections  # noqa: E402

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Look once, compare, draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    works = parser.add_subparsers(dest="work", required=True)
    for work in ("features", "folds", "curve"):
        one = works.add_parser(work)
        one.add_argument("--cfg", required=True, help="configuration, as for train_ava.py")
        one.add_argument("--features", type=Path, required=True, help="folder of kept features")
        one.add_argument("overrides", nargs="*", help="options that replace the file's")
        if work == "features":
            one.add_argument("--frames", type=int, default=3, help="of a training clip (3)")
            one.add_argument("--every", type=int, help="in place of that, every n-th with boxes")
        if work == "curve":
            one.add_argument("--folds", action="store_true", help="on parts of the training clips")
            one.add_argument("--draws", type=int, default=3)
            one.add_argument("--l2", type=float, default=1e-4)
            one.add_argument("--keyframes", type=int, default=3, help="of a clip; 0: all (3)")
            one.add_argument("--out", type=Path, help="JSON of the rows, for `plot`")
    plot = works.add_parser("plot")
    plot.add_argument("curves", type=Path, nargs="+", help="what `curve` wrote")
    plot.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.work == "plot":
        draw_plot(options.curves, options.out)
        return
    config = load_config(options.cfg, options.overrides)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_malloc_memory()
    if options.work == "features":
        write_features(config, options.features, frames=options.frames, every=options.every)
    elif options.work == "folds":
        choose_on_folds(config, options.features)
    else:
        write_curve(
            config,
            options.features,
            on_folds=options.folds,
            draws=options.draws,
            l2=options.l2,
            per_clip=options.keyframes,
            out=options.out,
        )


def write_features(
    config: RunConfig, place: Path, *, frames: int | None, every: int | None = None
) -> None:
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
    for split, table, chosen_of in (
        (config.data.train_split, train, positions_of(train, frames, every=every)),
        (config.data.val_split, val, positions_of(val, None)),
    ):
        dataset = build.build_val_dataset(config, folder, table)
        bar = tqdm(chosen_of.items(), desc=split, unit="video", mininterval=10)
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
                    xyxy_01=np.concatenate([table.boxes(one).xyxy_01 for one in positions]),
                    features=np.concatenate(found),
                    labels=labels,
                )


def positions_of(
    table: ActorTable, count: int | None, *, every: int | None = None
) -> dict[str, list[int]]:
    """Return places of `count` keyframes of each video, evenly spaced; all, or `every` n-th."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, keyframe in enumerate(table.keyframes()):
        positions[keyframe.video_id].append(position)
    if every is not None or count is None:
        return {video: found[:: every or 1] for video, found in positions.items()}
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
        path = place / f"{video}.npz"
        if not has_rows(path, np.zeros(0, np.int64)):
            raise UserError(f"{path}: cannot be read, `features` is required again")
        with np.load(path, allow_pickle=False) as file:
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


def videos_of_training(config: RunConfig) -> list[str]:
    """Return the names of the data set's training videos that have boxes."""
    folder = DatasetFolder.open(config.data.root)
    return list(positions_of(build.read_train_table(config, folder, folder.read_label_map()), None))


def require_clips(clips: Clips, place: Path, videos: Iterable[str] = ()) -> None:
    """`UserError` where none is kept, or not all of `videos`: figures would be of other clips."""
    missing = sorted(set(videos) - set(clips.videos))
    if missing or not clips.videos:
        found = f"{missing[0]} and {len(missing) - 1} more are missing" if missing else "is empty"
        raise UserError(f"{place}: {found}, `features` of all clips is required")


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
    require_clips(clips, place / config.data.train_split)
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


def write_curve(
    config: RunConfig,
    place: Path,
    *,
    on_folds: bool,
    draws: int,
    l2: float,
    per_clip: int,
    out: Path | None,
) -> None:
    """Print a row for every number of clips, and write all draws to a file where asked."""
    clips = read_clips(place / config.data.train_split)
    videos = () if on_folds else videos_of_training(config)
    require_clips(clips, place / config.data.train_split, videos)
    parts = spread(clips.film, one_hot(clips.label, int(clips.label.max()) + 1), 5)
    test = None if on_folds else read_test(config, place)
    print(
        f"{len(clips.videos)} clips, {len(clips.features)} keyframes, {len(set(clips.film))} films"
    )
    rows = []
    for shots in SHOTS:
        found, spent, counts = [], [], []
        for draw in range(draws if shots else 1):
            values = []
            for part in range(5) if on_folds else (-1,):
                chosen = draw_clips(clips.label, parts != part, shots, draw)
                learned = rows_of(clips, chosen, per_clip)
                began = time.process_time()
                layer = fit_layer(config, clips, learned, l2=l2)
                spent.append(time.process_time() - began)
                counts.append([len(chosen), len(learned)])
                if test is None:
                    values.append(score_films(clips, parts == part, *layer))
                else:
                    values.append(score_test(config, test, *layer))
            found.append(np.mean(values, 0).tolist())
        row = {
            "clips": shots or "all",
            "clips_a_class": float(np.mean(counts, 0)[0]) / (int(clips.label.max()) + 1),
            "keyframes": float(np.mean(counts, 0)[1]),
            "independent": [one[0] for one in found],
            "one_softmax": [one[1] for one in found],
        }
        print(json.dumps(row), flush=True)
        print(f"fit: {np.mean(spent):.2f} s of processor time", file=sys.stderr, flush=True)
        rows.append(row | {"fit_s": float(np.mean(spent))})
    if out is not None:
        kind = "training films, held out" if on_folds else "test"
        curve = {"scored_on": kind, "l2": l2, "keyframes": per_clip, "rows": rows}
        write_text(out, json.dumps(curve, indent=2) + "\n")


def fit_layer(
    config: RunConfig, clips: Clips, learned: NDArray[np.int64], *, l2: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights and biases that `train_ava.py` would find on these rows."""
    clip_of = np.repeat(np.arange(len(clips.rows)), [len(rows) for rows in clips.rows])
    labels = one_hot(clips.label[clip_of[learned]], int(clips.label.max()) + 1)
    width = config.model.head_width
    return fit_linear(
        torch.from_numpy(clips.features[learned]),
        torch.from_numpy(labels),
        parts=(width,) * (clips.features.shape[1] // width),
        l2=l2,
    )


def score_films(
    clips: Clips, held: NDArray[np.bool_], weights: torch.Tensor, biases: torch.Tensor
) -> list[float]:
    """Return the frame-mAP of independent sigmoids and of one softmax on the clips of a part."""
    rows = np.concatenate([clips.rows[clip] for clip in np.flatnonzero(held)])
    lengths = [len(clips.rows[clip]) for clip in np.flatnonzero(held)]
    truth = one_hot(np.repeat(clips.label[held], lengths), len(biases))
    logits = torch.from_numpy(clips.features[rows]) @ weights.T + biases
    return [mean_ap(one.numpy(), truth) for one in (logits, exclusive_logits(logits))]


def _mean_of_parts(
    scores: NDArray[np.float32], truth: NDArray[np.float32], parts: NDArray[np.int64]
) -> float:
    """Return the mean mAP of the parts: each is scored by a layer of its own."""
    return float(np.mean([mean_ap(scores[parts == p], truth[parts == p]) for p in range(5)]))


@dataclass(frozen=True)
class TestFrames:
    """The test frames: their boxes, what the last layer sees of them, and what scores them."""

    found: list[Detections]
    features: torch.Tensor
    folder: DatasetFolder


def read_test(config: RunConfig, place: Path) -> TestFrames:
    """Read the kept features of all test frames; `UserError` where one is missing."""
    folder = DatasetFolder.open(config.data.root)
    table = build.read_val_table(config, folder, folder.read_label_map())
    found, features = [], []
    for video, positions in positions_of(table, None).items():
        path = place / config.data.val_split / f"{video}.npz"
        if not has_rows(path, table.time_us[positions]):
            raise UserError(f"{path}: holds not all frames of the video; `features` is required")
        with np.load(path, allow_pickle=False) as file:
            times_us, kept = file["time_us"], file["features"]
        for position in positions:
            boxes = table.boxes(position)
            rows = np.flatnonzero(times_us == table.time_us[position])
            if len(rows) != len(boxes):
                raise UserError(f"{path}: holds {len(rows)} people, {len(boxes)} are required")
            features.append(kept[rows])
            found.append(
                Detections(table.keyframe(position), boxes, np.zeros((len(rows), 0), np.float32))
            )
    return TestFrames(found, torch.from_numpy(np.concatenate(features)), folder)


def score_test(
    config: RunConfig, test: TestFrames, weights: torch.Tensor, biases: torch.Tensor
) -> list[float]:
    """Return the frame-mAP of independent sigmoids and of one softmax."""
    logits = test.features @ weights.T + biases
    split = test.folder.split(config.data.val_split)
    counts = [len(one.boxes) for one in test.found]
    values = []
    for scores in (logits.sigmoid(), exclusive_logits(logits).sigmoid()):
        evaluator = ActionEvaluator(
            read_ground_truth_rows(split),
            test.folder.read_label_map(),
            exclusions=read_exclusions(split),
            protocol=config.evaluation.protocol or test.folder.file.evaluation.protocol,
            scored=test.folder.read_label_map(),
        )
        evaluator.update(
            [
                Detections(one.keyframe, one.boxes, part.numpy())
                for one, part in zip(test.found, torch.split(scores, counts), strict=True)
            ]
        )
        values.append(float(evaluator.compute().mean_ap))
    return values


def draw_plot(curves: Sequence[Path], out: Path) -> None:
    """Draw mAP against clips a class: the mean of the draws, from the least to the most."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 3.4), layout="constrained")
    for path in curves:
        curve = json.loads(path.read_text(encoding="utf-8"))
        clips = [row["clips_a_class"] for row in curve["rows"]]
        for kind, name in (("one_softmax", "one softmax"), ("independent", "independent sigmoids")):
            values = [row[kind] for row in curve["rows"]]
            lines = axes.plot(
                clips,
                [np.mean(of) for of in values],
                marker="o",
                markersize=4,
                label=f"{curve['scored_on']}, {name}",
            )
            low, high = [min(of) for of in values], [max(of) for of in values]
            axes.fill_between(clips, low, high, color=lines[0].get_color(), alpha=0.2)
    axes.set_xscale("log")
    axes.set_xticks(clips, [str(row["clips"]) for row in curve["rows"]])
    axes.minorticks_off()
    axes.set_xlabel("labelled clips a class")
    axes.set_ylabel("frame-mAP")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=110)


if __name__ == "__main__":
    run_command(main)
