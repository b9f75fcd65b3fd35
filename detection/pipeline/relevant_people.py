"""Relevance in the pipeline: whose it is, and people weighed by it before they are tracked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from detection.checkpoints.file import ModelFile
from detection.errors import UserError
from detection.people.base import PeopleDetector
from detection.relevance import Relevance
from detection.structures import ActorBoxes


def find_relevance(
    file: ModelFile, people: str | Path | PeopleDetector, device: torch.device
) -> Relevance:
    """Return a run's relevance.

    people: the detector in use, as `load_people_detector` takes it, or an opened one.
    Raises `UserError` where the run has none, and unless it was fitted to this detector's boxes.
    """
    from detection.people.box_origin import origin_of_detector  # takes long to import

    if file.relevance is None:
        raise UserError(
            f"{file.path}: holds no relevance, its run was not trained with people.relevance=fit; "
            "--relevance has to be left out"
        )
    origin = origin_of_detector(people, device)
    file.relevance.check_detector(origin, source=file.path, by_name=False)
    return file.relevance


def weigh_people(boxes: ActorBoxes, relevance: Relevance) -> ActorBoxes:
    """Return the (N,) boxes of a frame that relevance compares, scores weighed, the best first."""
    weighed = relevance.weigh(boxes.select(boxes.score >= relevance.least_score))
    return weighed.select(np.argsort(-weighed.score, kind="stable"))
