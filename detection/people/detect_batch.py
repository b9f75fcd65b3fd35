"""People in a batch of keyframes' frames, each detector's promise checked."""

from __future__ import annotations

from detection.errors import printable
from detection.people.base import PeopleDetector, check_finite
from detection.people.keyframe_frames import FrameBatch
from detection.structures import ActorBoxes

_ANY_LENGTH_PX = 1 << 30


def detect_batch(detector: PeopleDetector, batch: FrameBatch) -> list[ActorBoxes]:
    """Return who is at each keyframe of a batch, each detector's promise checked."""
    found = detector.detect(batch.images)
    if len(found) != len(batch.keyframes):
        raise ValueError(f"{len(batch.keyframes)} frames, {len(found)} results")
    for keyframe, boxes in zip(batch.keyframes, found, strict=True):
        xyxy, score = boxes.xyxy_01, boxes.score
        check_finite(boxes, f"{detector.name}: {printable(str(keyframe))}")
        inside = (xyxy >= 0).all() and (xyxy <= 1).all() and (xyxy[:, :2] < xyxy[:, 2:]).all()
        if not (inside and (score >= 0).all() and (score <= 1).all()):
            raise ValueError(f"{detector.name}: boxes {xyxy}, scores {score} are outside 0 to 1")
    return found


def decoded_sides_px(detector: PeopleDetector, short_side_px: int | None) -> tuple[int, int] | None:
    """Return to which sides frames are scaled down while decoding: as asked, or the detector's."""
    if short_side_px is not None:
        return short_side_px, _ANY_LENGTH_PX
    sides_px: tuple[int, int] | None = getattr(detector, "sides_px", None)
    return sides_px
