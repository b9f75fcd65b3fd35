"""Milliseconds a clip and a person of each `model.actor_input`, in one process, in turn.

    python benchmarks/actor_input_speed.py --variants xs m --people 1 4 --rounds 7

A clip of the variant's frames with a short side of its test size, 4:3, random weights as they are
opened for inference, boxes that walk by a quarter of their width. Rounds alternate; medians of the
processor time of all threads, of which there are --threads. A person's own time is what one more
costs: the difference between the largest and the smallest number of --people, shared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import get_args

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.export.card import processor_flags  # noqa: E402
from detection.models.action_detector import ActionDetector, build_detector  # noqa: E402
from detection.models.actor_head import ActorHeadDescription, ActorInput  # noqa: E402
from detection.models.inference import prepare_for_inference  # noqa: E402
from detection.models.timing import describe_device  # noqa: E402
from detection.models.x3d import VARIANTS, X3DDescription  # noqa: E402


def main() -> None:
    """Build, take turns, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--variants", nargs="+", choices=sorted(VARIANTS), default=["xs"])
    add("--people", type=int, nargs="+", default=[1, 4], help="numbers of people in the clip")
    add("--time-parts", type=int, default=4)
    add("--rounds", type=int, default=7)
    add("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{describe_device(torch.device('cpu'))}; {processor_flags()}; torch {torch.__version__}")
    for variant in options.variants:
        print_table(VARIANTS[variant], variant, options)


def print_table(numbers: X3DDescription, variant: str, options: argparse.Namespace) -> None:
    """Time every input with every number of people; print a table of the variant."""
    networks = {
        name: network_of(numbers, name, options.time_parts) for name in get_args(ActorInput)
    }
    short = numbers.test_crop
    frames = torch.randint(0, 256, (1, 3, numbers.num_frames, short, short * 4 // 3)).byte()
    spent: dict[tuple[str, int], list[float]] = {}
    for turn in range(options.rounds + 1):  # the first warms up
        for name, network in networks.items():
            for people in options.people:
                rois_px = walking(people, numbers.num_frames, short)
                start = time.process_time()
                with torch.inference_mode():
                    network(frames, rois_px if name != "roi" else rois_px[:, 0])
                if turn:
                    spent.setdefault((name, people), []).append(time.process_time() - start)
    median_ms = {key: 1e3 * statistics.median(times) for key, times in spent.items()}
    print(f"\n{variant}, {numbers.num_frames} frames of {short} x {short * 4 // 3} px")
    print(
        "| actor_input | " + " | ".join(f"{n} people, ms" for n in options.people) + " | a person |"
    )
    print("|---|" + "---|" * (len(options.people) + 1))
    few, many = min(options.people), max(options.people)
    for name in networks:
        cells = [f"{median_ms[name, people]:.1f}" for people in options.people]
        own = (median_ms[name, many] - median_ms[name, few]) / max(1, many - few)
        print(f"| {name} | " + " | ".join(cells) + f" | {own:.1f} |")


def network_of(numbers: X3DDescription, name: ActorInput, time_parts: int) -> ActionDetector:
    """Return a network of random weights, opened for inference."""
    torch.manual_seed(0)
    head = ActorHeadDescription(
        21, context="frame", unit_features=True, actor_input=name, time_parts=time_parts
    )
    network = build_detector(numbers, head).to(memory_format=torch.channels_last_3d)
    return prepare_for_inference(network)


def walking(people: int, frames: int, short_px: int) -> torch.Tensor:
    """Return (R, T, 5) boxes of half the frame's height, beside each other."""
    height = short_px / 2
    left = torch.linspace(0, short_px * 4 / 3 - height, people)[:, None]
    left = left + torch.linspace(0, height / 8, frames)  # (R, T)
    top = torch.full_like(left, short_px / 4)
    sides = [torch.zeros_like(left), left, top, left + height / 2, top + height]
    return torch.stack(sides, dim=2)


if __name__ == "__main__":
    main()
