"""The evaluator of a run: `reset`, `update` with detections, `compute`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field

import numpy as np

from detection.datasets.ava_csv import AvaRows, time_us_of
from detection.evaluation.finite import check_values_finite
from detection.evaluation.frame_map import AvaFrameMap, frame_map
from detection.structures import Detections, Keyframe, LabelMap


@dataclass
class ActionEvaluator:
    """Collects detections by keyframe and scores them under a named protocol.

    A repeated keyframe (a sampler that pads the last batch, an overlap between processes) is
    dropped: the first one counts. Several processes send their `found()` to one of them, which
    passes all to `update`.

    label_map: classes of the score columns.
    scored: classes that count (None: the same).
    """

    ground_truth: AvaRows
    label_map: LabelMap
    _: KW_ONLY
    exclusions: frozenset[Keyframe] = frozenset()
    protocol: str | None = None
    iou_threshold: float = 0.5
    multiply_person_score: bool = False
    scored: LabelMap | None = None
    num_repeated: int = field(default=0, init=False)
    _by_key: dict[tuple[str, int], Detections] = field(default_factory=dict, init=False)

    def reset(self) -> None:
        """Forget every detection."""
        self._by_key.clear()
        self.num_repeated = 0

    def update(self, detections: Iterable[Detections]) -> None:
        """Add the detections of some keyframes, in any order.

        Raises `UserError` for scores and boxes that are not finite.
        """
        for found in detections:
            if found.action_scores.shape[1] != len(self.label_map):
                raise ValueError(
                    f"{found.action_scores.shape[1]} score columns, "
                    f"but the label map has {len(self.label_map)} classes"
                )
            where = f"{found.keyframe.video_id} at {found.keyframe.time_s:.10g} s"
            check_values_finite(found.action_scores, f"{where}: scores of actions")
            check_values_finite(found.boxes.score, f"{where}: scores of people")
            check_values_finite(found.boxes.xyxy_01, f"{where}: boxes")
            key = (found.keyframe.video_id, time_us_of(found.keyframe.time_s))
            if key in self._by_key:
                self.num_repeated += 1
            else:
                self._by_key[key] = found

    def found(self) -> list[Detections]:
        """Return the detections so far, sorted by keyframe."""
        return [self._by_key[key] for key in sorted(self._by_key)]

    def compute(self) -> AvaFrameMap:
        """Score the detections so far; the order of updates does not matter."""
        return frame_map(
            self.ground_truth,
            rows_of(self.found(), self.label_map, multiply_person_score=self.multiply_person_score),
            self.scored or self.label_map,
            exclusions=self.exclusions,
            protocol=self.protocol,
            iou_threshold=self.iou_threshold,
        )


def rows_of(
    detections: Iterable[Detections], label_map: LabelMap, *, multiply_person_score: bool = False
) -> AvaRows:
    """Turn detections into rows: one per (box, class), as `write_detections` writes them."""
    found = list(detections)
    counts = np.array([len(one.boxes) for one in found], np.int64)
    classes = len(label_map)
    scores = np.concatenate([np.zeros((0, classes), np.float32)] + [d.action_scores for d in found])
    boxes = np.concatenate([np.zeros((0, 4), np.float32)] + [d.boxes.xyxy_01 for d in found])
    if multiply_person_score:
        person = np.concatenate([np.zeros(0, np.float32)] + [d.boxes.score for d in found])
        scores = scores * person[:, None]
    videos: dict[str, int] = {}
    video = [videos.setdefault(d.keyframe.video_id, len(videos)) for d in found]
    time_us = [time_us_of(d.keyframe.time_s) for d in found]
    repeats = counts * classes
    return AvaRows(
        path="(detections)",
        video_names=tuple(videos),
        video_index=np.repeat(np.array(video, np.int32), repeats),
        time_us=np.repeat(np.array(time_us, np.int64), repeats),
        boxes_01=np.repeat(boxes.astype(np.float64), classes, axis=0),
        action_id=np.tile(np.array(label_map.ids, np.int32), len(boxes)),
        score=scores.astype(np.float64).reshape(-1),
    )
