"""Export a split's labels to a labelling tool's own form (VIA, Label Studio, ...)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, frame_rate, run_command
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.datasets.folder import DatasetFolder

EXAMPLE = """examples:
  python -m ava_tools.export_labels via3 --dataset data/mine --split train --out mine.json
  python -m ava_tools.export_labels via2 --dataset data/mine --split train --fps 1 --out mine.csv

What a form cannot hold is printed with counts. import_dataset FORMAT reads the file again;
--label-map data/mine/annotations/label_map.pbtxt keeps the classes' ids. CVAT: export_cvat.
"""

# A format takes the data set, the name of a split, the file to write and the command's options; it
# writes the file whole or not at all and returns what it cannot hold, a line each.
Export = Callable[["DatasetFolder", str, Path, argparse.Namespace], list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.datasets.folder import DatasetFolder

    folder = DatasetFolder.open(options.dataset)
    for path in filter(None, (options.out, options.label_config)):
        if path.is_file() and not options.overwrite:
            raise UserError(f"{path}: is there already; --overwrite replaces it")
    notes = FORMATS[options.format](folder, options.split, options.out, options)
    print(f"{options.split} of {options.dataset} -> {options.out}")
    for note in notes:
        print(note)
    return 0


def _via3(folder: DatasetFolder, split: str, out: Path, options: argparse.Namespace) -> list[str]:
    from detection.importers.via3_export import write_via3

    return write_via3(folder, split, out)


def _via2(folder: DatasetFolder, split: str, out: Path, options: argparse.Namespace) -> list[str]:
    from detection.importers.via2_export import write_via2

    return write_via2(folder, split, out, fps=options.fps)


def _label_studio(
    folder: DatasetFolder, split: str, out: Path, options: argparse.Namespace
) -> list[str]:
    from detection.importers.label_studio_export import write_label_studio

    return write_label_studio(folder, split, out, config=options.label_config)


def _mot(folder: DatasetFolder, split: str, out: Path, options: argparse.Namespace) -> list[str]:
    from detection.importers.mot import write_mot

    return write_mot(folder, split, out)


def _proposals(
    folder: DatasetFolder, split: str, out: Path, options: argparse.Namespace
) -> list[str]:
    from detection.importers.proposals import write_proposals

    if options.boxes is None:
        raise UserError("proposals are detected people: --boxes NAME or a box file is required")
    return write_proposals(folder, split, out, boxes=options.boxes)


FORMATS: dict[str, Export] = {
    "label-studio": _label_studio,
    "mot": _mot,
    "proposals": _proposals,
    "via2": _via2,
    "via3": _via3,
}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("export_labels", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    add("format", choices=tuple(FORMATS), metavar="FORMAT", help=", ".join(FORMATS))
    parser.shared("--dataset", "--split")
    parser.shared("--out", metavar="FILE", help="file to write; of mot a folder")
    parser.shared("--overwrite", help="replace a file that is there")
    add("--fps", type=frame_rate, metavar="R",
        help="via2: images are numbered as extracted at R per second (default: as the video's "
        "frames)")
    add("--boxes", metavar="NAME",
        help="proposals: the box file, by its name in dataset.yaml or its path")
    add("--label-config", type=Path, metavar="FILE",
        help="label-studio: file for the labelling configuration, for the project's settings")
    # fmt: on
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
