"""Scores people detectors on the keyframes of a data set, and writes what came out."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detection.datasets.actor_table import ActorTable
from detection.datasets.folder import DatasetFolder
from detection.datasets.loader import ClipLoader, choose_keyframes
from detection.datasets.open_video import open_video
from detection.datasets.people import PeopleBatch, PeopleFrames
from detection.datasets.people_transforms import PeopleEvalTransform
from detection.datasets.workers import FixedBatches
from detection.engine.distributed import ALONE, Processes
from detection.engine.tasks.action_scoring import refuse_if_nothing_is_left, words_for_unreadable
from detection.engine.tasks.base import batch_progress
from detection.errors import UserError
from detection.evaluation.person_ap import (
    PersonAp,
    ScoreThreshold,
    best_threshold,
    person_ap,
    threshold_at,
)
from detection.files import write_text
from detection.people.torchvision_rcnn import TorchvisionDetector
from detection.structures import ActorBoxes, Keyframe


@dataclass(frozen=True)
class PeopleScore:
    """What a detector found on a part of a data set. One entry a frame.

    unreadable: a line for each frame that could not be read; its people count as missed.
    """

    ground_truth: Sequence[ActorBoxes]
    detections: Sequence[ActorBoxes]
    seconds: float
    unreadable: Sequence[str] = ()

    @functools.cached_property
    def figures(self) -> PersonAp:
        """COCO's figures."""
        return person_ap(self.ground_truth, self.detections)

    def best_threshold(self) -> ScoreThreshold | None:
        """Return the score from which boxes are best kept here."""
        return best_threshold(self.ground_truth, self.detections)

    def at(self, threshold: float) -> ScoreThreshold:
        """Return precision and recall of the boxes from this score on."""
        return threshold_at(threshold, self.ground_truth, self.detections)


def score_people(
    detector: TorchvisionDetector,
    folder: DatasetFolder,
    table: ActorTable,
    *,
    batch_size: int,
    workers: int,
    every: int = 1,
    processes: Processes = ALONE,
) -> PeopleScore:
    """Find the people of every n-th keyframe of each video, and keep them beside those there are.

    Several processes share the frames, and the first one gets what all of them found. Frames
    that cannot be read are left out: nothing is found in them. Raises `UserError` where none can be
    read, and for weights that are not finite: a detector drops what it is unsure of, so that NaN
    would look like a frame without people.
    """
    _check_weights(detector)
    started = time.monotonic()
    short_side, long_side = detector.sides_px
    positions = choose_keyframes(table.keyframes(), every=every)
    loader = ClipLoader(
        PeopleFrames(
            table,
            open_video=functools.partial(open_video, folder),
            transform=PeopleEvalTransform(short_side=short_side, long_side=long_side),
        ),
        FixedBatches([positions[processes.rank :: processes.count]], batch_size=batch_size),
        collate=PeopleBatch,
        workers=workers,
        pin_memory=detector.device.type == "cuda",
        on_unreadable="leave out",
        most_unreadable=1.0,
    )
    found: dict[Keyframe, ActorBoxes] = {}
    for batch in batch_progress(loader, "scoring", processes):
        people = detector.detect([frame.image for frame in batch.frames])
        found.update(zip((frame.keyframe for frame in batch.frames), people, strict=True))
    found = {key: people for part in processes.gather(found) for key, people in part.items()}
    unreadable = processes.share(
        [line for part in processes.gather(loader.unreadable) for line in part]
    )
    refuse_if_nothing_is_left(len(unreadable), len(positions), unreadable)
    return PeopleScore(
        [table.boxes(int(position)) for position in positions],
        [found.get(table.keyframe(int(position)), ActorBoxes.empty()) for position in positions],
        time.monotonic() - started,
        tuple(unreadable),
    )


def _check_weights(detector: TorchvisionDetector) -> None:
    for name, values in detector.network.state_dict().items():
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise UserError(
                f"{detector.name}: its weights '{name}' hold values that are no finite numbers"
            )


def write_people_results(
    folder: Path, *, detector: str, held_out: PeopleScore | None, val: PeopleScore, made_up: bool
) -> dict[str, Any]:
    """Write metrics.json; return what it holds.

    The threshold is chosen on the held-out part; precision and recall at it are of the validation
    split, which chose nothing.
    """
    chosen = None if held_out is None else held_out.best_threshold()
    metrics: dict[str, Any] = {
        "detector": detector,
        "made_up": made_up,
        "val": _plain(val),
        "held_out": None if held_out is None else _plain(held_out),
        "score_threshold": None if chosen is None else round(chosen.threshold, 4),
        "val_at_threshold": None
        if chosen is None
        else _finite(dataclasses.asdict(val.at(chosen.threshold))),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    return metrics


def print_people_results(folder: Path, held_out: PeopleScore | None, val: PeopleScore) -> None:
    """Print the figures as a table."""
    print(f"{'part':<12}{'frames':>9}{'people':>8}{'AP':>8}{'AP50':>8}{'AR':>8}{'recall50':>10}")
    for name, part in (("held out", held_out), ("validation", val)):
        if part is not None:
            f = part.figures
            print(
                f"{name:<12}{f.num_pictures:>9}{f.num_ground_truth:>8}{f.ap:>8.3f}{f.ap50:>8.3f}"
                f"{f.ar:>8.3f}{f.recall50:>10.3f}"
            )
            if part.unreadable:
                print(words_for_unreadable(part.unreadable, "frames", "count as missed"))
    chosen = None if held_out is None else held_out.best_threshold()
    if chosen is not None:
        at = val.at(chosen.threshold)
        print(
            f"boxes from score {chosen.threshold:.2f} on (best F1 on the held-out part): "
            f"precision {at.precision:.3f}, recall {at.recall:.3f} on validation"
        )
    print(f"results in {folder / 'metrics.json'}")


def _plain(score: PeopleScore) -> dict[str, Any]:
    rate = len(score.detections) / max(score.seconds, 1e-9)
    return _finite(
        {
            **dataclasses.asdict(score.figures),
            "pictures_per_second": round(rate, 1),
            "unreadable": list(score.unreadable),
        }
    )


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Make NaN null: JSON does not know it."""
    return {key: None if value != value else value for key, value in values.items()}
