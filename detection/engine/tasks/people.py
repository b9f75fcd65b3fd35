"""People: a Faster R-CNN that is trained on the boxes of a data set, whatever the people do.

Legend: B frames of a batch, H W pixels, N people of a frame.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from detection import build
from detection.checkpoints.plain_file import find_checkpoint
from detection.config import PeopleConfig, config_to_dict, people_config_from_dict
from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import ActorTable
from detection.datasets.folder import DatasetFolder
from detection.datasets.held_out import read_boxes, read_training_boxes
from detection.datasets.loader import ClipLoader, TrainBatches
from detection.datasets.open_video import open_video
from detection.datasets.people import PeopleBatch, PeopleFrames
from detection.datasets.people_transforms import PeopleTrainTransform
from detection.datasets.transforms import EvalTransform
from detection.engine.checkpoint import unaveraged_weights
from detection.engine.data_digests import RULES, rules_of, split_files
from detection.engine.distributed import ALONE, Processes
from detection.engine.environment import prepare_device
from detection.engine.metrics_log import MetricsLog
from detection.engine.run_folder import folder_of, only_run, results_folder
from detection.engine.tasks.base import BatchLoss, Evaluation, check_videos
from detection.engine.tasks.people_scoring import (
    PeopleScore,
    print_people_results,
    score_people,
    write_people_results,
)
from detection.errors import UserError
from detection.files import write_text
from detection.people.torchvision_rcnn import TorchvisionDetector, build_people_network
from detection.people.training import DetectionLosses, freeze_batch_norm
from detection.people.weights import (
    PeopleFile,
    PeopleNetworkNumbers,
    load_people_detector,
    read_people_file,
    save_people_file,
    start_from_weights,
    write_best_score,
)
from detection.structures import ClipSampling


class PeopleTask:
    """Trains on a split's distinct boxes; compared by AP50 on a part held out of them."""

    name = "people"
    command = "python -m ava_tools.train_people"
    metric = "ap50"
    evaluation_event = "held_out"
    scores_last_epoch = True

    def __init__(self, config: PeopleConfig) -> None:
        self._config = config
        self._data = DatasetFolder.open(config.data.root, how_to_get=config.data.how_to_get)
        self._numbers = PeopleNetworkNumbers(
            config.model.network, config.picture.short_side_px, config.picture.long_side_px
        )

    @property
    def data_files(self) -> dict[str, Path | str]:
        """See `Task.data_files`."""
        data = self._config.data
        return {
            RULES: rules_of(self._data),
            **split_files(self._data, data.train_split),
            **split_files(self._data, data.val_split),
        }

    def build_model(self) -> FasterRCNN:
        """See `Task.build_model`."""
        return build_people_network(num_classes=1, **dataclasses.asdict(self._numbers))

    def initialize(self, model: nn.Module) -> None:
        """See `Task.initialize`."""
        if self._config.model.start_from is not None:
            start_from_weights(_rcnn(model), self._numbers.name, self._config.model.start_from)

    def load(self, model: nn.Module, file: PeopleFile) -> None:
        """See `Task.load`."""
        file.fill(_rcnn(model))

    def check_fits(self, file: PeopleFile) -> None:
        """See `Task.check_fits`."""
        if file.numbers != self._numbers or len(file.classes) != 1:
            raise UserError(f"{file.path}: another network than the run's configuration describes")

    def place(self, model: nn.Module, device: torch.device) -> FasterRCNN:
        """See `Task.place`."""
        network = _rcnn(model.to(device).to(memory_format=torch.channels_last))
        if self._config.model.freeze_batch_norm:
            freeze_batch_norm(network)  # before the optimiser is built: it takes what is trainable
        return network

    def prepare_scoring(self, *, device: torch.device, processes: Processes) -> None:
        """See `Task.prepare_scoring`."""
        self.read_boxes(device=device, processes=processes)
        for table in (self._boxes.held_out, self._val):
            self._check_videos(table)

    def read_boxes(self, *, device: torch.device, processes: Processes) -> None:
        """Read the boxes of both splits, without a look at the videos."""
        self._device, self._processes = device, processes
        data = self._config.data
        self._boxes = read_training_boxes(
            self._data,
            data.train_split,
            held_out_share=data.held_out_share,
            source_pattern=data.source_pattern,
            seed=self._config.seed,
        )
        self._val = read_boxes(self._data, data.val_split)

    def training_batches(
        self, *, device: torch.device, processes: Processes
    ) -> tuple[ClipLoader[PeopleBatch], TrainBatches]:
        """See `Task.training_batches`: random scale, cut, mirror and colours."""
        config, table = self._config, self._boxes.learned
        self._check_videos(table)
        frame = config.picture
        dataset = PeopleFrames(
            table,
            open_video=functools.partial(open_video, self._data),
            transform=PeopleTrainTransform(
                short_side=frame.short_side_px,
                long_side=frame.long_side_px,
                scale=frame.scale_jitter,
                flip=frame.flip_probability,
                color_jitter=frame.color_jitter,
                min_visible=frame.min_visible,
            ),
            seed=config.seed,
            keep_mb=config.data.keep_mb,
        )
        order = TrainBatches(
            table.keyframes(),
            batch_size=config.optim.batch_size,
            seed=config.seed,
            per_video=config.data.keyframes_per_video,
            share=processes.share_of_data,
        )
        return build.build_loader(config, dataset, order, device, collate=PeopleBatch), order

    def begin(self, folder: Path) -> dict[str, int]:
        """See `Task.begin`: held_out_videos.txt."""
        boxes = self._boxes
        held_out = "".join(f"{video}\n" for video in boxes.held_out_videos)
        write_text(folder / "held_out_videos.txt", held_out)
        return {
            "learned_keyframes": len(boxes.learned),
            "learned_boxes": boxes.learned.num_actors,
            "held_out_keyframes": len(boxes.held_out),
        }

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """See `Task.build_optimizer`."""
        return build.build_optimizer(self._config, model, head=_rcnn(model).roi_heads)

    def training_module(self, model: nn.Module) -> DetectionLosses:
        """See `Task.training_module`."""
        return DetectionLosses(
            _rcnn(model),
            freeze_norms=self._config.model.freeze_batch_norm,
            precision=build.build_precision(self._config, self._device),
        )

    def fit_probe(self, model: nn.Module, *, device: torch.device, processes: Processes) -> None:
        """See `Task.fit_probe`: there is none."""

    def loss(
        self, module: nn.Module, batch: PeopleBatch, *, update: int = 0, num_updates: int = 1
    ) -> BatchLoss:
        """Return the sum of Faster R-CNN's four losses, each a mean over the batch: one term."""
        optim = self._config.optim
        # Proposals are ignored once the network knows a little of what a person looks like.
        ignoring = update >= optim.ignore_after * num_updates
        boxes_px = [p.boxes_px.to(self._device, non_blocking=True) for p in batch.frames]
        losses = module(
            self._images(batch), boxes_px, optim.ignore_unlabelled_above if ignoring else None
        )
        total = torch.stack(list(losses.values())).sum()
        return BatchLoss(total, 1, {name: value.detach() for name, value in losses.items()})

    def forward(self, model: nn.Module, batch: PeopleBatch) -> object:
        """See `Task.forward`."""
        return model(self._images(batch))

    def score(self, model: nn.Module) -> Evaluation | None:
        """Return AP50 on the held-out part, where there is one."""
        if not self._boxes.held_out.num_actors:
            return None
        every = self._config.data.held_out_every
        score = self._score(self._detector(model, self._numbers.name), held_out=True, every=every)
        first = self._processes.is_first
        return Evaluation(self._processes.share(score.figures.ap50 if first else 0.0), {})

    def save(self, path: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """See `Task.save`."""
        save_people_file(
            path,
            _rcnn(model),
            numbers=self._numbers,
            classes=[self._config.data.class_name],
            config=config_to_dict(self._config),
            training=training,
        )

    def report(self, model: nn.Module, folder: Path, log: MetricsLog) -> None:
        """See `Task.report`: metrics.json, of the best weights where there is a held-out part.

        The score from which boxes are best kept goes into the checkpoint that was scored.
        """
        self._processes.wait()  # the first one has written them
        best = read_people_file(folder, weights_only=True)
        metrics = self.report_on(self.open_saved(best), folder)
        as_saved = self._config.evaluation.use_average or self._config.optim.ema_decay is None
        if as_saved and self._processes.is_first and metrics["best_score"] is not None:
            write_best_score(best.path, metrics["best_score"])
        log.write("final", ap=metrics["val"]["ap"], ap50=metrics["val"]["ap50"])

    def open_saved(self, file: PeopleFile) -> TorchvisionDetector:
        """Open a checkpoint's weights to be scored: the averaged ones, as configured."""
        network = file.build_network()
        if not self._config.evaluation.use_average:
            training = read_people_file(file.path).training
            if training.get("followed_weights") is not None:
                file = dataclasses.replace(file, training=training)
                network.load_state_dict(unaveraged_weights(file, network))
        return self._detector(network, f"{file.numbers.name} ({file.path})", len(file.classes))

    def report_on(
        self, detector: TorchvisionDetector, folder: Path, *, held_out: bool = True
    ) -> dict[str, Any]:
        """Score a detector on the validation split, and on the held-out part where asked."""
        kept_back = None
        if held_out and self._boxes.held_out.num_actors:
            kept_back = self._score(detector, held_out=True)
        val = self._score(detector)
        metrics: dict[str, Any] = {}
        if self._processes.is_first:
            made_up = self._data.file.made_up
            metrics = write_people_results(
                folder, detector=detector.name, held_out=kept_back, val=val, made_up=made_up
            )
            print_people_results(folder, kept_back, val)
        return self._processes.share(metrics)

    def _images(self, batch: PeopleBatch) -> list[torch.Tensor]:
        """Return the (3, H, W) frames, float in 0 to 1."""
        device = self._device
        return [p.image.to(device, non_blocking=True).float() / 255 for p in batch.frames]

    def _detector(self, model: nn.Module, name: str, num_classes: int = 1) -> TorchvisionDetector:
        return TorchvisionDetector(
            _rcnn(model),
            name=name,
            actor_labels=list(range(1, num_classes + 1)),
            device=self._device,
            score_floor=self._config.evaluation.score_floor,
            max_people=self._config.evaluation.max_people,
        )

    def _score(
        self, detector: TorchvisionDetector, *, held_out: bool = False, every: int = 1
    ) -> PeopleScore:
        return score_people(
            detector,
            self._data,
            self._boxes.held_out if held_out else self._val,
            batch_size=self._config.evaluation.batch_size,
            workers=self._config.workers,
            every=every,
            processes=self._processes,
        )

    def _check_videos(self, table: ActorTable) -> None:
        """See that the videos are there and hold their keyframes: better now than after hours."""
        if not len(table):
            return
        dataset = AvaDataset(
            table,
            open_video=functools.partial(open_video, self._data),
            transform=EvalTransform(short_side=1),
            sampling=ClipSampling(num_frames=1, step=0),
        )
        check_videos(dataset, self._config, self._processes)


def score_run(
    file_or_run: str | Path, *, overrides: Sequence[str] = (), processes: Processes = ALONE
) -> dict[str, Any]:
    """Score a trained detector on its held-out part and its validation split.

    Results go to `output` where an override sets it, else beside the checkpoint.
    """
    file = read_people_file(file_or_run, weights_only=True)
    config = people_config_from_dict(file.config, file.path, overrides)
    folder = results_folder(file.path, config, overrides)
    task = PeopleTask(config)
    task.read_boxes(device=prepare_device(config), processes=processes)
    with only_run(folder, processes):
        metrics = task.report_on(task.open_saved(file), folder)
    if file.best_score is None and metrics["best_score"] is not None and processes.is_first:
        print(
            f"{file.path} does not hold this score (an older file, or an unfinished run): "
            f"detect_actions --person-score {metrics['best_score']:.2f}"
        )
    return metrics


def score_weights(
    weights: str | Path,
    config: PeopleConfig,
    *,
    actor_classes: Sequence[str] | None = None,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Score any weights on a configuration's validation split; results go to its output."""
    device = prepare_device(config)
    detector = load_people_detector(
        weights,
        network=config.model.network,
        actor_classes=actor_classes,
        device=device,
        score_floor=config.evaluation.score_floor,
        max_people=config.evaluation.max_people,
    )
    assert isinstance(detector, TorchvisionDetector)
    task = PeopleTask(config)
    task.read_boxes(device=device, processes=processes)
    with only_run(folder_of(config), processes):
        return task.report_on(detector, folder_of(config), held_out=False)


def read_people_checkpoint(file_or_run: str | Path) -> PeopleFile:
    """Read the checkpoint to go on from: the one named, or a run folder's last one.

    Files written before people were trained by the common loop are brought into today's form.
    """
    file = read_people_file(find_checkpoint(file_or_run))
    progress, state = (file.training.get(name) for name in ("progress", "random"))
    if isinstance(progress, Mapping) and "best_ap50" in progress:
        names = {"best_ap50": "best_score"}
        progress = {names.get(name, name): value for name, value in progress.items()}
    if isinstance(state, torch.Tensor):
        version, internal, gauss = random.getstate()  # Python's generator has no part in it
        state = {"python": [version, list(internal), gauss], "torch": state}
        on_gpus = file.training.get("random_cuda")
        if isinstance(on_gpus, list) and len(on_gpus) == 1:
            state["cuda"] = on_gpus[0]
        state = [state]
    changed = {"progress": progress, "random": state}
    known = {name: value for name, value in changed.items() if name in file.training}
    return dataclasses.replace(file, training={**file.training, **known})


def _rcnn(model: nn.Module) -> FasterRCNN:
    assert isinstance(model, FasterRCNN)
    return model
