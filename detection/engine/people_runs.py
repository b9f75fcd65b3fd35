"""A run of training a people detector: start, go on, train, score.

A run folder holds config.yaml, environment.json, log.jsonl, held_out_videos.txt,
checkpoints/{last,best}.pt (best: by the held-out part, where there is one) and metrics.json.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchvision.models.detection import FasterRCNN

from detection.data.actor_table import ActorTable
from detection.data.ava_dataset import AvaDataset
from detection.data.dataset_folder import DatasetFolder
from detection.data.loader import TrainBatches
from detection.data.transforms import EvalTransform
from detection.data.video_source import open_video
from detection.engine.cpu_memory import keep_freed_memory
from detection.engine.metrics_log import MetricsLog
from detection.engine.optim import parameter_groups
from detection.engine.people_scoring import (
    PeopleScore,
    print_people_results,
    score_people,
    write_people_results,
)
from detection.engine.people_training import PeopleProgress, fit_people
from detection.engine.run_folder import check_run_folder, make_run_folder
from detection.engine.training import stop_signals
from detection.errors import UserError
from detection.files import write_text
from detection.people.config import (
    PeopleConfig,
    load_people_config,
    people_config_from_dict,
    people_config_to_dict,
    people_config_to_yaml,
)
from detection.people.frames_dataset import PeopleFrames, PictureBatch, PictureLoader
from detection.people.picture_transforms import VariedPicture
from detection.people.torchvision_rcnn import TorchvisionDetector, build_people_network
from detection.people.training import freeze_batch_norm
from detection.people.training_boxes import TrainingBoxes, read_boxes, read_training_boxes
from detection.people.weights import (
    PeopleFile,
    PeopleNetworkNumbers,
    load_people_detector,
    read_people_file,
    save_people_file,
    start_from_weights,
)

# What may change when a run goes on: how it is carried out, never what it computes.
_CHANGEABLE = ("workers", "threads", "device", "checkpoint_minutes")


@dataclass
class PeopleRun:
    """Everything of a run that is under way."""

    config: PeopleConfig
    folder: Path
    data: DatasetFolder
    boxes: TrainingBoxes
    network: FasterRCNN
    device: torch.device
    batches: EpochPictures
    optimizer: torch.optim.Optimizer
    progress: PeopleProgress
    log: MetricsLog


@dataclass
class EpochPictures:
    """A loader whose epochs can be entered at any batch."""

    loader: PictureLoader
    order: TrainBatches

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterable[PictureBatch]:
        """Return the batches of `epoch` from the `start`-th on."""
        self.order.set_epoch(epoch, start_batch=start)
        return self.loader


def start(config: PeopleConfig, *, overwrite: bool) -> PeopleRun:
    """Check everything that can be checked, then make the run folder."""
    folder = Path(config.output or "runs/unnamed")
    check_run_folder(folder, overwrite=overwrite)
    _seed(config.seed)
    numbers = _numbers(config)
    network = build_people_network(
        numbers.name,
        num_classes=1,
        short_side_px=numbers.short_side_px,
        long_side_px=numbers.long_side_px,
    )
    if config.model.start_from is not None:
        start_from_weights(network, numbers.name, config.model.start_from)
    run = _run(config, folder, network)
    make_run_folder(folder, config_yaml=people_config_to_yaml(config), seed=config.seed)
    held_out = run.boxes.held_out_videos
    write_text(folder / "held_out_videos.txt", "".join(f"{video}\n" for video in held_out))
    run.log.write(
        "start",
        seed=config.seed,
        learned_keyframes=len(run.boxes.learned),
        learned_boxes=run.boxes.learned.num_actors,
        held_out_keyframes=len(run.boxes.held_out),
    )
    return run


def resume(run_folder: str | Path, *, overrides: Sequence[str]) -> PeopleRun:
    """Go on with a stopped run: the same configuration, weights, order and random states."""
    folder = Path(run_folder)
    for override in overrides:
        if override.partition("=")[0] not in _CHANGEABLE:
            raise UserError(
                f"command line: '{override}': a resumed run computes what it would have computed; "
                f"only {', '.join(_CHANGEABLE)} may change"
            )
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder / 'config.yaml'}: no such file, this folder is not a run")
    config = load_people_config(folder / "config.yaml", overrides)
    file = read_people_file(folder / "checkpoints" / "last.pt")
    if file.numbers != _numbers(config):
        raise UserError(f"{file.path}: another network than {folder / 'config.yaml'} describes")
    run = _run(config, folder, file.build_network())
    _restore(file, run)
    run.log.write("resume", **dataclasses.asdict(run.progress))
    return run


def train(run: PeopleRun) -> bool:
    """Train to the last epoch; return False when a signal stopped it before (it is saved)."""

    def score_held_out() -> float:
        if not run.boxes.held_out.num_actors:
            return math.nan
        detector = TorchvisionDetector(
            run.network,
            name=run.config.model.network,
            actor_labels=[1],
            device=run.device,
            score_floor=run.config.evaluation.score_floor,
            max_people=run.config.evaluation.max_people,
        )
        every = run.config.data.held_out_every
        return _score(run.config, run.data, run.boxes.held_out, detector, every).figures.ap50

    with stop_signals() as should_stop:
        return fit_people(
            run.network,
            run.batches,
            run.optimizer,
            optim=run.config.optim,
            freeze_norms=run.config.model.freeze_batch_norm,
            progress=run.progress,
            device=run.device,
            score_held_out=score_held_out,
            score_every=run.config.evaluation.every_epochs,
            save=functools.partial(_save, run),
            save_every_minutes=run.config.checkpoint_minutes,
            log=run.log,
            should_stop=should_stop,
        )


def score_run(file_or_run: str | Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score a trained detector on its held-out part and its validation split.

    Results go to `output` where an override sets it, else beside the checkpoint.
    """
    file = read_people_file(file_or_run, weights_only=True)
    config = people_config_from_dict(file.config, file.path, overrides)
    beside = Path(file.path).parent
    folder = beside.parent if beside.name == "checkpoints" else beside
    if any(override.startswith("output=") for override in overrides) and config.output:
        folder = Path(config.output)
    device = _prepare(config)
    detector = _detector(config, file.path, device, network=None)
    data = _open_data(config)
    boxes = _training_boxes(config, data)
    held_out = None
    if boxes.held_out.num_actors:
        held_out = _score(config, data, boxes.held_out, detector)
    return _report(config, data, folder, detector, held_out)


