"""Formats of trackers, detectors and frames for `import_dataset`: options, and what reads them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import CommandParser, frame_rate, seconds
from ava_tools.import_tools import (
    add_attributes,
    add_labels,
    add_naming,
    add_shapes,
    add_split_values,
    frame_naming,
    separators,
)
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.importers.custom import AnnotatedData
    from detection.importers.write import ImportReport

# Each adds a format: name, what it is, what reads it, an example.
AddRead = Callable[..., argparse.ArgumentParser]
AddFormat = Callable[..., CommandParser]


def add_bridge_formats(
    formats: argparse._SubParsersAction[CommandParser], add_read: AddRead, add_format: AddFormat
) -> None:
    """Add the formats of this module."""
    _add_mot(add_read)
    _add_datumaro(add_read)
    _add_proposals(formats)
    _add_frames(add_format)


def _mot(options: argparse.Namespace) -> AnnotatedData:
    from detection.importers.mot import read_mot

    return read_mot(
        options.source,
        options.videos,
        classes=tuple(options.classes or ()),
        first_pixel=options.first_pixel,
    )


def _datumaro(options: argparse.Namespace) -> AnnotatedData:
    from detection.importers.datumaro import DatumaroRules, read_datumaro

    rules = DatumaroRules(
        tuple(options.attributes or ()),
        tuple(options.labels or ()),
        separators(options),
        options.shapes,
    )
    return read_datumaro(options.source, options.videos, rules=rules, naming=frame_naming(options))


def _proposals(options: argparse.Namespace) -> int:
    from detection.importers.proposals import read_proposals

    if options.out.exists() and not options.overwrite:
        raise UserError(f"{options.out}: is there already; --overwrite replaces it")
    for note in read_proposals(options.source, options.out):
        print(note)
    print(f"-> {options.out}")
    return 0


def _frames(options: argparse.Namespace) -> ImportReport:
    from detection.importers.frame_folders import import_frame_folders

    return import_frame_folders(
        options.source,
        options.out,
        fps=options.fps,
        start_s=options.start,
        first_frame=options.first_frame,
        overwrite=options.overwrite,
        link=options.link,
        show_progress=True,
    )


# fmt: off
def _add_mot(add_read: AddRead) -> None:
    add = add_read(
        "mot", "MOTChallenge text: frame, id, left, top, width, height, conf, class",
        _mot,
        "example:\n  python -m ava_tools.import_dataset mot --source tracks/ "
        "--videos videos/ --out data/mine\n\n"
        "A file is VIDEO.txt or VIDEO/gt/gt.txt, with labels.txt beside it as CVAT writes it.\n",
        source="text file, or a folder of them",
    ).add_argument
    add("--classes", nargs="+", metavar="NAME",
        help="names of classes 1, 2, ... where no labels.txt says them")
    add("--first-pixel", type=int, choices=(0, 1),
        help="number of the leftmost pixel (default: 0 beside a labels.txt, else 1)")


def _add_datumaro(add_read: AddRead) -> None:
    parser = add_read(
        "datumaro", "Datumaro's JSON, as it and CVAT write it", _datumaro,
        "example:\n  python -m ava_tools.import_dataset datumaro --source annotations/default.json "
        "--videos videos/ --out data/mine\n\n"
        "Items name a frame of a video: walk/000123.jpg, walk_000123.jpg, or video_frame.\n",
        source="JSON file, or a folder of them (train.json, val.json say the split)",
    )
    add_attributes(parser, "true or false, or text; else the labels")
    add_labels(parser, "all")
    add_split_values(parser)
    add_shapes(parser, "drawn as polygon, skeleton, ...")
    add_naming(parser)


def _add_proposals(formats: argparse._SubParsersAction[CommandParser]) -> None:
    about = "mmaction2's proposal pickle of detected people, as a box file"
    parser = formats.add_parser(
        "proposals", help=about, description=about,
        epilog="example:\n  python -m ava_tools.import_dataset proposals "
        "--source ava_dense_proposals_val.pkl --out data/ava/annotations/boxes_fair.csv\n",
    )
    parser.set_defaults(run=_proposals)
    parser.add_argument("--source", type=Path, required=True, metavar="PKL",
        help="dictionary of VIDEO,SECOND to rows of x1, y1, x2, y2, score")
    parser.shared("--out", metavar="CSV", help="box file to write")
    parser.shared("--overwrite", help="replace a file that is there")


def _add_frames(add_format: AddFormat) -> None:
    add = add_format(
        "frames", "folders of JPEG frames without a video, for detect_people",
        _frames,
        "example:\n  python -m ava_tools.import_dataset frames --source MOT17/train --fps 30 "
        "--out data/raw\n\n"
        "A folder of numbered files (walk/000001.jpg, SEQUENCE/img1/000001.jpg) is a video.\n",
    ).add_argument
    add("--source", type=Path, required=True, metavar="DIR", help="folder of them, or one of them")
    add("--fps", type=frame_rate, required=True, metavar="R",
        help="frames a second, of all folders")
    add("--start", type=seconds, default=0.0, metavar="S",
        help="time of the first frame (default %(default)g)")
    add("--first-frame", type=int, choices=(0, 1),
        help="number of the first frame (default: 0 where there is a frame 0, else 1)")
# fmt: on
