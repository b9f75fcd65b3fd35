"""FAIR's lists of AVA's extracted frames (SlowFast's `frame_lists/{train,val}.csv`).

Space-separated, with a header: `original_vido_id video_id frame_id path labels`, one line a frame,
path `ID/ID_000001.jpg`. Frames are 30 a second and the first one is shown at 900 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detection.errors import UserError, at_row
from detection.files import text_lines
from detection.video.frame_folder import FRAME_NAME

LIST_FPS = 30.0
LIST_START_S = 900.0
HEADER = "original_vido_id video_id frame_id path labels"


@dataclass
class ListedFrames:
    """A video in a list: its number of frames, the first and last number (from 1)."""

    video_id: str
    list_path: Path
    count: int = 0
    first: int = 0
    last: int = 0

    def span_s(self, fps: float = LIST_FPS, start_s: float = LIST_START_S) -> tuple[float, float]:
        """Return when the first and the last of the frames are shown."""
        return start_s + (self.first - 1) / fps, start_s + (self.last - 1) / fps


def find_frame_lists(root: Path) -> list[Path]:
    """Return the lists of a data set folder, from the usual places."""
    places = (root / "frame_lists", root / "annotations" / "frame_lists")
    return [path for place in places for path in sorted(place.glob("*.csv"))]


def read_frame_list(path: Path) -> dict[str, ListedFrames]:
    """Return the list's videos by id; raises `UserError` naming a malformed row."""
    found: dict[str, ListedFrames] = {}
    lines = text_lines(path, what="list of frames")
    header = next(lines, "").split()
    if header[:4] != HEADER.split()[:4]:
        raise at_row(path, 1, f"'{' '.join(header)[:60]}' where '{HEADER}' is required")
    for line, row in enumerate(lines, start=2):
        words = row.split()
        if not words:
            continue
        match = FRAME_NAME.search(words[3]) if len(words) >= 4 else None
        if match is None:
            raise at_row(path, line, f"'{row.strip()[:80]}' names no frame (ID_N.jpg)")
        number = int(match.group(1))
        video = found.setdefault(words[0], ListedFrames(words[0], path, first=number, last=number))
        video.count += 1
        video.first, video.last = min(video.first, number), max(video.last, number)
    if not found:
        raise UserError(f"{path}: lists no frame")
    return found
