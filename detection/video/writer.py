"""Writes H.264 video files, each frame with its own presentation time."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from detection.errors import UserError
from detection.files import CannotWriteError, replacing, why_not_written

WRITER_TIME_BASE = Fraction(1, 90000)
# MP4 stores the time to the next frame in 32 bits, which some players read as signed.
LONGEST_GAP_TICKS = 2**31 - 2
LONGEST_GAP_S = float(LONGEST_GAP_TICKS * WRITER_TIME_BASE)
# movie_timescale: unit of the start time, by default milliseconds.
MP4_OPTIONS = {"movflags": "+faststart", "movie_timescale": "90000"}
# x264's fastest choices but for two that cost little. With one quantiser for all frames x264 need
# not look ahead: a tenth to a quarter of its time, and no frame is worse than others.
_QUICK = {"preset": "ultrafast", "qp": "23", "x264-params": "8x8dct=1:no-deblock=0"}
_SEGMENT_FPS = 30  # only decides the key frame interval


class VideoWriter:
    """Writes an H.264 file (yuv420p, index at the front) that browsers play. A context manager.

    The file appears at `path` when the block ends without an error. Frames of odd width or height
    get one repeated column or row, as yuv420p requires.

    fps: frame rate of frames written without a time.
    crf: quality, 0 (lossless) to 51.
    keyframe_interval_s: longest time between key frames.
    preset, tune: x264's.
    shape: width to height of one pixel, as displayed.
    b_frames: False for files to be concatenated by `join_videos`.
    closes_gaps: shorten a gap too long for an MP4 file (`LONGEST_GAP_S`) to a second, in place of
    raising `UserError`.
    quick: a third of the processor time for a larger file, in place of `preset` and `crf`: for
    copies and drawings of videos. The chroma of RGB frames is that of every second pixel, and key
    frames come after as many frames as `fps` says, at any times.
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
        quick: bool = False,
    ) -> None:
        if width < 1 or height < 1 or not fps > 0:
            raise ValueError(f"cannot write {width}x{height} at {fps} fps")
        self._path = Path(path)
        self._size = (height, width)
        self._fps = Fraction(fps).limit_denominator(1001)
        chosen = _QUICK if quick else {"crf": str(crf), "preset": preset}
        self._options = {**chosen, "forced-idr": "1"}
        self._quick = quick
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

    @classmethod
    def of_segment(
        cls, path: str | Path, *, width: int, height: int, shape: Fraction | None = None
    ) -> VideoWriter:
        """Return a quick one of a file for `join_videos`, at any frame rate."""
        return cls(
            path,
            width=width,
            height=height,
            fps=_SEGMENT_FPS,
            shape=shape,
            b_frames=False,
            closes_gaps=True,
            quick=True,
        )

    def write(self, frame_rgb: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Append a (H, W, 3) uint8 RGB frame, shown at `time_s` seconds (None: the next 1 / fps).

        Times must ascend; the first may be above 0.
        """
        if frame_rgb.shape != (*self._size, 3) or frame_rgb.dtype != np.uint8:
            raise ValueError(
                f"frame is {frame_rgb.dtype} {frame_rgb.shape}, uint8 {(*self._size, 3)} required"
            )
        shown_s = self._next / self._fps if time_s is None else Fraction(time_s)
        pts = round(shown_s / WRITER_TIME_BASE)
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"frame times must ascend, got {time_s} s after the one before")
        odd_rows, odd_columns = self._size[0] % 2, self._size[1] % 2
        if odd_rows or odd_columns:
            frame_rgb = np.pad(frame_rgb, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        self._encode(self._planes(np.ascontiguousarray(frame_rgb)), pts)
        self._next += 1

    def _planes(self, rgb: NDArray[np.uint8]) -> VideoFrame:
        """Return a frame of even size as yuv420p."""
        if self._quick:
            planes = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
            return VideoFrame.from_ndarray(planes, format="yuv420p")
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        return self._convert.reformat(frame, format="yuv420p", threads=1)

    def write_frame(self, frame: VideoFrame, time_s: float) -> bool:
        """Append a yuv420p frame of the writer's size, shown at `time_s`, its colours unchanged.

        The first frame of each `keyframe_interval_s` is a key frame, at any frame rate, unless the
        writer is quick. Returns False, and skips the frame, where it has the time of the one before
        (in 1/90000 s).
        """
        if (frame.height, frame.width) != self._size or frame.format.name != "yuv420p":
            raise ValueError(f"frame is {frame}, yuv420p {self._size} required")
        pts = round(Fraction(time_s) / WRITER_TIME_BASE)
        if self._last_pts is not None and pts == self._last_pts:
            return False
        if self._last_pts is not None and pts < self._last_pts:
            raise ValueError(f"frame times must ascend, got {time_s} s after the one before")
        if self._last_pts is None:
            context = self._stream.codec_context
            context.color_range, context.colorspace = frame.color_range, frame.colorspace
            context.color_trc, context.color_primaries = frame.color_trc, frame.color_primaries
        ticks = self._interval_s / WRITER_TIME_BASE
        is_key = self._last_pts is None or pts // ticks > self._last_pts // ticks
        forced = is_key and not self._quick
        frame.pict_type = PictureType.I if forced else PictureType.NONE
        self._encode(frame, pts)
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
        """Encode and mux a frame (None: flush the encoder).

        An encoder or muxer that has failed is never called again: it may crash the process.
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
            # A device's name has no suffix to choose the format by.
            form = None if self._path.suffix else "mp4"
            container = av.open(str(temporary), "w", format=form, options=MP4_OPTIONS)
            self._container = self._cleanup.enter_context(container)
            height, width = self._size
            self._stream = container.add_stream("libx264", rate=self._fps, options=self._options)
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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._cleanup:
            if error is not None:
                raise error
            if self._last_pts is None:
                raise ValueError(f"{self._path}: a video needs at least one frame")
            self._put(None)


def ticks_to_close(last: int | None, following: int) -> int:
    """Return how many ticks of 1/90000 s to cut from a gap that is too long for an MP4 file.

    Such a gap becomes a second; others stay.
    """
    gap = 0 if last is None else following - last
    return gap - round(1 / WRITER_TIME_BASE) if gap > LONGEST_GAP_TICKS else 0
