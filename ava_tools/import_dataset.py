"""Bring annotated videos into the project's own form, a data set folder: see docs/data.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import run_command

if TYPE_CHECKING:
    from detection.data.import_rows import ImportReport

EXAMPLE = """example:
  python -m ava_tools.import_dataset jhmdb --source ~/jhmdb --out data/jhmdb
  python train_ava.py --cfg configs/jhmdb_x3d_xs.yaml data.root=data/jhmdb
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    report = options.run(options)
    print(f"{report.num_videos} clips -> {options.out}")
    for split, rows in report.num_rows.items():
        print(f"  {split}: {rows:,} boxes")
    _say_left_out(report, options.out)
    return 0


def _import_tubes(options: argparse.Namespace) -> ImportReport:
    from detection.data.tube_pickle import JHMDB, MULTISPORTS, UCF101_24, import_tubes

    forms = {form.key: form for form in (JHMDB, UCF101_24, MULTISPORTS)}
    return import_tubes(
        forms[options.format], options.source, options.out, videos=options.videos, **_how(options)
    )


def _how(options: argparse.Namespace) -> dict[str, bool]:
    return {"overwrite": options.overwrite, "link": options.link, "show_progress": True}


def _say_left_out(report: ImportReport, out: Path) -> None:
    if report.num_clipped:
        print(f"{report.num_clipped} boxes cut at the edge of the frame")
    late = [row for row in report.left_out if row.frame and row.frame > row.num_frames]
    if late:
        print(f"{len(late)} rows past their clip's last frame left out:")
    for source in dict.fromkeys(row.source for row in late):
        of_clip = [row for row in late if row.source == source]
        frames = f"frames {of_clip[0].frame} to {of_clip[-1].frame}"
        print(f"  {source}: {frames}, the clip has {of_clip[0].num_frames}")
    others = [row for row in report.left_out if row not in late]
    if others:
        print(f"{len(others)} other rows left out, the first:")
        print(f"  {others[0].place}: {others[0].source}: {others[0].reason}")
    if report.left_out:
        print(f"  listed in {out / 'left_out.csv'}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ava_tools.import_dataset",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    _add_tubes(
        formats, "jhmdb", "JHMDB-21: JHMDB-GT.pkl and videos/CLASS/NAME.mp4; 21 classes, splits 1-3"
    )
    _add_tubes(
        formats, "ucf101-24", "UCF101-24: UCF101v2-GT.pkl and the videos CLASS/NAME.avi; 24 classes"
    )
    _add_tubes(
        formats, "multisports", "MultiSports: multisports_GT.pkl and SPORT/NAME.mp4; 66 classes"
    )
    return parser.parse_args(arguments)


def _add_tubes(formats: argparse._SubParsersAction, name: str, about: str) -> None:
    add = _add_format(
        formats, name, about, _import_tubes,
        f"example:\n  python -m ava_tools.import_dataset {name} --source ~/{name} "
        f"--out data/{name}\n",
    ).add_argument  # fmt: skip
    add("--source", type=Path, required=True, metavar="DIR", help="folder with the pickle")
    add("--videos", type=Path, metavar="DIR",
        help="folder of the videos (default: SOURCE/videos, else the pickle's)")  # fmt: skip


def _add_format(
    formats: argparse._SubParsersAction,
    name: str,
    about: str,
    run: Callable[[argparse.Namespace], ImportReport],
    example: str,
) -> argparse.ArgumentParser:
    """Add a sub-command with what all of them share."""
    parser: argparse.ArgumentParser = formats.add_parser(
        name,
        help=about,
        description=about,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="data set folder to make")
    add("--overwrite", action="store_true", help="replace a data set folder that is there")
    add("--link", action="store_true",
        help="hard-link the videos where possible, in place of copying them")  # fmt: skip
    return parser


if __name__ == "__main__":
    run_command(main)
