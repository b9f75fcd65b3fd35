"""Frames a second of detect_people, decoding and keeping included, beside the bare network's.

PYTHONPATH=. python benchmarks/people_speed.py --dataset data/demo --threads 1 --workers 1

Alternates, in one process and on the same keyframes:
  bare      `detector.detect` on batches of frames that lie decoded in memory
  pipeline  `make_box_table`: reader processes start, decode and send, the same `detect`, every
            batch kept on the disk, the table written
and prints medians and the median share, by the clock and by the processor's time (which a busy
machine hardly touches; the readers' counts in full, as if there were a single core). The network
has random weights, so its boxes are silly and measure nothing; what comes after it (suppression,
limits) is the same on both sides. With `--score-floor 0` it keeps a hundred boxes a frame, with
the default hardly any. `--threads` are the network's; `taskset` says which cores all of it shares.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from detection.datasets.folder import DatasetFolder
from detection.models.timing import describe_device
from detection.people.box_table import make_box_table
from detection.people.keyframe_frames import annotated_keyframes, batches_of, read_batches
from detection.people.torchvision_rcnn import (
    NETWORKS,
    TorchvisionDetector,
    build_people_network,
)


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    detector = TorchvisionDetector(
        build_people_network(args.network, num_classes=args.classes),
        name=f"{args.network}, random weights",
        actor_labels=[1],
        device=device,
        half_precision=device.type == "cuda",
        score_floor=args.score_floor,
    )
    folder = DatasetFolder.open(args.dataset)
    keyframes = annotated_keyframes(folder.split(args.split))[: args.keyframes]
    batches = batches_of(keyframes, args.batch)
    frames = [
        batch.images
        for batch in read_batches(folder, batches, range(len(batches)), sides_px=detector.sides_px)
    ]
    boxes = sum(len(found) for batch in frames for found in detector.detect(batch))

    def bare() -> None:
        for batch in frames:
            detector.detect(batch)

    def pipeline() -> None:
        with tempfile.TemporaryDirectory() as place:
            make_box_table(
                folder,
                keyframes,
                Path(place) / "boxes.csv",
                open_detector=lambda: detector,
                options={"weights": "random"},
                batch_size=args.batch,
                workers=args.workers,
            )

    rounds = [
        (seconds(bare), seconds(pipeline))
        for _ in tqdm(range(args.rounds), unit="round", leave=False)
    ]
    height, width = frames[0][0].shape[-2:]
    print(
        f"{detector.name}: {len(keyframes)} keyframes of {folder.name}, decoded at "
        f"{width}x{height}, batch {args.batch}, {boxes / len(keyframes):.1f} boxes a frame\n"
        f"{describe_device(device)} for the network, {args.workers} readers, "
        f"cores {sorted(os.sched_getaffinity(0))}"
    )
    for name, kind in (("by the clock", 0), ("by processor time", 1)):
        alone, whole = ([len(keyframes) / pair[side][kind] for pair in rounds] for side in (0, 1))
        share = [pipe / bare for bare, pipe in zip(alone, whole, strict=True)]
        print(
            f"{name:18} bare {statistics.median(alone):7.2f} frames/s, pipeline "
            f"{statistics.median(whole):7.2f}, share {statistics.median(share):6.1%} "
            f"({min(share):.1%} to {max(share):.1%} in {len(share)} rounds)"
        )


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Return seconds of the clock and of all processors, those of finished children included."""
    clock, processors = time.perf_counter(), processor_s()
    work()
    return time.perf_counter() - clock, processor_s() - processors


def processor_s() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", type=Path, default=Path("data/demo"))
    add("--split", default="val")
    add("--network", choices=NETWORKS, default="mobile_320")
    add("--classes", type=int, default=90, help="classes beside the background (COCO: 90)")
    add("--keyframes", type=int, default=160)
    add("--batch", type=int, default=8)
    add("--workers", type=int, default=1)
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=5)
    add("--score-floor", type=float, default=0.05)
    add("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
