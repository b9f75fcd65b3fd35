"""Bring a published data set into the project's own form: see docs/data.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ava_tools.cli import run_command

EXAMPLE = """example:
  python -m ava_tools.import_dataset jhmdb --source ~/jhmdb --out data/jhmdb
  python train_ava.py --cfg configs/jhmdb_x3d_xs.yaml data.root=data/jhmdb
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.data.jhmdb import import_jhmdb

    report = import_jhmdb(
        options.source,
        options.out,
        overwrite=options.overwrite,
        link=options.link,
        show_progress=True,
    )
    print(f"{report.num_videos} clips -> {options.out}")
    for split, rows in report.num_rows.items():
        print(f"  {split}: {rows:,} boxes")
    print(f"{len(report.left_out)} rows past their clip's last frame left out:")
    for source in dict.fromkeys(row.source for row in report.left_out):
        rows_of_clip = [row for row in report.left_out if row.source == source]
        frames = f"frames {rows_of_clip[0].frame} to {rows_of_clip[-1].frame}"
        print(f"  {source}: {frames}, the clip has {rows_of_clip[0].num_frames}")
    if report.left_out:
        print(f"  listed in {options.out / 'left_out.csv'}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ava_tools.import_dataset",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    jhmdb = formats.add_parser(
        "jhmdb",
        help="JHMDB-21: JHMDB-GT.pkl and videos/CLASS/NAME.mp4",
        description="JHMDB-21 in AVA's form: 21 classes, splits 1 to 3.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jhmdb.add_argument(
        "--source", type=Path, required=True, help="folder with JHMDB-GT.pkl and videos/"
    )
    jhmdb.add_argument("--out", type=Path, required=True, help="data set folder to make")
    jhmdb.add_argument(
        "--overwrite", action="store_true", help="replace a data set folder that is there"
    )
    jhmdb.add_argument(
        "--link",
        action="store_true",
        help="hard-link the videos where the file system allows, in place of copying them",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
