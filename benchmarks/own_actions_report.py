"""What a trial of one's own actions found: clip by clip, and as a table of the draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from page_annotator import KnownPerson

from detection import VideoResults
from detection.checkpoints.network_file import read_network_file


@dataclass(frozen=True)
class ClipResult:
    """What was found in a held-out clip.

    name: CLASS/NAME.  actions: of its events.  tracks: a line for each.
    """

    name: str
    actions: frozenset[str]
    tracks: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether the clip's own action was found."""
        return self.name.split("/")[0] in self.actions

    @property
    def wrong(self) -> bool:
        """Whether another action was found."""
        return bool(self.actions - {self.name.split("/")[0]})

    @property
    def lines(self) -> list[str]:
        """Return the verdict and the tracks."""
        said = f"{'right' if self.right else 'missed'}{' and wrong' if self.wrong else ''}"
        found = ", ".join(sorted(self.actions)) or "nothing"
        return [f"  {said:<17} {self.name}: {found}", *(f"      {line}" for line in self.tracks)]


def read_result(name: str, results: VideoResults, known: KnownPerson) -> ClipResult:
    """Return what the results of a held-out clip say, beside its annotated person."""
    peaks: dict[tuple[int, str], float] = {}
    for event in results.events:
        key = event.track, event.action
        peaks[key] = max(event.peak_score, peaks.get(key, 0.0))
    lines = []
    for track in sorted({int(t) for keyframe in results.keyframes for t in keyframe.tracks}):
        rows = [(k, k.tracks == track) for k in results.keyframes if (k.tracks == track).any()]
        times_s = np.array([keyframe.time_s for keyframe, _ in rows])
        boxes_01 = np.concatenate([keyframe.boxes_01[mine] for keyframe, mine in rows])
        scores = np.concatenate([keyframe.scores[mine] for keyframe, mine in rows]).max(0)
        sure = max(float(keyframe.person_scores[mine].max()) for keyframe, mine in rows)
        parts = []
        for action, score in zip(results.label_map.names, scores.tolist(), strict=True):
            peak = peaks.get((track, action))
            parts.append(f"{action} {score:.2f}" + ("" if peak is None else f" *{peak:.2f}"))
        iou = known.overlap(times_s, boxes_01)
        lines.append(f"person {track}, IoU {iou:.2f}, confidence {sure:.2f}: {', '.join(parts)}")
    actions = frozenset(event.action for event in results.events)
    lines = lines or ["nobody: no box from which the detector begins a track"]
    return ClipResult(name, actions, tuple(lines))


@dataclass(frozen=True)
class Outcome:
    """One draw: clips, people labelled, and processor time by step."""

    actions: tuple[str, ...]
    seed: int
    clips: tuple[ClipResult, ...]
    labelled: int
    thresholds: str
    seconds: Mapping[str, float]


def threshold_text(run: Path) -> str:
    """Return what a run learned to take for an event."""
    file = read_network_file(run)
    if file.thresholds is None or file.classes is None:
        return "none"
    pairs = zip(file.classes.names, file.thresholds.score.tolist(), strict=True)
    weighted = " x confidence" if file.thresholds.times_person_score else ""
    return ", ".join(f"{name} {score:.2f}" for name, score in pairs) + weighted


def print_table(outcomes: Sequence[Outcome], *, labelled: str) -> None:
    """Print a row for each draw, and the sums of each three actions.

    labelled: what was labelled, "people" or "clips".
    """
    steps = list(dict.fromkeys(step for one in outcomes for step in one.seconds))
    head = ["actions", "draw", "right", "with a wrong action", f"{labelled} labelled", "thresholds"]
    print(f"| {' | '.join([*head, *(f'{step}, s' for step in steps), 'all, s'])} |")
    print(f"|{'---|' * (len(head) + len(steps) + 1)}")
    for one in outcomes:
        cells = [", ".join(one.actions), str(one.seed)]
        cells += [f"{sum(clip.right for clip in one.clips)} of {len(one.clips)}"]
        cells += [str(sum(clip.wrong for clip in one.clips)), str(one.labelled), one.thresholds]
        cells += [f"{one.seconds.get(step, 0.0):.0f}" for step in steps]
        print(f"| {' | '.join([*cells, f'{sum(one.seconds.values()):.0f}'])} |")
    for actions in dict.fromkeys(one.actions for one in outcomes):
        clips = [clip for one in outcomes if one.actions == actions for clip in one.clips]
        right, wrong = (sum(getattr(clip, key) for clip in clips) for key in ("right", "wrong"))
        print(f"{', '.join(actions)}: right in {right} of {len(clips)}, a wrong action in {wrong}")
