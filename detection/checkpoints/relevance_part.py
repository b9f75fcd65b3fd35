"""A fitted relevance as plain values of a checkpoint, and back, checked."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from detection.bounds import LARGEST_WHOLE
from detection.checkpoints.plain_file import SavedValues
from detection.errors import UserError, printable
from detection.relevance import FEATURES, BoxOrigin, Relevance

_COUNTS = ("num_boxes", "num_labelled", "num_videos")


def plain_relevance(relevance: Relevance) -> dict[str, Any]:
    """Return plain types only; `read_relevance` reads them back."""
    return {
        "features": list(relevance.features),
        "weights": [float(weight) for weight in relevance.weights],
        "bias": float(relevance.bias),
        "origin": dataclasses.asdict(relevance.origin),
        "least_score": float(relevance.least_score),
        **{name: int(getattr(relevance, name)) for name in _COUNTS},
    }


def read_relevance(path: str, whole: SavedValues) -> Relevance | None:
    """Return the relevance that a file states; None where it has none.

    Raises `UserError` for what is damaged, and for features that this version does not have.
    """
    if whole.raw("relevance", None) is None:
        return None
    said = whole.within("relevance")
    said.refuse_others(("features", "weights", "bias", "origin", "least_score", *_COUNTS))
    features = said.texts("features")
    if features != FEATURES:
        said.refuse("features", list(features), f"this version's {len(FEATURES)} features are")
    weights = said.listed("weights")
    for index, value in enumerate(weights):
        if type(value) is not float or not math.isfinite(value):
            said.refuse(f"weights[{index}]", value, "a finite number is")
    origin = said.within("origin")
    origin.refuse_others(("boxes", "detector"))
    detector = None if origin.raw("detector") is None else _text(origin, "detector")
    try:
        return Relevance(
            features,
            np.array(weights, np.float64),
            float(said.number("bias", -1e30, 1e30)),
            BoxOrigin(_text(origin, "boxes"), detector),
            float(said.number("least_score", 0, 1)),
            **{name: said.whole(name, 1, LARGEST_WHOLE) for name in _COUNTS},
        )
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: a damaged checkpoint: relevance: {error}") from error


def _text(said: SavedValues, name: str) -> str:
    value = said.raw(name)
    if type(value) is not str or not value:
        said.refuse(name, value, "a text is")
    return printable(value)
