"""Writes "CVAT for video 1.1" files with people as tracks, so that only actions must be annotated.

Boxes that linear interpolation between their neighbours yields are left out: CVAT interpolates, and
attributes hold until the next box that is written. https://docs.cvat.ai/docs/other/xml_format
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou
from detection.errors import UserError, printable
from detection.files import read_text, write_text
from detection.importers.cvat_actions import NO_ACTION

PERSON_LABEL = "person"
# Characters that XML 1.0 cannot represent, and terminal control characters.
_NO_XML = re.compile("[^\\x20-\\x7e\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
NONE_VALUE = "none"


def is_xml_text(text: str) -> bool:
    """Return whether an XML file can contain a name on one line."""
    return _NO_XML.search(text) is None


@dataclass(frozen=True)
class ActionChoices:
    """The actions that an annotator can choose.

    checkboxes: actions that combine freely.
    groups: mutually exclusive actions by group.
    """

    checkboxes: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        names = [*self.checkboxes, *(n for g in (self.groups or {}).values() for n in g)]
        if not names:
            raise UserError("no action to choose from: --actions or --one-of is required")
        for name in [*names, *(self.groups or {})]:
            if not name.strip() or name != name.strip() or not is_xml_text(name):
                raise UserError(f"'{printable(name)}' is an invalid name of an action")
        for group, members in (self.groups or {}).items():
            if group in self.checkboxes:
                raise UserError(f"'{group}' is an action and the name of a group")
            empty = [name for name in members if name.lower() in NO_ACTION]
            if empty:
                raise UserError(f"'{empty[0]}' in group '{group}' means no action to the importer")
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise UserError(f"action '{sorted(doubled)[0]}' is there twice")

    def attributes(self) -> list[dict[str, object]]:
        """Return CVAT's definitions of the attributes."""
        kinds = [(g, "select", [NONE_VALUE, *names]) for g, names in (self.groups or {}).items()]
        kinds += [(name, "checkbox", ["false"]) for name in self.checkboxes]
        return [
            {
                "name": name, "mutable": True, "input_type": kind,
                "default_value": values[0], "values": values,
            }
            for name, kind, values in kinds
        ]  # fmt: skip

    def values(self, actions: Sequence[str]) -> dict[str, str]:
        """Return the attribute values of these actions; raises `UserError` for two of one group."""
        values = {}
        for group, names in (self.groups or {}).items():
            found = [name for name in names if name in actions]
            if len(found) > 1:
                raise UserError(
                    f"a person does {' and '.join(map(repr, found[:3]))} at once, which exclude "
                    f"each other in group '{group}'"
                )
            values[group] = found[0] if found else NONE_VALUE
        return values | {name: str(name in actions).lower() for name in self.checkboxes}


@dataclass(frozen=True)
class TrackBox:
    """A person in a frame.

    frame: frame number from 0.
    box_01: (4,) x1, y1, x2, y2 in fractions of the frame.
    actions: names, None where not annotated.
    """

    frame: int
    box_01: NDArray[np.float64]
    actions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class VideoHeader:
    """The video of a file.

    name: of the task.
    file_name: of the video file.
    num_frames: number of frames.
    size_px: (width, height).
    """

    name: str
    file_name: str
    num_frames: int
    size_px: tuple[int, int]


def write_labels(path: str | Path, choices: ActionChoices) -> None:
    """Write the label for CVAT's "Raw" label editor, which a task requires before the upload."""
    write_text(path, _labels_text(choices))


def same_labels(path: str | Path, choices: ActionChoices) -> bool:
    """Return whether a file has exactly the content that `write_labels` would write."""
    return read_text(path, what="file of labels") == _labels_text(choices)


def _labels_text(choices: ActionChoices) -> str:
    label = {"name": PERSON_LABEL, "type": "rectangle", "attributes": choices.attributes()}
    return json.dumps([label], indent=2, ensure_ascii=False) + "\n"


