"""Make the demo data set: drawn, animated people in AVA's form (made-up data)."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ava_tools.cli import at_a_time, command_parser, run_command
from detection.demo.parameters import DemoParameters

EXAMPLE = """examples:
  python -m ava_tools.make_demo --out data/demo
  python -m ava_tools.make_demo --out /tmp/small --num-train 8 --num-val 4 --sheet /tmp/small.png
"""
NUMBERS = {
    "seed": "another seed, another set",
    "num_train": "training videos",
    "num_val": "validation videos",
    "keyframes": "annotated seconds a video",
    "fps": "frames a second",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from tqdm import tqdm

    from detection.demo.generate import generate_demo

    width, height = options.size
    numbers = {name: getattr(options, name) for name in NUMBERS}
    parameters = DemoParameters(**numbers, width=width, height=height)
    started = time.monotonic()
    total = options.num_train + options.num_val
    with tqdm(total=total, unit="video", desc="drawing", file=sys.stderr, leave=False) as bar:
        made = generate_demo(
            options.out,
            parameters,
            workers=options.workers,
            overwrite=options.overwrite,
            on_progress=lambda done, _: bar.update(done - bar.n),
        )
    if made:
        took = time.monotonic() - started
        print(f"{total} made-up videos in {took:.0f} s -> {options.out}")
    else:
        print(f"{options.out}: already made with these parameters, kept")
    if options.sheet:
        from detection.demo.sheet import write_demo_sheet

        write_demo_sheet(options.out, options.sheet)
        print(f"keyframes with their boxes and labels -> {options.sheet}")
    return 0


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not (x and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}': WIDTHxHEIGHT is required, such as 320x240")
    return int(width), int(height)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    usual = DemoParameters()
    parser = command_parser("make_demo", __doc__, EXAMPLE)
    parser.shared("--out", help="data set folder to make")
    for name, sentence in NUMBERS.items():
        option, about = f"--{name.replace('_', '-')}", f"{sentence} (default %(default)s)"
        parser.add_argument(option, type=int, default=getattr(usual, name), help=about)
    parser.add_argument(
        "--size", type=_size, default=(usual.width, usual.height), metavar="WxH",
        help=f"in pixels (default {usual.width}x{usual.height})",
    )  # fmt: skip
    parser.shared(
        "--workers", type=at_a_time, default=2, help="processes that draw (default %(default)s)"
    )
    parser.shared("--overwrite")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="also draw some keyframes with boxes and labels"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
