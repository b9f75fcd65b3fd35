"""Opens a video of a data set folder: a video file or a folder of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.structures import Clip
from detection.video.frame_folder import FrameFolder
from detection.video.reader import VideoReader

# A header's idea of where a video begins and ends is no further off than that.
SURE_S = 1.0


class FrameSource(Protocol):
    """The common interface of `VideoReader` and `FrameFolder`."""

    def read(
        self, times_s: ArrayLike, *, short_side: int | None = None, keyframes_s: ArrayLike = ()
    ) -> Clip:
        """Return the frames nearest to `times_s`."""

    def frame_times_s(self) -> NDArray[np.float64]:
        """Return the presentation time of every frame."""

    def ends_s(self) -> tuple[float, float]:
        """Return the times of the first and of the last frame."""

    def frame_size(self) -> tuple[int, int]:
        """Return (width, height) in pixels as displayed."""

    def span_s(self) -> tuple[float, float]:
        """Return the approximate start and end of the video in seconds, from the header."""

    def check_keyframes(self, keyframes_s: ArrayLike) -> None:
        """Raise the `UserError` that `read` would raise for a keyframe outside the video."""

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> FrameSource: ...

    def __exit__(self, *_: object) -> None: ...


def open_video(folder: DatasetFolder, video_id: str) -> FrameSource:
    """Open one video of a data set; raises `UserError` where it is missing or not a video."""
    path = folder.video_path(video_id)
    frames = folder.file.frames
    if frames is not None:
        return FrameFolder(path, fps=frames.fps, start_s=frames.start_s)
    return VideoReader(path)


def keyframe_outside(
    video: FrameSource, video_id: str, times_s: Sequence[float]
) -> tuple[int, str] | None:
    """Return the position of a keyframe outside its video, and what is wrong; None: all inside.

    As the header tells, and near an end as the frames do, by reading the keyframe's own. A damaged
    frame there is no fault of the annotations: its clip will be one that cannot be read.
    """
    start_s, end_s = video.span_s()
    outside = [not start_s - 0.5 <= time_s <= end_s + 0.5 for time_s in times_s]
    for position, time_s in enumerate(times_s):
        if outside[position] or start_s + SURE_S <= time_s <= end_s - SURE_S:
            continue
        try:
            video.check_keyframes([time_s])
        except UserError as error:
            if "keyframe at" in str(error):
                return position, str(error)
            break
    if not any(outside):
        return None
    position = outside.index(True)
    return position, (
        f"keyframe at {times_s[position]:.6f} s is outside video '{video_id}', which lasts "
        f"from {start_s:.3f} to {end_s:.3f} s"
    )
