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
from detection.engine.fit_relevance import FittedRelevance, fit_on_training_split
from detection.engine.metrics_log import MetricsLog
from detection.engine.probe import ProbeRows, collect_features, set_last_layer
from detection.engine.tasks.action_scoring import Scorer, print_results, write_results
from detection.engine.tasks.base import Evaluation, batch_progress, check_videos
from detection.engine.tasks.confusion_figure import write_action_confusion
from detection.engine.tasks.together import score_together
from detection.engine.tasks.x3d import X3DTask
from detection.errors import UserError, printable
from detection.evaluation.thresholds import HeldOutScores
from detection.models.action_detector import ActionDetector
from detection.models.losses import summed_action_loss
from detection.people.beside_run import store_people
from detection.people.box_origin import origin_of_table
from detection.relevance import Relevance
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
        self._probe_rows: ProbeRows | None = None  # kept where the probe is all that is learned
        self._fitted: FittedRelevance | None = None  # just now, at the start of a run
        self._stored: tuple[str, Relevance | None] | None = None  # file and what it holds

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
        if self._config.people.relevance == "fit":
            learned = tuple(dict.fromkeys((*learned, data.val_boxes)))
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
        if self._fitted is None:
            return {}
        print(printable(str(self._fitted)))
        return {"relevance": str(self._fitted)}

    def check_fits(self, file: ModelFile) -> None:
        """See `Task.check_fits`; from now on relevance is the file's, and none is fitted."""
        super().check_fits(file)
        self._stored = file.path, file.relevance

    def build_model(self) -> ActionDetector:
        """See `Task.build_model`."""
        return build.build_model(self._config, num_classes=len(self.label_map))

    def prepare_scoring(self, *, device: torch.device, processes: Processes) -> None:
        """Read the boxes to score on, the headline's and those beside it."""
        self._device, self._processes = device, processes
        self._relevance = self._find_relevance()
        names = (self._config.data.val_boxes, *self._config.data.also_score_boxes)
        for name in names:
            self._tell_mismatches(self._config.data.val_split, processes, name)
        self._scorer, *self._others = [self._scorer_on(name, device) for name in names]
        self._scorer.relevance = self._relevance  # of the headline's boxes alone

    def _find_relevance(self) -> Relevance | None:
        """Return the checkpoint's relevance, or fit it; None where it is not asked for."""
        config, data = self._config, self._config.data
        if config.people.relevance == "none":
            return None
        if self._stored is None:
            fitted = fit_on_training_split(config, self._data, self.label_map)
            self._fitted = self._processes.share(fitted)
            return self._fitted.relevance
        path, stored = self._stored
        if stored is None:
            raise UserError(
                f"{path}: holds no relevance, its run was not trained with people.relevance=fit; "
                "people.relevance=none does without"
            )
        boxes = self._data.boxes_path(self._data.split(data.val_split), data.val_boxes)
        stored.check_detector(origin_of_table(boxes, data.val_boxes), source=path)
        stored.check_least_score(data.box_score_threshold, source=path)
        return stored

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
        rows = self._collect_probe_rows(model, "linear probe", device, processes)
        layer = None
        if processes.is_first:
            layer = rows.fit(model.head.feature_parts, probe.l2)
        layer = processes.share(layer)
        assert layer is not None
        set_last_layer(model, *layer)
        if self._config.optim.epochs == 0:
            self._probe_rows = rows
        return (
            f"linear probe: the last layer fitted to {len(rows.labels)} actors, "
            f"{probe.keyframes_per_video} keyframe{'s' * (probe.keyframes_per_video > 1)} a video"
        )

    def _collect_probe_rows(
        self, model: ActionDetector, what: str, device: torch.device, processes: Processes
    ) -> ProbeRows:
        """Return what the probe learns from: in the first process, all processes' people.

        what: opens the line of progress.
        """
        table = build.read_train_table(self._config, self._data, self.label_map)
        dataset = build.build_val_dataset(self._config, self._data, table)
        share = processes.share_of_data
        loader = build.build_probe_loader(self._config, dataset, device, share=share)
        bar = batch_progress(loader, what, processes)
        videos: list[str] = []
        features, labels = collect_features(model, bar, device=device, videos=videos)
        parts = processes.gather((features, labels, videos))
        return ProbeRows(
            torch.cat([part[0] for part in parts]),
            torch.cat([part[1] for part in parts]),
            [video for part in parts for video in part[2]],
        )

    def _held_out_scores(self, model: nn.Module) -> HeldOutScores | None:
        """Score the training split out of fold, in the first process; None where it is no help.

        Only a last layer that was fitted and not trained can be fitted again without a video. On
        detected boxes thresholds weigh false boxes too, which the training split does not have.
        """
        config = self._config
        alone = config.probe.keyframes_per_video is not None and config.optim.epochs == 0
        given = config.data.val_boxes == GROUND_TRUTH_BOXES
        there = config.data.train_split in self._data.file.splits
        if not (alone and given and there) or config.model.exclusive_actions:
            return None
        assert isinstance(model, ActionDetector)
        l2, rows = config.probe.l2, self._probe_rows
        if rows is None:  # of a run that goes on, or is finished
            rows = self._collect_probe_rows(model, "out of fold", self._device, self._processes)
            if not self._processes.is_first or not rows.are_of(model, l2):
                return None
        if not self._processes.is_first:
            return None
        return rows.held_out(model.head.feature_parts, l2, name=config.data.train_split)

    def summed_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Binary cross-entropy; a term for each actor and class."""
        return summed_action_loss(logits, labels), labels.numel()

    def score(self, model: nn.Module) -> Evaluation:
        """Return the mAP on every `data.val_every`-th keyframe."""
        result = self._scorer.score(model, every=self._config.data.val_every)[0]
        return Evaluation(result.mean_ap, result.per_class)

    def report(self, model: nn.Module, folder: Path, log: MetricsLog) -> None:
        """See `Task.report`: detections.csv, per_class.csv, metrics.json, confusion.png.

        Learned thresholds go into the checkpoint that these weights are from: of a run that is
        trained or gone on with, not of one that is only evaluated.
        """
        score, *others = score_together([self._scorer, *self._others], model)
        beside = None if self._checkpoint is None else self._held_out_scores(model)
        if not self._processes.is_first:
            return
        learned = self._scorer.thresholds(score.found, beside)
        score = dataclasses.replace(score, thresholds=learned)
        self._store(score.thresholds)
        write_results(folder, score, self.label_map, others=others)
        write_action_confusion(folder, self._scorer, score)
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
        return self._scorer.thresholds(self._scorer.score(model)[1], self._held_out_scores(model))

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
