"""Videos beside a review page: linked if browsers play and seek them, else re-encoded."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np

from detection.datasets.open_video import FrameSource
from detection.drawing.annotated_video import read_frames
from detection.files import replacing
from detection.video.frames import scaled_size
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

# Codecs that Chromium, Firefox and Safari play, by container.
_PLAYED = {
    ".mp4": {"h264", "av1", "vp9"},
    ".m4v": {"h264", "av1", "vp9"},
    ".webm": {"vp8", "vp9", "av1"},
}
# A seek decodes from the last key frame on: 4 s of 720p take about 200 ms.
_MAX_KEY_FRAME_GAP_S = 4.0


def place_playable_video(source: str | Path, folder: str | Path, *, name: str | None = None) -> str:
    """Put a video into the page's `folder` so that browsers play it; return its relative path.

    A file that browsers play and seek is hard-linked (copied to another disk), so that the folder
    can be moved; others are re-encoded as H.264 with the same presentation times, without sound.
    Raises `UserError` if the source cannot be read.

    name: file name without suffix (default: the source's, with `_` for special characters of URLs).
    """
    source = Path(source)
    with VideoReader(source) as reader:
        reason = why_encoded_anew(reader)
        suffix = ".mp4" if reason else source.suffix.lower()
        stem = name or re.sub(r"[^\w .,+@()-]", "_", source.stem)
        path = Path(folder) / "videos" / f"{stem}{suffix}"
        if path.exists() and path.samefile(source):
            pass
        elif reason:
            write_playable(path, reader)
        else:
            _link_or_copy(source, path)
    return path.relative_to(folder).as_posix()


def why_encoded_anew(reader: VideoReader) -> str | None:
    """Return why browsers would not play or seek a file well; None if they do."""
    info = reader.info
    suffix = reader.path.suffix.lower()
    if info.codec not in _PLAYED.get(suffix, ()):
        return f"{info.codec} in {suffix or 'a file without suffix'} is not played by every browser"
    if reader.pixel_format not in ("yuv420p", "yuvj420p"):
        return f"pixels of {reader.pixel_format} are not played by every browser"
    gap_s = reader.longest_key_frame_gap_s()
    if gap_s > _MAX_KEY_FRAME_GAP_S:
        return f"key frames are up to {gap_s:.0f} s apart, so that seeking is slow"
    return None


def write_playable(
    path: str | Path, source: FrameSource, *, short_side_px: int = 720, crf: int = 23
) -> None:
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
        path, width=width, height=height, fps=1 / interval_s, crf=crf, shape=shape
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
