"""Actions of people in clips: the task this project is for (see `base.py`)."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from detection import build
from detection.checkpoints.file import ModelFile, write_thresholds
from detection.config import RunConfig
from detection.datasets.folder import DatasetFolder
from detection.datasets.label_map import read_label_map
from detection.datasets.loader import ClipLoader, TrainBatches, collate
from detection.datasets.split_joins import require_labels, split_mismatches
from detection.engine.data_digests import RULES, rules_of, split_files
from detection.engine.distributed import Processes
from detection.engine.metrics_log import MetricsLog
from detection.engine.probe import collect_features, fit_linear, set_last_layer
from detection.engine.tasks.action_scoring import Scorer, print_results, timed_score, write_results
from detection.engine.tasks.base import Evaluation, batch_progress, check_videos
from detection.engine.tasks.x3d import X3DTask
from detection.errors import printable
from detection.models.action_detector import ActionDetector
from detection.models.losses import summed_action_loss
from detection.people.beside_run import store_people
from detection.structures import GROUND_TRUTH_BOXES, Batch, ClassThresholds, LabelMap


class ActionTask(X3DTask):
    """Learns from a data set folder's actors; scored by frame-mAP on the boxes asked for."""

    name = "actions"
    metric = "mean_ap"

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._data = DatasetFolder.open(config.data.root, how_to_get=config.data.how_to_get)
        self.classes_path = self._data.label_map_path
        if config.data.label_map is None:
            self.label_map: LabelMap = self._data.read_label_map()
        else:
            self.label_map = read_label_map(self._data.root / config.data.label_map)
        self.exclusive: Mapping[str, tuple[int, ...]] = self._exclusive_groups()
        self._checkpoint: Path | None = None  # that holds the weights under way

    def _exclusive_groups(self) -> dict[str, tuple[int, ...]]:
        """Return the data set's groups, less the classes that are not learned."""
        whole, columns = self._data.read_label_map(), self.label_map.index_by_name
        groups = {
            name: tuple(columns[whole.names[c]] for c in group if whole.names[c] in columns)
            for name, group in self._data.exclusive_groups(whole).items()
        }
        return {name: group for name, group in groups.items() if len(group) > 1}

    @property
    def data_files(self) -> dict[str, Path | str]:
        """See `Task.data_files`."""
        data = self._config.data
        names = dict.fromkeys((data.val_boxes, *data.also_score_boxes))
        scored = tuple(name for name in names if name != GROUND_TRUTH_BOXES)
        learned = () if data.train_boxes is None else (data.train_boxes,)
        files: dict[str, Path | str] = {"label map": self.classes_path}
        if data.label_map is not None:
            files["learned label map"] = self._data.root / data.label_map
        return {
            **files,
            RULES: rules_of(self._data),
            **split_files(self._data, data.train_split, learned),
            **split_files(self._data, data.val_split, scored),
        }

    def begin(self, folder: Path) -> Mapping[str, Any]:
        """See `Task.begin`; the detector whose boxes were labelled is the run's own."""
        store_people(folder, self._data.file.people)
        return {}

    def build_model(self) -> ActionDetector:
        """See `Task.build_model`."""
        return build.build_model(self._config, num_classes=len(self.label_map))

    def prepare_scoring(self, *, device: torch.device, processes: Processes) -> None:
        """Read the boxes to score on, the headline's and those beside it."""
        self._device, self._processes = device, processes
        names = (self._config.data.val_boxes, *self._config.data.also_score_boxes)
        for name in names:
            self._tell_mismatches(self._config.data.val_split, processes, name)
        self._scorer, *self._others = [self._scorer_on(name, device) for name in names]

    def training_batches(
        self, *, device: torch.device, processes: Processes
    ) -> tuple[ClipLoader[Batch], TrainBatches]:
        """See `Task.training_batches`."""
        table = build.read_train_table(self._config, self._data, self.label_map)
        require_labels(self._data, self._config.data.train_split, self.label_map)
        data = self._config.data
        self._tell_mismatches(data.train_split, processes, data.train_boxes)
        dataset = build.build_train_dataset(self._config, self._data, table)
        check_videos(dataset, self._config, processes)
        share = processes.share_of_data
        order = build.build_train_order(self._config, table.keyframes(), share=share)
        return build.build_loader(self._config, dataset, order, device, collate=collate), order

    def fit_probe(
        self, model: nn.Module, *, device: torch.device, processes: Processes
    ) -> str | None:
        """See `Task.fit_probe`; every process ends with the same last layer."""
        assert isinstance(model, ActionDetector)
        probe = self._config.probe
        if probe.keyframes_per_video is None:
            return None
        table = build.read_train_table(self._config, self._data, self.label_map)
        dataset = build.build_val_dataset(self._config, self._data, table)
        share = processes.share_of_data
        loader = build.build_probe_loader(self._config, dataset, device, share=share)
        bar = batch_progress(loader, "linear probe", processes)
        parts = processes.gather(collect_features(model, bar, device=device))
        features, labels = (torch.cat(values) for values in zip(*parts, strict=True))
        layer = None
        if processes.is_first:
            layer = fit_linear(features, labels, parts=model.head.feature_parts, l2=probe.l2)
        layer = processes.share(layer)
        assert layer is not None
        set_last_layer(model, *layer)
        return (
            f"linear probe: the last layer fitted to {len(labels)} actors, "
            f"{probe.keyframes_per_video} keyframes a video"
        )

    def summed_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Binary cross-entropy; a term for each actor and class."""
        return summed_action_loss(logits, labels), labels.numel()

    def score(self, model: nn.Module) -> Evaluation:
        """Return the mAP on every `data.val_every`-th keyframe."""
        result = self._scorer.score(model, every=self._config.data.val_every)[0]
        return Evaluation(result.mean_ap, result.per_class)

    def report(self, model: nn.Module, folder: Path, log: MetricsLog) -> None:
        """See `Task.report`: detections.csv, per_class.csv, metrics.json.

        Learned thresholds go into the checkpoint that these weights are from: of a run that is
        trained or gone on with, not of one that is only evaluated.
        """
        score = timed_score(self._scorer, model)
        others = [timed_score(scorer, model) for scorer in self._others]
        if not self._processes.is_first:
            return
        score = dataclasses.replace(score, thresholds=self._scorer.thresholds(score.found))
        self._store(score.thresholds)
        write_results(folder, score, self.label_map, others=others)
        for one in (*others, score):
            log.write(
                "final",
                mean_ap=one.result.mean_ap,
                boxes=one.boxes,
                seconds=round(one.seconds, 1),
                per_class=dict(one.result.per_class),
            )
        made_up = self._data.file.made_up
        print_results(
            folder, score, self._scorer.scored, self.label_map, others=others, made_up=made_up
        )

    def learn_thresholds(self, model: nn.Module) -> ClassThresholds | None:
        """Score every keyframe and learn each class's threshold; None where nothing right is."""
        return self._scorer.thresholds(self._scorer.score(model)[1])

    def load(self, model: nn.Module, file: ModelFile) -> None:
        """See `Task.load`."""
        super().load(model, file)
        self._checkpoint = Path(file.path)

    def save(self, path: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """See `Task.save`."""
        super().save(path, model, training)
        if path.stem == "last":
            self._checkpoint = path

    def _store(self, thresholds: ClassThresholds | None) -> None:
        """Put thresholds into the checkpoint whose weights they were learned with."""
        as_saved = self._config.evaluation.use_average or self._config.optim.ema_decay is None
        if thresholds is not None and self._checkpoint is not None and as_saved:
            write_thresholds(self._checkpoint, thresholds)

    def _tell_mismatches(self, split: str, processes: Processes, boxes: str | None) -> None:
        """Say once what has no partner in the files of a split."""
        if not processes.is_first:
            return
        for sentence in split_mismatches(
            self._data,
            split,
            self.label_map,
            boxes=None if boxes == GROUND_TRUTH_BOXES else boxes,
            score_threshold=self._config.data.box_score_threshold,
        ):
            tqdm.write(printable(f"warning: {sentence}"), file=sys.stderr)

    def _scorer_on(self, boxes: str, device: torch.device) -> Scorer:
        data = dataclasses.replace(self._config.data, val_boxes=boxes)
        config = dataclasses.replace(self._config, data=data)
        table = build.read_val_table(config, self._data, self.label_map)
        dataset = build.build_val_dataset(config, self._data, table)
        check_videos(dataset, self._config, self._processes)
        return Scorer(
            config, self._data, self.label_map, dataset, device=device, processes=self._processes
        )
