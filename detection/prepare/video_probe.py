"""What decoding a video to its end shows, stored so that an unchanged file is decoded once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError
from detection.files import CannotWriteError, sha256_of, write_text
from detection.video.frame_folder import FRAME_NAME, FrameFolder
from detection.video.reader import SAME_TIME_S, VideoReader

FORM = 2
MOST_MISSING = 10_000
# Shorter gaps are what variable frame rates are made of.
GAP_S = 1.0
# The duration in a header includes sound and rounding.
END_SLACK_S = 1.0
END_SLACK_01 = 0.01


@dataclass(frozen=True)
class VideoFacts:
    """A video as it was found.

    num_bytes, changed_ns: size and modification time of the file (of a folder of frames: the sum,
        the latest).
    sha256: hash of the file.
    num_frames, first_s, last_s: of the frames that can be decoded.
    before_s, after_s: how far outside them a keyframe still belongs to the edge frame.
    header_s: duration that the header states.
    gaps_s: (start, end) of times without a frame.
    missing: numbers of extracted frames that are not there.
    notes: what was done to its times, frames or numbers, in words.
    problem: why it cannot be read to its end; empty where it can.
    """

    num_bytes: int
    changed_ns: int
    sha256: str = ""
    num_frames: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    before_s: float = 0.0
    after_s: float = 0.0
    header_s: float = 0.0
    gaps_s: tuple[tuple[float, float], ...] = ()
    missing: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""

    def outside(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return (K,) which keyframes no frame can show."""
        if not self.num_frames:
            return np.ones(len(times_s), dtype=bool)
        early = times_s < self.first_s - self.before_s - SAME_TIME_S
        late = times_s > self.last_s + self.after_s + SAME_TIME_S
        return np.asarray(early | late)

    def in_gaps(self, times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return (K,) which keyframes are more than half a second from any frame, in a gap."""
        inside = np.zeros(len(times_s), dtype=bool)
        for start_s, end_s in self.gaps_s:
            inside |= (times_s > start_s + 0.5) & (times_s < end_s - 0.5)
        return inside


@dataclass(frozen=True)
class ProbeJob:
    """A video to decode.

    video_id: the video.
    path: its file, or its folder of extracted frames.
    kept: the file that stores the facts; None: nothing is stored.
    frames_fps, frames_start_s: rate and start of extracted frames; None: a video file.
    again: decode also what is stored.
    """

    video_id: str
    path: Path
    kept: Path | None = None
    frames_fps: float | None = None
    frames_start_s: float = 0.0
    again: bool = False


def probe_video(job: ProbeJob, on_progress: Callable[[float], object]) -> VideoFacts:
    """Return the facts about a video: those stored where it is unchanged, else by decoding it.

    Raises `UserError` where there is no file. on_progress: called with 1 at the end.
    """
    try:
        num_bytes, changed_ns = _mark(job.path)
    except OSError as error:
        raise UserError(f"{job.path}: cannot be read ({error.strerror})") from error
    facts = None if job.again or job.kept is None else _kept(job.kept)
    if facts is None or (facts.num_bytes, facts.changed_ns) != (num_bytes, changed_ns):
        plain = VideoFacts(num_bytes, changed_ns)
        try:
            look = _look_at_file if job.frames_fps is None else _look_at_frames
            facts = look(job, plain)
        except UserError as error:
            facts = dataclasses.replace(plain, problem=str(error))
        if job.kept is not None:
            _keep(job.kept, facts)
    on_progress(1)
    return facts


def _mark(path: Path) -> tuple[int, int]:
    paths = list(path.iterdir()) if path.is_dir() else [path]
    found = [one.stat() for one in paths]
    return sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=0)


def _look_at_file(job: ProbeJob, plain: VideoFacts) -> VideoFacts:
    if job.path.is_dir():
        raise UserError(f"{job.path}: is a folder, a video file is required")
    with VideoReader(job.path, damage="refuse") as video:
        listed_s = video.frame_times_s()
        times_s = video.decoded_times_s()
        intervals_s = np.diff(times_s) if len(times_s) > 1 else np.array([0.04])
        facts = dataclasses.replace(
            plain,
            sha256=sha256_of(job.path),
            num_frames=len(times_s),
            first_s=float(times_s[0]),
            last_s=float(times_s[-1]),
            header_s=video.info.duration_s,
            gaps_s=_gaps(times_s),
            before_s=float(intervals_s[0] / 2),
            after_s=float(intervals_s[-1] / 2),
            notes=tuple(video.repairs().descriptions()),
        )
    return dataclasses.replace(facts, problem=_shortage(job.path, facts, listed_s, times_s))


def _gaps(times_s: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    wide = np.flatnonzero(np.diff(times_s) > GAP_S)
    return tuple((float(times_s[i]), float(times_s[i + 1])) for i in wide.tolist())


def _shortage(
    path: Path, facts: VideoFacts, listed_s: NDArray[np.float64], times_s: NDArray[np.float64]
) -> str:
    """Say what of the file cannot be decoded; empty where all of it can."""
    lost_s = listed_s[~np.isin(np.round(listed_s, 6), np.round(times_s, 6))]
    lost_s = lost_s[lost_s > times_s[0]]  # a cut stream may open with frames that refer to others
    if len(lost_s):
        return (
            f"{path}: {len(lost_s)} of {len(listed_s)} frames cannot be decoded, "
            f"the first at {lost_s[0]:.3f} s"
        )
    end_s = facts.last_s + 2 * facts.after_s
    promised_s = facts.first_s + facts.header_s
    if promised_s - end_s > max(END_SLACK_S, END_SLACK_01 * facts.header_s):
        return (
            f"{path}: its header promises {facts.header_s:.1f} s, its frames end after "
            f"{end_s - facts.first_s:.1f} s: cut short"
        )
    return ""


def _look_at_frames(job: ProbeJob, plain: VideoFacts) -> VideoFacts:
    assert job.frames_fps is not None
    folder = FrameFolder(job.path, fps=job.frames_fps, start_s=job.frames_start_s)
    times_s = folder.frame_times_s()
    found = ((path, FRAME_NAME.search(path.name)) for path in sorted(job.path.iterdir()))
    frames = {path: int(match[1]) for path, match in found if match}  # bounded by `FrameFolder`
    numbers = set(frames.values())
    bad = [path for path in frames if not _is_whole_jpeg(path)]
    absent = (number for number in range(min(numbers), max(numbers)) if number not in numbers)
    damaged = f"{bad[0]}: no whole JPEG ({len(bad)} such of {len(numbers)} frames)" if bad else ""
    notes = []
    if min(numbers) == 0:
        notes.append(
            f"its frames are numbered from 0; frame 1 is shown at {job.frames_start_s:g} s, so "
            f"that frame 0 is shown at {times_s[0]:.6f} s"
        )
    return dataclasses.replace(
        plain,
        num_frames=len(times_s),
        first_s=float(times_s[0]),
        last_s=float(times_s[-1]),
        notes=tuple(notes),
        before_s=0.5 / job.frames_fps,
        after_s=0.5 / job.frames_fps,
        header_s=float(times_s[-1] - times_s[0]) + 1 / job.frames_fps,
        gaps_s=_gaps(times_s),
        missing=tuple(islice(absent, MOST_MISSING)),
        problem=damaged,
    )


def _is_whole_jpeg(path: Path) -> bool:
    """Say whether a file opens and ends as a JPEG and its first coefficients can be decoded."""
    import cv2

    data = path.read_bytes()
    if not data.startswith(b"\xff\xd8") or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return False
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None


def _kept(path: Path) -> VideoFacts | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("form") != FORM:
            return None
        gaps = tuple((float(start), float(end)) for start, end in values.pop("holes_s"))
        tuples = {name: tuple(values[name]) for name in ("missing", "notes")}
        return VideoFacts(**values | {"gaps_s": gaps} | tuples)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # none stored, or of another form: decode again


def _keep(path: Path, facts: VideoFacts) -> None:
    """Store the facts where the folder can be written; a data set may lie where it cannot."""
    values = {"form": FORM, **dataclasses.asdict(facts)}
    values["holes_s"] = values.pop("gaps_s")  # the file's own word
    with contextlib.suppress(CannotWriteError):
        write_text(path, json.dumps(values, indent=1) + "\n")
