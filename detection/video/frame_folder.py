"""Reads clips from a folder of extracted JPEG frames, as AVA is often distributed.

Legend: n frames in the folder, T requested frames. AVA's usual extraction: ID/ID_000001.jpg at
30 fps, where the first frame is shown at 900 s.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.errors import UserError
from detection.structures import Clip
from detection.video.frames import scaled_size
from detection.video.open import Closing
from detection.video.reader import SAME_TIME_S

# More than a day at 1000 frames per second; a higher frame number is an error.
MOST_FRAMES = 100_000_000
MOST_BYTES_A_FRAME = 256 << 20
FRAME_NAME = re.compile(r"(\d+)\.jpe?g$", re.IGNORECASE)


class FrameFolder(Closing):
    """The interface of `VideoReader` over one video's JPEG files, numbered from 1.

    fps: frame rate of the extraction.  start_s: presentation time of frame 1. Where numbers are
    missing, the nearest existing frame is returned.
    """

    def __init__(self, folder: str | Path, *, fps: float, start_s: float) -> None:
        self.folder = Path(folder)
        if not fps > 0:
            raise UserError(f"{self.folder}: frames per second must be above 0, got {fps}")
        self._fps = fps
        self._start_s = start_s

    def read(
        self, times_s: ArrayLike, *, short_side: int | None = None, keyframes_s: ArrayLike = ()
    ) -> Clip:
        """Return the frames shown nearest to `times_s`; exactly as `VideoReader.read`."""
        shown_s = self.frame_times_s()
        self.check_keyframes(keyframes_s)
        positions = nearest_frames(shown_s, times_s)
        images = {int(p): self._decode(int(p), short_side) for p in np.unique(positions)}
        import torch  # as in `VideoReader.read`

        frames = torch.from_numpy(np.stack([images[int(p)] for p in positions]))
        return Clip(frames.permute(0, 3, 1, 2), shown_s[positions])

    def check_keyframes(self, keyframes_s: ArrayLike) -> None:
        """Raise `UserError` for a keyframe more than half a frame interval outside the video."""
        shown_s = self.frame_times_s()
        half_s = 0.5 / self._fps + SAME_TIME_S
        keyframes = np.asarray(keyframes_s, dtype=np.float64).reshape(-1)
        outside = (keyframes < shown_s[0] - half_s) | (keyframes > shown_s[-1] + half_s)
        if outside.any():
            raise UserError(
                f"{self.folder}: keyframe at {keyframes[outside][0]:.6f} s is outside the frames, "
                f"which are shown from {shown_s[0]:.6f} to {shown_s[-1]:.6f} s"
            )

    def frame_times_s(self) -> NDArray[np.float64]:
        """Return the (n,) ascending presentation times of the existing frames."""
        return self._times_s

    def ends_s(self) -> tuple[float, float]:
        """Return the times of the first and of the last existing frame."""
        times_s = self.frame_times_s()
        return float(times_s[0]), float(times_s[-1])

    def frame_size(self) -> tuple[int, int]:
        """Return (width, height) of the first frame, in pixels."""
        height, width = self._decode(0, None).shape[:2]
        return width, height

    def span_s(self) -> tuple[float, float]:
        """Return the start of the first frame and the end of the last one, in seconds."""
        times_s = self.frame_times_s()
        return float(times_s[0]), float(times_s[-1]) + 1 / self._fps

    @cached_property
    def _files(self) -> tuple[list[int], list[Path]]:
        """The numbers of the frames, ascending, and their files."""
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: folder of frames not found")
        numbered: dict[int, Path] = {}
        for path in sorted(self.folder.iterdir()):
            match = FRAME_NAME.search(path.name)
            if match is None:
                continue
            if not path.is_file():
                raise UserError(f"{path}: not a regular file, a JPEG frame is required")
            number = int(match.group(1)) if len(match.group(1)) <= 20 else MOST_FRAMES + 1
            if number > MOST_FRAMES:
                raise UserError(f"{path}: a frame number above {MOST_FRAMES}")
            if number in numbered:
                raise UserError(f"{path}: a second frame {number} beside {numbered[number].name}")
            numbered[number] = path
        if not numbered:
            raise UserError(f"{self.folder}: contains no frames named like NAME_000001.jpg")
        numbers = sorted(numbered)
        return numbers, [numbered[number] for number in numbers]

    @cached_property
    def _times_s(self) -> NDArray[np.float64]:
        return self._start_s + (np.asarray(self._files[0], np.int64) - 1) / self._fps

    def _decode(self, position: int, short_side: int | None) -> NDArray[np.uint8]:
        path = self._files[1][position]
        if not path.is_file() or path.stat().st_size > MOST_BYTES_A_FRAME:
            raise UserError(f"{path}: not a regular file of at most {MOST_BYTES_A_FRAME} bytes")
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"{path}: not a readable JPEG")
        height, width = image.shape[:2]
        size = scaled_size(width, height, short_side)
        if size != (width, height):
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(image, dtype=np.uint8)


def nearest_frames(shown_s: NDArray[np.float64], times_s: ArrayLike) -> NDArray[np.int64]:
    """Return for each time the number, from 0, of the frame shown nearest (tie: the earlier).

    shown_s: (n,) ascending presentation times. Raises `UserError` where there is no frame.
    """
    times = np.asarray(times_s, np.float64).reshape(-1)
    if not len(shown_s):
        raise UserError("a video without frames")
    if len(shown_s) == 1:
        return np.zeros(len(times), np.int64)
    after = np.clip(np.searchsorted(shown_s, times), 1, len(shown_s) - 1)
    is_earlier = times - shown_s[after - 1] <= shown_s[after] - times + SAME_TIME_S
    return np.where(is_earlier, after - 1, after)
