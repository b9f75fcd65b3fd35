"""Whether a training run would find all that it needs in a data set folder, video by video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detection.datasets.actor_table import read_actor_table
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.prepare.dataset import MANIFESTS
from detection.prepare.frame_lists import (
    LIST_FPS,
    LIST_START_S,
    ListedFrames,
    find_frame_lists,
    read_frame_list,
)
from detection.prepare.process_pool import work_through
from detection.prepare.required_spans import NeededVideo, VideoKeyframes, split_keyframes
from detection.prepare.video import read_manifest
from detection.prepare.video_probe import FactsJob, VideoFacts, find_facts
from detection.transfer.manifest import Manifest
from detection.video.repairs import MOST_NAMED

FACTS = "verified"


@dataclass(frozen=True)
class Finding:
    """Something found: about which video or file, what, and what to do about it.

    is_problem: a training run would not find what it needs; else it is worth knowing.
    """

    subject: str
    message: str
    advice: str = ""
    is_problem: bool = True

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" + (f"; {self.advice}" if self.advice else "")


@dataclass
class VerifyReport:
    """What was looked at and what was found."""

    num_videos: int = 0
    num_frames: int = 0
    num_keyframes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """The findings that keep a training run from all it needs."""
        return [finding for finding in self.findings if finding.is_problem]


def verify_dataset(
    folder: DatasetFolder,
    *,
    splits: Sequence[str] | None = None,
    frame_lists: Path | None = None,
    clip_span_s: float = 0.0,
    again: bool = False,
    jobs: int = 1,
    started: Callable[[int], None] = lambda num_videos: None,
    told: Callable[[float], None] = lambda num_videos: None,
) -> VerifyReport:
    """Decode every video that the splits (None: all) need, and see that their keyframes are there.

    frame_lists: folder of FAIR's lists (None: those inside the data set). clip_span_s: of the clip
    that a run reads; prepared videos must have been cut for it. again: decode also what was
    found whole before and has not changed. started, told: videos to do, and done since then.
    """
    report = VerifyReport()
    needed = _needed(folder, splits or tuple(folder.file.splits), report)
    report.num_videos = len(needed)
    report.num_keyframes = sum(len(table.times_s) for v in needed.values() for table in v.tables)
    to_see: list[FactsJob] = []
    for video_id in needed:
        try:
            to_see.append(_facts_job(folder, video_id, again=again))
        except UserError as error:
            advice = "" if folder.file.how_to_get else _advice(folder, video_id)
            report.findings.append(Finding(video_id, str(error), advice))
    started(len(to_see))
    facts: dict[str, VideoFacts] = {}
    for job, result in work_through(find_facts, to_see, processes=jobs, told=told):
        if isinstance(result, UserError):
            report.findings.append(
                Finding(job.video_id, str(result), _advice(folder, job.video_id))
            )
        else:
            facts[job.video_id] = result
    downloads = Manifest.read(folder.root)
    for video_id in sorted(facts):
        report.num_frames += facts[video_id].num_frames
        report.findings += _about_video(folder, needed[video_id], facts[video_id])
        report.findings += _about_origin(
            folder, needed[video_id], facts[video_id], downloads, clip_span_s
        )
    report.findings += notes_of(facts)
    report.findings += _about_lists(folder, needed, facts, frame_lists)
    return report


def notes_of(facts: Mapping[str, VideoFacts]) -> list[Finding]:
    """Return what was done to videos so that they can be read: three named, the others counted."""
    noted = sorted(video_id for video_id in facts if facts[video_id].notes)
    findings = [
        Finding(video_id, "; ".join(facts[video_id].notes), is_problem=False)
        for video_id in noted[:MOST_NAMED]
    ]
    if len(noted) > MOST_NAMED:
        more = len(noted) - MOST_NAMED
        findings.append(Finding(f"{more} more video(s)", "likewise", is_problem=False))
    return findings


def _needed(
    folder: DatasetFolder, splits: Sequence[str], report: VerifyReport
) -> dict[str, NeededVideo]:
    """Return the videos by id; what is wrong with annotation files goes to the report."""
    found: dict[str, NeededVideo] = {}
    try:
        label_map = folder.read_label_map()
    except UserError as error:
        report.findings.append(Finding("label map", str(error)))
        label_map = None
    for name in splits:
        try:
            for table in split_keyframes(folder, folder.split(name)):
                found.setdefault(table.video_id, NeededVideo(table.video_id)).tables.append(table)
            if label_map is not None:
                actors = read_actor_table(folder, name, label_map, skip_unknown_labels=True)
                if actors.skipped_labels:
                    report.findings.append(
                        Finding(
                            f"split {name}",
                            f"{actors.skipped_labels} rows have an action that is not in the label "
                            "map",
                            "a run needs data.skip_unknown_labels=true",
                            is_problem=False,
                        )
                    )
        except (UserError, OSError) as error:
            report.findings.append(Finding(f"split {name}", str(error), "mend or replace the file"))
    return {video_id: found[video_id] for video_id in sorted(found)}


def _facts_job(folder: DatasetFolder, video_id: str, *, again: bool) -> FactsJob:
    frames = folder.file.frames
    return FactsJob(
        video_id=video_id,
        path=folder.video_path(video_id),
        kept=folder.root / FACTS / f"{video_id}.json",
        frames_fps=frames.fps if frames else None,
        frames_start_s=frames.start_s if frames else 0.0,
        again=again,
    )


def _about_video(folder: DatasetFolder, video: NeededVideo, facts: VideoFacts) -> Iterable[Finding]:
    """Yield what is wrong with a video as it lies there, and with what is asked of it."""
    if facts.problem:
        yield Finding(video.video_id, facts.problem, _advice(folder, video.video_id))
        if not facts.num_frames:
            return
    if facts.missing:
        yield Finding(
            video.video_id,
            f"{len(facts.missing)} frames are missing between the first and the last, the first of "
            f"them number {facts.missing[0]}",
            _advice(folder, video.video_id),
        )
    for table in video.tables:
        outside = facts.outside(table.times_s)
        if outside.any():
            first = table.moment(int(np.argmax(outside)))
            yield Finding(
                video.video_id,
                f"{int(outside.sum())} keyframe(s) outside its frames, which are shown from "
                f"{facts.first_s:.3f} to {facts.last_s:.3f} s; the first at {first.time_s:.6f} s "
                f"({first.where})",
                f"{_advice(folder, video.video_id)}, or take those rows out",
            )
        yield from _in_holes(video.video_id, table, facts)


def _in_holes(video_id: str, table: VideoKeyframes, facts: VideoFacts) -> Iterable[Finding]:
    inside = np.zeros(len(table.times_s), dtype=bool)
    for start_s, end_s in facts.holes_s:
        inside |= (table.times_s > start_s + 0.5) & (table.times_s < end_s - 0.5)
    if inside.any():
        first = table.moment(int(np.argmax(inside)))
        yield Finding(
            video_id,
            f"{int(inside.sum())} keyframe(s) more than half a second from any frame, the first at "
            f"{first.time_s:.6f} s ({first.where})",
            "right for a still picture, else frames are lost there",
            is_problem=False,
        )


def _about_origin(
    folder: DatasetFolder,
    video: NeededVideo,
    facts: VideoFacts,
    downloads: Manifest,
    clip_span_s: float,
) -> Iterable[Finding]:
    """Yield where a file is not what prepare or download made."""
    video_id = video.video_id
    manifest = read_manifest(folder.root / MANIFESTS / f"{video_id}.json")
    if folder.file.frames is not None:
        if manifest and facts.num_frames and manifest["own"]["num_frames"] != facts.num_frames:
            yield Finding(
                video_id,
                f"{facts.num_frames} frames where prepare wrote {manifest['own']['num_frames']}",
                _advice(folder, video_id),
            )
        return
    path = folder.video_path(video_id)
    entry = downloads.files.get(str(path.relative_to(folder.root)))
    if entry and (entry.num_bytes, entry.sha256) != (facts.num_bytes, facts.sha256 or entry.sha256):
        yield Finding(
            video_id,
            f"{path}: is not what was downloaded ({facts.num_bytes} bytes, {entry.num_bytes} came)",
            f"delete it; {_advice(folder, video_id)}",
        )
    if manifest is None:
        return
    own, asked = manifest["own"], manifest["asked"]["window_s"]
    if (own["bytes"], own["sha256"]) != (facts.num_bytes, facts.sha256 or own["sha256"]):
        yield Finding(
            video_id,
            f"{path}: is not what prepare made ({facts.num_bytes} bytes where it wrote "
            f"{own['bytes']})",
            _advice(folder, video_id),
        )
    elif facts.num_frames and facts.num_frames != own["num_frames"]:
        yield Finding(
            video_id,
            f"{path}: {facts.num_frames} frames where prepare wrote {own['num_frames']}",
            _advice(folder, video_id),
        )
    start_s, end_s = video.window_s(clip_span_s)
    if start_s < asked[0] - 1e-6 or end_s > (math.inf if asked[1] is None else asked[1]) + 1e-6:
        yield Finding(
            video_id,
            f"{path}: was cut to {asked[0]:.3f} to {asked[1]:.3f} s, and clips of "
            f"{clip_span_s:.2f} s around its keyframes reach from {start_s:.3f} to {end_s:.3f} s",
            f"{_advice(folder, video_id)} with a longer --clip-span",
        )


def _about_lists(
    folder: DatasetFolder,
    needed: Mapping[str, NeededVideo],
    facts: Mapping[str, VideoFacts],
    place: Path | None,
) -> Iterable[Finding]:
    """Yield where FAIR's lists name frames that are not there."""
    paths = find_frame_lists(folder.root) if place is None else sorted(place.glob("*.csv"))
    if place is not None and not paths:
        raise UserError(f"{place}: no frame list (train.csv, val.csv) in it")
    listed: dict[str, ListedFrames] = {}
    for path in paths:
        try:
            listed |= read_frame_list(path)
        except UserError as error:
            yield Finding("frame lists", str(error), "get the list again, or take it away")
    for video_id in sorted(set(listed) & set(facts)):
        yield from _about_list(folder, video_id, listed[video_id], facts[video_id])
    unlisted = sorted(set(needed) - set(listed)) if listed else []
    if unlisted:
        yield Finding(
            "frame lists",
            f"{len(unlisted)} of {len(needed)} videos are in no list, such as {unlisted[0]}",
            is_problem=False,
        )


