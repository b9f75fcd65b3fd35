"""Is one pass of X3D along a video, its maps averaged around each keyframe, as good as clips?

    python benchmarks/streams.py features --cfg FILE --features DIR [--set a.b=value ...]
    python benchmarks/streams.py folds --cfg FILE --features DIR [--ways WAY ...]
    python benchmarks/streams.py split --cfg FILE --features DIR [--ways WAY ...]
    python benchmarks/streams.py cost --cfg FILE --video FILE [--ways WAY ...]

A way to see a keyframe is a clip of T frames every S / 30 s, `clip:TxS`, or a stream,
`stream:S:P:M:W`: of the video's frames every S / 30 s, passes of P frames go through the trunk
with M more on each side, whose maps are not used; a pass that would reach past the video is moved
inside. W: frames around the keyframe over which maps are averaged, of one pass or of two (0: those
of the pass that holds the keyframe, a clip that keyframes share). Squeezing and convolutions in
time alone mix frames, and X3D has no stride in time, so that a video in one pass of all its frames
is a long clip. A name that ends in `:long` is of a video that goes on: it is played forwards and
backwards without end, and the passes begin anywhere.

`features` runs the frozen trunk over keyframes of each training video (three; `--frames 0`: all,
`--split val`: those of the validation split) and keeps what the last layer sees of each person, of
the whole window and of its halves, in DIR/WAY/SPLIT/VIDEO.npz. Killed, it goes on where it was.
`folds` prints the frame-mAP on training films held out, as `probe_folds.py` does, for last layers
fitted to one keyframe a video that the seed draws, and to all of them. `split` fits the last layer
to the training split and scores the validation split. `cost` prints processor time a keyframe on a
video, the ways alternated: trunk, window, RoIAlign and head of two people; decoding is the same.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from few_shot import grams_of, has_rows, logits_in_span, positions_of  # noqa: E402
from probe_folds import mean_ap, spread  # noqa: E402
from stream_maps import (  # noqa: E402
    Frames,  # noqa: E402
    Way,
    maps_of,
    parse_way,
    three_means,
)

from ava_tools.cli import run_command  # noqa: E402
from detection import build  # noqa: E402
from detection.config import RunConfig, load_config, load_people_config  # noqa: E402
from detection.datasets.actor_table import ActorTable  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.datasets.loader import choose_keyframes  # noqa: E402
from detection.datasets.open_video import open_video  # noqa: E402
from detection.datasets.transforms import EvalTransform  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.engine.probe import fit_linear  # noqa: E402
from detection.errors import UserError  # noqa: E402
from detection.files import replacing  # noqa: E402
from detection.models.action_detector import ActionDetector  # noqa: E402
from detection.models.actor_head import exclusive_logits  # noqa: E402
from detection.models.inference import prepare_for_inference  # noqa: E402
from detection.models.timing import describe_device  # noqa: E402
from detection.structures import Keyframe  # noqa: E402
from detection.video.reader import VideoReader  # noqa: E402

WAYS = (
    "clip:8x4",
    "clip:4x8",
    "stream:4:8:0:8",
    "stream:4:8:0:16",
    "stream:4:16:0:8",
    "stream:6:8:0:5",
    "stream:6:8:0:11",
    "stream:8:4:0:4",
    "stream:8:8:0:4",
    "stream:8:8:0:8",
)


def grouped(ways: Sequence[str]) -> dict[object, list[str]]:
    """Return names by what their maps need: clips by themselves, streams by their passes."""
    groups: dict[object, list[str]] = {}
    for name in ways:
        way = parse_way(name)
        groups.setdefault(way.passes if way.pass_frames else name, []).append(name)
    return groups


def write_features(
    config: RunConfig, place: Path, names: Sequence[str], split: str, frames: int | None
) -> None:
    """Write what is missing of a split, a file for each way and video."""
    folder = DatasetFolder.open(config.data.root)
    label_map = folder.read_label_map()
    built = build.build_model(config, num_classes=len(label_map))
    build.start_from_pretrained(config, built, label_map)
    model = prepared(built)
    read = build.read_train_table if split == "train" else build.read_val_table
    table = read(config, folder, label_map)
    short_side = config.clip.test_short_side_px
    transform = EvalTransform(short_side=short_side)
    videos = list(positions_of(table, frames).items())
    shuffled = np.random.default_rng(0).permutation(len(videos))  # a part of them is a sample
    bar = tqdm([videos[i] for i in shuffled], desc=split, unit="video", mininterval=10)
    for video_id, positions in bar:
        paths = {name: place / name / split / f"{video_id}.npz" for name in names}
        wanted_us = table.time_us[positions]
        missing = [name for name in names if not has_rows(paths[name], wanted_us)]
        if not missing:
            continue
        with open_video(folder, video_id) as video, torch.inference_mode():
            times_s = video.frame_times_s()
            read_frames = video.read(times_s, short_side=short_side).frames
            boxes_01 = np.concatenate([table.boxes(p).xyxy_01 for p in positions])
            done = transform.apply(
                read_frames, boxes_01, transform.make_params(np.random.default_rng(0))
            )
            pixels = model.pixels(done.frames).transpose(0, 1)
            given = Frames(pixels, times_s, zlib.crc32(video_id.encode()) % 1009)
            for group in grouped(missing).values():
                ways = [parse_way(name) for name in group]
                keyframes_s = [table.keyframe(p).time_s for p in positions]
                for name, maps in zip(
                    group, maps_of(model.trunk, given, ways, keyframes_s), strict=True
                ):
                    features = _actors(model, maps, table, positions, done.boxes_px)
                    _write(paths[name], table, positions, features)


def prepared(model: ActionDetector) -> ActionDetector:
    """Return a copy for inference, in the memory layout that is fast."""
    placed = build.place_model(model, torch.device("cpu"))
    assert isinstance(placed, ActionDetector)
    return prepare_for_inference(placed)


def _actors(
    model: ActionDetector,
    maps: Sequence[Tensor],
    table: ActorTable,
    positions: Sequence[int],
    boxes_px: Tensor,
) -> NDArray[np.float16]:
    """Return (R, 3, F): of the whole, the first and the second half of each keyframe's maps."""
    counts = [len(table.boxes(position)) for position in positions]
    found = []
    for of_keyframe, boxes in zip(maps, torch.split(boxes_px, counts), strict=True):
        rois = [torch.nn.functional.pad(boxes, (1, 0), value=float(half)) for half in range(3)]
        features = model.head.actor_features(three_means(of_keyframe), torch.cat(rois))
        found.append(features.reshape(3, len(boxes), -1).transpose(0, 1))
    return torch.cat(found).numpy().astype(np.float16)


