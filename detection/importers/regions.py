"""Boxes of a tool's regions on their way to videos: shapes without a box, and temporal segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from detection.importers.custom import AnnotatedBox, AnnotatedVideo
from detection.importers.cvat_shapes import Box

SegmentUse = Literal["auto", "everyone", "leave-out"]
_SLACK_S = 1e-6  # annotations hold times to the microsecond
_BOXES = ("rect", "extreme rect", "box")


@dataclass(frozen=True)
class TemporalSegment:
    """What is done from one time of a video to another, by no one in particular."""

    video: AnnotatedVideo
    first_s: float
    last_s: float
    actions: tuple[str, ...]


class Regions:
    """Collects boxes; a keyframe with a person of another shape is not judged.

    source: the annotation file.  shapes: "hull" takes the boxes around other shapes.
    segments: actions without a box, for `hand_over`.
    """

    def __init__(self, source: str, shapes: Literal["unjudged", "hull"]) -> None:
        self.source, self.shapes = source, shapes
        self.segments: list[TemporalSegment] = []
        self.segment_classes: list[str] = []
        self._boxes: dict[str, dict[float, list[AnnotatedBox]]] = {}
        self._unjudged: set[tuple[str, float]] = set()
        self._kinds: Counter[str] = Counter()
        self._hulls: Counter[str] = Counter()

    def see(self, video: AnnotatedVideo, when: float) -> None:
        """Note a keyframe, which may be without persons."""
        self._boxes.setdefault(video.name, {}).setdefault(when, [])

    def takes(self, video: AnnotatedVideo, when: float, shape: str, box: Box | None) -> bool:
        """Tell whether a region is a box; note it where it is not."""
        self.see(video, when)
        if shape in _BOXES:
            return True
        if box is not None and self.shapes == "hull":
            self._hulls[shape] += 1
            return True
        self._kinds[shape] += 1
        self._unjudged.add((video.name, when))
        return False

    def add(self, video: AnnotatedVideo, box: AnnotatedBox) -> None:
        """Add a box that `takes` took."""
        self._boxes[video.name][box.frame_or_time].append(box)

    def hand_over(self, videos: Sequence[AnnotatedVideo], segments: SegmentUse) -> list[str]:
        """Give each video its boxes and its keyframes without persons; return notes.

        segments: everyone: each person within one does its actions too; auto: so where no box has
        an action of its own; leave-out: no one.
        """
        notes = self._apply_segments(segments)
        lost = 0
        for video in videos:
            for when, boxes in sorted(self._boxes.get(video.name, {}).items()):
                if (video.name, when) in self._unjudged:
                    lost += len(boxes)
                elif boxes:
                    video.boxes += boxes
                else:
                    video.empty.append(when)
        if self._unjudged:
            notes.append(
                f"warning: {len(self._unjudged):,} keyframes left out, not judged: a person is "
                f"drawn there as {_counted(self._kinds)}; {lost:,} boxes of others go with them "
                "(--shapes hull takes the upright boxes around shapes)"
            )
        if self._hulls:
            notes.append(f"{_counted(self._hulls)} taken as the upright boxes around them")
        return notes

    def _apply_segments(self, use: SegmentUse) -> list[str]:
        acting = [segment for segment in self.segments if segment.actions]
        if not acting:
            return []
        own = any(
            box.actions
            for times in self._boxes.values()
            for boxes in times.values()
            for box in boxes
        )
        if use == "leave-out" or (use == "auto" and own):
            return [
                f"{len(acting):,} temporal segments with actions left out: they name no person "
                "(--segments everyone gives them to each person within)"
            ]
        self.segment_classes = list(dict.fromkeys(a for s in acting for a in s.actions))
        without = told = 0
        for segment in acting:
            times = self._boxes.get(segment.video.name, {})
            within = [
                when for when in times
                if segment.first_s - _SLACK_S <= when <= segment.last_s + _SLACK_S
            ]  # fmt: skip
            people = 0
            for when in within:
                times[when] = [
                    replace(box, actions=tuple(dict.fromkeys([*box.actions, *segment.actions])))
                    for box in times[when]
                ]
                people += len(times[when])
            told += people
            without += not people
        return [
            f"{len(acting):,} temporal segments: each person within does their actions "
            f"({told:,} boxes; --segments leave-out leaves them out)"
            + f"; {without:,} of them have no box within"
            * bool(without)
        ]


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{name} ({count:,} times)" for name, count in kinds.items())
