"""Detect on a split, score it, and say how well it went."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detection import build
from detection.config import RunConfig
from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows
from detection.datasets.ava_csv import AvaRows, write_detections
from detection.datasets.folder import DatasetFolder
from detection.datasets.loader import ClipLoader
from detection.engine.distributed import Processes
from detection.engine.inference import detect
from detection.engine.tasks.base import batch_progress
from detection.errors import UserError, printable
from detection.evaluation.evaluator import ActionEvaluator
from detection.evaluation.frame_map import AvaFrameMap
from detection.evaluation.thresholds import (
    HeldOutScores,
    learn_from_detections,
    learn_thresholds,
)
from detection.files import write_text
from detection.formats.json_text import json_text
from detection.models.action_detector import ActionDetector
from detection.models.inference import prepare_for_inference
from detection.models.soundness import largest_logit
from detection.people.beside_run import use_command
from detection.relevance import Relevance
from detection.reports.evaluation_text import as_csv, as_json, fraction, summary, table
from detection.reports.thresholds_text import thresholds_json, thresholds_table
from detection.structures import (
    GROUND_TRUTH_BOXES,
    ClassThresholds,
    Detections,
    Keyframe,
    LabelMap,
)
from detection.tracking.scoring import TrackScoring, score_along_tracks


@dataclass
class Scorer:
    """Knows a split's keyframes, boxes and ground truth; scores a network on them.

    config: whose validation split and rules.
    folder: the data set.
    label_map: the network's classes.
    dataset: the clips to score.
    device: that computes.
    processes: those that share the work.
    relevance: that multiplies the scores of people; None where none does.
    """

    config: RunConfig
    folder: DatasetFolder
    label_map: LabelMap
    dataset: AvaDataset
    device: torch.device
    processes: Processes
    relevance: Relevance | None = None

    def __post_init__(self) -> None:
        split = self.folder.split(self.config.data.val_split)
        self.scored = self.folder.read_label_map()
        self.largest_logit = 0.0  # of the last scoring
        self.unreadable: list[str] = []  # a line for each keyframe that the last scoring missed
        self._evaluator = ActionEvaluator(
            read_ground_truth_rows(split),
            self.label_map,
            exclusions=read_exclusions(split),
            protocol=self.config.evaluation.protocol or self.folder.file.evaluation.protocol,
            scored=self.scored,
        )

    def score(
        self, model: nn.Module, *, every: int = 1
    ) -> tuple[AvaFrameMap, Sequence[Detections]]:
        """Detect on every n-th keyframe and score; also return what was found, by keyframe.

        Several processes share the keyframes and all get the score; the first has what was found.
        With `every` above 1 the keyframes left out count as missed, so such a score is for
        comparing epochs of one run, and nothing else.
        """
        found, self.unreadable = self.detect(model, self.dataset, every=every)
        return self.judge(found)

    def detect(
        self, model: nn.Module, dataset: AvaDataset, *, every: int = 1
    ) -> tuple[list[Detections], list[str]]:
        """Return what is found at every n-th keyframe, and a line for each that is unreadable.

        In the first of several processes it is what all of them found.
        """
        config, processes = self.config, self.processes
        share = processes.share_of_data
        loader = build.build_val_loader(config, dataset, self.device, every=every, share=share)
        bar = batch_progress(loader, "scoring", processes)
        largest = [0.0]

        def note(logits: torch.Tensor) -> None:
            largest[0] = max(largest[0], largest_logit(logits))

        if isinstance(model, ActionDetector):
            model = prepare_for_inference(model)
        found = list(detect(model, bar, device=self.device, on_logits=note))
        self.largest_logit = max(part[0] for part in processes.gather(largest) or [largest])
        unreadable = gather_unreadable(loader, loader.batches.num_samples, processes)
        return [one for part in processes.gather(found) for one in part], unreadable

    def judge(self, found: Sequence[Detections]) -> tuple[AvaFrameMap, Sequence[Detections]]:
        """Score detections; all processes get the score, the first also what was found."""
        self._evaluator.reset()
        self._evaluator.update(found)
        self._weigh()
        return self.processes.share(self._evaluator.compute()), self._evaluator.found()

    def describe_boxes(self) -> str:
        """Say whose boxes the actions were scored on."""
        name = self.config.data.val_boxes
        if name == GROUND_TRUTH_BOXES:
            return "ground-truth boxes (people are given, not detected)"
        threshold = self.config.data.box_score_threshold
        words = f"detected boxes '{name}' with score of at least {threshold}"
        if self.relevance is not None:
            words += (
                ", that score times the probability that the person is one who is labelled "
                "(relevance)"
            )
        if (tracks := self._along_tracks) is not None:
            words += f", scores {tracks}"
        if self.config.evaluation.multiply_person_score:
            words += ", action scores multiplied by the box's score"
        return words

    @property
    def ground_truth(self) -> AvaRows:
        """The labels that scores are compared with."""
        return self._evaluator.ground_truth

    @property
    def exclusions(self) -> frozenset[Keyframe]:
        """Keyframes that do not count."""
        return self._evaluator.exclusions

    @property
    def multiplied(self) -> bool:
        """Whether what is found has scores that are multiplied by the confidence in the person."""
        rules, boxes = self.config.evaluation, self.config.data.val_boxes
        return rules.multiply_person_score and boxes != GROUND_TRUTH_BOXES

    @property
    def _along_tracks(self) -> TrackScoring | None:
        """How scores of detected boxes are averaged along tracks; None where they are not."""
        rules = self.config.evaluation
        if rules.track_reach_s is None or self.config.data.val_boxes == GROUND_TRUTH_BOXES:
            return None
        return TrackScoring(reach_s=rules.track_reach_s, fill=rules.fill_misses)

    def thresholds(
        self, found: Sequence[Detections], beside: HeldOutScores | None = None
    ) -> ClassThresholds | None:
        """Learn each class's threshold from what was found; None where no box is right.

        beside: scores of other held-out people, which count as much; alone where what was found is
        on what the network was trained on.
        The confidence in a person tells nothing on ground-truth boxes. Where scores are multiplied
        by it already, their thresholds are for such scores.
        """
        name = self.config.data.val_boxes
        detected, multiplied = name != GROUND_TRUTH_BOXES, self.multiplied
        boxes = f"boxes '{name}'" if detected else "ground-truth boxes"
        if self.relevance is not None:
            boxes += " times relevance"
        split = self.config.data.val_split
        if split == self.config.data.train_split:
            if beside is not None:
                return learn_thresholds(*beside.judged(), source=beside.source)
            split += " (what it was trained on)"
        learned = learn_from_detections(
            found,
            self.ground_truth,
            self.label_map,
            exclusions=self.exclusions,
            detected=detected and not multiplied,
            source=f"{split}, {boxes}",
            beside=beside,
        )
        if learned is None or not multiplied:
            return learned
        return dataclasses.replace(learned, times_person_score=True)

    def _weigh(self) -> None:
        """Apply what is asked of these: relevance, the mean along tracks, the person's score."""
        tracks, multiplied = self._along_tracks, self.config.evaluation.multiply_person_score
        if tracks is None and not multiplied:
            return
        found: Sequence[Detections] = self._evaluator.found()
        if self.relevance is not None:
            found = [
                dataclasses.replace(one, boxes=self.relevance.weigh(one.boxes)) for one in found
            ]
        if tracks is not None:
            keyframes = self._evaluator.ground_truth.keyframes()
            found = score_along_tracks(found, tracks, keyframes=keyframes)
        if multiplied:
            found = [
                dataclasses.replace(one, action_scores=one.action_scores * one.boxes.score[:, None])
                for one in found
            ]
        self._evaluator.reset()
        self._evaluator.update(found)


