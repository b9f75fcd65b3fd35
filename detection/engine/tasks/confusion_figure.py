"""Writes `confusion.png` into the folder of a run: which classes are taken for which."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detection.datasets.clip_list import ClipList
from detection.engine.tasks.action_scoring import Score, Scorer
from detection.engine.tasks.clip_scoring import ClipScore
from detection.evaluation.confusion import ConfusionTable, action_confusion, clip_confusion
from detection.reports.confusion import ConfusionWords, draw_confusion
from detection.reports.figures import write_png
from detection.structures import LabelMap

FILE_NAME = "confusion.png"
USUAL_THRESHOLD = 0.5  # where none was learned


def write_action_confusion(folder: Path, scorer: Scorer, score: Score) -> None:
    """Draw what was found of people beside what they are labelled with.

    The thresholds are those that were learned from these scores, else 0.5.
    """
    learned = score.thresholds
    table = action_confusion(
        score.found,
        scorer.ground_truth,
        scorer.label_map,
        threshold=np.full(len(scorer.label_map), USUAL_THRESHOLD)
        if learned is None
        else learned.score,
        exclusions=scorer.exclusions,
        times_person_score=learned is not None
        and learned.times_person_score
        and not scorer.multiplied,
    )
    thresholds = "of 0.5" if learned is None else f"learned on {learned.source}"
    words = ConfusionWords(
        "Of the people who do the row's action, and not the column's: for how many per cent is "
        "the column's scored at its threshold or above",
        "people",
        f"{scorer.config.data.val_split}, {score.boxes}; thresholds {thresholds}.",
    )
    _write(folder, table, words)


def write_clip_confusion(
    folder: Path, score: ClipScore, clips: ClipList, label_map: LabelMap, *, several: bool
) -> None:
    """Draw the scores of all videos of a list beside their labels.

    several: whether a video may be of several classes, which are then compared with 0.5.
    """
    labels = np.asarray(clips.labels) > 0
    scores, readable = np.zeros(labels.shape), np.zeros(len(labels), bool)
    scores[score.scored], readable[score.scored] = score.scores, True
    table = clip_confusion(
        labels,
        scores,
        label_map.names,
        has_scores=readable,
        threshold=USUAL_THRESHOLD if several else None,
    )
    title = (
        "Of the videos of the row's class, and not of the column's: how many per cent score 0.5 or "
        "more for the column's"
        if several
        else "Of the videos of the row's class: for how many per cent is the column's the highest "
        "score"
    )
    views = f"{score.views.clips} x {score.views.crops} views a video."
    _write(folder, table, ConfusionWords(title, "videos", views))


def _write(folder: Path, table: ConfusionTable, words: ConfusionWords) -> None:
    """Write the figure; where there is nothing to draw, no older one stays either."""
    figure = draw_confusion(table, words)
    if figure is None:
        (folder / FILE_NAME).unlink(missing_ok=True)
    else:
        write_png(folder / FILE_NAME, figure)
