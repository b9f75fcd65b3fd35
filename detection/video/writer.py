"""Video files written as H.264, each frame at a time of its own."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from detection.errors import UserError
from detection.files import CannotWriteError, replacing, why_not_written

WRITER_TIME_BASE = Fraction(1, 90000)
# A late start is noted in the film's own time scale, which is milliseconds unless asked for.
# The time to the next frame is noted in 32 bits, read by some as signed.
LONGEST_GAP_TICKS = 2**31 - 2
LONGEST_GAP_S = float(LONGEST_GAP_TICKS * WRITER_TIME_BASE)
MP4_OPTIONS = {"movflags": "+faststart", "movie_timescale": "90000"}


class VideoWriter:
    """Writes an H.264 file (yuv420p, index at the front) that browsers play. A context manager.

    The file appears at `path` when the block ends well, not before. Frames of odd width or height
    gain one repeated column or row, which yuv420p needs. fps: of frames that are written without a
    time; crf: quality, 0 (lossless) to 51; keyframe_interval_s: a seek costs at most that much
    decoding. preset, tune: x264's. shape: width to height of one pixel, as players show it.
    b_frames: False for files that `join_videos` puts together. closes_gaps: a stretch without frames
    that no MP4 file can hold (`LONGEST_GAP_S`) becomes a second, in place of a `UserError`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        fps: float,
        crf: int = 20,
        keyframe_interval_s: float = 1.0,
        preset: str = "veryfast",
        tune: str | None = None,
        shape: Fraction | None = None,
        b_frames: bool = True,
        closes_gaps: bool = False,
    ) -> None:
        if width < 1 or height < 1 or not fps > 0:
            raise ValueError(f"cannot write {width}x{height} at {fps} fps")
        self._path = Path(path)
        self._size = (height, width)
        self._fps = Fraction(fps).limit_denominator(1001)
        self._options = {"crf": str(crf), "preset": preset, "forced-idr": "1"}
        if closes_gaps or not b_frames:  # with them a gap is wider in the order of decoding
            self._options["bf"] = "0"
        if tune is not None:
            self._options["tune"] = tune
        self._interval_s = keyframe_interval_s
        self._gop_size = max(1, round(float(self._fps) * keyframe_interval_s))
        self._shape = shape
        self._convert = VideoReformatter()
        self._next = 0
        self._last_pts: int | None = None
        self._closes_gaps, self._closed_ticks = closes_gaps, 0
        self._failure: BaseException | None = None

    def write(self, frame_rgb: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Append a (H, W, 3) uint8 RGB frame, shown at `time_s` seconds (None: the next 1 / fps).

        Times must ascend; a file may start late.
        """
        if frame_rgb.shape != (*self._size, 3) or frame_rgb.dtype != np.uint8:
            raise ValueError(
                f"frame is {frame_rgb.dtype} {frame_rgb.shape}, wanted uint8 {(*self._size, 3)}"
            )
        if time_s is None:
            pts = round(self._next / self._fps / WRITER_TIME_BASE)
        else:
            pts = round(Fraction(time_s) / WRITER_TIME_BASE)
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"frame times must ascend, got {time_s} s after the one before")
        odd_rows, odd_columns = self._size[0] % 2, self._size[1] % 2
        if odd_rows or odd_columns:
            frame_rgb = np.pad(frame_rgb, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(frame_rgb), format="rgb24")
        frame = self._convert.reformat(rgb, format="yuv420p", threads=1)
        self._encode(frame, pts)
        self._next += 1

    def write_frame(self, picture: VideoFrame, time_s: float) -> bool:
        """Append a yuv420p picture of the writer's size, shown at `time_s`, its colours unchanged.

        The first one of each `keyframe_interval_s` of time is a key frame, at whatever rate they
        come. Returns False for one that is shown in the same 1/90000 s as the one before: it is
        left out.
        """
        if (picture.height, picture.width) != self._size or picture.format.name != "yuv420p":
            raise ValueError(f"picture is {picture}, wanted yuv420p {self._size}")
        pts = round(Fraction(time_s) / WRITER_TIME_BASE)
        if self._last_pts is not None and pts == self._last_pts:
            return False
        if self._last_pts is not None and pts < self._last_pts:
            raise ValueError(f"picture times must ascend, got {time_s} s after the one before")
        if self._last_pts is None:
            context = self._stream.codec_context
            context.color_range, context.colorspace = picture.color_range, picture.colorspace
            context.color_trc = picture.color_trc
            context.color_primaries = picture.color_primaries
        ticks = self._interval_s / WRITER_TIME_BASE
        opens = self._last_pts is None or pts // ticks > self._last_pts // ticks
        picture.pict_type = PictureType.I if opens else PictureType.NONE
        self._encode(picture, pts)
        return True

    def _encode(self, frame: VideoFrame, pts: int) -> None:
        if self._last_pts is not None and not self._closes_gaps:
            gap_s = float((pts - self._last_pts) * WRITER_TIME_BASE)
            if gap_s > LONGEST_GAP_S:
                raise UserError(
                    f"{self._path}: {gap_s:.0f} s without a frame before "
                    f"{float(pts * WRITER_TIME_BASE):.3f} s, an MP4 file can hold "
                    f"{LONGEST_GAP_S:.0f} s at most"
                )
        self._closed_ticks += ticks_to_close(self._last_pts, pts)
        frame.pts = pts - self._closed_ticks
        frame.time_base = WRITER_TIME_BASE
        self._put(frame)
        self._last_pts = pts

    def _put(self, frame: VideoFrame | None) -> None:
        """Encode and mux a frame (None: what the encoder holds back).

        An encoder or a muxer that failed once is never called again: it may crash the process.
        """
        if self._failure is not None:
            raise CannotWriteError(
                f"{self._path}: cannot be written ({why_not_written(self._failure)})"
            ) from self._failure
        try:
            self._container.mux(self._stream.encode(frame))
        except av.error.PatchWelcomeError as error:
            self._failure = error
            raise UserError(
                f"{self._path}: frames further apart than an MP4 file can hold "
                f"(about {LONGEST_GAP_S:.0f} s)"
            ) from error
        except BaseException as error:
            self._failure = error
            raise

    def __enter__(self) -> VideoWriter:
        self._cleanup = ExitStack()
        with self._cleanup:
            temporary = self._cleanup.enter_context(replacing(self._path))
            self._container = self._cleanup.enter_context(
                av.open(  # a device's name has no suffix that would tell the format
                    str(temporary),
                    "w",
                    format=None if self._path.suffix else "mp4",
                    options=MP4_OPTIONS,
                )
            )
            height, width = self._size
            self._stream = self._container.add_stream(
                "libx264", rate=self._fps, options=self._options
            )
            context = self._stream.codec_context
            context.width, context.height = width + width % 2, height + height % 2
            context.pix_fmt = "yuv420p"
            context.thread_count = 1
            context.time_base = WRITER_TIME_BASE
            if self._shape is not None:
                context.sample_aspect_ratio = self._shape
            context.gop_size = self._gop_size
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._cleanup:
            if error is not None:
                raise error
            if self._last_pts is None:
                raise ValueError(f"{self._path}: a video needs at least one frame")
            self._put(None)


def ticks_to_close(last: int | None, following: int) -> int:
    """Return how many ticks of 1/90000 s to leave out so that an MP4 file can hold the gap.

    A gap that it can hold stays; a longer one becomes a second.
    """
    gap = 0 if last is None else following - last
    return gap - round(1 / WRITER_TIME_BASE) if gap > LONGEST_GAP_TICKS else 0
