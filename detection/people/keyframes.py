"""Which moments of a split people are looked for at."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows, read_video_list
from detection.datasets.ava_csv import read_keyframe_list, time_us_of
from detection.datasets.folder import DatasetFolder, Split
from detection.datasets.open_video import open_video
from detection.errors import UserError
from detection.structures import Keyframe

# A header tells the end of the last frame only about: no keyframe is made up this close to it.
END_MARGIN_S = 0.1


def annotated_keyframes(split: Split) -> list[Keyframe]:
    """Return the keyframes of the ground truth, those with nobody too, less the excluded ones."""
    excluded = {_key(keyframe) for keyframe in read_exclusions(split)}
    keyframes = read_ground_truth_rows(split).keyframes()
    return in_order(keyframe for keyframe in keyframes if _key(keyframe) not in excluded)


def listed_keyframes(path: str | Path) -> list[Keyframe]:
    """Return the keyframes of a file of `video_id,time` rows."""
    return in_order(read_keyframe_list(path))


def every_second(folder: DatasetFolder, split: Split) -> list[Keyframe]:
    """Return each whole second of the split's videos (by its list, else by its ground truth).

    Excluded keyframes are left out. Nobody knows how long a video is that cannot be opened: it gets
    its second 0, so that whoever reads it meets the error there and lists it.
    """
    videos = read_video_list(split)
    if videos is None:
        videos = frozenset(key.video_id for key in read_ground_truth_rows(split).keyframes())
    excluded = {_key(keyframe) for keyframe in read_exclusions(split)}
    found = []
    for video_id in sorted(videos):
        try:
            with open_video(folder, video_id) as video:
                start_s, end_s = video.span_s()
        except UserError:
            start_s, end_s = 0.0, 1.0
        seconds = range(math.ceil(start_s), math.ceil(end_s - END_MARGIN_S))
        found += [Keyframe(video_id, float(second)) for second in seconds]
    return in_order(keyframe for keyframe in found if _key(keyframe) not in excluded)


def in_order(keyframes: Iterable[Keyframe]) -> list[Keyframe]:
    """Return each keyframe once (by the six decimals of its time), by video, then time."""
    unique = {_key(keyframe): keyframe for keyframe in keyframes}
    return [unique[key] for key in sorted(unique)]


def check_any(keyframes: list[Keyframe], source: str) -> None:
    """Raise `UserError` where there is nothing to look at."""
    if not keyframes:
        raise UserError(f"{source}: no keyframe to look for people at")


def _key(keyframe: Keyframe) -> tuple[str, int]:
    return keyframe.video_id, time_us_of(keyframe.time_s)
