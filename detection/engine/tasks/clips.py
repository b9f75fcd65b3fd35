"""Clip classification, as X3D is pre-trained: one label, or several, for a whole video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from detection import build
from detection.config import RunConfig
from detection.datasets.clips import ClipBatch, Views, collate_clips
from detection.datasets.loader import ClipLoader, TrainBatches
from detection.engine.distributed import Processes
from detection.engine.metrics_log import MetricsLog
from detection.engine.tasks.base import Evaluation, check_videos
from detection.engine.tasks.clip_scoring import (
    ClipScore,
    ClipScorer,
    headline,
    print_clip_results,
    write_clip_results,
)
from detection.engine.tasks.confusion_figure import write_clip_confusion
from detection.engine.tasks.x3d import X3DTask
from detection.models.classifier import ClipClassifier, X3DClassifier
from detection.models.losses import summed_action_loss, summed_clip_loss
from detection.structures import Keyframe


class ClipTask(X3DTask):
    """Learns from a list of videos; scored by top-1, or by mAP where they have several classes."""

    name = "classification"

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._multi_label = config.classification.labels == "multi"
        self.metric = "mean_ap" if self._multi_label else "top1"
        self.classes_path, self.label_map = build.read_clip_classes(config)
        self.exclusive: Mapping[str, tuple[int, ...]] = {}  # what is known of people, not of clips

    @property
    def data_files(self) -> dict[str, Path | str]:
        """See `Task.data_files`."""
        data = self._config.data
        splits = (data.train_split, data.val_split)
        lists: dict[str, Path | str] = {f"list '{s}'": Path(data.root) / f"{s}.csv" for s in splits}
        return {"classes": self.classes_path, **lists}

    def build_model(self) -> X3DClassifier:
        """See `Task.build_model`."""
        return build.build_classification_model(self._config, num_classes=len(self.label_map))

    def prepare_scoring(self, *, device: torch.device, processes: Processes) -> None:
        """Read the list to score, and see that its videos are there."""
        self._device, self._processes = device, processes
        split = self._config.data.val_split
        self._val_clips = build.read_clips(self._config, split, self.label_map)
        dataset = build.build_view_dataset(self._config, self._val_clips, Views(1))
        check_videos(dataset, self._config, processes)

    def training_batches(
        self, *, device: torch.device, processes: Processes
    ) -> tuple[ClipLoader[ClipBatch], TrainBatches]:
        """See `Task.training_batches`."""
        clips = build.read_clips(self._config, self._config.data.train_split, self.label_map)
        dataset = build.build_clip_dataset(self._config, clips)
        check_videos(dataset, self._config, processes)
        share = processes.share_of_data
        videos = [Keyframe(name, 0.0) for name in clips.names]
        order = build.build_train_order(self._config, videos, share=share)
        loader = build.build_loader(self._config, dataset, order, device, collate=collate_clips)
        return loader, order

    def summed_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Cross-entropy, a term for each clip; binary, for each clip and class, where several."""
        if self._multi_label:
            return summed_action_loss(logits, labels), labels.numel()
        return summed_clip_loss(logits, labels), len(labels)

    def score(self, model: nn.Module) -> Evaluation:
        """Return the metric of every `data.val_every`-th video, from few views."""
        views = Views(self._config.classification.val_clips)
        accuracy = self.score_views(model, views, every=self._config.data.val_every).accuracy
        score = accuracy.mean_ap if self._multi_label else accuracy.top1
        return Evaluation(score, accuracy.per_class)

    def report(self, model: nn.Module, folder: Path, log: MetricsLog) -> None:
        """See `Task.report`: predictions.csv, per_class.csv, metrics.json, confusion.png."""
        options = self._config.classification
        score = self.score_views(model, Views(options.test_clips, options.test_crops))
        if not self._processes.is_first:
            return
        write_clip_results(folder, score, self._val_clips, self.label_map)
        write_clip_confusion(
            folder, score, self._val_clips, self.label_map, several=self._multi_label
        )
        log.write(
            "final",
            **headline(score.accuracy),
            views=[score.views.clips, score.views.crops],
            per_class=dict(score.accuracy.per_class),
            seconds=round(score.seconds, 1),
        )
        print_clip_results(folder, score)

    def score_views(self, model: nn.Module, views: Views, *, every: int = 1) -> ClipScore:
        """Score every n-th video from any views; all processes get the score."""
        assert isinstance(model, ClipClassifier)
        scorer = ClipScorer(
            self._config,
            self.label_map,
            build.build_view_dataset(self._config, self._val_clips, views),
            device=self._device,
            processes=self._processes,
        )
        return scorer.score(model, every=every)