def cvat_text(
    head: VideoHeader,
    tracks: Sequence[Sequence[TrackBox]],
    choices: ActionChoices,
    frame_step: int,
    keep_iou: float = 0.9,
) -> tuple[str, int]:
    """Return the file of one video's tracks (boxes ascending by frame), and its number of boxes.

    frame_step: frames between keyframes; a person without a box at the next keyframe is `outside`.
    keep_iou: a box is left out where the interpolated box has at least this IoU with it.
    Raises `UserError` for a name that XML cannot represent, and for two actions of one group.
    """
    for name in (head.name, head.file_name):
        if not is_xml_text(name):
            raise UserError(f"'{printable(name)}': the video's name is invalid in XML")
    lines = [_head(head, choices)]
    written = 0
    for number, track in enumerate(tracks):
        lines.append(f'  <track id="{number}" label="{PERSON_LABEL}" source="auto">')
        for part in _parts(track, frame_step):
            kept = without_interpolated(part, keep_iou)
            written += len(kept)
            lines += [_box(box, head, choices, outside=False) for box in kept]
            gone = part[-1].frame + frame_step
            if gone < head.num_frames:
                last = TrackBox(gone, part[-1].box_01, part[-1].actions)
                lines.append(_box(last, head, choices, outside=True))
        lines.append("  </track>")
    lines.append("</annotations>")
    return "\n".join(lines) + "\n", written


def without_interpolated(part: Sequence[TrackBox], keep_iou: float) -> list[TrackBox]:
    """Return the boxes from which linear interpolation yields the others, with the same actions."""
    kept: list[TrackBox] = []
    for _, same in groupby(part, key=lambda box: box.actions):
        run = list(same)
        kept.append(run[0])
        start = 0
        for end in range(2, len(run)):
            if not _is_interpolated(run[start : end + 1], keep_iou):
                start = end - 1
                kept.append(run[start])
        if len(run) > 1:
            kept.append(run[-1])
    return kept


def _is_interpolated(part: Sequence[TrackBox], keep_iou: float) -> bool:
    frame, boxes = np.array([box.frame for box in part]), np.stack([box.box_01 for box in part])
    share = (frame - frame[0]) / (frame[-1] - frame[0])
    guess = boxes[0] + share[:, None] * (boxes[-1] - boxes[0])
    return bool((paired_iou(guess, boxes)[1:-1] >= keep_iou).all())


def _parts(track: Sequence[TrackBox], frame_step: int) -> list[list[TrackBox]]:
    """Split a track where its person is missing for at least a keyframe."""
    parts: list[list[TrackBox]] = []
    for box in track:
        if parts and box.frame - parts[-1][-1].frame <= 1.5 * frame_step:
            parts[-1].append(box)
        else:
            parts.append([box])
    return parts


def _box(box: TrackBox, head: VideoHeader, choices: ActionChoices, *, outside: bool) -> str:
    width, height = head.size_px
    x1, y1, x2, y2 = (box.box_01.clip(0, 1) * np.array([width, height, width, height])).tolist()
    text = (
        f'    <box frame="{box.frame}" outside="{int(outside)}" occluded="0" keyframe="1" '
        f'xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}" z_order="0">'
    )
    if box.actions is not None:
        for name, value in choices.values(box.actions).items():
            text += f"\n      <attribute name={quoteattr(name)}>{escape(value)}</attribute>"
        text += "\n    "
    return text + "</box>"


def _head(head: VideoHeader, choices: ActionChoices) -> str:
    attributes = "".join(
        "\n            <attribute>"
        f"<name>{escape(str(a['name']))}</name><mutable>True</mutable>"
        f"<input_type>{a['input_type']}</input_type>"
        f"<default_value>{a['default_value']}</default_value>"
        f"<values>{escape(chr(10).join(map(str, a['values'])))}</values></attribute>"  # type: ignore[call-overload]
        for a in choices.attributes()
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <name>{escape(head.name)}</name>
      <size>{head.num_frames}</size>
      <mode>interpolation</mode>
      <labels>
        <label>
          <name>{PERSON_LABEL}</name>
          <attributes>{attributes}
          </attributes>
        </label>
      </labels>
      <original_size>
        <width>{head.size_px[0]}</width>
        <height>{head.size_px[1]}</height>
      </original_size>
      <source>{escape(head.file_name)}</source>
    </task>
  </meta>"""