def _write(
    path: Path, table: ActorTable, positions: Sequence[int], features: NDArray[np.float16]
) -> None:
    labels = np.concatenate([table.labels(position) for position in positions])
    people = [len(table.boxes(position)) for position in positions]
    times_us = np.repeat(table.time_us[list(positions)], people)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, time_us=times_us, features=features, labels=labels)


KINDS = ("whole", "halves", "difference")


@dataclass(frozen=True)
class Rows:
    """What was kept of one way.

    features: (R, 3, F) of the whole, the first and the second half.  labels: (R, A).
    video: (R,) names.  time_us: (R,).
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    video: NDArray[np.str_]
    time_us: NDArray[np.int64]

    def kinds(self, halves: str) -> NDArray[np.float32]:
        """Return (R, F') features of the "whole", of both "halves", or whole and "difference"."""
        whole, first, second = np.moveaxis(self.features, 1, 0)
        chosen = {
            "whole": [whole],
            "halves": [first, second],
            "difference": [whole, second - first],
        }
        return np.concatenate(chosen[halves], axis=1)


def read_rows(place: Path, names: Sequence[str], split: str) -> dict[str, Rows]:
    """Read what every one of the ways has: the videos that all of them hold."""
    videos = [{path.stem for path in (place / name / split).glob("*.npz")} for name in names]
    common = sorted(set.intersection(*videos))
    if not common:
        raise UserError(f"{place}: no {split} video of every way, `features` is required")
    rows = {}
    for name in names:
        files = [np.load(place / name / split / f"{video}.npz") for video in common]
        video = np.repeat(common, [len(file["time_us"]) for file in files])
        features = np.concatenate([file["features"] for file in files]).astype(np.float32)
        labels = np.concatenate([file["labels"] for file in files])
        times_us = np.concatenate([file["time_us"] for file in files])
        rows[name] = Rows(features, labels, video, times_us)
    return rows


def draw_rows(rows: Rows, seed: int | None) -> NDArray[np.bool_]:
    """Return (R,) the rows of one keyframe a video that the seed draws; None: all."""
    if seed is None:
        return np.ones(len(rows.video), bool)
    pairs = sorted(set(zip(rows.video.tolist(), rows.time_us.tolist(), strict=True)))
    keyframes = [Keyframe(video, time_us / 1e6) for video, time_us in pairs]
    drawn = {pairs[i] for i in choose_keyframes(keyframes, per_video=1, seed=seed)}
    return np.array([pair in drawn for pair in zip(rows.video, rows.time_us, strict=True)])


def print_folds(config: RunConfig, place: Path, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Print the mAP on films held out, of three draws and of all keyframes learned."""
    pattern = load_people_config(REPOSITORY / "configs" / "people_jhmdb.yaml").data.source_pattern
    assert pattern is not None
    kept = read_rows(place, names, "train")
    first = kept[names[0]]
    videos, video_of = np.unique(first.video, return_inverse=True)
    labels = np.stack([first.labels[video_of == i].max(0) for i in range(len(videos))])
    films = [match[1] if (match := re.match(pattern, v)) else v for v in videos.tolist()]
    parts = spread(films, labels, 5)[video_of]
    print(f"{len(videos)} videos of {len(set(films))} films, {len(first.video)} people")
    for name, rows in kept.items():
        for halves in kinds:
            features = rows.kinds(halves)
            grams = grams_of(features, (config.model.head_width,) * _kinds(config, features))
            values = []
            for seed in (0, 1, 2, None):
                learned, scores = draw_rows(rows, seed), np.zeros_like(rows.labels)
                for part in range(5):
                    chosen = np.flatnonzero(learned & (parts != part))
                    logits = logits_in_span(
                        grams,
                        chosen,
                        rows.labels[chosen],
                        l2=config.probe.l2,
                    )
                    scores[parts == part] = _probabilities(config, logits)[parts == part]
                values.append(mean_ap(scores, rows.labels))
            print(
                f"{name:28} {halves:10} mAP {np.mean(values[:3]):.4f} "
                f"({min(values[:3]):.4f} to {max(values[:3]):.4f}), all {values[3]:.4f}",
                flush=True,
            )


def print_split(config: RunConfig, place: Path, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Print the mAP on the validation split of last layers fitted to the training split."""
    learned, judged = read_rows(place, names, "train"), read_rows(place, names, "val")
    for name in names:
        for halves in kinds:
            features = torch.from_numpy(learned[name].kinds(halves))
            for l2 in (1e-5, 1e-4, 1e-3):
                weights, biases = fit_linear(
                    features,
                    torch.from_numpy(learned[name].labels),
                    parts=(config.model.head_width,) * _kinds(config, features),
                    l2=l2,
                )
                logits = torch.from_numpy(judged[name].kinds(halves)) @ weights.T + biases
                found = mean_ap(_probabilities(config, logits.numpy()), judged[name].labels)
                print(f"{name:28} {halves:10} l2 {l2:g}: mAP {found:.4f}", flush=True)


def _kinds(config: RunConfig, features: NDArray[np.float32] | Tensor) -> int:
    return int(features.shape[1] // config.model.head_width)


def _probabilities(config: RunConfig, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    found = torch.from_numpy(logits)
    exclusive = config.model.exclusive_actions
    return (exclusive_logits(found) if exclusive else found).sigmoid().numpy()


def print_cost(config: RunConfig, video: Path, names: Sequence[str], rounds: int) -> None:
    """Print processor milliseconds a keyframe of each way, at 1, 2, 4 and 8 keyframes a second."""
    model = prepared(build.build_model(config, num_classes=21))
    short_side = config.clip.test_short_side_px
    with VideoReader(video) as reader:
        times_s = reader.frame_times_s()
        times_s = times_s[times_s < times_s[0] + 20]
        pixels = reader.read(times_s, short_side=short_side).frames
    frames = Frames(model.pixels(pixels), times_s)
    height, width = frames.pixels.shape[2:]
    rois = torch.tensor([[0, 0.2, 0.2, 0.4, 0.9], [0, 0.5, 0.3, 0.7, 0.8]])
    rois = rois * torch.tensor([1, width, height, width, height])
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with torch.inference_mode():
        for number in tqdm(range(rounds + 1), desc="rounds"):
            for name in names:
                found = _time_once(model, frames, parse_way(name), rois)
                if number:  # first calls are slow
                    spent[name].append(found)
    print(f"{describe_device(torch.device('cpu'))}, {width}x{height}, two people")
    first: list[float] = []
    for name in names:
        trunk_s, head_s = (statistics.median(values) for values in zip(*spent[name], strict=True))
        way = parse_way(name)
        shares = [
            1 / (rate * way.pass_frames * way.step_s) if way.pass_frames else 1
            for rate in (1, 2, 4, 8)
        ]
        each = [trunk_s * share + head_s for share in shares]
        first = first or each
        ratios = "  ".join(
            f"{1e3 * a:6.1f} ({a / b:.2f})" for a, b in zip(each, first, strict=True)
        )
        print(f"{name:24} trunk {1e3 * trunk_s:6.1f}  head {1e3 * head_s:5.1f}  {ratios}")


def _time_once(
    model: ActionDetector, frames: Frames, way: Way, rois: Tensor
) -> tuple[float, float]:
    """Return processor seconds of a pass (or a clip), and of window, RoIAlign and last layers."""
    count = way.pass_frames + 2 * way.margin if way.pass_frames else way.frames
    clip = frames.at(frames.times_s[0] + np.arange(count) * way.step_s)
    began = time.process_time()
    maps = model.trunk(clip)
    middle = time.process_time()
    window = maps[:, :, : way.frames or way.pass_frames]
    for _ in range(5):
        model.head(window, rois)
    return middle - began, (time.process_time() - middle) / 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Look once, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__)
    works = parser.add_subparsers(dest="work", required=True)
    for work in ("features", "folds", "split", "cost"):
        one = works.add_parser(work)
        one.add_argument("--cfg", required=True, help="configuration, as for train_ava.py")
        one.add_argument("--ways", nargs="+", default=list(WAYS), metavar="WAY")
        one.add_argument("--set", nargs="+", default=[], metavar="a.b=value", dest="overrides")
        if work == "cost":
            one.add_argument("--video", type=Path, required=True)
            one.add_argument("--rounds", type=int, default=3)
        else:
            one.add_argument("--features", type=Path, required=True, help="folder of kept features")
        if work in ("folds", "split"):
            one.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
        if work == "features":
            one.add_argument("--frames", type=int, default=3, help="of a video; 0: all (3)")
            one.add_argument("--split", choices=("train", "val"), default="train")
    options = parser.parse_args(arguments)
    config = load_config(options.cfg, options.overrides)
    torch.set_num_threads(config.threads or 1)
    keep_malloc_memory()
    if options.work == "features":
        frames = options.frames or None
        write_features(config, options.features, options.ways, options.split, frames)
    elif options.work == "folds":
        print_folds(config, options.features, options.ways, options.kinds)
    elif options.work == "split":
        print_split(config, options.features, options.ways, options.kinds)
    else:
        print_cost(config, options.video, options.ways, options.rounds)


if __name__ == "__main__":
    run_command(main)
