"""Import annotated videos (JHMDB, UCF101-24, MultiSports, CVAT, VIA, COCO, ...) as a data set."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import (
    CommandParser,
    command_parser,
    named_lists,
    run_command,
    share,
    whole_number,
)
from ava_tools.import_bridges import add_bridge_formats
from ava_tools.import_tools import (
    add_attributes,
    add_cvat_choices,
    add_every,
    add_rate,
    add_shapes,
    add_split_values,
    add_tool_formats,
    frame_naming,
    separators,
)
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.datasets.folder import DatasetFolder
    from detection.importers.custom import AnnotatedData, AnnotatedVideo
    from detection.importers.write import ImportReport

    _Formats = argparse._SubParsersAction[CommandParser]

EXAMPLE = """examples:
  python -m ava_tools.import_dataset jhmdb --source ~/jhmdb --out data/jhmdb
  python -m ava_tools.import_dataset cvat --source exports/ --videos videos/ --out data/mine
  python -m ava_tools.import_dataset csv --source boxes.csv --videos videos/ --out data/mine
  python -m ava_tools.import_dataset clips --dataset data/jhmdb --out data/jhmdb/clips
  python -m ava_tools.check data/mine

Each format has its own --help. The folder appears when it is complete, or not at all.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    report = options.run(options)
    if isinstance(report, int):
        return report
    print(f"{report.num_videos} videos -> {options.out}")
    for split, rows in report.num_rows.items():
        print(f"  {split}: {rows:,} rows")
    _say_left_out(report, options.out)
    for note in report.notes:
        print(note)
    return 0


def _import_tubes(options: argparse.Namespace) -> ImportReport:
    from detection.importers.tubes import JHMDB, MULTISPORTS, UCF101_24, import_tubes

    forms = {form.key: form for form in (JHMDB, UCF101_24, MULTISPORTS)}
    return import_tubes(
        forms[options.format], options.source, options.out, videos=options.videos, **_how(options)
    )


def _import_cvat(options: argparse.Namespace) -> ImportReport:
    from detection.importers.cvat import read_cvat_videos

    data = read_cvat_videos(
        options.source,
        options.videos,
        every_s=None if options.every == "auto" else options.every,
        attributes=tuple(options.attributes or ()),
        labels=tuple(options.labels or ()),
        shapes=options.shapes,
        separators=separators(options),
        keep_occluded=not options.drop_occluded,
    )
    return _import_data(options, data)


def _import_coco(options: argparse.Namespace) -> ImportReport:
    from detection.importers.coco import CocoRules, read_coco_videos

    rules = CocoRules(
        first_frame=options.first_frame,
        frame_field=options.frame_field,
        attributes=tuple(options.attributes or ()),
        categories=tuple(options.categories or ()),
        shapes=options.shapes,
        unit=options.boxes,
        separators=separators(options),
        naming=frame_naming(options),
    )
    data = read_coco_videos(options.source, options.videos, rules=rules)
    for note in [*data.notes, *_name_notes(data.videos, data.classes)]:
        print(note)
    return _import_annotations(options, data.videos, classes=data.classes, exclusive=data.exclusive)


def _import_csv(options: argparse.Namespace) -> ImportReport:
    from detection.importers.csv_table import read_csv_table

    videos = read_csv_table(
        options.source,
        options.videos,
        unit=options.boxes,
        first_frame=options.first_frame,
        separators=separators(options),
    )
    sizes = {video.size for video in videos}
    unit = "fractions of the frame" if sizes == {(1.0, 1.0)} else "pixels"
    print(f"boxes are taken as {unit}" + (" (--boxes says otherwise)" * (options.boxes == "auto")))
    stated = sorted({size for size in sizes if size not in (None, (1.0, 1.0))})
    if stated:
        shown = ", ".join(f"{width:g}x{height:g}" for width, height in stated[:3])
        print(f"of frames as the table states them: {shown}" + ", ..." * (len(stated) > 3))
    for note in _name_notes(videos, ()):
        print(note)
    return _import_annotations(options, videos)


def _import_data(options: argparse.Namespace, data: AnnotatedData) -> ImportReport:
    for note in data.notes:
        print(note)
    return _import_annotations(options, data.videos, classes=data.classes, exclusive=data.exclusive)


