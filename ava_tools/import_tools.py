"""Formats of labelling tools for `import_dataset`: their options, and what reads them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import auto_or_seconds, frame_rate, seconds
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.importers.custom import AnnotatedData
    from detection.importers.frame_names import FrameNaming
    from detection.importers.via_attributes import ViaRules

# Adds a format: name, what it is, what reads it, an example; source: help of --source.
AddOwn = Callable[..., argparse.ArgumentParser]


def add_tool_formats(add_own: AddOwn) -> None:
    """Add every format of a labelling tool; what reads one returns `AnnotatedData`."""
    for add in (_add_cvat_images, _add_via, _add_label_studio, _add_ava):
        add(add_own)


def _via3(options: argparse.Namespace) -> AnnotatedData:
    from detection.importers.via3 import read_via3_videos

    return read_via3_videos(
        options.source,
        options.videos,
        rules=_via_rules(options),
        naming=frame_naming(options),
        size=options.frame_size,
        segments=options.segments,
    )


def _via2(options: argparse.Namespace) -> AnnotatedData:
    from detection.importers.via2 import read_via2_videos

    return read_via2_videos(
        options.source,
        options.videos,
        rules=_via_rules(options),
        naming=frame_naming(options),
        size=options.frame_size,
    )


def _via_rules(options: argparse.Namespace) -> ViaRules:
    from detection.importers.via_attributes import ViaRules

    return ViaRules(
        tuple(options.attributes or ()),
        options.person_attribute,
        separators(options),
        options.shapes,
    )


def frame_naming(options: argparse.Namespace) -> FrameNaming:
    """Return how images are numbered, by the options."""
    from detection.importers.frame_names import FrameNaming

    if options.fps is None and options.start:
        raise UserError("--start goes with --fps; frames have the video's own times")
    return FrameNaming(options.fps, options.first_frame, options.start)


def _label_studio(options: argparse.Namespace) -> AnnotatedData:
    from detection.importers.label_studio import read_label_studio_videos

    return read_label_studio_videos(
        options.source,
        options.videos,
        every_s=options.every,
        fps=options.fps,
        segments=options.segments,
    )


def _cvat_images(options: argparse.Namespace) -> AnnotatedData:
    from detection.importers.cvat_actions import ActionRules
    from detection.importers.cvat_images import read_cvat_images

    rules = ActionRules(
        tuple(options.attributes or ()), tuple(options.labels or ()), separators(options)
    )
    return read_cvat_images(
        options.source,
        options.videos,
        rules=rules,
        shapes=options.shapes,
        naming=frame_naming(options),
        person=options.person_attribute,
        keep_occluded=not options.drop_occluded,
        keep_empty=options.keep_empty,
    )


def _ava(options: argparse.Namespace) -> AnnotatedData:
    from detection.importers.ava_rows import read_ava_rows

    if options.label_map is None:
        raise UserError("--label-map FILE is required: rows of AVA have ids of classes")
    return read_ava_rows(
        options.source,
        options.videos,
        options.label_map,
        val_rows=options.val_source,
        skip_unknown=options.skip_unknown_labels,
        leave_out_missing=options.leave_out_missing,
    )


def separators(options: argparse.Namespace) -> str:
    """Return the marks between several actions in one value, "" for none."""
    from detection.importers.class_names import checked_separators

    if options.split_values is None:
        return ""
    return checked_separators(options.split_values, option="--split-values")


# fmt: off
def _add_cvat_images(add_own: AddOwn) -> None:
    parser = add_own(
        "cvat-images", "CVAT for images 1.1: boxes of frames, without tracks",
        _cvat_images,
        "example:\n  python -m ava_tools.import_dataset cvat-images --source exports/ "
        "--videos videos/ --out data/mine\n\n"
        "Of a video task, or of images called walk_000123.jpg or walk/000123.jpg, for frame 123\n"
        "of walk.mp4. Attributes are actions as in 'cvat'.\n",
        source="XML or ZIP file as CVAT exports it, or a folder of them",
    )
    add = parser.add_argument
    add("--person-attribute", metavar="NAME", help="attribute that tells people apart (default: "
        "one called person, track or id)")
    add("--keep-empty", action="store_true",
        help="images without a person are keyframes without persons (default: no keyframes)")
    add_cvat_choices(parser)
    add_naming(parser)


def _add_ava(add_own: AddOwn) -> None:
    parser = add_own(
        "ava", "AVA's own rows, without a header line, and a label map", _ava,
        "example:\n  python -m ava_tools.import_dataset ava --source ava_train.csv "
        "--videos videos/ \\\n      --label-map label_map.txt --val-share 0 --out data/mine\n\n"
        "video_id,time,x1,y1,x2,y2,action_id,person_id; label maps as AVA writes them, or lines\n"
        "'11: sit'.\n",
        source="CSV file",
    )
    add = parser.add_argument
    add("--val-source", type=Path, metavar="PATH", help="CSV file of val, beside that of train")
    add("--skip-unknown-labels", action="store_true",
        help="leave out rows of actions that are not in the label map; their persons stay")
    add("--leave-out-missing", action="store_true",
        help="leave out videos that are not in the folder, in place of stopping")


def _add_via(add_own: AddOwn) -> None:
    parser = add_own(
        "via3", "VIA 3 project: regions with times, or in images named by frame",
        _via3,
        "example:\n  python -m ava_tools.import_dataset via3 --source project.json "
        "--videos videos/ --out data/mine\n\n"
        "Options of checkboxes, radio buttons and dropdowns are actions; an attribute called\n"
        "person, track or id tells people apart.\n",
        source="JSON file of the project",
    )
    _add_segments(parser)
    _add_regions(parser)
    _add_regions(add_own(
        "via2", "VIA 2: rectangles in images named by video and frame", _via2,
        "example:\n  python -m ava_tools.import_dataset via2 --source boxes.json "
        "--videos videos/ --out data/mine\n\n"
        "Images are called walk_000123.jpg or walk/000123.jpg, for frame 123 of walk.mp4.\n",
        source="JSON file (project or annotations) or CSV file",
    ))


def _add_segments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--segments", choices=("auto", "everyone", "leave-out"), default="auto",
        help="actions of temporal segments: for everyone within, for no one, or (auto) for "
        "everyone where regions have no actions (default %(default)s)")


def _add_label_studio(add_own: AddOwn) -> None:
    parser = add_own(
        "label-studio", "Label Studio's JSON export: video rectangles",
        _label_studio,
        "example:\n  python -m ava_tools.import_dataset label-studio --source export.json "
        "--videos videos/ --out data/mine\n\n"
        "A region is a person, its labels are the actions. Export as JSON, not as JSON-MIN.\n",
        source="JSON file",
    )
    add = parser.add_argument
    add_every(parser, reads=_keys_auto_or_seconds, also="; keys: the times at which a box is drawn")
    add("--fps", type=frame_rate, metavar="R",
        help="frame rate of the labelling configuration (default: the task's, else its number of "
        "frames by its duration)")
    _add_segments(parser)


def _keys_auto_or_seconds(text: str) -> float | str:
    return text if text == "keys" else auto_or_seconds(text)


def _add_regions(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_attributes(parser, "those with options, else the only text")
    add("--person-attribute", metavar="NAME", help="attribute that tells people apart")
    add_split_values(parser)
    add_shapes(parser, "drawn as polygon, ellipse, ...")
    add_naming(parser)
    add("--frame-size", type=_frame_size, metavar="WxH",
        help="pixels of the images (default: the video's)")


def add_naming(parser: argparse.ArgumentParser) -> None:
    """Add the options of images named by frame."""
    add_rate(parser)
    parser.add_argument("--first-frame", type=int, choices=(0, 1), default=0,
        help="number of the first image (default %(default)s)")


def add_rate(parser: argparse.ArgumentParser) -> None:
    """Add the options of images named by frame, but for the first one's number."""
    add = parser.add_argument
    add("--fps", type=frame_rate, metavar="R",
        help="images a second that were extracted, where images are named by frame (default: every "
        "frame of the video)")
    add("--start", type=seconds, default=0.0, metavar="S",
        help="with --fps: time of the first image on the video's clock (default %(default)g)")


