"""How fast videos are prepared, and how much faster a training clip is read from a prepared one.

PYTHONPATH=. python benchmarks/prepare_speed.py --clips CLIP.mp4 ... --work /tmp/prepare_speed

Makes sources of `--seconds` once: the clips' own frames scaled to 640x360, forth and back at 30
frames a second, in turns, H.264 as videos from the net are (x264 medium, crf 23, a key frame each
250 frames or at a cut). Then, in one process:
  prepare   the whole command's work on two sources with `--jobs` processes, their start, hashes and
            reading back included; seconds of video per second
  read      16 frames, step 5 (X3D-M), scaled to a short side drawn from 256 to 320 and the file
            opened anew, as training does: the same clip from its source and from the prepared file,
            in turns
and prints medians, by the clock and by processor time, which a busy machine touches less: what
one process prepares in a second of its processor's time, and the ratio of reading. `--gop` and
`--preset` make other sources.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detection.datasets.ava_csv import AvaRows, write_ground_truth
from detection.datasets.folder import DatasetFile, DatasetFolder, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.prepare.dataset import prepare_dataset
from detection.structures import ClipSampling, Keyframe, LabelMap
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

FPS = 30.0
WIDTH, HEIGHT = 640, 360
SPAN_S = 4.0


def main() -> None:
    args = parse()
    root = args.work / f"sources_{args.seconds:g}s_{args.preset}_{args.gop}"
    if not (root / "dataset.yaml").is_file():
        make_sources(root, args)
    folder = DatasetFolder.open(root)
    out = args.work / "prepared"
    video_s = 2 * args.seconds

    def prepare(jobs: int) -> None:
        shutil.rmtree(out, ignore_errors=True)
        report = prepare_dataset(folder, out, clip_span_s=SPAN_S, jobs=jobs)
        assert report.whole, report.failed

    cores, rounds = sorted(os.sched_getaffinity(0)), range(args.rounds)
    clock = [video_s / seconds(functools.partial(prepare, args.jobs))[0] for _ in tqdm(rounds)]
    processor = video_s / seconds(functools.partial(prepare, 1))[1]
    print(
        f"cores {cores}, {args.jobs} processes, {video_s:g} s of video, "
        f"load {os.getloadavg()[0]:.1f}\n"
        f"prepare {statistics.median(clock):.1f} times real time by the clock ({min(clock):.1f} to "
        f"{max(clock):.1f} in {len(clock)} rounds); {processor:.1f} per second of one processor"
    )
    report_reading(folder, DatasetFolder.open(out), args)


def report_reading(
    sources: DatasetFolder, prepared: DatasetFolder, args: argparse.Namespace
) -> None:
    """Read each clip from both files, the one that comes first changing from clip to clip."""
    draw = np.random.default_rng(0)
    found: list[list[tuple[float, float]]] = []
    for number in tqdm(range(args.reads), unit="clip", leave=False):
        files = [folder.video_path("ab"[number % 2]) for folder in (sources, prepared)]
        required = ClipSampling(16, 5).times_s(float(draw.integers(2, int(args.seconds) - 2)))
        short_side = int(draw.integers(256, 321))
        turn = -1 if number % 4 < 2 else 1
        times = [
            seconds(functools.partial(read_clip, file, required, short_side))
            for file in files[::turn]
        ]
        found.append(times[::turn])
    sizes = [
        sum(folder.video_path(video_id).stat().st_size for video_id in "ab") / 1e6
        for folder in (sources, prepared)
    ]
    print(f"source {WIDTH}x{HEIGHT} {sizes[0]:.1f} MB, prepared {sizes[1]:.1f} MB")
    for name, kind in (("by the clock", 0), ("by processor time", 1)):
        before, after = ([1e3 * pair[side][kind] for pair in found] for side in (0, 1))
        ratios = [one / other for one, other in zip(before, after, strict=True)]
        print(
            f"read, {name:18} source {statistics.median(before):6.1f} ms, prepared "
            f"{statistics.median(after):6.1f} ms, {statistics.median(ratios):.2f} times as fast "
            f"(quartiles {np.quantile(ratios, 0.25):.2f} and {np.quantile(ratios, 0.75):.2f}, "
            f"{len(ratios)} clips)"
        )


def read_clip(file: Path, required_s: np.ndarray, short_side: int) -> None:
    with VideoReader(file) as video:
        video.read(required_s, short_side=short_side)


def make_sources(root: Path, args: argparse.Namespace) -> None:
    """Write a data set of two videos of real frames, with a keyframe each second."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    keys = []
    for shift, name in enumerate("ab"):
        with VideoWriter(
            root / f"videos/{name}.mp4",
            width=WIDTH,
            height=HEIGHT,
            fps=FPS,
            crf=23,
            preset=args.preset,
            keyframe_interval_s=args.gop / FPS,
        ) as writer:
            clips = args.clips[shift:] + args.clips[:shift]
            frames = islice(forth_and_back(clips), int(args.seconds * FPS))
            for image in tqdm(frames, desc=f"source {name}", total=int(args.seconds * FPS)):
                writer.write(image)
        # The clips around the first and last of them reach the ends of the video.
        keys += [Keyframe(name, float(t)) for t in range(2, int(args.seconds) - 1)]
    write_label_map(root / "annotations/label_map.pbtxt", LabelMap(("any",), (1,), None))
    rows = AvaRows.from_rows(
        keys, boxes_01=[[0.1, 0.1, 0.9, 0.9]] * len(keys), action_id=[1] * len(keys)
    )
    write_ground_truth(root / "annotations/train.csv", rows)
    splits = {"train": SplitPart(annotations="annotations/train.csv")}
    write_dataset_file(root, DatasetFile(name="speed", videos="videos", splits=splits))


def forth_and_back(clips: list[Path]) -> Iterator[np.ndarray]:
    """Yield the clips' frames at 640x360 for ever, each clip in turn, forth and then back."""
    frames = []
    for clip in clips:
        with VideoReader(clip) as video:
            shown = (image for _, image in video.frames(short_side=HEIGHT))
            frames.append([image[:, :WIDTH] for image in islice(shown, 300)])
    while True:
        for images in frames:
            yield from chain(images, reversed(images))


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Return seconds of the clock and of all processors, those of ended children included."""
    clock, processors = time.perf_counter(), processor_s()
    work()
    return time.perf_counter() - clock, processor_s() - processors


def processor_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--clips", type=Path, nargs="+", required=True, help="16:9 clips of at least 360 lines")
    add("--work", type=Path, required=True, help="folder for sources and prepared files")
    add("--seconds", type=float, default=60.0, help="length of each of the two sources")
    add("--preset", default="medium", help="x264's, of the sources")
    add("--gop", type=int, default=250, help="frames between key frames of the sources, at most")
    add("--jobs", type=int, default=2)
    add("--rounds", type=int, default=3)
    add("--reads", type=int, default=60)
    return parser.parse_args()


if __name__ == "__main__":
    main()