def _name_notes(videos: Sequence[AnnotatedVideo], classes: Sequence[str]) -> list[str]:
    from detection.importers.class_names import name_warnings

    used = {name for video in videos for box in video.boxes for name in box.actions}
    return name_warnings([*classes, *sorted(used - set(classes))], split_option="--split-values")


def _write_clip_lists(options: argparse.Namespace) -> int:
    from detection.datasets.clip_list import write_clip_lists

    for split, videos in write_clip_lists(options.dataset, options.out).items():
        print(f"{options.out / split}.csv: {videos} videos")
    return 0


def _import_videos(options: argparse.Namespace) -> ImportReport:
    from detection.importers.unlabelled import import_unlabelled

    return import_unlabelled(options.source, options.out, **_how(options))


def _import_annotations(
    options: argparse.Namespace,
    videos: Sequence[AnnotatedVideo],
    *,
    classes: Sequence[str] = (),
    exclusive: Mapping[str, Sequence[str]] | None = None,
) -> ImportReport:
    from detection.importers.custom import Choices, import_annotations

    choices = Choices(
        name=options.name or options.out.resolve().name,
        label_map=options.label_map,
        val_videos=tuple(options.val_videos or ()),
        val_share=options.val_share,
        seed=options.seed,
        exclusive=named_lists("--exclusive", "NAME=CLASS,CLASS,...", options.exclusive),
        leave_out_bad=options.leave_out_bad,
    )
    return import_annotations(
        options.out, videos, classes=classes, exclusive=exclusive or {}, choices=choices,
        **_how(options),
    )  # fmt: skip


def _merge_corrections(options: argparse.Namespace) -> ImportReport | int:
    from detection.datasets.folder import DatasetFolder
    from detection.importers.corrections import merge_corrections
    from detection.importers.labelled import is_bare

    if options.reviewed is not None:
        raise UserError("--reviewed: a page exports one file now, labels.json: --corrections FILE")
    folder = DatasetFolder.open(options.dataset)
    if is_bare(folder):
        return _import_labelled(options, folder)
    for name, value in (
        ("--val-share", options.val_share),
        ("--val-videos", options.val_videos),
        ("--seed", options.seed),
    ):
        if value is not None:
            raise UserError(f"{name}: {options.dataset} has labels and splits already")
    if options.split is None:
        known = ", ".join(folder.file.splits)
        raise UserError(f"--split NAME is required: {options.dataset} has {known}")
    names = ("split", "corrections", "prefer", "videos", "link", "overwrite")
    given = {name: getattr(options, name) for name in names}
    report = merge_corrections(options.dataset, options.out, **given)
    many = "s" * (report.num_keyframes != 1)
    print(f"{report.num_keyframes:,} reviewed keyframe{many} -> {options.out}")
    print(f"  {options.split}: {report.removed:,} rows replaced by {report.added:,}, ", end="")
    print(f"{report.num_rows:,} in all")
    for video_id in report.new_videos:
        print(f"  new in {options.split}: {video_id}")
    for note in report.notes:
        print(note)
    return 0


