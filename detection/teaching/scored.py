"""Everybody of a taught run's data set, scored: what `train_ava.py` writes at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from detection.checkpoints.file import read_model_file
from detection.config import load_config
from detection.datasets.ava_csv import write_detections
from detection.datasets.labelling_task import TASK_FILE
from detection.errors import UserError
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap
from detection.teaching.features import PersonKeyframes
from detection.teaching.fit import probabilities
from detection.teaching.labelled import people_of
from detection.teaching.run import SUMMARY_FILE
from detection.teaching.session import Session

DETECTIONS_FILE = "detections.csv"


def is_taught(run: Path) -> bool:
    """Say whether a run folder is one that teaching wrote."""
    return (run / SUMMARY_FILE).is_file()


def score_taught_run(
    run: Path, *, dataset: Path | None = None, show_progress: bool = False
) -> tuple[Path, LabelMap]:
    """Write RUN/detections.csv: all people of the label page, by the run's last layer.

    dataset: the data set folder, if it moved since.  Features that are kept are not computed again.
    Scores are multiplied by the confidence in the person where the run's thresholds are for such.
    Returns the file and its classes. Raises `UserError` for a run of other classes than the data
    set's page now has, and where there is no person at all.
    """
    file = read_model_file(run)
    config = load_config(run / "config.yaml")
    root = dataset or Path(config.data.root)
    session = Session.open(root, config, run, show_progress=show_progress)
    if file.classes is None or file.classes.names != session.label_map.names:
        raise UserError(
            f"{run}: was taught other classes than {session.folder.root / TASK_FILE} now has; "
            f"teach it again: python -m ava_tools.teach --dataset {root} --out {run}"
        )
    if not session.people.count:
        raise UserError(f"{session.folder.root}: no people on the label page, nothing to score")
    session.compute_features({})
    layer = file.state["head.classes.weight"], file.state["head.classes.bias"]
    multiplied = file.thresholds is not None and file.thresholds.times_person_score
    path = run / DETECTIONS_FILE
    found = _detections(session, layer)
    write_detections(path, found, session.label_map, multiply_person_score=multiplied)
    return path, session.label_map


def _detections(session: Session, layer: tuple[Tensor, Tensor]) -> Iterator[Detections]:
    """Yield each keyframe's people; those whose clip cannot be read are left out."""
    for video_id, tracks in session.people.tracks.items():
        people = PersonKeyframes.joined([people_of(track) for track in tracks])
        person_score = np.concatenate(
            [np.zeros(0, np.float32), *(track.person_score for track in tracks)]
        )
        features, known = session.network.store.read(video_id, people)
        scores = probabilities(features, layer).numpy()
        for time_us in np.unique(people.time_us[known]).tolist():
            rows = np.flatnonzero(known & (people.time_us == time_us))
            boxes = ActorBoxes(people.boxes_01[rows].astype(np.float32), person_score[rows])
            yield Detections(Keyframe(video_id, time_us / 1e6), boxes, scores[rows])
