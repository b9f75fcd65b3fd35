"""Videos beside a review page: linked if browsers play and seek them, else copied or re-encoded."""

from __future__ import annotations

import math
import os
import re
import shutil
from pathlib import Path

import numpy as np

from detection.datasets.open_video import FrameSource
from detection.drawing.annotated_video import read_frames
from detection.files import replacing
from detection.video.copying import copy_to_mp4, most_frames_to_seek
from detection.video.frames import scaled_size
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

# Codecs that Chromium, Firefox and Safari play, and the pixels of each.
_PIXELS = {
    "h264": {"yuv420p", "yuvj420p"},
    "vp8": {"yuv420p"},
    "vp9": {"yuv420p"},
    "av1": {"yuv420p", "yuv420p10le"},
}
# Of each container that they play: file names, FFmpeg's name, codecs.
_CONTAINERS = (
    ({".mp4", ".m4v"}, "mp4", {"h264", "vp9", "av1"}),
    ({".webm"}, "webm", {"vp8", "vp9", "av1"}),
)
# A seek decodes from the last key frame on (benchmarks/seek_gaps.py, docs/results.md).
MOST_MEGAPIXELS_TO_SEEK = 250.0


def place_playable_video(source: str | Path, folder: str | Path, *, name: str | None = None) -> str:
    """Put a video into the page's `folder` so that browsers play it; return its relative path.

    A file that browsers play and seek is hard-linked (copied to another disk), so that the folder
    can be moved; from another container its encoded frames are copied into an MP4 file. All others
    are re-encoded as H.264. Times stay as they are; copies are without sound.
    Raises `UserError` if the source cannot be read.

    name: file name without suffix (default: the source's, with `_` for special characters of URLs).
    """
    source = Path(source)
    with VideoReader(source) as reader:
        stem = name or re.sub(r"[^\w .,+@()-]", "_", source.stem)
        anew = why_encoded_anew(reader) is not None
        place = None if anew else place_encoded(reader, folder, stem)
        if place is None:
            place = f"videos/{stem}.mp4"
            write_playable(Path(folder) / place, reader)
    return place


def place_encoded(
    reader: VideoReader,
    folder: str | Path,
    stem: str,
    *,
    start_s: float = -math.inf,
    end_s: float = math.inf,
) -> str | None:
    """Link a video that browsers play, or copy its encoded frames; return its relative path.

    None where they do not fit an MP4 file.

    start_s, end_s: what must be there; all of the video is where it is linked.
    """
    source = reader.path
    if _is_played_as_it_is(reader):
        path = Path(folder) / "videos" / f"{stem}{source.suffix.lower()}"
        if not (path.exists() and path.samefile(source)):
            _link_or_copy(source, path)
    else:
        path = Path(folder) / "videos" / f"{stem}.mp4"
        if not copy_to_mp4(reader, path, start_s=start_s, end_s=end_s):
            return None
    return path.relative_to(folder).as_posix()


def why_encoded_anew(
    reader: VideoReader, *, start_s: float = -math.inf, end_s: float = math.inf
) -> str | None:
    """Return why browsers would not play or seek a video's encoded frames; None if they do.

    start_s, end_s: only this part of it is sought in.
    """
    codec, pixels = reader.info.codec, reader.pixel_format
    if codec not in _PIXELS:
        return f"{codec} is not played by every browser"
    if pixels not in _PIXELS[codec]:
        return f"pixels of {pixels} are not played by every browser"
    width, height = reader.frame_size()
    frames = most_frames_to_seek(reader, start_s=start_s, end_s=end_s)
    if frames * width * height > MOST_MEGAPIXELS_TO_SEEK * 1e6:
        return f"key frames are up to {frames} frames apart, so that seeking is slow"
    return None


def _is_played_as_it_is(reader: VideoReader) -> bool:
    suffix, codec = reader.path.suffix.lower(), reader.info.codec
    return any(
        suffix in suffixes and container in reader.container_names and codec in codecs
        for suffixes, container, codecs in _CONTAINERS
    )


def write_playable(path: str | Path, source: FrameSource, *, short_side_px: int = 720) -> None:
    """Write frames as H.264 at their own presentation times, with a key frame each second.

    short_side_px: larger frames are shrunk to it.
    """
    times_s = source.frame_times_s()
    intervals_s = np.diff(times_s)
    interval_s = float(np.median(intervals_s)) if len(intervals_s) else 0.04
    short_side = min(short_side_px, *source.frame_size())
    width, height = scaled_size(*source.frame_size(), short_side)
    shape = source.pixel_shape if isinstance(source, VideoReader) else None
    with VideoWriter(
        path, width=width, height=height, fps=1 / interval_s, shape=shape, quick=True
    ) as writer:
        for time_s, frame in read_frames(source, times_s, short_side):
            writer.write(frame, time_s)


def _link_or_copy(source: Path, path: Path) -> None:
    with replacing(path) as temporary:
        linked = temporary.with_name(f"{temporary.name}.link")
        try:
            linked.unlink(missing_ok=True)
            os.link(source.resolve(), linked)
            linked.replace(temporary)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, temporary)
