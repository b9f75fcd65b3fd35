"""Clips a second of data loading by stage, beside plain PyAV decoding of the same frames.

PYTHONPATH=. python benchmarks/loading_speed.py --videos ../shared/data/clips --variant m
PYTHONPATH=. python benchmarks/loading_speed.py --videos ../shared/data/jhmdb/videos --variant xs

Takes keyframes of real videos, one a second (a video of less than two seconds gives its middle),
with two made-up boxes each, and alternates in one process:
  decode only   PyAV alone: open, seek to the key frame before a clip, decode up to its last frame
  plain         the same, and `to_ndarray(format="rgb24")` of the frames that are required
  ours          `AvaDataset` and `collate`: frames by presentation time, scaled while they are
                decoded, random crop, mirror, boxes, batches of bytes; its stages one by one
then feeds the loader with `--workers` processes beside as many that decode plainly. Medians over
the rounds, by the clock and, in one process, by processor time (which a busy machine hardly
touches).
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import build_actor_table
from detection.datasets.ava_csv import AvaRows
from detection.datasets.loader import ClipLoader, TrainBatches, collate
from detection.datasets.transforms import TrainTransform
from detection.models.timing import describe_device
from detection.models.x3d import VARIANTS, X3DDescription
from detection.structures import Keyframe, LabelMap
from detection.video.reader import VideoReader

Clip = tuple[Path, np.ndarray]  # a file and the ascending times of the frames required of it


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    paths = {str(path): path for path in find_videos(args.videos, args.files)}
    shape = VARIANTS[args.variant]
    dataset = make_dataset(paths, shape, color_jitter=args.color_jitter)
    order = list(TrainBatches(dataset.table.keyframes(), batch_size=args.batch, seed=0))
    clips = [clip_of(dataset, paths, shape, position) for batch in order for _, position in batch]
    print(
        f"{len(clips)} clips of {len(paths)} videos, X3D-{args.variant.upper()}: "
        f"{shape.num_frames} frames, crop {shape.train_crop}; "
        f"{describe_device(torch.device('cpu'))}"
    )
    stages: dict[str, list[tuple[float, float]]] = {}
    works: dict[str, Callable[[], object]] = {
        "decode only": lambda: decode_all(clips, to_rgb=False),
        "plain": lambda: decode_all(clips, to_rgb=True),
        "ours": lambda: load_by_stage(dataset, order, stages),
    }
    times = alternate(works, args.rounds)
    report(times, stages, len(clips))
    if args.workers:
        print(f"{args.workers} processes, clips a second by the clock:")
        loader = ClipLoader(
            dataset,
            TrainBatches(dataset.table.keyframes(), batch_size=args.batch, seed=0),
            collate=collate,
            workers=args.workers,
        )
        list(loader)  # the workers start
        shares = [clips[rank :: args.workers] for rank in range(args.workers)]
        with multiprocessing.Pool(args.workers) as pool:
            decode = functools.partial(pool.map, functools.partial(decode_all, to_rgb=True))
            both = {"plain": lambda: decode(shares, chunksize=1), "ours": lambda: list(loader)}
            found = alternate(both, args.rounds)
        plain, ours = (
            len(clips) / statistics.median(clock for clock, _ in found[name])
            for name in ("plain", "ours")
        )
        print(f"  plain {plain:.1f}, the loader {ours:.1f}: {ours / plain:.0%}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos, searched")
    parser.add_argument("--files", type=int, default=24, help="so many of them, evenly spaced")
    parser.add_argument("--variant", choices=VARIANTS, default="m")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--color-jitter", type=float, default=0.0)
    return parser.parse_args()


def find_videos(folder: Path, count: int) -> list[Path]:
    found = sorted(folder.rglob("*.mp4"))
    return [found[int(i)] for i in np.linspace(0, len(found) - 1, min(count, len(found)))]


def make_dataset(
    paths: dict[str, Path], shape: X3DDescription, *, color_jitter: float
) -> AvaDataset:
    keyframes = []
    for name, path in paths.items():
        with VideoReader(path) as video:
            first_s, end_s = video.span_s()
        if end_s - first_s >= 2:
            times_s = np.arange(first_s + 1, end_s - 0.5)[:20]
            keyframes += [Keyframe(name, float(time_s)) for time_s in times_s]
        else:
            keyframes.append(Keyframe(name, (first_s + end_s) / 2))
    rows = [keyframe for keyframe in keyframes for _ in range(2)]
    boxes = [[0.1, 0.1, 0.6, 0.9], [0.3, 0.2, 0.8, 0.9]] * len(keyframes)
    labels = LabelMap(("made up",), (1,))
    low, high = shape.train_short_side
    return AvaDataset(
        build_actor_table(
            AvaRows.from_rows(rows, boxes_01=boxes, action_id=[1] * len(rows)), labels
        ),
        open_video=functools.partial(open_path, paths),
        transform=TrainTransform(
            crop=shape.train_crop, short_side=(low, high), color_jitter=color_jitter
        ),
        sampling=shape.sampling,
    )


def open_path(paths: dict[str, Path], name: str) -> VideoReader:
    return VideoReader(paths[name])


def clip_of(
    dataset: AvaDataset, paths: dict[str, Path], shape: X3DDescription, position: int
) -> Clip:
    keyframe = dataset.table.keyframe(position)
    times_s = shape.sampling.times_s(keyframe.time_s)
    return paths[keyframe.video_id], times_s


def decode_all(clips: Sequence[Clip], *, to_rgb: bool) -> None:
    for path, times_s in clips:
        decode(path, times_s, to_rgb=to_rgb)


def decode(path: Path, times_s: np.ndarray, *, to_rgb: bool) -> list[np.ndarray]:
    """Decode a clip as a short script would: the first frame at or after each required time."""
    images, required = [], list(times_s)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        start = max(0, int(times_s[0] / stream.time_base))
        container.seek(start, stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.time >= required[0]:
                while required and frame.time >= required[0]:
                    required.pop(0)
                if to_rgb:
                    images.append(frame.to_ndarray(format="rgb24"))
            if not required:
                break
    return images


def load_by_stage(
    dataset: AvaDataset,
    order: Sequence[list[tuple[int, int]]],
    stages: dict[str, list[tuple[float, float]]],
) -> None:
    """Load all batches in this process; note what each stage took."""
    spent = {"decode": [0.0, 0.0], "transform": [0.0, 0.0], "collate": [0.0, 0.0]}
    read, apply = dataset._read, dataset._transform.apply
    dataset._read = timed(read, spent["decode"])  # type: ignore[method-assign]
    dataset._transform.apply = timed(apply, spent["transform"])  # type: ignore[method-assign]
    batch = timed(collate, spent["collate"])
    for indices in order:
        batch(dataset.__getitems__(indices))
    dataset._read, dataset._transform.apply = read, apply  # type: ignore[method-assign]
    for name, (clock, processor) in spent.items():
        stages.setdefault(name, []).append((clock, processor))


def timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def wrapped(*args: Any, **options: Any) -> Any:
        clock, processor = time.perf_counter(), time.process_time()
        result = call(*args, **options)
        spent[0] += time.perf_counter() - clock
        spent[1] += time.process_time() - processor
        return result

    return wrapped


def alternate(
    works: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for round_number in range(rounds + 1):  # the first one warms up
        for name, work in works.items():
            clock, processor = time.perf_counter(), time.process_time()
            work()
            spent = time.perf_counter() - clock, time.process_time() - processor
            if round_number:
                times[name].append(spent)
    return times


def report(
    times: dict[str, list[tuple[float, float]]],
    stages: dict[str, list[tuple[float, float]]],
    clips: int,
) -> None:
    print("one process                  clock: ms a clip  clips/s   processor: ms a clip  clips/s")
    medians = {}
    for name, found in [
        *times.items(),
        *((f"  {k}", v[-len(times["ours"]) :]) for k, v in stages.items()),
    ]:
        clock, processor = (statistics.median(part) / clips for part in zip(*found, strict=True))
        medians[name] = clock, processor
        print(
            f"{name:28} {1e3 * clock:17.2f} {1 / clock:8.1f} {1e3 * processor:22.2f} "
            f"{1 / processor:8.1f}"
        )
    for base in ("decode only", "plain"):
        clock, processor = (medians[base][i] / medians["ours"][i] for i in (0, 1))
        print(f"ours / {base}: {clock:.0%} by the clock, {processor:.0%} by processor time")


if __name__ == "__main__":
    main()
