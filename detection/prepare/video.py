"""Writes one source video so that clips are quick to read: cut, scaled, a key frame every second.

Presentation times are the source's own, so annotations stay valid: a file cut to the seconds 895 to
1805 begins at 895 s. A file gets its name once it has been read back and its frame times are right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError
from detection.files import CannotWriteError, naming, replacing, sha256_of, write_text
from detection.prepare.required_spans import KeyframeRow
from detection.video.frames import FrameScaler
from detection.video.reader import SAME_TIME_S, Damage, VideoInfo, VideoReader
from detection.video.writer import WRITER_TIME_BASE, VideoWriter

FORM = 1
TICK_S = float(WRITER_TIME_BASE)


@dataclass(frozen=True)
class PrepareOptions:
    """How videos are written.

    short_side: pixels; smaller videos are not enlarged.
    crf: quality, 0 (lossless) to 51.
    keyframe_interval_s: a seek costs at most that much decoding.
    preset, tune: x264's; "fastdecode" makes files a tenth larger and a third quicker to read.
    damage: what to do about damage in the source, see `VideoReader`.
    frames: (rate, seconds at which number 1 is shown) for JPEG frames in place of a video.
    """

    short_side: int = 320
    crf: int = 20
    keyframe_interval_s: float = 1.0
    preset: str = "veryfast"
    tune: str = "fastdecode"
    damage: Damage = "refuse"
    frames: tuple[float, float] | None = None


@dataclass(frozen=True)
class PrepareJob:
    """A video to prepare.

    video_id: the video.
    source: its file.
    video: the file (or folder of frames) to write.
    manifest: the file that says what was made of what.
    window_s: the span to keep, in seconds of the source's clock.
    first, last: keyframes that must be inside.
    options: how it is written.
    """

    video_id: str
    source: Path
    video: Path
    manifest: Path
    window_s: tuple[float, float]
    first: KeyframeRow
    last: KeyframeRow
    options: PrepareOptions


def is_prepared(job: PrepareJob) -> bool:
    """Tell whether the job was done before, with these options and from this source."""
    found = read_manifest(job.manifest)
    if found is None or not job.video.exists():
        return False
    if found["asked"] != _asked(job) or found["own"]["bytes"] != _bytes_at(job.video):
        return False
    if not job.source.exists():
        return True  # the source may be deleted when its work is done
    size, source = job.source.stat(), found["source"]
    if source["bytes"] != size.st_size:
        return False
    return source["mtime_ns"] == size.st_mtime_ns or bool(source["sha256"] == sha256_of(job.source))


def _bytes_at(place: Path) -> int:
    paths = place.iterdir() if place.is_dir() else [place]
    return sum(path.stat().st_size for path in paths)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return a video's manifest; None where there is none, or one of another form."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(values, dict) and values.get("form") == FORM
    return values if whole and {"asked", "source", "own", "times"} <= set(values) else None


def prepare_video(
    job: PrepareJob, on_progress: Callable[[float], object] = lambda seconds: None
) -> dict[str, Any]:
    """Write the job's video and manifest; return the manifest.

    on_progress: called with the seconds of video done since the last call.
    Raises `UserError` naming what is wrong with the source, `CannotWriteError` where the output
    cannot be written; then neither file is there.
    """
    source = describe_source(job)
    with naming(job.video):
        job.manifest.unlink(missing_ok=True)
        with replacing(job.video) as temporary:
            with VideoReader(job.source, damage=job.options.damage) as reader:
                source |= described(reader.info)
                cut = _write(job, reader, temporary, on_progress)
                source["repairs"] = repairs_of(reader)
            own = _read_back(job, temporary, cut)
        times = {
            "own_s": "source_s + offset_s",
            "offset_s": 0.0,
            "time_base": str(WRITER_TIME_BASE),
            "largest_rounding_s": float(np.abs(cut.own_s - cut.source_s).max()),
            "first_frame_s": float(cut.source_s[0]),
            "last_frame_s": float(cut.source_s[-1]),
            "frames_left_out": cut.left_out,
        }
        return write_manifest(job, source=source, own=own, times=times)


def write_manifest(job: PrepareJob, **parts: dict[str, Any]) -> dict[str, Any]:
    """Write and return the job's manifest.

    parts: `source` and `own`, what was made of what, and `times`, how their times correspond.
    """
    manifest = {"form": FORM, "video_id": job.video_id, "asked": _asked(job), **parts}
    write_text(job.manifest, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


@dataclass(frozen=True)
class _Cut:
    """What was written: (n,) source times of the frames, number of frames left out."""

    source_s: NDArray[np.float64]
    left_out: int

    @property
    def own_s(self) -> NDArray[np.float64]:
        return np.round(self.source_s / TICK_S) * TICK_S


def _write(
    job: PrepareJob, reader: VideoReader, place: Path, on_progress: Callable[[float], object]
) -> _Cut:
    options, (start_s, end_s) = job.options, job.window_s
    scale = FrameScaler.shrinking(reader.frame_size(), short_side=options.short_side)
    times_s: list[float] = []
    left_out = 0
    reported_s: float | None = None
    with VideoWriter(
        place,
        width=scale.width,
        height=scale.height,
        fps=reader.info.average_fps,
        crf=options.crf,
        keyframe_interval_s=options.keyframe_interval_s,
        preset=options.preset,
        tune=options.tune,
        shape=reader.pixel_shape,
    ) as writer:
        for time_s, frame in reader.decoded_frames(start_s=start_s, end_s=end_s):
            # Players show nothing before 0 s, and MP4 cannot say it.
            if time_s >= 0 and writer.write_frame(scale(frame), time_s):
                times_s.append(time_s)
            else:
                left_out += 1
            on_progress(time_s - (time_s if reported_s is None else reported_s))
            reported_s = time_s
        if not times_s:
            raise UserError(f"{job.source}: shows nothing at or after 0 s")
        check_window(job, times_s)
    return _Cut(np.asarray(times_s, np.float64), left_out)


def check_window(job: PrepareJob, times_s: list[float]) -> None:
    """Raise `UserError` for a keyframe more than half a frame outside what the video shows."""
    intervals_s = np.diff(times_s) if len(times_s) > 1 else np.array([0.04])
    for key, edge_s, beyond_s, interval_s, where in (
        (job.first, times_s[0], times_s[0] - job.first.time_s, intervals_s[0], "before the first"),
        (job.last, times_s[-1], job.last.time_s - times_s[-1], intervals_s[-1], "past the last"),
    ):
        if beyond_s > interval_s / 2 + SAME_TIME_S:
            raise UserError(
                f"{job.source}: keyframe at {key.time_s:.6f} s ({key.where}) is {where} frame, "
                f"which is shown at {edge_s:.6f} s"
            )


def _read_back(job: PrepareJob, place: Path, cut: _Cut) -> dict[str, Any]:
    """Describe the file written; a disk that lost part of it shows here."""
    try:
        with VideoReader(place) as video:
            shown_s, info = video.frame_times_s(), video.info
    except UserError as error:
        message = f"{job.video}: what was written cannot be read back ({error})"
        raise CannotWriteError(message) from error
    if len(shown_s) != len(cut.own_s) or np.abs(shown_s - cut.own_s).max() > TICK_S / 2:
        raise CannotWriteError(
            f"{job.video}: {len(shown_s)} frames were read back where {len(cut.own_s)} were written"
        )
    file = {"file": job.video.name, "bytes": place.stat().st_size, "sha256": sha256_of(place)}
    return file | described(info)


def repairs_of(reader: VideoReader) -> list[str]:
    """Return in words what was done to a source's times and frames."""
    with contextlib.suppress(UserError):  # cut short or damaged, and taken so where that is asked
        reader.frame_times_s()  # all of it is met then
    return reader.repairs().descriptions()


def describe_source(job: PrepareJob) -> dict[str, Any]:
    """Return what a manifest says of the source before it is opened."""
    try:
        size = job.source.stat()
        return {
            "file": job.source.name,
            "bytes": size.st_size,
            "mtime_ns": size.st_mtime_ns,
            "sha256": sha256_of(job.source),
        }
    except OSError as error:
        raise UserError(f"{job.source}: cannot be read ({error.strerror})") from error


def described(info: VideoInfo) -> dict[str, Any]:
    """Return what a manifest says of a video: codec, width, average_fps and the like."""
    return {name: value for name, value in dataclasses.asdict(info).items() if value is not None}


def _asked(job: PrepareJob) -> dict[str, Any]:
    window_s = [time_s if math.isfinite(time_s) else None for time_s in job.window_s]
    values = {"window_s": window_s, **dataclasses.asdict(job.options)}
    values["frames"] = list(job.options.frames) if job.options.frames else None  # as JSON has it
    return values