def _import_labelled(options: argparse.Namespace, folder: DatasetFolder) -> ImportReport:
    from detection.importers.custom import VAL_SHARE, Choices
    from detection.importers.labelled import import_labelled

    if options.split is not None and options.split not in folder.file.splits:
        known = ", ".join(folder.file.splits)
        raise UserError(f"{options.dataset}: split '{options.split}' not found, it has {known}")
    choices = Choices(
        name=options.out.resolve().name,
        val_videos=tuple(options.val_videos or ()),
        val_share=VAL_SHARE if options.val_share is None else options.val_share,
        seed=options.seed or 0,
    )
    return import_labelled(
        options.dataset,
        options.out,
        corrections=options.corrections,
        prefer=options.prefer,
        videos=options.videos,
        choices=choices,
        **_how(options),
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
    parser = command_parser("import_dataset", __doc__, EXAMPLE)
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for name, about in TUBES.items():
        _add_tubes(formats, name, about)
    _add_corrections(formats)
    _add_clips(formats)
    _add_cvat(formats)
    _add_coco(formats)
    _add_csv(formats)
    add_read = partial(_add_read, formats)
    add_tool_formats(add_read)
    add_bridge_formats(formats, add_read, partial(_add_format, formats))
    videos = _add_format(
        formats, "videos", "a folder of videos without labels, for detect_people and export_cvat",
        _import_videos,
        "example:\n  python -m ava_tools.import_dataset videos --source videos/ --out data/raw\n",
    )  # fmt: skip
    videos.add_argument("--source", type=Path, required=True, metavar="DIR", help=VIDEOS)
    options = parser.parse_args(arguments)
    if getattr(options, "val_share", 0) == 1:
        raise UserError("--val-share must be below 1, not 1")
    return options


VIDEOS = "folder of the videos"
TUBES = {
    "jhmdb": "JHMDB-21: JHMDB-GT.pkl and videos/CLASS/NAME.mp4; 21 classes, splits 1-3",
    "ucf101-24": "UCF101-24: UCF101v2-GT.pkl and the videos CLASS/NAME.avi; 24 classes",
    "multisports": "MultiSports: multisports_GT.pkl and SPORT/NAME.mp4; 66 classes",
}


# fmt: off
def _add_cvat(formats: _Formats) -> None:
    parser = _add_own(
        formats, "cvat", "CVAT for video 1.1: tracks, their attributes are the actions",
        _import_cvat,
        "example:\n  python -m ava_tools.import_dataset cvat --source exports/ "
        "--videos videos/ --out data/mine\n\n"
        "A checkbox is an action; each value of a select or radio attribute is one, and those of\n"
        "one attribute exclude each other (a value 'none' is no action). Each file belongs to the\n"
        "video that it names, or that is called like it (walk.xml, walk.mp4).\n",
        source="XML or ZIP file as CVAT exports it, or a folder of them",
    )
    add_every(parser)
    add_cvat_choices(parser)


def _add_coco(formats: _Formats) -> None:
    parser = _add_own(
        formats, "coco", "COCO-style JSON whose images name a video and a frame", _import_coco,
        "example:\n  python -m ava_tools.import_dataset coco --source boxes.json "
        "--videos videos/ --out data/mine\n\n"
        "images: {id, video_id + frame_id | video + frame | video + time | file_name, width,\n"
        "height}, file_name alone as in walk/000123.jpg or walk_000123.jpg;\n"
        "annotations: {image_id, bbox [x, y, width, height], category_id, track_id}, and where a\n"
        "person does several things: actions: [names or ids] or attributes: {\"wave\": true}.\n",
        source="JSON file",
    )
    add = parser.add_argument
    add("--frame-field", choices=("frame", "frame_number", "frame_index", "frame_id", "file_name"),
        help="what numbers an image's frame (default: what does not merely count on)")
    add_attributes(parser, "where categories are none, all")
    add("--categories", nargs="+", metavar="NAME",
        help="categories to take (default: persons, where attributes act; else all)")
    add_shapes(parser, "with a polygon or keypoints and no box")
    _add_units(parser)
    add_rate(parser)


def _add_csv(formats: _Formats) -> None:
    _add_units(_add_own(
        formats, "csv", "a plain table with a header line", _import_csv,
        "example:\n  python -m ava_tools.import_dataset csv --source boxes.csv "
        "--videos videos/ --out data/mine\n\n"
        "video,time,x1,y1,x2,y2,action,person\n"
        "walk.mp4,2.0,14,20,180,350,stand;wave,1\n"
        "walk.mp4,3.0,,,,,,                          <- no person there\n",
        source="CSV file (comma, semicolon or tab)",
    ))


def _add_units(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--boxes", choices=("auto", "pixels", "fractions"), default="auto",
        help="unit of the boxes (default auto: fractions where nothing exceeds 1)")
    add_split_values(parser)
    add("--first-frame", type=int, choices=(0, 1), default=0,
        help="number of a video's first frame (default %(default)s)")


def _add_read(
    formats: _Formats, name: str, about: str, read: Callable[[argparse.Namespace], AnnotatedData],
    example: str, *, source: str,
) -> argparse.ArgumentParser:
    def run(options: argparse.Namespace) -> ImportReport:
        return _import_data(options, read(options))

    return _add_own(formats, name, about, run, example, source=source)


def _add_own(
    formats: _Formats, name: str, about: str, run: Callable[[argparse.Namespace], ImportReport],
    example: str, *, source: str,
) -> argparse.ArgumentParser:
    parser = _add_format(formats, name, about, run, example)
    add = parser.add_argument
    add("--source", type=Path, required=True, metavar="PATH", help=source)
    add("--videos", type=Path, required=True, metavar="DIR", help=VIDEOS)
    add("--name", metavar="TEXT", help="name of the data set (default: the folder's)")
    add("--label-map", type=Path, metavar="FILE",
        help="classes and ids (default: every class that occurs, ids from 1 on)")
    add("--val-videos", nargs="+", metavar="NAME", help="videos of val; the others are train's")
    add("--val-share", type=share, default=0.2, metavar="S",
        help="share of each class's videos for val, where none are named (default %(default)g)")
    add("--seed", type=whole_number(0), default=0,
        help="of the random draw of these videos (default %(default)s)")
    add("--exclusive", action="append", metavar="NAME=CLASS,...",
        help="classes of which a person does one at a time; repeatable")
    add("--leave-out-bad", action="store_true",
        help="list impossible boxes in left_out.csv and go on, in place of stopping")
    return parser


def _add_tubes(formats: _Formats, name: str, about: str) -> None:
    example = f"example:\n  python -m ava_tools.import_dataset {name} --source ~/{name} "
    add = _add_format(
        formats, name, about, _import_tubes, f"{example}--out data/{name}\n"
    ).add_argument
    add("--source", type=Path, required=True, metavar="DIR", help="folder with the pickle")
    add("--videos", type=Path, metavar="DIR",
        help=f"{VIDEOS} (default: SOURCE/videos, else the pickle's)")


def _add_corrections(formats: _Formats) -> None:
    parser = _add_format(
        formats, "corrections", "what a label or review page exports, as or into a data set",
        _merge_corrections, "examples:\n  python -m ava_tools.import_dataset corrections "
        "--dataset data/mine --split train \\\n      --corrections labels.json "
        "--out data/mine_corrected --link\n"
        "  python -m ava_tools.import_dataset corrections --dataset data/raw \\\n"
        "      --corrections labels.json --out data/mine --link\n\n"
        "The keyframes of the file replace those of a copy of the split. A data set of bare\n"
        "videos (import_dataset videos) becomes a whole one, with train and val.\n",
    )
    parser.shared("--dataset", help="data set folder to correct, or of bare videos")
    add = parser.add_argument
    add("--split", metavar="NAME", help="split that the videos belong to, or join")
    add("--corrections", type=Path, required=True, nargs="+", metavar="FILE",
        help="label files, as pages export them")
    add("--prefer", type=Path, metavar="FILE",
        help="the one of them that decides where annotators disagree")
    add("--videos", type=Path, metavar="DIR",
        help="folder of labelled videos that the data set does not have yet")
    add("--val-videos", nargs="+", metavar="NAME",
        help="bare videos: those of val; the others are train's")
    add("--seed", type=whole_number(0),
        help="of bare videos: of the random draw of val (default 0)")
    add("--val-share", type=share, metavar="S",
        help="bare videos: share of them for val where none are named (default 0.2)")
    add("--reviewed", type=Path, help=argparse.SUPPRESS)


def _add_clips(formats: _Formats) -> None:
    about = "lists of labelled videos, for clip classification, of a data set folder"
    parser = formats.add_parser("clips", help=about, description=about)
    parser.set_defaults(run=_write_clip_lists)
    parser.shared("--dataset")
    parser.shared("--out", help="folder for SPLIT.csv and classes.txt")


def _add_format(
    formats: _Formats, name: str, about: str,
    run: Callable[[argparse.Namespace], ImportReport | int], example: str,
) -> CommandParser:
    parser = formats.add_parser(name, help=about, description=about, epilog=example)
    parser.set_defaults(run=run)
    parser.shared("--out", help="data set folder to make")
    parser.shared("--overwrite")
    parser.add_argument("--link", action="store_true",
        help="hard-link the videos where possible, in place of copying them")
    return parser
# fmt: on


if __name__ == "__main__":
    run_command(main)
