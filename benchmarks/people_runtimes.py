"""What runs a people detector: processor time a frame, boxes apart, seconds to export.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/people_runtimes.py \
        --weights runs/people_jhmdb --videos clips/*.mp4 --runtimes openvino onnxruntime

Two frames a second of each video, decoded beforehand at the detector's own size, two at a time.
Contenders take turns in every call: PyTorch as the network is trained ("stock"), PyTorch as it is
opened (BatchNorm folded), each runtime. Medians of processor time of one thread. Boxes are compared
with those of the stock network, from score 0.05 on: the largest coordinate and score of each box
and the nearest one, and the frames on which their number differs. `--random NETWORK` takes a
network of random weights, whose boxes mean nothing, in place of `--weights`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from detection.export.card import processor_flags
from detection.export.runtimes import RuntimeChoice
from detection.models.timing import processor_name
from detection.people.base import PeopleDetector
from detection.people.export_card import boxes_apart
from detection.people.keyframe_frames import scaled_short_side
from detection.people.torchvision_rcnn import TorchvisionDetector, build_people_network
from detection.people.weights import load_people_detector, open_for_export
from detection.video.reader import VideoReader


def main() -> None:
    """Compare; print a table."""
    args = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights or save_random(args.random, Path(folder) / f"{args.random}.pth")
        compare(str(weights), args)


def compare(weights: str, args: argparse.Namespace) -> None:
    """Run all contenders on the videos in turns."""
    stock = TorchvisionDetector(
        open_for_export(weights).network, name="stock", actor_labels=[1], max_people=50
    )
    detectors: dict[str, PeopleDetector] = {
        "stock": stock,
        "torch": load_people_detector(weights, max_people=50),
    }
    opened: dict[str, list[float]] = {}
    for runtime in args.runtimes:
        for _ in range(2):  # exported by the first, kept for the second
            start = time.process_time()
            detectors[runtime] = load_people_detector(
                weights, max_people=50, runtime=RuntimeChoice(runtime)
            )
            opened.setdefault(runtime, []).append(time.process_time() - start)
    spent: dict[str, list[float]] = defaultdict(list)
    apart: dict[str, list[tuple[float, float]]] = defaultdict(list)
    others: dict[str, int] = defaultdict(int)
    boxes = frames = 0
    for video in args.videos:
        images = read_frames(video, stock.sides_px, args.frames)
        frames += len(images)
        for number in tqdm(range(0, len(images), 2), desc=video.name, leave=False):
            pair, found = images[number : number + 2], {}
            for name in list(detectors)[:: 1 if number % 4 else -1]:
                start = time.process_time()
                found[name] = detectors[name].detect(pair)
                spent[name].append((time.process_time() - start) / len(pair))
            boxes += sum(map(len, found["stock"]))
            for name, each in found.items():
                for image, expected, one in zip(pair, found["stock"], each, strict=True):
                    size_px = (image.shape[2], image.shape[1])
                    apart[name].append(boxes_apart(expected, one, size_px=size_px))
                    others[name] += len(expected) != len(one)
    print(f"{processor_name()} ({processor_flags()}); {frames} frames, {boxes} boxes\n")
    print("| | ms a frame | stock / it | boxes apart, px | scores apart | other number of boxes "
          "| opened first, s | again, s |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    by_stock = np.median(spent["stock"])
    for name in detectors:
        median = np.median(spent[name])
        px, score = np.max(apart[name], axis=0)
        first, again = (f"{s:.1f}" for s in opened[name]) if name in opened else ("", "")
        print(
            f"| {name} | {1e3 * median:.1f} | {by_stock / median:.2f} | {px:.1e} | {score:.1e} | "
            f"{others[name]} | {first} | {again} |"
        )


def read_frames(path: Path, sides_px: tuple[int, int], most: int) -> list[torch.Tensor]:
    """Return (3, H, W) uint8 frames, two a second."""
    with VideoReader(path) as video:
        start_s, end_s = video.ends_s()
        times_s = np.arange(start_s, end_s, 0.5)[:most].tolist()
        short = scaled_short_side(video.frame_size(), sides_px)
        return list(video.read(times_s, short_side=short).frames)


def save_random(name: str, path: Path) -> Path:
    """Write a network whose BatchNorm has statistics of its own, so that maps are of usual size."""
    torch.manual_seed(0)
    network = build_people_network(name, num_classes=90)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train().backbone(torch.rand(2, 3, 320, 576))
    torch.save(network.state_dict(), path)
    return path


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path)
    source.add_argument("--random", choices=("mobile_320", "resnet50_v2"))
    add("--videos", type=Path, nargs="+", required=True)
    add("--runtimes", nargs="+", default=["openvino", "onnxruntime"])
    add("--frames", type=int, default=40, help="of each video at most")
    return parser.parse_args()


if __name__ == "__main__":
    main()