def _about_list(
    folder: DatasetFolder, video_id: str, listed: ListedFrames, facts: VideoFacts
) -> Iterable[Finding]:
    frames = folder.file.frames
    fps, start_s = (frames.fps, frames.start_s) if frames else (LIST_FPS, LIST_START_S)
    if facts.problem or not facts.num_frames:
        return
    if frames is not None:
        if facts.num_frames < listed.count:
            yield Finding(
                video_id,
                f"{facts.num_frames} frames where {listed.list_path} lists {listed.count}",
                _advice(folder, video_id),
            )
        return
    first_s, last_s = listed.span_s(fps, start_s)
    if facts.first_s > first_s + 1 or facts.last_s < last_s - 1:
        yield Finding(
            video_id,
            f"shows {facts.first_s:.1f} to {facts.last_s:.1f} s, and {listed.list_path} lists "
            f"frames of {first_s:.1f} to {last_s:.1f} s",
            f"cut short or another film; {_advice(folder, video_id)}",
        )


def _advice(folder: DatasetFolder, video_id: str) -> str:
    """Say how to get a good copy of a video."""
    command = folder.file.how_to_get
    if command and "ava_tools.prepare" in command:
        return f"delete it and make it again: {command}"
    if command and "ava_tools.download" in command:
        return f"get it again: {command} --only={video_id}"
    return "replace it by a good copy, or leave it out (splits.*.videos in dataset.yaml)"
