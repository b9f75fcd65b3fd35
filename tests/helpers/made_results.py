"""Result folders of made-up videos, as detect_actions leaves them, without any network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from detection.pipeline.video_results import KeyframeResult, VideoResults
from detection.structures import LabelMap
from detection.tracking.events import ActionEvent

CLASSES = LabelMap(("sit", "wave; é", 'say "x"'), (11, 5, 80))


def make_results(
    folder: Path,
    *,
    people: int = 2,
    keyframes: int = 4,
    seed: int = 0,
    classes: LabelMap = CLASSES,
    summary: bool = True,
) -> VideoResults:
    """Write the results of a video, with one keyframe without people; return what they hold."""
    generator = np.random.default_rng(seed)
    shown = [_keyframe(generator, n, people, classes) for n in range(keyframes)]
    shown.append(_keyframe(generator, keyframes, 0, classes))
    events = [
        ActionEvent("own", track, name, class_id, start_s, start_s + 1.5, class_id / 300)
        for start_s in (1.0, 0.5)
        for track in range(1, people + 1)
        for name, class_id in zip(classes.names, classes.ids, strict=True)
    ]
    results = VideoResults("own", classes, events, shown)
    results.save(folder)
    state = json.loads((folder / "run.json").read_text())
    state["options"] = {"video_id": folder.name, "threshold": 0.5, "workers": 1}
    state["inputs"] = {
        "video": {"named": f"{folder.name}.mp4", "content": {"bytes": seed}},
        "checkpoint": {"named": "runs/a", "content": {"sha256": "ab" * 32}},
    }
    (folder / "run.json").write_text(json.dumps(state))
    if summary:
        rows = people * keyframes
        values = {
            "length_s": 12.5, "keyframes": keyframes + 1, "people": rows, "people_tracked": rows,
            "people_filled": 0, "persons": people, "events": len(events),
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(values))
    return VideoResults.open(folder)


def _keyframe(generator, number: int, people: int, classes: LabelMap) -> KeyframeResult:
    scores = generator.random((people, len(classes))).round(6).astype(np.float32)
    return KeyframeResult(
        number / 2,
        np.arange(1, people + 1)[::-1].copy(),
        generator.random((people, 4)).round(6).astype(np.float32),
        generator.random(people).round(6).astype(np.float32),
        scores,
        tuple(tuple(classes.names[: 1 + row % 2]) for row in range(people)),
        classes.names,
        (96, 72),
        np.arange(people) % 2 == 0,
    )
