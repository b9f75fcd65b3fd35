"""What was found in a video, for Python: keyframes and events, read back from a folder as well.

pandas and supervision are optional packages; labels: `importers/supervision_labels.py`.

Legend: N people of a keyframe, A action classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detection.datasets.label_map import read_label_map
from detection.errors import UserError
from detection.importers.optional import optional_package
from detection.pipeline.postprocess import Postprocessed, ShownKeyframe
from detection.pipeline.stored import read_facts, read_stored_rows, stored_events, write_saved_state
from detection.pipeline.writers import check_output, write_tables
from detection.structures import LabelMap
from detection.tracking.events import ActionEvent, TrackedKeyframe

if TYPE_CHECKING:
    import pandas
    import supervision

BOX_COLUMNS = ("x1_01", "y1_01", "x2_01", "y2_01")


@dataclass(frozen=True, eq=False)
class KeyframeResult:
    """The people of a keyframe, in order of their track numbers, and what each is doing.

    time_s: seconds on the video's clock.
    tracks: (N,) int64, from 1 on: one number for one person through the video.
    boxes_01: (N, 4) float32 x1, y1, x2, y2 in fractions of the frame.
    person_scores: (N,) float32, the people detector's confidence, smoothed along the track.
    scores: (N, A) float32, a probability for each class, smoothed along the track.
    doing: for each person the names of the actions under way, whose thresholds were reached.
    names: A names of classes, the columns of `scores`.
    size_px: (width, height) of the video's frames; None where it is not known.
    seen: (N,) bool, false where the person was missed and the box is interpolated along the track;
        None: all were seen.
    """

    time_s: float
    tracks: NDArray[np.int64]
    boxes_01: NDArray[np.float32]
    person_scores: NDArray[np.float32]
    scores: NDArray[np.float32]
    doing: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    size_px: tuple[int, int] | None = None
    seen: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, shown: ShownKeyframe, names: tuple[str, ...], size_px: tuple[int, int] | None
    ) -> KeyframeResult:
        """Make one of a keyframe of the pipeline."""
        keyframe = shown.keyframe
        order = np.argsort(keyframe.track, kind="stable")
        return cls(
            keyframe.time_s,
            keyframe.track[order],
            keyframe.boxes_01[order],
            keyframe.person_score[order],
            keyframe.scores[order],
            tuple(tuple(names[c] for c in sorted(shown.doing[row])) for row in order.tolist()),
            names,
            size_px,
            None if keyframe.seen is None else keyframe.seen[order],
        )

    def __len__(self) -> int:
        return len(self.tracks)

    @property
    def boxes_px(self) -> NDArray[np.float32]:
        """Return (N, 4) float32 boxes in pixels; `UserError` where the size is not known."""
        if self.size_px is None:
            raise UserError(
                f"boxes at {self.time_s:.3f} s: the size of the video's frames is not known; "
                "size_px=(width, height) is required"
            )
        return self.boxes_01 * np.array(self.size_px * 2, np.float32)

    def to_supervision(self) -> supervision.Detections:
        """Return `supervision.Detections`, a row for each person (an optional package).

        tracker_id: the track.  class_id: the column of the likeliest of the person's actions, -1
        for one who does nothing.  confidence: the score of that action, else the person's.  data:
        `class_name` ("" for nothing), `person_score`, `seen`, `scores` (N, A).
        """
        supervision = optional_package("supervision")
        class_id = np.full(len(self), -1, np.int64)
        confidence = self.person_scores.copy()
        for row, actions in enumerate(self.doing):
            columns = [self.names.index(name) for name in actions]
            if columns:
                class_id[row] = max(columns, key=lambda column: self.scores[row, column])
                confidence[row] = self.scores[row, class_id[row]]
        named = ["" if column < 0 else self.names[column] for column in class_id.tolist()]
        return supervision.Detections(
            xyxy=self.boxes_px,
            confidence=confidence,
            class_id=class_id,
            tracker_id=self.tracks,
            data={
                "class_name": np.array(named, np.str_),
                "person_score": self.person_scores,
                "seen": _seen(self),
                "scores": self.scores,
            },
        )


@dataclass(frozen=True, eq=False)
class VideoResults:
    """All that was found in a video.

    video_id: its name.
    label_map: the classes.
    events: in order of their ends, as `ActionDetectorPipeline.run` yields them.
    keyframes: in order of time, those without people too.
    """

    video_id: str
    label_map: LabelMap
    events: list[ActionEvent]
    keyframes: list[KeyframeResult]

    @classmethod
    def open(cls, folder: str | Path, *, size_px: tuple[int, int] | None = None) -> VideoResults:
        """Read a finished folder of results back; numbers are those of its tables, 6 decimals.

        size_px: (width, height) of the video's frames, for folders that do not say it. Folders of
        older versions hold no keyframes without people, and what a person is doing is told there
        by the events. Raises `UserError` for a folder that holds no results, is not finished or is
        damaged.
        """
        folder = Path(folder)
        facts = read_facts(folder)
        label_map = read_label_map(folder / "label_map.pbtxt")
        events = list(stored_events(folder))
        rows = read_stored_rows(folder, label_map.names, events)
        keyframes = []
        for time_s in sorted({*rows, *facts.empty_s}):
            people = sorted(rows.get(time_s, ()), key=lambda row: row.track)
            keyframes.append(
                KeyframeResult(
                    time_s,
                    np.array([row.track for row in people], np.int64),
                    np.array([row.box_01 for row in people], np.float32).reshape(-1, 4),
                    np.array([row.person_score for row in people], np.float32),
                    np.array([row.scores for row in people], np.float32).reshape(
                        -1, len(label_map)
                    ),
                    tuple(row.doing for row in people),
                    label_map.names,
                    size_px or facts.size_px,
                    np.array([row.seen for row in people], bool),
                )
            )
        return cls(facts.video_id, label_map, events, keyframes)

    def save(self, folder: str | Path) -> Path:
        """Write detections.csv, tracks.jsonl, events.jsonl and the label map; `open` reads them.

        Raises `UserError` for a folder that holds anything.
        """
        folder = Path(folder)
        check_output(folder)
        if any(folder.iterdir()):
            raise UserError(f"{folder}: contains other files; a new or empty folder is required")
        shown = [self._shown(keyframe) for keyframe in self.keyframes]
        results = [Postprocessed(shown, list(self.events))]
        empty_s = write_tables(folder, self.video_id, self.label_map, results, np.inf)
        size_px = next((keyframe.size_px for keyframe in self.keyframes), None)
        write_saved_state(folder, self.video_id, size_px, empty_s)
        return folder

    def to_pandas(self) -> pandas.DataFrame:
        """Return a `pandas.DataFrame`, a row for each person at each keyframe (optional package).

        Columns: `video_id, time_s, track, x1_01, y1_01, x2_01, y2_01, person_score`, `seen`
        (false: the box is interpolated), `doing` (a tuple of names, for `explode`), and
        `score:NAME` for each class. Events make a table of their own:
        `pandas.DataFrame(results.events)`.
        """
        pandas = optional_package("pandas")
        keyframes, names = self.keyframes, self.label_map.names
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *[k.boxes_01 for k in keyframes]])
        scores = np.zeros((0, len(names)), np.float32)
        scores = np.concatenate([scores, *[k.scores for k in keyframes]])
        people = np.zeros(0, np.float32)
        columns = {
            "video_id": [self.video_id] * len(boxes),
            "time_s": np.repeat([k.time_s for k in keyframes], [len(k) for k in keyframes]),
            "track": np.concatenate([np.zeros(0, np.int64), *[k.tracks for k in keyframes]]),
            **{name: boxes[:, column] for column, name in enumerate(BOX_COLUMNS)},
            "person_score": np.concatenate([people, *[k.person_scores for k in keyframes]]),
            "seen": np.concatenate([np.zeros(0, bool), *map(_seen, keyframes)]),
            "doing": pandas.Series([a for k in keyframes for a in k.doing], dtype=object),
            **{f"score:{name}": scores[:, column] for column, name in enumerate(names)},
        }
        return pandas.DataFrame(columns)

    def to_supervision(self) -> list[supervision.Detections]:
        """Return `supervision.Detections` for each keyframe; see `KeyframeResult`."""
        return [keyframe.to_supervision() for keyframe in self.keyframes]

    def _shown(self, keyframe: KeyframeResult) -> ShownKeyframe:
        columns: Sequence[frozenset[int]] = [
            frozenset(self.label_map.index_by_name[name] for name in doing)
            for doing in keyframe.doing
        ]
        tracked = TrackedKeyframe(
            keyframe.time_s,
            keyframe.tracks,
            keyframe.boxes_01,
            keyframe.person_scores,
            keyframe.scores,
            keyframe.seen,
        )
        return ShownKeyframe(tracked, tuple(columns))


def _seen(keyframe: KeyframeResult) -> NDArray[np.bool_]:
    return np.ones(len(keyframe), bool) if keyframe.seen is None else keyframe.seen