@dataclass(frozen=True)
class Score:
    """A score, what was found, on whose boxes, and how many seconds it took.

    unreadable: a line for each keyframe whose clip could not be read; its actors count as missed.
    thresholds: learned from what was found; None where nothing right was.
    relevance: that multiplied the scores of people; None where none did.
    warnings: signs that the network is broken.
    """

    result: AvaFrameMap
    found: Sequence[Detections]
    boxes: str
    seconds: float
    unreadable: Sequence[str] = ()
    thresholds: ClassThresholds | None = None
    relevance: Relevance | None = None
    warnings: Sequence[str] = ()


def write_results(
    run_folder: Path, score: Score, label_map: LabelMap, *, others: Sequence[Score] = ()
) -> None:
    """Write detections.csv (all classes), per_class.csv and metrics.json (those that count).

    others: scores on other boxes; metrics.json has them under `other_boxes`.
    """
    write_detections(run_folder / "detections.csv", score.found, label_map)
    write_text(run_folder / "per_class.csv", as_csv([score.result]))
    values = _as_json(score)
    if score.relevance is not None:
        values["relevance"] = str(score.relevance)
    if score.warnings:
        values["warnings"] = list(score.warnings)
    if score.thresholds is not None:
        values["thresholds"] = thresholds_json(score.thresholds, label_map)
    if others:
        values["other_boxes"] = [_as_json(other) for other in others]
    write_text(run_folder / "metrics.json", json_text(values))


