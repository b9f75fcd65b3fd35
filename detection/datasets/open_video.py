"""Opens a video of a data set folder: a video file or a folder of frames."""

from __future__ import annotations

from collections.abc import Sequence

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.video.frame_folder import FrameFolder
from detection.video.reader import VideoReader

# The start and end in a header are off by no more than this.
SURE_S = 1.0


FrameSource = FrameFolder | VideoReader


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
