"""Whether the videos of a source folder (JHMDB-21, UCF101-24, MultiSports) hold what is boxed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detection.checks.videos import VerifyReport, problem, reading_notes
from detection.importers.tubes import JHMDB, MULTISPORTS, UCF101_24, TubeFormat, annotated_videos
from detection.prepare.video_probe import ProbeJob

_REPLACE = "replace it by a good copy"


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
    on_start: Callable[[int], object] = lambda num_videos: None,
    on_progress: Callable[[float], object] = lambda num_videos: None,
) -> VerifyReport:
    """Decode every annotated video to its end and compare it with its last boxed frame.

    Raises `UserError` where the annotation file cannot be read.
    """
    videos = {video.name: video for video in annotated_videos(form, folder)}
    report = VerifyReport(num_videos=len(videos))
    on_start(len(videos))
    probes = []
    for video in videos.values():
        if video.path is None:
            report.findings.append(problem(video.name, "no video file", "get it from its source"))
        else:
            probes.append(ProbeJob(video.name, video.path))
    facts = report.decode(
        probes, processes=jobs, advice=lambda name: _REPLACE, on_progress=on_progress
    )
    for name, found in facts.items():
        last = videos[name].last_frame
        report.num_keyframes += last
        if found.problem:
            report.findings.append(problem(name, found.problem, _REPLACE))
        if 0 < found.num_frames < last:
            message = f"{found.num_frames} frames where the annotations box frames up to {last}"
            importing = f"import_dataset {form.key} leaves the rows past its end out and lists them"
            advice = f"get a whole copy, or import it as it is: {importing}"
            report.findings.append(problem(name, message, advice))
    report.findings += reading_notes(facts)
    report.findings.sort(key=lambda finding: finding.subject)
    return report
