"""What decoding the videos of a data set shows: a part of the check, and a command of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detection.checks.findings import OUTSIDE, Finding, Findings
from detection.datasets.actor_table import read_actor_table
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.jobs.base import Do, WorkerLostError
from detection.jobs.run_all import run_list
from detection.prepare.dataset import MANIFESTS
from detection.prepare.frame_lists import (
    LIST_FPS,
    LIST_START_S,
    ListedFrames,
    find_frame_lists,
    read_frame_list,
)
from detection.prepare.required_spans import RequiredVideo, required_videos
from detection.prepare.video import read_manifest
from detection.prepare.video_probe import ProbeJob, VideoFacts, probe_video
from detection.transfer.manifest import Manifest
from detection.video.repairs import MOST_NAMED

FACTS = "verified"
CUT = "cut too tightly"
_COUNTS = ("num_videos", "num_frames", "num_keyframes")


def problem(video_id: str, message: str, advice: str, *, kind: str = "decoding") -> Finding:
    """Return the error of a video."""
    return Finding(kind, "error", "", None, message, video_id=video_id, advice=advice)


def note(subject: str, message: str, advice: str = "") -> Finding:
    """Return a note about a video or a file."""
    return Finding("worth knowing", "note", "", None, message, video_id=subject, advice=advice)


@dataclass
class VerifyReport:
    """What decoding showed.

    num_videos, num_frames, num_keyframes: how many were looked at.
    findings: errors and notes.
    """

    num_videos: int = 0
    num_frames: int = 0
    num_keyframes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """The findings that keep a training run from all it requires."""
        return [finding for finding in self.findings if finding.level == "error"]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        values["findings"] = [
            {name: getattr(finding, name) for name in ("subject", "message", "advice")}
            | {"is_problem": finding.level == "error"}
            for finding in self.findings
        ]
        return values

    def decode(
        self,
        jobs: Sequence[ProbeJob],
        *,
        processes: int,
        advice: Callable[[str], str],
        on_progress: Callable[[float], object],
    ) -> dict[str, VideoFacts]:
        """Decode videos, several at a time; those that are not there become findings."""
        facts = {}
        ended = run_list(
            jobs, open_probe, engine="processes", workers=processes, on_progress=on_progress
        )
        for one in ended:
            name = one.piece.video_id
            if isinstance(one.error, UserError):
                is_lost = isinstance(one.error, WorkerLostError)
                what_to_do = "fewer --jobs take less memory" if is_lost else advice(name)
                self.findings.append(problem(name, str(one.error), what_to_do))
            elif one.error is not None:
                raise one.error
            else:
                assert one.result is not None
                facts[name] = one.result
                self.num_frames += one.result.num_frames
        return facts


def open_probe() -> Do[ProbeJob, VideoFacts]:
    """Return what a worker does with each video."""
    return probe_video


def verify_dataset(
    folder: DatasetFolder, *, splits: Sequence[str] | None = None, **options: Any
) -> VerifyReport:
    """Decode every video that the splits (None: all) require; see that their files can be read.

    options: of `decode_videos`.
    """
    report = VerifyReport()
    required = _required(folder, splits or tuple(folder.file.splits), report)
    return decode_videos(folder, required, report, **options)


def decode_videos(
    folder: DatasetFolder,
    required: Sequence[RequiredVideo],
    report: VerifyReport,
    *,
    frame_lists: Path | None = None,
    clip_span_s: float = 0.0,
    again: bool = False,
    jobs: int = 1,
    on_start: Callable[[int], object] = lambda num_videos: None,
    on_progress: Callable[[float], object] = lambda num_videos: None,
) -> VerifyReport:
    """Decode videos and compare them with their keyframes; return the report, filled.

    frame_lists: folder of FAIR's lists (None: those inside the data set).
    clip_span_s: length of the clips that a run reads; prepared videos must have been cut for it.
    again: decode also what was decoded before and has not changed.
    jobs: videos at a time.
    on_start, on_progress: called with the number of videos to do, and done since the last call.
    """
    report.num_videos = len(required)
    report.num_keyframes = sum(len(t.times_s) for video in required for t in video.tables)
    probes = []
    for video in required:
        try:
            probes.append(_probe_job(folder, video.video_id, again=again))
        except UserError as error:
            advice = "" if folder.file.how_to_get else _advice(folder, video.video_id)
            report.findings.append(problem(video.video_id, str(error), advice))
    on_start(len(probes))
    facts = report.decode(
        probes, processes=jobs, advice=lambda name: _advice(folder, name), on_progress=on_progress
    )
    downloads = Manifest.read(folder.root)
    for video in required:
        if (found := facts.get(video.video_id)) is not None:
            report.findings += _about_video(folder, video, found)
            report.findings += _about_origin(folder, video.video_id, found, downloads)
            report.findings += about_cut(folder, video, clip_span_s)
    report.findings += reading_notes(facts)
    report.findings += _about_lists(folder, required, facts, frame_lists)
    return report


def decode_checked(
    folder: DatasetFolder,
    findings: Findings,
    readable: Sequence[str],
    *,
    splits: Sequence[str],
    **options: Any,
) -> None:
    """Add what decoding shows of the readable videos of a check, unless it was found before."""
    known = {
        (f.kind, f.keyframe.video_id if f.keyframe else f.video_id)
        for f in findings.kept
        if f.kind in (CUT, OUTSIDE)
    }
    found = required_videos(folder, splits or None, on_error=lambda split, error: None)
    required = [video for video in found if video.video_id in set(readable)]
    report = decode_videos(folder, required, VerifyReport(), **options)
    findings.extend(f for f in report.findings if (f.kind, f.video_id) not in known)


def reading_notes(facts: Mapping[str, VideoFacts]) -> list[Finding]:
    """Return what was done to videos so that they can be read: three named, the others counted."""
    noted = sorted(video_id for video_id in facts if facts[video_id].notes)
    found = [note(name, "; ".join(facts[name].notes)) for name in noted[:MOST_NAMED]]
    if len(noted) > MOST_NAMED:
        found.append(note(f"{len(noted) - MOST_NAMED} more video(s)", "likewise"))
    return found


def _required(
    folder: DatasetFolder, splits: Sequence[str], report: VerifyReport
) -> list[RequiredVideo]:
    """Return the videos of the splits; what is wrong with annotation files goes to the report."""

    def on_error(subject: str, error: Exception, advice: str = "") -> None:
        wrong = Finding("file", "error", subject, None, str(error), advice=advice)
        report.findings.append(wrong)

    def on_split_error(name: str, error: Exception) -> None:
        failed.add(name)
        on_error(f"split {name}", error, "correct or replace the file")

    failed: set[str] = set()
    label_map = None
    try:
        label_map = folder.read_label_map()
    except UserError as error:
        on_error("label map", error)
    required = required_videos(folder, splits, on_error=on_split_error)
    for name in splits:
        try:
            if label_map is not None and name not in failed:
                actors = read_actor_table(folder, name, label_map, skip_unknown_labels=True)
                if count := actors.skipped_labels:
                    message = f"{count} rows have an action that is not in the label map"
                    advice = "a run needs data.skip_unknown_labels=true"
                    report.findings.append(note(f"split {name}", message, advice))
        except (UserError, OSError) as error:
            on_split_error(name, error)
    return required


def _probe_job(folder: DatasetFolder, video_id: str, *, again: bool) -> ProbeJob:
    frames = folder.file.frames
    return ProbeJob(
        video_id=video_id,
        path=folder.video_path(video_id),
        kept=folder.root / FACTS / f"{video_id}.json",
        frames_fps=frames.fps if frames else None,
        frames_start_s=frames.start_s if frames else 0.0,
        again=again,
    )


def _about_video(
    folder: DatasetFolder, video: RequiredVideo, facts: VideoFacts
) -> Iterator[Finding]:
    """Yield what is wrong with a video, and with its keyframes."""
    name, advice = video.video_id, _advice(folder, video.video_id)
    if facts.problem:
        yield problem(name, facts.problem, advice)
        if not facts.num_frames:
            return
    if missing := facts.missing:
        message = f"{len(missing)} frames are missing between the first and the last, the first of "
        yield problem(name, f"{message}them number {missing[0]}", advice)
    for table in video.tables:
        outside = facts.outside(table.times_s)
        if outside.any():
            first = table.row(int(np.argmax(outside)))
            message = (
                f"{int(outside.sum())} keyframe(s) outside its frames, which are shown from "
                f"{facts.first_s:.3f} to {facts.last_s:.3f} s; the first at {first.time_s:.6f} s "
                f"({first.where})"
            )
            yield problem(name, message, f"{advice}, or take those rows out", kind=OUTSIDE)
        in_gap = facts.in_gaps(table.times_s)
        if in_gap.any():
            first = table.row(int(np.argmax(in_gap)))
            message = (
                f"{int(in_gap.sum())} keyframe(s) more than half a second from any frame, the "
                f"first at {first.time_s:.6f} s ({first.where})"
            )
            yield note(name, message, "right for a still image, else frames are lost there")


def _about_origin(
    folder: DatasetFolder, name: str, facts: VideoFacts, downloads: Manifest
) -> Iterator[Finding]:
    """Yield where a file is not what prepare or download made."""
    advice = _advice(folder, name)
    manifest = read_manifest(folder.root / MANIFESTS / f"{name}.json")
    own = manifest["own"] if manifest else {}
    path, place = folder.video_path(name), ""
    if folder.file.frames is None:
        place = f"{path}: "
        entry = downloads.files.get(str(path.relative_to(folder.root)))
        found = facts.num_bytes, facts.sha256
        if entry and found != (entry.num_bytes, entry.sha256 if facts.sha256 else ""):
            message = f"is not what was downloaded ({found[0]} bytes, {entry.num_bytes} came)"
            yield problem(name, place + message, f"delete it; {advice}")
        if own and found != (own["bytes"], own["sha256"] if facts.sha256 else ""):
            message = f"is not what prepare made ({found[0]} bytes where it wrote {own['bytes']})"
            yield problem(name, place + message, advice)
            return
    if own and facts.num_frames and facts.num_frames != own["num_frames"]:
        message = f"{facts.num_frames} frames where prepare wrote {own['num_frames']}"
        yield problem(name, place + message, advice)


def about_cut(folder: DatasetFolder, video: RequiredVideo, clip_span_s: float) -> Iterator[Finding]:
    """Yield where a prepared video was cut too tightly for clips around its keyframes."""
    manifest = read_manifest(folder.root / MANIFESTS / f"{video.video_id}.json")
    if manifest is None or folder.file.frames is not None:
        return
    asked = manifest["asked"]["window_s"]
    start_s, end_s = video.window_s(clip_span_s)
    if start_s < asked[0] - 1e-6 or end_s > (math.inf if asked[1] is None else asked[1]) + 1e-6:
        end = "its end" if asked[1] is None else f"{asked[1]:.3f} s"
        message = (
            f"{folder.video_path(video.video_id)}: was cut to {asked[0]:.3f} to {end}, and clips "
            f"of {clip_span_s:.2f} s around its keyframes reach from {start_s:.3f} to {end_s:.3f} s"
        )
        advice = f"{_advice(folder, video.video_id)} with a longer --clip-span"
        yield problem(video.video_id, message, advice, kind=CUT)


def _about_lists(
    folder: DatasetFolder,
    required: Sequence[RequiredVideo],
    facts: Mapping[str, VideoFacts],
    place: Path | None,
) -> Iterator[Finding]:
    """Yield where FAIR's lists name frames that are not there."""
    paths = find_frame_lists(folder.root) if place is None else sorted(place.glob("*.csv"))
    if place is not None and not paths:
        raise UserError(f"{place}: no frame list (train.csv, val.csv) in it")
    listed: dict[str, ListedFrames] = {}
    for path in paths:
        try:
            listed |= read_frame_list(path)
        except UserError as error:
            advice = "get the list again, or take it away"
            yield Finding("file", "error", "frame lists", None, str(error), advice=advice)
    for name in sorted(set(listed) & set(facts)):
        found, asked = facts[name], listed[name]
        first_s, last_s = asked.span_s(LIST_FPS, LIST_START_S)
        if found.problem or not found.num_frames:
            continue
        if folder.file.frames is not None:
            if found.num_frames < asked.count:
                message = f"{found.num_frames} frames where {asked.list_path} lists {asked.count}"
                yield problem(name, message, _advice(folder, name))
        elif found.first_s > first_s + 1 or found.last_s < last_s - 1:
            message = (
                f"shows {found.first_s:.1f} to {found.last_s:.1f} s, and {asked.list_path} lists "
                f"frames of {first_s:.1f} to {last_s:.1f} s"
            )
            yield problem(name, message, f"cut short or another video; {_advice(folder, name)}")
    unlisted = sorted({video.video_id for video in required} - set(listed)) if listed else []
    if unlisted:
        message = f"{len(unlisted)} of {len(required)} videos are in no list, such as {unlisted[0]}"
        yield note("frame lists", message)


def _advice(folder: DatasetFolder, video_id: str) -> str:
    command = folder.file.how_to_get
    if command and "ava_tools.prepare" in command:
        return f"delete it and make it again: {command}"
    if command and "ava_tools.download" in command:
        return f"get it again: {command} --only={video_id}"
    return "replace it by a good copy, or leave it out (splits.*.videos in dataset.yaml)"
