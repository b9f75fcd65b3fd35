"""One round of teaching: labels in; a run folder and the page with suggestions out.

Legend: R decided people at keyframes, A classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detection.engine.probe import FOLDS
from detection.evaluation.thresholds import learn_thresholds
from detection.structures import ClassThresholds
from detection.teaching.labelled import Labelled, idle_people, undecided_keyframes
from detection.teaching.report import ClassReport, class_json, class_reports
from detection.teaching.session import Rows, Session


@dataclass(frozen=True)
class Round:
    """What came of one round.

    page: written again.  people: tracks of the page; decided: those wholly decided.
    keyframes, no_person: people at keyframes that are decided, and boxes that are no person.
    strangers: decided boxes that are on no track of the page.
    idle: tracks with a decided person who does none of the actions.
    classes, thresholds: of the fit; none where nothing was decided.
    warnings: signs that the network is broken.
    """

    page: Path
    people: int
    decided: int = 0
    keyframes: int = 0
    no_person: int = 0
    strangers: int = 0
    idle: int = 0
    classes: Sequence[ClassReport] = ()
    thresholds: ClassThresholds | None = None
    warnings: Sequence[str] = ()


def teach_once(
    session: Session, labelled: Mapping[str, Labelled], *, files: Sequence[Path]
) -> Round:
    """Fit on what is decided, write the run and the page; the page alone where nothing is.

    labelled: by video.  files: the label files, for the run's summary.
    """
    if not sum(map(len, labelled.values())):
        return Round(session.write_first_page(), session.people.count)
    session.compute_features(labelled)
    rows = session.rows(labelled)
    layer = session.fit(rows)
    warnings = session.broken_signs(rows, layer)
    thresholds = thresholds_of(session.held_out_scores(rows), rows)
    reports = class_reports(
        session.label_map,
        rows.labels.numpy() > 0,
        video=rows.video,
        track=rows.track,
        thresholds=thresholds,
    )
    summary = _summary(session, files, rows, reports, thresholds)
    session.write_run({**summary, "warnings": list(warnings)}, thresholds)
    page = session.suggest(rows, labelled, layer)
    return Round(
        page,
        session.people.count,
        decided=_wholly_decided(session, labelled),
        keyframes=sum(map(len, labelled.values())),
        no_person=sum(int(one.no_person.sum()) for one in labelled.values()),
        strangers=sum(int((one.track < 0).sum()) for one in labelled.values()),
        idle=sum(map(idle_people, labelled.values())),
        classes=reports,
        thresholds=thresholds,
        warnings=warnings,
    )


def thresholds_of(scores: Tensor, rows: Rows) -> ClassThresholds | None:
    """Learn thresholds from (R, A) scores of held-out videos; None where there are none.

    Classes that cannot be measured (NaN) have a threshold of 0.5.
    """
    measured = torch.isfinite(scores).all(0).numpy()
    if not measured.any():
        return None
    columns = np.flatnonzero(measured)
    is_true = rows.labels.numpy() > 0
    videos = len(np.unique(rows.video))
    learned = learn_thresholds(
        scores.numpy()[:, columns],
        is_true[:, columns],
        person_score=rows.person_score,
        source=f"{min(FOLDS, videos)} folds of {videos} videos, {len(is_true)} people at keyframes",
    )
    if learned is None or measured.all():
        return learned
    score, precision, recall = (np.full(len(measured), np.nan) for _ in range(3))
    score[:] = 0.5
    score[columns] = learned.score
    precision[columns], recall[columns] = learned.precision, learned.recall
    return dataclasses.replace(
        learned,
        score=score,
        precision=precision,
        recall=recall,
        examples=is_true.sum(0).astype(np.int64),
    )


def _wholly_decided(session: Session, labelled: Mapping[str, Labelled]) -> int:
    return sum(
        not undecided_keyframes(track, labelled.get(video_id)).any()
        for video_id, tracks in session.people.tracks.items()
        for track in tracks
    )


def _summary(
    session: Session,
    files: Sequence[Path],
    rows: Rows,
    reports: Sequence[ClassReport],
    thresholds: ClassThresholds | None,
) -> dict[str, Any]:
    return {
        "dataset": str(session.folder.root),
        "boxes": session.task.boxes,
        "split": session.task.split,
        "label_files": [str(path) for path in files],
        "people_at_keyframes": len(rows.labels),
        "learned_from": int(rows.learned.sum()),
        "videos": len(np.unique(rows.video)),
        "features": session.network.store.place.name,
        "measured_on": None if thresholds is None else thresholds.source,
        "classes": class_json(reports),
        "unreadable": session.unreadable,
    }
