"""Turns the configuration of a people detector's training into its parts."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.models.detection import FasterRCNN

from detection.build import has_bf16, parameter_groups
from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import ActorTable
from detection.datasets.folder import DatasetFolder
from detection.datasets.held_out import TrainingBoxes, read_training_boxes
from detection.datasets.loader import ClipLoader, TrainBatches
from detection.datasets.open_video import open_video
from detection.datasets.people import PeopleFrames, PictureBatch
from detection.datasets.people_transforms import PeopleTrainTransform
from detection.datasets.transforms import EvalTransform
from detection.engine.cpu_memory import keep_freed_memory
from detection.errors import UserError
from detection.people.config import PeopleConfig
from detection.people.torchvision_rcnn import TorchvisionDetector
from detection.people.weights import PeopleNetworkNumbers, load_people_detector


@dataclass
class EpochPictures:
    """A loader whose epochs can be entered at any batch."""

    loader: ClipLoader[PictureBatch]
    order: TrainBatches

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterable[PictureBatch]:
        """Return the batches of `epoch` from the `start`-th on."""
        self.order.set_epoch(epoch, start_batch=start)
        return self.loader


def prepare_device(config: PeopleConfig) -> torch.device:
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


def build_precision(config: PeopleConfig, device: torch.device) -> torch.dtype:
    """Return the type that training computes in; `auto` asks the device."""
    if config.precision == "bf16" or (config.precision == "auto" and has_bf16(device)):
        return torch.bfloat16
    return torch.float32


def open_data(config: PeopleConfig) -> DatasetFolder:
    """Open the data set folder."""
    return DatasetFolder.open(config.data.root, how_to_get=config.data.how_to_get)


def read_boxes_to_learn(config: PeopleConfig, data: DatasetFolder) -> TrainingBoxes:
    """Read the training split in its two parts: learned, and held out by source video."""
    return read_training_boxes(
        data,
        config.data.train_split,
        held_out_share=config.data.held_out_share,
        source_pattern=config.data.source_pattern,
        seed=config.seed,
    )


def check_videos(data: DatasetFolder, table: ActorTable) -> None:
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


def network_numbers(config: PeopleConfig) -> PeopleNetworkNumbers:
    """Return what the network is built from."""
    picture = config.picture
    return PeopleNetworkNumbers(config.model.network, picture.short_side_px, picture.long_side_px)


def build_batches(
    config: PeopleConfig, data: DatasetFolder, table: ActorTable, device: torch.device
) -> EpochPictures:
    """Build the shuffled training batches: random scale, cut, mirror and colours."""
    picture = config.picture
    dataset = PeopleFrames(
        table,
        open_video=functools.partial(open_video, data),
        transform=PeopleTrainTransform(
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
    loader = ClipLoader(
        dataset,
        order,
        collate=PictureBatch,
        workers=config.workers,
        pin_memory=device.type == "cuda",
    )
    return EpochPictures(loader, order)


def build_optimizer(config: PeopleConfig, network: FasterRCNN) -> torch.optim.Optimizer:
    """Build the optimiser of the trainable parameters."""
    optim = config.optim
    groups = parameter_groups(
        network, weight_decay=optim.weight_decay, head=network.roi_heads, head_lr_factor=1.0
    )
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.momentum, 0.999), fused=True)
    return torch.optim.SGD(
        groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.momentum > 0
    )


def open_detector(
    config: PeopleConfig,
    weights: str | Path,
    device: torch.device,
    *,
    network: str | None,
    actor_classes: Sequence[str] | None = None,
) -> TorchvisionDetector:
    """Open weights of this project, of torchvision, or "coco", to be scored."""
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
