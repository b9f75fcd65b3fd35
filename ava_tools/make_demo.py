"""Draw the demo data set: animated people in AVA's own form. Made up, and says so."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ava_tools.cli import run_command

EXAMPLE = """examples:
  python -m ava_tools.make_demo --out data/demo
  python -m ava_tools.make_demo --out /tmp/small --num-train 8 --num-val 4 --sheet /tmp/small.png
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from tqdm import tqdm

    from detection.demo.generate import DemoParameters, generate_demo

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
            progress=lambda done, _: bar.update(done - bar.n),
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
    parser = argparse.ArgumentParser(
        prog="python -m ava_tools.make_demo",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="data set folder to make")
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, another set (%(default)s)"
    )
    parser.add_argument("--num-train", type=int, default=200, help="training videos (%(default)s)")
    parser.add_argument("--num-val", type=int, default=48, help="validation videos (%(default)s)")
    parser.add_argument(
        "--keyframes", type=int, default=6, help="annotated seconds a video (%(default)s)"
    )
    parser.add_argument(
        "--size", type=_size, default=(320, 240), metavar="WxH", help="in pixels (320x240)"
    )
    parser.add_argument("--fps", type=int, default=25, help="frames a second (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is there")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="also draw some keyframes with boxes and labels"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