def print_results(
    run_folder: Path,
    score: Score,
    scored: LabelMap,
    label_map: LabelMap,
    *,
    others: Sequence[Score] = (),
    made_up: bool,
) -> None:
    """Print the tables, the number, and where everything is.

    scored, label_map: the classes that count, and the network's.
    """
    print(table(score.result, scored))
    if score.thresholds is not None:
        print(thresholds_table(score.thresholds, label_map))
    print(summary(score.result))
    print(f"boxes: {score.boxes}")
    if score.relevance is not None:
        print(printable(str(score.relevance)))
    for line in score.warnings:
        print(f"warning: {line}")
    if score.unreadable:
        print(words_for_unreadable(score.unreadable, "keyframes", "count as missed"))
    for other in others:
        print(f"beside it: frame-mAP {fraction(other.result.mean_ap)} with {other.boxes}")
    if made_up:
        print("data: made up (drawn by a program), no measure of how well real actions are found")
    print_files(run_folder, "detections.csv")
    print(f"draw it: python -m ava_tools.visualize --run {run_folder}")
    if (run_folder / "checkpoints" / "last.pt").is_file():
        print(f"use it: {use_command(run_folder)}")


def _as_json(score: Score) -> dict[str, Any]:
    return {
        **as_json(score.result),
        "boxes": score.boxes,
        "scoring_seconds": round(score.seconds, 1),
        "unreadable_keyframes": len(score.unreadable),
        "unreadable": list(score.unreadable),
    }


def words_for_unreadable(lines: Sequence[str], what: str, counted: str) -> str:
    """Say how many could not be read, what became of them, and the first three."""
    more = "; ..." if len(lines) > 3 else ""
    return f"{len(lines)} {what} could not be read and {counted}: {'; '.join(lines[:3])}{more}"


def gather_unreadable(loader: ClipLoader[Any], asked: int, processes: Processes) -> list[str]:
    """Return a line for each sample that any process could not read: in the first process, all.

    asked: how many this process had to read.  Raises `UserError` where nothing could be read.
    """
    counts = processes.sum([len(loader.unreadable), asked])
    lines = [line for part in processes.gather(loader.unreadable) for line in part]
    refuse_if_nothing_is_left(int(counts[0]), int(counts[1]), lines)
    return lines


def print_files(run_folder: Path, found: str) -> None:
    """Print where a run's files are, those that are there; found: the table of what was found."""
    print(f"run folder: {run_folder}")
    for name in ("metrics.json", "per_class.csv", found, "checkpoints/last.pt"):
        if (run_folder / name).is_file():
            print(f"  {run_folder / name}")


def refuse_if_nothing_is_left(lost: int, asked: int, lines: Sequence[str]) -> None:
    """Raise `UserError` where nothing of what was asked for could be read: that is no score."""
    if lost and lost >= asked:
        first = f"; the first: {lines[0]}" if lines else ""
        raise UserError(f"none of {asked} could be read to be scored{first}")
