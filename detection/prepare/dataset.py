"""A data set folder of source videos to one of prepared videos, which trains as it is.

Annotations are copied unchanged, for prepared videos keep their sources' clocks. OUT holds
`videos/ID.mp4`, a manifest per video in `prepared/ID.json`, and at the end `dataset.yaml`: an
unfinished folder has none, so that no training reads a part of it.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from detection.datasets.folder import FILE_NAME, DatasetFile, DatasetFolder, FramesPart
from detection.errors import UserError
from detection.files import CannotWriteError, naming, only_writer
from detection.jobs.base import Do, Ended, Engine, WorkerLostError
from detection.jobs.run_all import run_list
from detection.prepare.annotations import write_prepared_dataset
from detection.prepare.frames import UNFINISHED, extract_frames
from detection.prepare.required_spans import RequiredVideo, only_named, required_videos
from detection.prepare.video import (
    PrepareJob,
    PrepareOptions,
    is_prepared,
    prepare_video,
    read_manifest,
)
from detection.unfinished import left_behind

MANIFESTS = "prepared"


@dataclass
class PrepareReport:
    """What became of the videos.

    prepared: ids of those that were written.
    kept: ids of those that were there.
    failed: the reason, by id.
    whole: whether dataset.yaml is written.
    repairs: what was done to sources' times and frames, in words, by id.
    """

    prepared: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    whole: bool = False
    repairs: dict[str, list[str]] = field(default_factory=dict)


def prepare_dataset(
    folder: DatasetFolder,
    out: str | Path,
    *,
    options: PrepareOptions | None = None,
    clip_span_s: float = 14.0,
    whole_videos: bool = False,
    only: Sequence[str] = (),
    leave_out_broken: bool = False,
    frames_fps: float | None = None,
    frames_start_s: float | None = None,
    jobs: int | None = 1,
    engine: Engine = "processes",
    address: str | None = None,
    how_to_get: str | None = None,
    on_start: Callable[[float], object] = lambda total_s: None,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> PrepareReport:
    """Prepare each video that the splits require, or `only` some; what was done before is kept.

    clip_span_s: length of the longest clip around a keyframe that shall find all its frames.
    whole_videos: do not cut.
    leave_out_broken: go without the videos that fail, and list the others in the written data set.
    frames_fps: write JPEG frames of that rate, number 1 at frames_start_s (None: the second in
        which the first span of any video begins).
    jobs: videos at a time (None: as many as there are cores).
    engine, address: what runs them (`detection.jobs.open.open_workers`); on a cluster of Ray all
        machines share the disk.
    on_start, on_progress: called with the seconds of video to do, and done since the last call.
    Raises `UserError` for what stops everything: annotations, an output that cannot be written.
    """
    out = Path(out)
    _check_folders(folder, out)
    required = _required(folder, only)
    options, frames = options or PrepareOptions(), None
    if frames_fps is not None:
        first_s = min(video.window_s(clip_span_s)[0] for video in required)
        frames = _frames_part(frames_fps, frames_start_s, first_s)
        options = dataclasses.replace(options, frames=(frames.fps, frames.start_s))
    with only_writer(out, busy="another prepare is writing here; wait for it"):
        _remove_leftovers(out)
        report = PrepareReport()
        span_s = math.inf if whole_videos else clip_span_s
        todo = _jobs(folder, out, required, options, span_s, report)
        before = _put_aside(out, is_changing=bool(todo))
        on_start(sum(job.last.time_s - job.first.time_s + clip_span_s for job in todo))
        run = partial(run_list, engine=engine, workers=jobs, address=address)
        open_ = partial(_open, is_for_frames=frames is not None)
        num_lost = _take(run(todo, open_, on_progress=on_progress), report)
        report.prepared = tuple(j.video_id for j in todo if j.video_id not in report.failed)
        videos = {video.video_id for video in required} - set(report.failed)
        may_go_without = leave_out_broken and not num_lost
        report.whole = bool(videos) and (may_go_without or not report.failed)
        if report.whole:
            is_part = bool(only or report.failed)
            write = partial(write_prepared_dataset, before=before, frames=frames)
            write(folder, out, videos=videos, is_part=is_part, how_to_get=how_to_get)
            (out / MANIFESTS / FILE_NAME).unlink(missing_ok=True)
    return report


def _required(folder: DatasetFolder, only: Sequence[str]) -> list[RequiredVideo]:
    """Return what the splits require, or `only` some of it."""
    known = {video.video_id: video for video in required_videos(folder)}
    if not known:
        raise UserError(f"{folder.root / FILE_NAME}: its splits require no video")
    missing = f"none of the {len(known)} videos that the annotations require"
    return list(only_named(known, only, missing=missing))


def _frames_part(fps: float, start_s: float | None, first_s: float) -> FramesPart:
    """Return how frames lie in time; first_s: where the first span of any video begins."""
    start_s = math.floor(first_s) if start_s is None else start_s
    return FramesPart(folder="frames", fps=float(fps), start_s=float(start_s))


def _jobs(
    folder: DatasetFolder,
    out: Path,
    required: Sequence[RequiredVideo],
    options: PrepareOptions,
    clip_span_s: float,
    report: PrepareReport,
) -> list[PrepareJob]:
    """Return the videos to do; those that are there and those that fail go to the report."""
    todo = []
    for video in required:
        try:
            job = _job(folder, out, video, options, clip_span_s)
            if is_prepared(job):
                report.kept += (video.video_id,)
                manifest = read_manifest(job.manifest) or {"source": {}}
                report.repairs[video.video_id] = manifest["source"].get("repairs", [])
            else:
                folder.video_path(video.video_id)
                todo.append(job)
        except UserError as error:
            report.failed[video.video_id] = str(error)
    return sorted(todo, key=lambda job: job.last.time_s - job.first.time_s, reverse=True)


def _open(*, is_for_frames: bool) -> Do[PrepareJob, dict[str, Any]]:
    """Return what a worker does with each video."""
    return extract_frames if is_for_frames else prepare_video


def _take(ended: Iterable[Ended[PrepareJob, dict[str, Any]]], report: PrepareReport) -> int:
    """Put what became of the videos into the report; return how many took their process with them.

    Such a video is not broken: the next attempt may have the memory.
    """
    num_lost = 0
    for one in ended:
        if isinstance(one.error, CannotWriteError):
            raise one.error  # no other video would fare better
        if isinstance(one.error, UserError):
            report.failed[one.piece.video_id] = str(one.error)
            num_lost += isinstance(one.error, WorkerLostError)
        elif one.error is not None:
            raise one.error
        else:
            assert one.result is not None
            report.repairs[one.piece.video_id] = one.result["source"]["repairs"]
    return num_lost


def _check_folders(folder: DatasetFolder, out: Path) -> None:
    """Require videos; refuse to write over them, or into a folder that is something else."""
    if folder.file.videos is None:
        raise UserError(f"{folder.root / FILE_NAME}: has extracted frames, videos are required")
    source = (folder.root / folder.file.videos).resolve()
    if out.resolve() == folder.root.resolve() or (out / "videos").resolve() == source:
        raise UserError(f"{out}: holds the source videos, give the prepared ones another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is there already and is no folder")
    if out.is_dir() and not (out / MANIFESTS).is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: is there already and was not made by prepare, so it is kept")


def _remove_leftovers(out: Path) -> None:
    """Remove what a killed run left half written; this process holds the folder."""
    with naming(out):
        for folder in (out, out / "videos", out / MANIFESTS, out / "annotations"):
            folder.mkdir(exist_ok=True)
            for path in folder.glob(".writing-*"):
                path.unlink()
        with left_behind(out / "frames", UNFINISHED) as folders:
            for path in folders:
                shutil.rmtree(path)


def _job(
    folder: DatasetFolder,
    out: Path,
    video: RequiredVideo,
    options: PrepareOptions,
    clip_span_s: float,
) -> PrepareJob:
    try:
        source = folder.video_path(video.video_id)
    except UserError:
        source = folder.root / f"{video.video_id}.mp4"
        if source.parent != folder.root:
            raise  # an id that would be a path
    name = f"videos/{video.video_id}.mp4" if options.frames is None else f"frames/{video.video_id}"
    return PrepareJob(
        video_id=video.video_id,
        source=source,
        video=out / name,
        manifest=out / MANIFESTS / f"{video.video_id}.json",
        window_s=video.window_s(clip_span_s),
        first=video.first,
        last=video.last,
        options=options,
    )


def _put_aside(out: Path, *, is_changing: bool) -> DatasetFile | None:
    """Return what dataset.yaml says so far, and take it out of the way while videos change."""
    place, aside = out / FILE_NAME, out / MANIFESTS / FILE_NAME
    if is_changing and place.is_file():
        place.replace(aside)
    for path in (place, aside):
        if path.is_file():
            return DatasetFolder.open(path.parent).file
    return None
