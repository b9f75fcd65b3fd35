"""Whether the videos of a source folder (JHMDB-21, UCF101-24, MultiSports) hold what is boxed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detection.checks.videos import Finding, VerifyReport, notes_of
from detection.errors import UserError
from detection.importers.tubes import JHMDB, MULTISPORTS, UCF101_24, TubeFormat, annotated_videos
from detection.prepare.process_pool import work_through
from detection.prepare.video_probe import FactsJob, VideoFacts, find_facts


def source_form(folder: Path) -> TubeFormat | None:
    """Return the data set whose annotation file lies in a folder; None for any other folder."""
    for form in (JHMDB, UCF101_24, MULTISPORTS):
        if any((folder / name).is_file() for name in form.files):
            return form
    return None


def verify_source(
    folder: Path,
    form: TubeFormat,
    *,
    jobs: int = 1,
    started: Callable[[int], None] = lambda num_videos: None,
    told: Callable[[float], None] = lambda num_videos: None,
) -> VerifyReport:
    """Decode every annotated video to its end and compare it with its last boxed frame.

    Raises `UserError` where the annotation file cannot be read.
    """
    videos = {video.name: video for video in annotated_videos(form, folder)}
    report = VerifyReport(num_videos=len(videos))
    started(len(videos))
    to_see = []
    for video in videos.values():
        if video.path is None:
            report.findings.append(Finding(video.name, "no video file", "get it from its source"))
        else:
            to_see.append(FactsJob(video.name, video.path))
    advice = (
        f"get a whole copy, or import it as it is: import_dataset {form.key} leaves the rows past "
        "its end out and lists them"
    )
    facts: dict[str, VideoFacts] = {}
    for job, result in work_through(find_facts, to_see, processes=jobs, told=told):
        last = videos[job.video_id].last_frame
        if isinstance(result, UserError):
            report.findings.append(Finding(job.video_id, str(result), "replace it by a good copy"))
            continue
        facts[job.video_id] = result
        report.num_frames += result.num_frames
        report.num_keyframes += last
        if result.problem:
            report.findings.append(
                Finding(job.video_id, result.problem, "replace it by a good copy")
            )
        if 0 < result.num_frames < last:
            report.findings.append(
                Finding(
                    job.video_id,
                    f"{result.num_frames} frames where the annotations box frames up to {last}",
                    advice,
                )
            )
    report.findings += notes_of(facts)
    report.findings.sort(key=lambda finding: finding.subject)
    return report
