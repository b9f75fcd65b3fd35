"""Images named by video and frame, as tools for still images export them: `walk/000123.jpg`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from detection.errors import UserError
from detection.importers.custom import AnnotatedVideo
from detection.importers.source_videos import check_video_name, find_video, list_videos

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_NUMBERED = re.compile(r"(?P<video>.+)[ _.\-#](?P<number>[0-9]{1,9})")
_BARE = re.compile(r"(?P<video>frame|img|image|)[ _.\-#]*(?P<number>[0-9]{1,9})", re.IGNORECASE)
_GENERIC = re.compile(r"(^|[ _.\-#]+)(frame|img|image)$", re.IGNORECASE)


@dataclass(frozen=True)
class FrameNaming:
    """How images are numbered.

    fps: images a second that were extracted; None: every frame of the video.  first_frame: the
    first image's number.  start_s: its time on the video's clock, with `fps`.
    """

    fps: float | None = None
    first_frame: int = 0
    start_s: float = 0.0


class NamedFrames:
    """Finds the video and the frame or time of images by their names.

    folder: of the videos.  source_file: the annotation file.  size: (width, height) of the images,
    None where they have the video's. `videos` holds each video once, in the order of the names.
    """

    def __init__(
        self,
        folder: str | Path,
        source_file: str,
        naming: FrameNaming,
        size: tuple[float, float] | None = None,
    ) -> None:
        self.folder, self.source_file = Path(folder), source_file
        self.naming, self.size = naming, size
        self.videos: dict[str, AnnotatedVideo] = {}
        self._by_start: dict[tuple[str, str], AnnotatedVideo] = {}
        self._only: list[str] | None = None

    def find(self, name: str) -> tuple[AnnotatedVideo, float]:
        """Return an image's video and its frame from 0, or time in seconds where there is a rate.

        Names: `walk/000123.jpg`, `walk_000123.jpg`, `walk.mp4_000123.jpg`, `walk/frame_000123.jpg`;
        `frame_000123.jpg` where there is one video. Raises ValueError.
        """
        parent, _, last = check_video_name(name).replace("\\", "/").rpartition("/")
        stem = next((last[: -len(s)] for s in SUFFIXES if last.lower().endswith(s)), None)
        match = stem is not None and (_BARE.fullmatch(stem) or _NUMBERED.fullmatch(stem))
        if not match:
            raise ValueError(
                f"{name[:80]!r} names no frame of a video: VIDEO/NUMBER.jpg or VIDEO_NUMBER.jpg is "
                "required"
            )
        key = parent, match["video"]
        if key not in self._by_start:
            self._by_start[key] = self._video(parent, match["video"], name)
        number, first = int(match["number"]), self.naming.first_frame
        if number < first:
            raise ValueError(f"{name[:80]!r}: frame {number}, from {first} on is required")
        if self.naming.fps is None:
            return self._by_start[key], number - first
        return self._by_start[key], self.naming.start_s + (number - first) / self.naming.fps

    def _video(self, parent: str, start: str, name: str) -> AnnotatedVideo:
        plain = start.rstrip(" _.-#")  # walk - 000123.jpg
        named = [start, plain, _GENERIC.sub("", plain)]
        tried = [parent, *(f"{parent}/{text}" for text in named if parent), *named]
        found = None
        for candidate in dict.fromkeys(text for text in tried if text):
            try:
                found = find_video(self.folder, candidate)
                break
            except ValueError:
                continue
        if found is None and (not start or _GENERIC.fullmatch(start)) and not parent:
            found = self._only_video()
        if found is None:
            raise ValueError(f"the video of {name[:80]!r} not found in {self.folder}")
        key = found.relative_to(self.folder).as_posix()
        by_frame = self.naming.fps is None
        return self.videos.setdefault(
            key, AnnotatedVideo(key, found, self.source_file, by_frame, self.size)
        )

    def _only_video(self) -> Path | None:
        if self._only is None:
            self._only = list_videos(self.folder)
        if len(self._only) != 1:
            raise UserError(
                f"{self.source_file}: names of images without a video, and {len(self._only)} "
                f"videos in {self.folder}: one is required"
            )
        return self.folder / self._only[0]
