"""What is said of a video before and after its run, and `summary.json` beside its results."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.drawing.annotated_video import displayed_size
from detection.errors import UserError, printable
from detection.files import read_text, write_text
from detection.pipeline.options import PipelineOptions, Report
from detection.video.reader import VideoReader
from detection.video.stream import VideoStream

if TYPE_CHECKING:
    from detection.pipeline.networks import Networks

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class HeaderFacts:
    """A video by its header.

    length_s, fps: None where unknown.
    width_px, height_px: as displayed; 0 where unknown.
    start_s, last_s: of its first and last frame, on its own clock, roughly.
    """

    length_s: float | None
    width_px: int
    height_px: int
    fps: float | None
    start_s: float = 0.0
    last_s: float | None = None


def facts_of(stream: VideoStream) -> HeaderFacts:
    """Return what is known of a source before it is read."""
    if stream.can_seek:
        try:
            with VideoReader(stream.source) as reader:
                info = reader.info
                width, height = displayed_size(reader)
            end_s, fps = info.start_s + info.duration_s, info.average_fps
            return HeaderFacts(info.duration_s, width, height, fps, info.start_s, end_s - 1 / fps)
        except UserError:
            pass  # damaged: the header alone
    width, height, fps = stream.header
    last_s = None if stream.duration_s is None or not fps else stream.duration_s - 1 / fps
    return HeaderFacts(stream.duration_s, width, height, fps or None, 0.0, last_s)


def video_line(facts: HeaderFacts, *, start_s: float, end_s: float, interval_s: float) -> str:
    """Return length, size, rate and the keyframes to come, in words; what is unknown is left out.

    start_s, end_s: no keyframe before, and none from there on.
    """
    words = []
    if facts.length_s is not None:
        words.append(duration_text(facts.length_s))
    if facts.width_px and facts.height_px:
        words.append(f"{facts.width_px}x{facts.height_px}")
    if facts.fps:
        words.append(f"{facts.fps:.4g} frames/s")
    if facts.last_s is None and math.isinf(end_s):
        words.append(f"a keyframe each {interval_s:g} s")
    else:
        first = math.ceil(max(facts.start_s, start_s) / interval_s - 1e-6)
        last = math.inf if facts.last_s is None else math.floor(facts.last_s / interval_s + 1e-6)
        before_end = math.inf if math.isinf(end_s) else math.ceil(end_s / interval_s - 1e-6) - 1
        count = max(0, int(min(last, before_end)) - first + 1)
        words.append(f"about {counted(count, 'keyframe')} to come, one each {interval_s:g} s")
    return ", ".join(words)


def scores_text(options: PipelineOptions, networks: Networks) -> str:
    """Say which scores are written and drawn, and which of them decide events."""
    how = options.track_scoring
    which = "of each keyframe alone" if how is None else str(how)
    times = " times the person's" if networks.times_person_score else ""
    return f"scores {which}; events by the action's score{times}"


def duration_text(seconds: float) -> str:
    """Return a length as `12.3 s`, from two minutes on as `1:02:03` or `2:05`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def work_text(seconds: float) -> str:
    """Return how much video went through the networks: hours, below one as `duration_text`."""
    return f"{seconds / 3600:,.2f} h" if seconds >= 3600 else duration_text(seconds)


def counted(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def summary_lines(name: str, report: Report, networks: Networks, *, written_to: str) -> list[str]:
    """Return the counts of a run, and why there is no event where there is none."""
    weak = report.people - report.people_tracked
    below = f" ({weak:,} below the person threshold of {networks.person_score:g} are not)"
    filled = f"{report.people_filled:,} misses filled, " if report.people_filled else ""
    lines = [
        f"{counted(report.keyframes, 'keyframe')}, {report.people:,} people at them, "
        f"{counted(report.persons, 'person')} tracked{below if weak else ''}, {filled}"
        f"{counted(report.events, 'event')} -> {written_to}"
    ]
    if not report.events:
        lines.append(f"{name}: {_why_no_event(report, networks)}")
    return lines


def _why_no_event(report: Report, networks: Networks) -> str:
    if not report.keyframes:
        return "no keyframe in the stretch asked for"
    if not report.people:
        return (
            f"no person was found: none scored {networks.keep_score:.2g} or more (the person "
            f"threshold is {networks.person_score:g}: --person-score)"
        )
    best = report.best
    if best is None:
        highest = rounded_down(report.best_person_score)
        return (
            f"no person was tracked: the highest person score is {highest}, and a track begins at "
            f"{networks.person_score:g}; --person-score {highest} tracks them"
        )
    return (
        f"no event: the highest score is {rounded_down(best.score)}, '{printable(best.action)}' by "
        f"person {best.track} at {best.time_s:.1f} s; {_option(report, networks)} shows it"
    )


def _option(report: Report, networks: Networks) -> str:
    """Return the option with which the best score is an event."""
    best = report.best
    assert best is not None
    column = networks.label_map.names.index(best.action)
    value = rounded_down(best.score)
    if networks.learned is None and networks.thresholds[column] == networks.threshold:
        return f"--threshold {value}"
    return f"--threshold {shlex.quote(printable(f'{best.action}={value}'))}"


def rounded_down(score: float) -> str:
    """Return a score with two decimals or two digits, rounded down so that it is reached."""
    decimals = 2 if score >= 0.1 or score <= 0 else min(6, 1 - math.floor(math.log10(score)))
    return f"{math.floor(score * 10**decimals) / 10**decimals:.{decimals}f}"


def write_summary(
    folder: Path, stream: VideoStream, report: Report, networks: Networks, *, scores: str
) -> None:
    """Write summary.json: the video's facts, the thresholds and the counts of its results.

    scores: what `scores_text` says of them.
    """
    facts = facts_of(stream)
    best = None if report.best is None else asdict(report.best)
    if best is not None:
        best["score"] = round(best["score"], 6)
    values = {
        "format": 1,
        "length_s": facts.length_s,
        "width_px": facts.width_px,
        "height_px": facts.height_px,
        "fps": facts.fps,
        "end_s": report.end_s,
        "keyframes": report.keyframes,
        "people": report.people,
        "people_tracked": report.people_tracked,
        "people_filled": report.people_filled,
        "persons": report.persons,
        "events": report.events,
        "best_person_score": round(report.best_person_score, 6),
        "best": best,
        "thresholds": dict(
            zip(networks.label_map.names, networks.thresholds.round(6).tolist(), strict=True)
        ),
        "thresholds_learned_on": None if networks.learned is None else networks.learned.source,
        "scores": scores,
        "times_person_score": networks.times_person_score,
    }
    write_text(folder / SUMMARY_NAME, json.dumps(values, indent=2) + "\n")


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the values of summary.json; none for results of a version without it."""
    try:
        values = json.loads(read_text(folder / SUMMARY_NAME))
    except (UserError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
