"""Score clip classification over views, and say how well it went.

Legend: n videos, V views of a video, K classes.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detection import build
from detection.checkpoints.load import build_network, describe_network
from detection.config import RunConfig
from detection.datasets.clip_list import ClipList
from detection.datasets.clips import ClipBatch, ClipDataset, ViewBatches, Views, collate_clips
from detection.engine.distributed import Processes
from detection.engine.inference import check_logits_finite
from detection.engine.tasks.action_scoring import (
    gather_unreadable,
    print_files,
    words_for_unreadable,
)
from detection.engine.tasks.base import batch_progress
from detection.evaluation.clip_accuracy import (
    ClipAccuracy,
    multi_label_accuracy,
    single_label_accuracy,
)
from detection.files import replacing, write_text
from detection.formats.json_text import json_text
from detection.models.classifier import ClipClassifier, X3DClassifier
from detection.models.counting import count_stages
from detection.models.inference import prepare_for_inference
from detection.structures import LabelMap


class VideoScores:
    """Scores of n videos, gathered view by view: their mean, or their maximum.

    The mean is X3D's and SlowFast's way for one class a video (of softmaxed scores), the maximum
    theirs for Charades.
    """

    def __init__(self, num_videos: int, num_classes: int, *, maximum: bool) -> None:
        self.num_views = np.zeros(num_videos, np.int64)
        self._sum_or_max = np.zeros((num_videos, num_classes))
        self._maximum = maximum
        self._combine = np.maximum if maximum else np.add

    def add(self, videos: NDArray[np.int64], scores: NDArray[np.floating]) -> None:
        """Take in scores (B, K) between 0 and 1 of views of `videos` (B,)."""
        self._combine.at(self._sum_or_max, videos, scores)
        np.add.at(self.num_views, videos, 1)

    def merge(self, other: VideoScores) -> None:
        """Take in what another process has gathered of other views."""
        self._sum_or_max = self._combine(self._sum_or_max, other._sum_or_max)
        self.num_views = self.num_views + other.num_views

    def scores(self) -> NDArray[np.float64]:
        """Return the (n, K) scores; 0, below any other, for a video without a view."""
        if self._maximum:
            return self._sum_or_max
        return self._sum_or_max / np.maximum(1, self.num_views)[:, None]


@dataclass(frozen=True)
class ClipScore:
    """How well videos were classified from some views.

    scored: (m,) positions of the videos that gave a view.  scores: (m, K) between 0 and 1.
    unreadable: how many gave none; they count as answered wrongly.  macs: multiply-adds of one
    view.  seconds: that scoring took.  unreadable_views: a line for each
    view that could not be read.
    """

    accuracy: ClipAccuracy
    views: Views
    scored: NDArray[np.int64]
    scores: NDArray[np.float64]
    unreadable: int
    macs: int
    seconds: float
    unreadable_views: Sequence[str] = ()


@dataclass
class ClipScorer:
    """Knows a list of videos and their classes; scores a network on any views of them.

    config: of the run.
    label_map: the network's classes.
    dataset: the views to score.
    device: that computes.
    processes: those that share the work.
    """

    config: RunConfig
    label_map: LabelMap
    dataset: ClipDataset
    device: torch.device
    processes: Processes

    def __post_init__(self) -> None:
        assert self.dataset.views is not None, "views are scored"
        self.views = self.dataset.views
        self._multi_label = self.config.classification.labels == "multi"

    def score(self, model: ClipClassifier, *, every: int = 1) -> ClipScore:
        """Score every n-th video; several processes share the views, and all get the score."""
        start = time.perf_counter()
        config, processes = self.config, self.processes
        dataset, size = self.dataset, config.evaluation.batch_size
        share = processes.share_of_data
        order = ViewBatches(dataset, batch_size=size, every=every, share=share)
        loader = build.build_loader(
            config, dataset, order, self.device, collate=collate_clips, on_unreadable="leave out"
        )
        what = f"scoring {self.views.clips} x {self.views.crops} views"
        bar = batch_progress(loader, what, processes)
        gathered, *others = processes.gather(self._score_views(model, bar))
        for part in others:
            gathered.merge(part)
        lines = gather_unreadable(loader, order.num_samples, processes)
        return processes.share(self._finish(model, gathered, every, start, lines))

    @torch.inference_mode()
    def _score_views(self, model: ClipClassifier, batches: Iterable[ClipBatch]) -> VideoScores:
        if isinstance(model, X3DClassifier):
            model = prepare_for_inference(model)
        found = VideoScores(len(self.dataset.clips), len(self.label_map), maximum=self._multi_label)
        for batch in batches:
            frames = batch.frames.to(self.device, non_blocking=True)
            scores = model.probabilities(frames, independent=self._multi_label)
            check_logits_finite(scores, batch.keys)
            found.add(batch.videos, scores.double().cpu().numpy())
        return found

    def _finish(
        self, model: ClipClassifier, found: VideoScores, every: int, start: float, lines: list[str]
    ) -> ClipScore:
        scores, labels = found.scores()[::every], self.dataset.clips.labels[::every]
        names, readable = self.label_map.names, found.num_views[::every] > 0
        if self._multi_label:
            accuracy = multi_label_accuracy(scores, labels, names)
        else:
            accuracy = single_label_accuracy(scores, labels, names, has_scores=readable)
        num_frames = self.config.clip.sampling.num_frames
        size_px = build.test_crop_px(self.config, self.views.crops)
        macs = count_view_macs(model, num_frames=num_frames, size_px=size_px)
        scored, lost = np.flatnonzero(readable) * every, int((~readable).sum())
        seconds = time.perf_counter() - start
        return ClipScore(accuracy, self.views, scored, scores[readable], lost, macs, seconds, lines)


def count_view_macs(model: Any, *, num_frames: int, size_px: int) -> int:
    """Return the multiply-adds of one view as it runs (the head at every window position)."""
    with torch.device("meta"):
        network = build_network(describe_network(model), source="the scored network")
    rows = count_stages(network, num_frames=num_frames, size_px=size_px)
    return sum(row.macs for row in rows)


def write_clip_results(
    folder: Path, score: ClipScore, clips: ClipList, label_map: LabelMap
) -> None:
    """Write predictions.csv (five best classes a video), per_class.csv and metrics.json."""
    best = min(5, len(label_map))
    with (
        replacing(folder / "predictions.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        columns = [f"{what}_{rank}" for rank in range(1, best + 1) for what in ("class", "score")]
        writer.writerow(["path", "label", *columns])
        for video, row in zip(score.scored.tolist(), score.scores, strict=True):
            labels = np.flatnonzero(clips.labels[video])
            found: list[str] = []
            for column in np.argsort(-row, kind="stable")[:best].tolist():
                found += [label_map.names[column], f"{row[column]:.6f}"]
            names = ";".join(label_map.names[column] for column in labels.tolist())
            writer.writerow([clips.names[video], names, *found])
    write_text(folder / "per_class.csv", per_class_csv(score.accuracy))
    write_text(folder / "metrics.json", json_text(as_json(score)))


def as_json(score: ClipScore) -> dict[str, Any]:
    """Return plain types; what does not apply is left out, `json_text` writes NaN as null."""
    accuracy = score.accuracy
    return {
        "task": "classification",
        "views": {"clips": score.views.clips, "crops": score.views.crops},
        "num_videos": accuracy.num_videos,
        "unreadable_videos": score.unreadable,
        "unreadable": list(score.unreadable_views),
        **headline(accuracy),
        "gmacs_per_view": score.macs / 1e9,
        "gmacs_per_video": len(score.views) * score.macs / 1e9,
        "scoring_seconds": round(score.seconds, 1),
        "per_class": dict(accuracy.per_class),
        "num_ground_truth": dict(accuracy.num_of_class),
    }


def headline(accuracy: ClipAccuracy) -> dict[str, float]:
    """Return the numbers that apply: mean_ap, or top1, top5 and mean_class."""
    names = ("top1", "top5", "mean_class", "mean_ap")
    values = {name: getattr(accuracy, name) for name in names}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def per_class_csv(accuracy: ClipAccuracy) -> str:
    """Return `class,AP or top1,videos`, one row a class; empty where a class has no video."""
    what = "top1" if math.isnan(accuracy.mean_ap) else "ap"
    lines = [f"class,{what},videos"]
    for name, value in accuracy.per_class.items():
        quoted = '"' + name.replace('"', '""') + '"' if set(name) & set(',"') else name
        text = "" if math.isnan(value) else f"{value:.6f}"
        lines.append(f"{quoted},{text},{accuracy.num_of_class[name]}")
    return "\n".join(lines) + "\n"


def print_clip_results(folder: Path, score: ClipScore) -> None:
    """Print the numbers, what they cost, and where everything is."""
    views = score.views
    numbers = "  ".join(f"{name} {value:.4f}" for name, value in headline(score.accuracy).items())
    print(f"{numbers}  ({score.accuracy.num_videos} videos)")
    if score.unreadable:
        print(f"{score.unreadable} videos could not be read and count as answered wrongly")
    if score.unreadable_views:
        print(words_for_unreadable(score.unreadable_views, "views", "are left out"))
    print(
        f"views: {views.clips} clips x {views.crops} crops a video, "
        f"{len(views)} x {score.macs / 1e9:.3f} GMAC, {score.seconds:.1f} s in all"
    )
    print_files(folder, "predictions.csv")
