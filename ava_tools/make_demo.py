"""Draw the demo data set: animated people in AVA's own form. Made up, and says so."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ava_tools.cli import CommandParser, at_a_time, run_command
from detection.demo.parameters import DemoParameters

EXAMPLE = """examples:
  python -m ava_tools.make_demo --out data/demo
  python -m ava_tools.make_demo --out /tmp/small --num-train 8 --num-val 4 --sheet /tmp/small.png
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from tqdm import tqdm

    from detection.demo.generate import generate_demo

    width, height = options.size
    parameters = DemoParameters(
        seed=options.seed,
        num_train=options.num_train,
        num_val=options.num_val,
        keyframes=options.keyframes,
        width=width,
        height=height,
        fps=options.fps,
    )
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
        from detection.demo.sheet import write_sheet

        write_sheet(options.out, options.sheet)
        print(f"keyframes with their boxes and labels -> {options.sheet}")
    return 0


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not (x and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}': wanted WIDTHxHEIGHT, such as 320x240")
    return int(width), int(height)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    usual = DemoParameters()
    parser = CommandParser(
        prog="python -m ava_tools.make_demo",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="data set folder to make")
    for name, kind, sentence in (
        ("--seed", int, "another seed, another set"),
        ("--num-train", int, "training videos"),
        ("--num-val", int, "validation videos"),
        ("--keyframes", int, "annotated seconds a video"),
        ("--fps", int, "frames a second"),
    ):
        default = getattr(usual, name.strip("-").replace("-", "_"))
        parser.add_argument(name, type=kind, default=default, help=f"{sentence} (%(default)s)")
    parser.add_argument(
        "--size", type=_size, default=(usual.width, usual.height), metavar="WxH",
        help=f"in pixels ({usual.width}x{usual.height})",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=at_a_time, default=2, help="processes that draw (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is there")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="also draw some keyframes with boxes and labels"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
