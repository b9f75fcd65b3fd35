"""The unfinished work of a run on disk: whole segments, from which a killed run goes on.

A folder `parts` beside the results holds, for segment n of the video, who was found at its moments
(`000012.npz`, plain arrays), the film drawn of it (`000012.mp4`), and for sources that pass only
once what was recorded of it (`000012.clean.mp4`). Everything is made of these files at the end.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.video_stream import Hole
from detection.errors import UserError
from detection.files import replacing, write_text
from detection.pipeline.networks import MomentPeople
from detection.structures import ActorBoxes

STATE_NAME = "run.json"
FORMAT = 1


@dataclass
class Segment:
    """What was found in a stretch of video, in order of time."""

    moments: list[MomentPeople] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)


class PartsFolder:
    """The folder of one video's results, and its unfinished parts.

    options: what decides the results, in plain types.  can_resume: whether the source can be read
    again.  Raises `UserError` where the folder holds something else, or results of other options.
    """

    def __init__(
        self, folder: Path, options: Mapping[str, Any], *, can_resume: bool, overwrite: bool
    ) -> None:
        self.folder, self._parts = folder, folder / "parts"
        self._options = json.loads(json.dumps(dict(options)))
        state = self._read_state()
        if state is None and folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder}: holds files that are not of this command; another --out")
        same = state is not None and state.get("options") == self._options
        if state is not None and not overwrite and not (same and can_resume):
            why = "of other options" if not same else "of a source that cannot be read again"
            raise UserError(f"{folder}: holds results {why}: another --out, or --overwrite")
        self.is_complete = bool(state and state.get("complete")) and same and not overwrite
        if self.is_complete:
            return
        if overwrite or state is None:
            shutil.rmtree(self._parts, ignore_errors=True)
            self._write_state(complete=False)
        self.saved = self._count_saved()

    def segments(self) -> Iterator[Segment]:
        """Read the whole segments, and what a stopped run had of the next one."""
        for number in range(self.saved):
            yield self._read(self._moments_path(number))

    def tail(self) -> Segment | None:
        """Return what a stopped run had beyond its whole segments."""
        path = self._parts / "tail.npz"
        return self._read(path) if path.is_file() else None

    def save(self, segment: Segment, *, whole: bool = True) -> None:
        """Write the next segment."""
        path = self._moments_path(self.saved) if whole else self._parts / "tail.npz"
        moments, holes = segment.moments, segment.holes
        actions = [m.action_scores for m in moments if m.action_scores is not None]
        with replacing(path) as temporary:
            np.savez(
                temporary,
                index=np.array([m.index for m in moments], np.int64),
                time_s=np.array([m.time_s for m in moments], np.float64),
                people=np.array([len(m.boxes) for m in moments], np.int64),
                is_keyframe=np.array([m.action_scores is not None for m in moments], bool),
                boxes_01=_stacked([m.boxes.xyxy_01 for m in moments], 4),
                score=np.concatenate([np.zeros(0, np.float32), *[m.boxes.score for m in moments]]),
                actions=_stacked(actions, actions[0].shape[1] if actions else 0),
                holes_s=np.array([(h.start_s, h.end_s) for h in holes], np.float64).reshape(-1, 2),
                reasons=np.array([h.reason for h in holes], np.str_),
            )
        if whole:
            self.saved += 1

    def film_path(self, segment: int | None) -> Path:
        """Return where a segment's film is (None: of what lies beyond the whole segments)."""
        return self._parts / ("tail.mp4" if segment is None else f"{segment:06d}.mp4")

    def recording_path(self, segment: int) -> Path:
        """Return where a segment of a passing source is recorded."""
        return self._parts / f"{segment:06d}.clean.mp4"

    def recordings(self) -> list[Path]:
        """Return the recordings, in order."""
        return sorted(self._parts.glob("*.clean.mp4"))

    def films(self) -> list[Path]:
        """Return the films drawn, in order."""
        drawn = [p for p in self._parts.glob("*.mp4") if p.stem.isdecimal()]
        tail = self.film_path(None)
        return sorted(drawn) + ([tail] if tail.is_file() else [])

    def drop_tail(self, films: int) -> None:
        """Forget what a stopped run had beyond its whole segments: it is done again.

        films: so many whole segments' films go too, for their labels did not know what follows.
        """
        for path in (self._parts / "tail.npz", self.film_path(None)):
            path.unlink(missing_ok=True)
        for number in range(max(0, self.saved - films), self.saved + films):
            self.film_path(number).unlink(missing_ok=True)

    def complete(self) -> None:
        """Note that all results are written, and let the parts go."""
        self._write_state(complete=True)
        shutil.rmtree(self._parts, ignore_errors=True)

    def _moments_path(self, number: int) -> Path:
        return self._parts / f"{number:06d}.npz"

    def _count_saved(self) -> int:
        number = 0
        while self._moments_path(number).is_file():
            number += 1
        return number

    def _read(self, path: Path) -> Segment:
        try:
            with np.load(path, allow_pickle=False) as file:
                values = {name: file[name] for name in file.files}
        except (OSError, ValueError, zipfile.BadZipFile, KeyError) as error:
            raise UserError(f"{path}: damaged ({error}); start again with --overwrite") from error
        segment = Segment()
        row = action_row = 0
        for position, count in enumerate(values["people"].tolist()):
            rows = slice(row, row + count)
            boxes = ActorBoxes(values["boxes_01"][rows], values["score"][rows])
            actions = None
            if values["is_keyframe"][position]:
                actions = values["actions"][action_row : action_row + count]
                action_row += count
            segment.moments.append(
                MomentPeople(
                    int(values["index"][position]),
                    float(values["time_s"][position]),
                    boxes,
                    actions,
                )
            )
            row += count
        for (start_s, end_s), reason in zip(values["holes_s"], values["reasons"], strict=True):
            segment.holes.append(Hole(float(start_s), float(end_s), str(reason)))
        return segment

    def _read_state(self) -> dict[str, Any] | None:
        path = self.folder / STATE_NAME
        if not path.is_file():
            return None
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); start again with --overwrite") from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise UserError(f"{path}: not of this command; another --out")
        return state

    def _write_state(self, *, complete: bool) -> None:
        state = {"format": FORMAT, "complete": complete, "options": self._options}
        write_text(self.folder / STATE_NAME, json.dumps(state, indent=2) + "\n")


def _stacked(arrays: list[Any], width: int) -> Any:
    return np.concatenate([np.zeros((0, width), np.float32), *arrays]).astype(np.float32)
