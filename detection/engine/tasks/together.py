"""Scores on several box files by one pass of the network: `data.also_score_boxes`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
from torch import nn

from detection import build
from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import ActorTable
from detection.engine.tasks.action_scoring import Score, Scorer
from detection.models.soundness import broken_signs
from detection.structures import Detections


def score_together(scorers: Sequence[Scorer], model: nn.Module) -> list[Score]:
    """Score every keyframe on the boxes of each scorer, in one pass of the network.

    scorers: of one split and run, one at least; their boxes may be at other keyframes. `seconds`
    of each score are those of the pass and of its own judging.
    """
    first, start = scorers[0], time.perf_counter()
    tables = [_one_table(scorer.dataset) for scorer in scorers]
    dataset = first.dataset
    if len(scorers) > 1:
        datasets = [scorer.dataset for scorer in scorers]
        dataset = build.build_joined_val_dataset(first.config, first.folder, datasets)
        for scorer in scorers:
            dataset.adopt_checks(scorer.dataset)
    together, unreadable = first.detect(model, dataset)
    passed_s = time.perf_counter() - start
    parts = split_detections(together, tables)
    scores = []
    for scorer, of_scorer, found in zip(scorers, tables, parts, strict=True):
        start = time.perf_counter()
        scorer.largest_logit = first.largest_logit
        scorer.unreadable = _lines_of(of_scorer, found, unreadable) if unreadable else []
        result, kept = scorer.judge(found)
        seconds = passed_s + time.perf_counter() - start
        warnings = broken_signs(model, scorer.largest_logit)
        boxes = scorer.describe_boxes()
        score = Score(result, kept, boxes, seconds, scorer.unreadable, warnings=warnings)
        scores.append(dataclasses.replace(score, relevance=scorer.relevance))
    return scores


def _one_table(dataset: AvaDataset) -> ActorTable:
    assert isinstance(dataset.table, ActorTable)
    return dataset.table


def split_detections(
    found: Sequence[Detections], tables: Sequence[ActorTable]
) -> list[list[Detections]]:
    """Return the detections of each table's own actors, at its own keyframes.

    found: of the tables joined: at a keyframe the actors of the first table, then of the second.
    """
    places = [{key: place for place, key in enumerate(table.keyframes())} for table in tables]
    parts: list[list[Detections]] = [[] for _ in tables]
    for one in found:
        first = 0
        for table, of, part in zip(tables, places, parts, strict=True):
            if one.keyframe not in of:
                continue
            end = first + len(table.boxes(of[one.keyframe]))
            mine = np.arange(first, end)
            boxes, scores = one.boxes.select(mine), one.action_scores[first:end]
            part.append(dataclasses.replace(one, boxes=boxes, action_scores=scores))
            first = end
        assert first == len(one.boxes), (first, len(one.boxes))
    return parts


def _lines_of(
    table: ActorTable, found: Sequence[Detections], unreadable: Sequence[str]
) -> list[str]:
    """Return a line for each keyframe of a table that nothing was found of.

    unreadable: the lines of all tables' keyframes together, in no order that tells which.
    """
    there = {one.keyframe for one in found}
    missing = [key for key in table.keyframes() if key not in there]
    lines = []
    for key in missing:
        of_video = [line for line in unreadable if key.video_id in line]
        lines.append(f"{key}: {(of_video or unreadable)[0]}")
    return lines