def score_weights(
    weights: str | Path, config: PeopleConfig, *, actor_classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Score any weights on a configuration's validation split; results go to its output."""
    device = _prepare(config)
    detector = _detector(
        config, weights, device, network=config.model.network, actor_classes=actor_classes
    )
    folder = Path(config.output or "runs/unnamed")
    return _report(config, _open_data(config), folder, detector, None)


def _run(config: PeopleConfig, folder: Path, network: FasterRCNN) -> PeopleRun:
    device = _prepare(config)
    data = _open_data(config)
    boxes = _training_boxes(config, data)
    for table in (boxes.learned, boxes.held_out, read_boxes(data, config.data.val_split)):
        _check_videos(data, table)
    network.to(device).to(memory_format=torch.channels_last)
    if config.model.freeze_batch_norm:
        freeze_batch_norm(network)  # before the optimiser is made: it takes what is trainable
    return PeopleRun(
        config,
        folder,
        data,
        boxes,
        network,
        device,
        _training_batches(config, data, boxes.learned, device),
        _build_optimizer(config, network),
        PeopleProgress(),
        MetricsLog(folder / "log.jsonl"),
    )


def _training_batches(
    config: PeopleConfig, data: DatasetFolder, table: ActorTable, device: torch.device
) -> EpochPictures:
    picture = config.picture
    dataset = PeopleFrames(
        table,
        open_video=functools.partial(open_video, data),
        transform=VariedPicture(
            short_side=picture.short_side_px,
            long_side=picture.long_side_px,
            scale=picture.scale_jitter,
            flip=picture.flip_probability,
            color_jitter=picture.color_jitter,
            min_visible=picture.min_visible,
        ),
        seed=config.seed,
        keep_mb=config.data.keep_mb,
    )
    order = TrainBatches(
        table.keyframes(),
        batch_size=config.optim.batch_size,
        seed=config.seed,
        per_video=config.data.keyframes_per_video,
    )
    loader = PictureLoader(dataset, order, workers=config.workers, pin_memory=device.type == "cuda")
    return EpochPictures(loader, order)


def _build_optimizer(config: PeopleConfig, network: FasterRCNN) -> torch.optim.Optimizer:
    optim = config.optim
    groups = parameter_groups(
        network, weight_decay=optim.weight_decay, head=network.roi_heads, head_lr_factor=1.0
    )
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.momentum, 0.999), fused=True)
    return torch.optim.SGD(
        groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.momentum > 0
    )