def _frame_size(text: str) -> tuple[float, float]:
    width, _, height = text.partition("x")
    if not re.fullmatch(r"[1-9][0-9]{0,5}x[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"'{text[:40]}': WxH is required, as in 1280x720")
    return float(width), float(height)


def add_cvat_choices(parser: argparse.ArgumentParser) -> None:
    """Add the options of both forms of CVAT."""
    add_attributes(parser, "each checkbox, select and radio")
    add_labels(parser, "those with such attributes, else all")
    add_shapes(parser, "drawn as polygon, skeleton, ellipse, ...")
    add_split_values(parser)
    parser.add_argument("--drop-occluded", action="store_true",
        help="leave out boxes marked as occluded")


def add_every(
    parser: argparse.ArgumentParser, *, reads: Callable[[str], float | str] = auto_or_seconds,
    also: str = "",
) -> None:
    """Add the option of tracks, which have boxes at any time.  also: what else it takes."""
    parser.add_argument("--every", type=reads, default="auto", metavar="S",
        help="seconds from keyframe to keyframe, 0: every frame; auto: 1, in videos below 10 s "
        f"less{also} (default %(default)s)")


def add_attributes(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option of forms whose attributes say what is done.  default: which, in words."""
    parser.add_argument("--attributes", nargs="+", metavar="NAME",
        help=f"attributes that are actions (default: {default})")


def add_labels(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option of forms with labels of other things too.  default: which, in words."""
    parser.add_argument("--labels", nargs="+", metavar="NAME",
        help=f"labels that are persons (default: {default})")


def add_shapes(parser: argparse.ArgumentParser, shapes: str) -> None:
    """Add the option of forms whose persons may be no boxes.  shapes: of such persons."""
    parser.add_argument("--shapes", choices=("unjudged", "hull"), default="unjudged",
        help=f"persons {shapes}: leave out the keyframes that show one, or take the upright box "
        "around it (default %(default)s)")


def add_split_values(parser: argparse.ArgumentParser) -> None:
    """Add the option of forms whose values may hold several actions."""
    parser.add_argument("--split-values", metavar="MARKS",
        help="marks between several actions in one value: ,;| (default: none)")
# fmt: on
