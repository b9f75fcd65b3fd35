"""Saved segments of an unfinished run, from which a killed run resumes.

The folder `parts` beside the results holds for segment n of the video the detections (`000012.npz`,
plain arrays), the annotated video (`000012.mp4`) and, for sources that cannot be read twice or that
a page cannot link, a recording (`000012.clean.mp4`). The results are made of these files at the
end. A segment without detection times has no file: each file names the one before it, which tells a
gap in the video from a missing file.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from detection.errors import UserError
from detection.files import read_text, replacing, write_text
from detection.pipeline.clip_buffer import FrameDetections
from detection.pipeline.decisive import Decisive
from detection.structures import ActorBoxes
from detection.video.stream import Gap

ValueT = TypeVar("ValueT")

STATE_NAME = "run.json"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error)
FORMAT = 2
_OVERWRITE = "start again with --overwrite"
# Files that a run writes beside its segments and its state.
RESULT_NAMES = (
    "annotated.mp4",
    "detections.csv",
    "events.jsonl",
    "label_map.pbtxt",
    "review.html",
    "summary.json",
    "thumbnail.jpg",
    "tracks.jsonl",
)


@dataclass
class Segment:
    """The detections of a segment of the video, in order of time."""

    frames: list[FrameDetections] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


class SegmentsFolder:
    """The folder of one video's results, with the saved segments of an unfinished run.

    decisive: options and inputs that determine the results.
    now: returns the same as of now, to find inputs that changed during the run.
    can_resume: whether the source can be read again.
    overwrite: remove existing results first.

    Raises `UserError` if the folder holds other files, or results of other options or inputs.
    """

    def __init__(
        self,
        folder: Path,
        decisive: Decisive,
        *,
        now: Callable[[], Decisive],
        can_resume: bool,
        overwrite: bool,
    ) -> None:
        self.folder, self._segments_folder = folder, folder / "parts"
        self._decisive, self._now = decisive, now
        state = self._read_state(overwrite=overwrite)
        if state is None and folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder}: contains other files; choose another --out")
        other = "" if state is None else self._why_other(state)
        if state is not None and not overwrite and (other or not can_resume):
            why = other or "of a source that cannot be read again"
            raise UserError(f"{folder}: holds results {why}: another --out, or --overwrite")
        complete = state is not None and state.get("complete") is True
        self.is_complete = complete and not other and not overwrite
        self.saved = 0  # number of complete segments
        if self.is_complete:
            return
        if overwrite or state is None:
            self._start_over()
        self._numbers = self._find_saved()
        self.saved = self._numbers[-1] + 1 if self._numbers else 0

    def segments(self, *, tail: bool = False) -> Iterator[Segment]:
        """Read the complete segments; `tail`: and the incomplete last one of a stopped run."""
        for number in self._numbers:
            yield read_segment(self.path(number, ".npz"))
        if tail and (path := self.path(None, ".npz")).is_file():
            yield read_segment(path)

    def save(self, segment: Segment, number: int | None) -> None:
        """Write segment `number`, greater than all before; None: the tail of a stopped run."""
        write_segment(self.path(number, ".npz"), segment, after=self.saved - 1)
        if number is not None:
            self._numbers.append(number)
            self.saved = number + 1

    def path(self, segment: int | None, suffix: str) -> Path:
        """Return a file of a segment (None: of the tail): `.npz`, `.mp4` or `.clean.mp4`."""
        name = "tail" if segment is None else f"{segment:06d}"
        return self._segments_folder / f"{name}{suffix}"

    def recordings(self) -> list[Path]:
        """Return the recordings, in order."""
        whole = [
            path
            for path in self._segments_folder.glob("*.clean.mp4")
            if path.name.split(".")[0].isdecimal()
        ]
        tail = self.path(None, ".clean.mp4")
        return sorted(whole, key=_number_of) + ([tail] if tail.is_file() else [])

    def annotated_segments(self) -> list[Path]:
        """Return the annotated videos of segments, in order."""
        drawn = [p for p in self._segments_folder.glob("*.mp4") if p.stem.isdecimal()]
        tail = self.path(None, ".mp4")
        return sorted(drawn, key=_number_of) + ([tail] if tail.is_file() else [])

    def drop_tail(self, redraw: int) -> None:
        """Remove the tail of a stopped run, to be computed again.

        redraw: also remove the annotated videos of this many last segments, whose labels depend on
        what follows.
        """
        for suffix in (".npz", ".mp4", ".clean.mp4"):
            self.path(None, suffix).unlink(missing_ok=True)
        for path in self.annotated_segments():
            if _number_of(path) >= self.saved - redraw:
                path.unlink()

    def check_inputs(self) -> None:
        """Remove everything and raise `UserError` if an input has changed since the start.

        The detections are then of a mixture of both.
        """
        changed = self._now().differences_from(self._decisive.as_json())
        if not changed:
            return
        self._start_over()
        (self.folder / STATE_NAME).unlink()
        with suppress(OSError):  # missing, or not empty
            (self.folder / "videos").rmdir()
        raise UserError(
            f"{self.folder}: no results: {changed} it was begun; give the same command again"
        )

    def complete(self, facts: Mapping[str, Any] | None = None) -> None:
        """Mark the results as complete and remove the segments; as `check_inputs`.

        facts: about the video, kept beside the options for those who read the results.
        """
        self.check_inputs()
        self._write_state(complete=True, facts=facts)
        shutil.rmtree(self._segments_folder, ignore_errors=True)

    def _start_over(self) -> None:
        shutil.rmtree(self._segments_folder, ignore_errors=True)
        for path in [self.folder / name for name in RESULT_NAMES]:
            path.unlink(missing_ok=True)
        for path in (self.folder / "videos").glob("video.*"):
            path.unlink()
        self._write_state(complete=False)

    def _why_other(self, state: dict[str, Any]) -> str:
        """Describe what differs from the run in the folder; "" if nothing does."""
        if state.get("format") != FORMAT:
            return "of an older version, which does not say of which files they were made"
        differences = self._decisive.differences_from(state)
        if not differences:
            return ""
        same_options = state["options"] == self._decisive.as_json()["options"]
        return f"of other {'files' if same_options else 'options'} ({differences})"

    def _find_saved(self) -> list[int]:
        numbers: list[int] = []
        paths = [path for path in self._segments_folder.glob("*.npz") if path.stem.isdecimal()]
        for path in sorted(paths, key=_number_of):
            after = _read(path, lambda values: int(values["after"]), _OVERWRITE)
            if after != (numbers[-1] if numbers else -1):
                break
            numbers.append(_number_of(path))
        return numbers

    def _read_state(self, *, overwrite: bool) -> dict[str, Any] | None:
        path = self.folder / STATE_NAME
        if not path.is_file():
            return None
        try:
            state = json.loads(read_text(path))
        except (UserError, ValueError, RecursionError) as error:
            if overwrite:
                return {}
            raise UserError(f"{path}: damaged ({error}); start again with --overwrite") from error
        known = isinstance(state, dict) and state.get("format") in (1, FORMAT)
        inputs = state.get("inputs", {}) if known else None
        if not known or not isinstance(inputs, dict) or not isinstance(state.get("options"), dict):
            raise UserError(f"{path}: not of this command; another --out")
        return dict(state)

    def _write_state(self, *, complete: bool, facts: Mapping[str, Any] | None = None) -> None:
        state = {"format": FORMAT, "complete": complete, **self._decisive.as_json()}
        if facts is not None:
            state["video"] = dict(facts)
        write_text(self.folder / STATE_NAME, json.dumps(state, indent=2) + "\n")


def write_segment(path: Path, segment: Segment, *, after: int = -1) -> None:
    """Write the detections of a stretch of a video, whole or not at all.

    after: the number of the segment before it; -1: none.
    """
    frames, gaps = segment.frames, segment.gaps
    actions = [f.action_scores for f in frames if f.action_scores is not None]
    with replacing(path) as temporary:
        np.savez(
            temporary,
            after=np.int64(after),
            index=np.array([f.index for f in frames], np.int64),
            time_s=np.array([f.time_s for f in frames], np.float64),
            people=np.array([len(f.boxes) for f in frames], np.int64),
            is_keyframe=np.array([f.action_scores is not None for f in frames], bool),
            boxes_01=_stacked([f.boxes.xyxy_01 for f in frames], 4),
            score=np.concatenate([np.zeros(0, np.float32), *[f.boxes.score for f in frames]]),
            actions=_stacked(actions, actions[0].shape[1] if actions else 0),
            holes_s=np.array([(h.start_s, h.end_s) for h in gaps], np.float64).reshape(-1, 2),
            reasons=np.array([h.reason for h in gaps], np.str_),
        )


def read_segment(path: Path, *, advice: str = _OVERWRITE) -> Segment:
    """Read what `write_segment` wrote; raises `UserError`, which ends in `advice`, if damaged."""
    return _read(path, _segment_of, advice)


def _read(path: Path, read: Callable[[Mapping[str, Any]], ValueT], advice: str) -> ValueT:
    try:
        with np.load(path, allow_pickle=False) as file:
            return read({name: file[name] for name in _ARRAYS})
    except (OSError, ValueError, TypeError, LookupError, EOFError, *_ZIP_ERRORS) as error:
        raise UserError(f"{path}: damaged ({error}); {advice}") from error


_ARRAYS = (
    *("after", "index", "time_s", "people", "is_keyframe"),
    *("boxes_01", "score", "actions", "holes_s", "reasons"),
)


def _segment_of(values: Mapping[str, Any]) -> Segment:
    """Build a segment from its arrays; raises ValueError or IndexError for invalid ones."""
    for name in ("time_s", "boxes_01", "score", "actions"):
        if not np.isfinite(values[name]).all():
            raise ValueError(f"{name} is not finite")
    segment = Segment()
    row = action_row = 0
    for position, count in enumerate(values["people"].tolist()):
        rows = slice(row, row + count)
        boxes = ActorBoxes(values["boxes_01"][rows], values["score"][rows])
        actions = None
        if values["is_keyframe"][position]:
            actions = values["actions"][action_row : action_row + count]
            action_row += count
        index, time_s = int(values["index"][position]), float(values["time_s"][position])
        segment.frames.append(FrameDetections(index, time_s, boxes, actions))
        row += count
    for (start_s, end_s), reason in zip(values["holes_s"], values["reasons"], strict=True):
        segment.gaps.append(Gap(float(start_s), float(end_s), str(reason)))
    return segment


def _number_of(path: Path) -> int:
    return int(path.name.split(".")[0])


def _stacked(arrays: list[Any], width: int) -> Any:
    return np.concatenate([np.zeros((0, width), np.float32), *arrays]).astype(np.float32)