def _detector(
    config: PeopleConfig,
    weights: str | Path,
    device: torch.device,
    *,
    network: str | None,
    actor_classes: Sequence[str] | None = None,
) -> TorchvisionDetector:
    detector = load_people_detector(
        weights,
        network=network,
        actor_classes=actor_classes,
        device=device,
        score_floor=config.evaluation.score_floor,
        max_people=config.evaluation.max_people,
    )
    assert isinstance(detector, TorchvisionDetector)
    return detector


def _score(
    config: PeopleConfig,
    data: DatasetFolder,
    table: ActorTable,
    detector: TorchvisionDetector,
    every: int = 1,
) -> PeopleScore:
    return score_people(
        detector,
        data,
        table,
        batch_size=config.evaluation.batch_size,
        workers=config.workers,
        every=every,
    )


def _report(
    config: PeopleConfig,
    data: DatasetFolder,
    folder: Path,
    detector: TorchvisionDetector,
    held_out: PeopleScore | None,
) -> dict[str, Any]:
    val = _score(config, data, read_boxes(data, config.data.val_split), detector)
    metrics = write_people_results(
        folder, detector=detector.name, held_out=held_out, val=val, made_up=data.made_up
    )
    print_people_results(folder, held_out, val)
    return metrics


def _save(run: PeopleRun, name: str) -> None:
    save_people_file(
        run.folder / "checkpoints" / f"{name}.pt",
        run.network,
        numbers=_numbers(run.config),
        classes=[run.config.data.class_name],
        config=people_config_to_dict(run.config),
        training={
            "progress": dataclasses.asdict(run.progress),
            "optimizer": run.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    )


def _restore(file: PeopleFile, run: PeopleRun) -> None:
    """Put optimiser, progress and random states back as they were when the file was written."""
    try:
        saved, optimizer = file.training["progress"], file.training["optimizer"]
        on_cpu, on_gpus = file.training["random"], file.training["random_cuda"]
    except KeyError as error:
        raise UserError(f"{file.path}: holds no training state to go on from") from error
    run.optimizer.load_state_dict(optimizer)
    for name, value in saved.items():
        setattr(run.progress, name, value)
    torch.set_rng_state(on_cpu)
    if on_gpus and torch.cuda.device_count() == len(on_gpus):
        torch.cuda.set_rng_state_all(on_gpus)


def _numbers(config: PeopleConfig) -> PeopleNetworkNumbers:
    picture = config.picture
    return PeopleNetworkNumbers(config.model.network, picture.short_side_px, picture.long_side_px)


def _open_data(config: PeopleConfig) -> DatasetFolder:
    return DatasetFolder.open(config.data.root, how_to_get=config.data.how_to_get)


def _training_boxes(config: PeopleConfig, data: DatasetFolder) -> TrainingBoxes:
    return read_training_boxes(
        data,
        config.data.train_split,
        held_out_share=config.data.held_out_share,
        source_pattern=config.data.source_pattern,
        seed=config.seed,
    )


def _check_videos(data: DatasetFolder, table: ActorTable) -> None:
    """See that all videos are there and hold their keyframes: better now than after hours."""
    if not len(table):
        return
    AvaDataset(
        table,
        open_video=functools.partial(open_video, data),
        transform=EvalTransform(short_side=1),
        num_frames=1,
        step=0,
    ).check_videos(show_progress=True)


def _prepare(config: PeopleConfig) -> torch.device:
    """Find the device, and set threads and memory as the configuration asks."""
    found = torch.cuda.is_available()
    if config.device == "cuda" and not found:
        raise UserError("device=cuda is asked for, but PyTorch finds no GPU")
    device = torch.device("cuda" if found and config.device != "cpu" else "cpu")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def _seed(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
