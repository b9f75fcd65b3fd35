"""The one place that turns a configuration into data, networks and optimisers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detection.checkpoints.load import LoadReport, Network, load_pretrained
from detection.config import AnyConfig, RunConfig
from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import ActorTable, read_actor_table
from detection.datasets.actor_tracks import ActorTracks, track_actors
from detection.datasets.clip_list import ClipList, read_class_file, read_clip_list
from detection.datasets.clips import ClipDataset, Views
from detection.datasets.folder import DatasetFolder
from detection.datasets.joined_tables import JoinedTables, JoinedTracks, join_tables
from detection.datasets.loader import (
    BatchOrder,
    BatchT,
    ClipLoader,
    EvalBatches,
    TrainBatches,
    collate,
)
from detection.datasets.open_video import open_video
from detection.datasets.transfer_labels import add_matched_boxes
from detection.datasets.transforms import ClipTransform, EvalTransform, TrainTransform
from detection.datasets.workers import OnUnreadable, Samples
from detection.devices import choose_device
from detection.errors import UserError
from detection.models.action_detector import ActionDetector, build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.batch_norm import freeze_batch_norm_3d, has_folded_batch_norm
from detection.models.classifier import HeadDescription, X3DClassifier, build_classifier
from detection.models.x3d import VARIANTS, X3DDescription
from detection.people.box_origin import origin_of_table
from detection.relevance import BoxOrigin
from detection.structures import GROUND_TRUTH_BOXES, Batch, Keyframe, LabelMap
from detection.video.reader import VideoReader


def build_device(config: AnyConfig) -> torch.device:
    """Return the device asked for; `UserError` for a GPU that is not there."""
    return choose_device(config.device, option="device=")


def build_precision(config: AnyConfig, device: torch.device) -> torch.dtype:
    """Return the type that training computes in; `auto` asks the device."""
    if config.precision == "fp32":
        return torch.float32
    if config.precision == "fp16":
        if device.type != "cuda":
            raise UserError(
                "precision=fp16 needs a GPU, and PyTorch finds none: fp32, bf16 or auto is required"
            )
        return torch.float16
    if config.precision == "bf16" or has_bf16(device):
        return torch.bfloat16
    return torch.float32


def has_bf16(device: torch.device) -> bool:
    """Tell whether a GPU or this processor computes in bfloat16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "get_capabilities", None)  # torch 2.11 may not have it yet
    return ask is not None and bool(ask().get("avx512_bf16") or ask().get("amx_bf16"))


def build_model(config: RunConfig, *, num_classes: int) -> ActionDetector:
    """Build the network with random weights drawn from the global generator."""
    if config.model.exclusive_actions and num_classes < 2:
        raise UserError("model.exclusive_actions=true needs two classes at least, there is 1")
    head = describe_head(config, num_classes=num_classes)
    model = build_detector(describe_trunk(config), head, res5_stride=config.model.res5_stride)
    share = config.model.first_probability
    torch.nn.init.constant_(model.head.classes.bias, math.log(share / (1 - share)))
    return model


def build_classification_model(config: RunConfig, *, num_classes: int) -> X3DClassifier:
    """Build the clip classification network with random weights."""
    head = HeadDescription(num_classes, config.model.head_width, config.model.dropout)
    return build_classifier(describe_trunk(config), head)


def describe_head(config: RunConfig, *, num_classes: int) -> ActorHeadDescription:
    """Return the numbers of the actor head: `model`'s options of the same names, but for two."""
    renamed = {"hidden": "head_width", "exclusive": "exclusive_actions"}
    names = [field.name for field in dataclasses.fields(ActorHeadDescription)]
    names.remove("num_classes")
    options = {name: getattr(config.model, renamed.get(name, name)) for name in names}
    return ActorHeadDescription(num_classes, **options)


def describe_trunk(config: RunConfig) -> X3DDescription:
    """Return the variant's numbers with what the configuration replaces."""
    sampling = config.clip.sampling
    names = ("width_factor", "depth_factor", "bottleneck_factor", "width_divisor")
    asked = {name: getattr(config.model, name) for name in names}
    return dataclasses.replace(
        VARIANTS[config.model.variant],
        num_frames=sampling.num_frames,
        step=sampling.step,
        train_crop=config.clip.train_crop_px,
        train_short_side=config.clip.train_short_side_px,
        test_crop=config.clip.test_short_side_px,
        **{name: value for name, value in asked.items() if value is not None},
    )


def start_from_pretrained(
    config: RunConfig, model: Network, label_map: LabelMap
) -> LoadReport | None:
    """Fill the network from `model.pretrained`, and freeze what is to stay as it is."""
    report = None
    if config.model.pretrained is not None:
        report = load_pretrained(
            model,
            config.model.pretrained,
            allow_unused=config.model.allow_unused,
            class_names=label_map.names,
        )
    if freeze_parts(config, model) and report is not None:
        note = (
            "BatchNorm was folded into these weights and is kept frozen "
            "(model.freeze_batch_norm=false trains it)"
        )
        report = dataclasses.replace(report, notes=(*report.notes, note))
    return report


def freeze_parts(config: RunConfig, model: Network) -> bool:
    """Freeze BatchNorm and the first stages where asked, before the optimiser is made.

    With `model.freeze_batch_norm` null, BatchNorm that was folded into the weights is frozen too,
    unless its statistics are to be estimated anew; returns whether it was.
    """
    anew = config.optim.precise_bn_batches > 0 or config.model.sync_batch_norm
    choose = config.model.freeze_batch_norm is None and not anew
    unasked = choose and has_folded_batch_norm(model)
    if config.model.freeze_batch_norm or unasked:
        freeze_batch_norm_3d(model, freeze_affine=True)
    model.trunk.freeze(config.model.frozen_stages)
    return unasked


def place_model(model: Network, device: torch.device) -> Network:
    """Move the network to its device, in the memory layout that is fast there."""
    return model.to(device).to(memory_format=torch.channels_last_3d)


def prepare_to_train(config: RunConfig, model: Network, device: torch.device) -> Network:
    """Return the placed network as training is to run it: BatchNorm over processes, recomputing.

    Raises `UserError` for what the device cannot do.
    """
    model.trunk.checkpoint_activations = config.model.checkpoint_activations
    if config.model.sync_batch_norm:
        if device.type != "cuda":
            raise UserError(
                "model.sync_batch_norm works on GPUs only, and PyTorch finds none: leave it "
                "out, or set model.freeze_batch_norm"
            )
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        assert isinstance(converted, Network)
        return converted
    return model


def build_optimizer(
    config: AnyConfig, model: nn.Module, *, head: nn.Module
) -> torch.optim.Optimizer:
    """Build the optimiser of the trainable parameters.  head: the part with a rate of its own."""
    groups = parameter_groups(
        model,
        weight_decay=config.optim.weight_decay,
        head=head,
        head_lr_factor=config.optim.head_lr_factor,
    )
    lr, momentum = config.optim.peak_lr, config.optim.momentum
    if config.optim.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, config.optim.beta2), fused=True)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def read_train_table(config: RunConfig, folder: DatasetFolder, label_map: LabelMap) -> ActorTable:
    """Read the actors to learn from: ground-truth boxes, and detected ones that fit them."""
    labelled = read_actor_table(
        folder,
        config.data.train_split,
        label_map,
        skip_unknown_labels=config.data.skip_unknown_labels,
    )
    if config.model.exclusive_actions:
        labelled.check_one_label(why="model.exclusive_actions=true")
    if config.data.train_boxes is None:
        return labelled
    detected = read_actor_table(
        folder,
        config.data.train_split,
        label_map,
        boxes=config.data.train_boxes,
        score_threshold=config.data.box_score_threshold,
    )
    return add_matched_boxes(
        labelled,
        detected,
        above_iou=config.data.train_box_iou,
        keep_unmatched=config.data.unmatched_as_negatives,
    )


def read_val_table(config: RunConfig, folder: DatasetFolder, label_map: LabelMap) -> ActorTable:
    """Read the actors to score: ground-truth boxes, or detected ones as `data.val_boxes` says."""
    name = config.data.val_boxes
    return read_actor_table(
        folder,
        config.data.val_split,
        label_map,
        boxes=None if name == GROUND_TRUTH_BOXES else name,
        score_threshold=config.data.box_score_threshold,
        skip_unknown_labels=config.data.skip_unknown_labels,
    )


def find_relevance_boxes(config: RunConfig, folder: DatasetFolder) -> BoxOrigin:
    """Return which detector made the boxes that `people.relevance=fit` learns from.

    They are those of the training split with the name of `data.val_boxes`.
    Raises `UserError` where the split has none of that name, or another detector made those of the
    validation split; no box is read.
    """
    data = config.data
    origins = []
    for name in (data.train_split, data.val_split):
        try:
            path = folder.boxes_path(folder.split(name), data.val_boxes)
        except UserError as error:
            raise UserError(f"people.relevance=fit: {error}") from error
        origins.append(origin_of_table(path, data.val_boxes))
    learned, scored = origins
    if not learned.is_same(scored):
        raise UserError(
            f"people.relevance=fit: split '{data.train_split}' has {learned}, '{data.val_split}' "
            f"{scored}: boxes that the same detector has made are required (detect_people notes it)"
        )
    return learned


def build_train_dataset(config: RunConfig, folder: DatasetFolder, table: ActorTable) -> AvaDataset:
    """Build the training data set: random scale, crop, flip and colours."""
    return _dataset(config, folder, table, _train_transform(config))


def build_val_dataset(config: RunConfig, folder: DatasetFolder, table: ActorTable) -> AvaDataset:
    """Build the data set to score: the whole frame at the test size."""
    return _dataset(config, folder, table, EvalTransform(short_side=config.clip.test_short_side_px))


def build_joined_val_dataset(
    config: RunConfig, folder: DatasetFolder, datasets: Sequence[AvaDataset]
) -> AvaDataset:
    """Build the data set to score the actors of several at once, each keyframe once.

    datasets: of `build_val_dataset`; theirs are the tracks.
    """
    table = join_tables([one.table for one in datasets if isinstance(one.table, ActorTable)])
    tracks = [one.tracks for one in datasets if isinstance(one.tracks, ActorTracks)]
    transform = EvalTransform(short_side=config.clip.test_short_side_px)
    joined = JoinedTracks(table, tracks) if tracks else None
    return _dataset_of(config, folder, table, transform, joined)


def build_train_order(
    config: RunConfig, keyframes: Sequence[Keyframe], *, share: tuple[int, int] = (0, 1)
) -> TrainBatches:
    """Build the order of shuffled training batches.  share: (rank, processes)."""
    return TrainBatches(
        keyframes,
        batch_size=config.optim.batch_size,
        seed=config.seed,
        per_video=config.data.train_keyframes_per_video,
        share=share,
    )


def build_val_loader(
    config: RunConfig,
    dataset: AvaDataset,
    device: torch.device,
    *,
    every: int = 1,
    share: tuple[int, int] = (0, 1),
) -> ClipLoader[Batch]:
    """Build the loader of every n-th keyframe to score, in order.  share: (rank, processes)."""
    order = EvalBatches(dataset, batch_size=config.evaluation.batch_size, every=every, share=share)
    return build_loader(config, dataset, order, device, collate=collate, on_unreadable="leave out")


def build_probe_loader(
    config: RunConfig, dataset: AvaDataset, device: torch.device, *, share: tuple[int, int] = (0, 1)
) -> ClipLoader[Batch]:
    """Build the loader of what a linear probe learns from.  share: (rank, processes)."""
    order = EvalBatches(
        dataset,
        batch_size=config.evaluation.batch_size,
        per_video=config.probe.keyframes_per_video,
        seed=config.seed,
        share=share,
    )
    return build_loader(config, dataset, order, device, collate=collate)


def build_loader(
    config: AnyConfig,
    dataset: Samples,
    order: BatchOrder,
    device: torch.device,
    *,
    collate: Callable[[Sequence[Any]], BatchT],
    on_unreadable: OnUnreadable = "replace",
) -> ClipLoader[BatchT]:
    """Build a loader with the configuration's worker processes.

    What is left out (in scoring) is never too much: it must not cost the scores of the rest.
    """
    return ClipLoader(
        dataset,
        order,
        collate=collate,
        workers=config.workers,
        pin_memory=device.type == "cuda",
        on_unreadable=on_unreadable,
        most_unreadable=1.0 if on_unreadable == "leave out" else config.data.max_unreadable,
    )


def read_clip_classes(config: RunConfig) -> tuple[Path, LabelMap]:
    """Return the classes of whole clips, and the file that names them."""
    root = Path(config.data.root)
    if not root.is_dir():
        how = config.data.how_to_get
        hint = f"; make it with: {how}" if how else ", one with lists of videos is required"
        raise UserError(f"{root}: folder not found{hint}")
    path = root / (config.data.label_map or "classes.txt")
    return path, read_class_file(path)


def read_clips(config: RunConfig, split: str, label_map: LabelMap) -> ClipList:
    """Read `data.root`/SPLIT.csv, a list of videos and their classes."""
    root = Path(config.data.root)
    return read_clip_list(
        root / f"{split}.csv",
        label_map,
        folder=config.classification.video_folder or root,
        multi_label=config.classification.labels == "multi",
    )


def build_clip_dataset(config: RunConfig, clips: ClipList) -> ClipDataset:
    """Build the training data set of whole clips: a random start, scale, crop, flip, colours."""
    return _clip_dataset(config, clips, _train_transform(config), views=None)


def build_view_dataset(config: RunConfig, clips: ClipList, views: Views) -> ClipDataset:
    """Build the data set of whole clips to score: squares of the test size, where `views` say."""
    side = config.clip.test_short_side_px
    crop = test_crop_px(config, views.crops)
    transform = TrainTransform(crop=crop, short_side=(side, side), flip=0)
    return _clip_dataset(config, clips, transform, views=views)


def test_crop_px(config: RunConfig, crops: int) -> int:
    """Return the side of the squares that are scored, where a clip has 1 or 3 of them."""
    default = config.clip.train_crop_px if crops == 1 else config.clip.test_short_side_px
    return config.classification.test_crop_px or default


def _train_transform(config: RunConfig) -> TrainTransform:
    clip = config.clip
    return TrainTransform(
        crop=clip.train_crop_px,
        short_side=clip.train_short_side_px,
        flip=clip.flip_probability,
        min_visible=clip.min_visible,
        color_jitter=clip.color_jitter,
        box_jitter=clip.box_jitter,
    )


def _clip_dataset(
    config: RunConfig, clips: ClipList, transform: ClipTransform, *, views: Views | None
) -> ClipDataset:
    return ClipDataset(
        clips,
        open_video=VideoReader,
        transform=transform,
        sampling=config.clip.sampling,
        views=views,
        seed=config.seed,
    )


def _dataset(
    config: RunConfig, folder: DatasetFolder, table: ActorTable, transform: ClipTransform
) -> AvaDataset:
    tracks = None if config.model.actor_input == "roi" else track_actors(table)
    return _dataset_of(config, folder, table, transform, tracks)


def _dataset_of(
    config: RunConfig,
    folder: DatasetFolder,
    table: ActorTable | JoinedTables,
    transform: ClipTransform,
    tracks: ActorTracks | JoinedTracks | None,
) -> AvaDataset:
    return AvaDataset(
        table,
        open_video=functools.partial(open_video, folder),
        transform=transform,
        sampling=config.clip.sampling,
        tracks=tracks,
        seed=config.seed,
    )


def parameter_groups(
    model: nn.Module, *, weight_decay: float, head: nn.Module, head_lr_factor: float
) -> list[dict[str, Any]]:
    """Split the trainable parameters in four: trunk or head, decayed or not.

    Weight decay is kept from norms and biases (every parameter of fewer than two dimensions), as in
    the X3D paper's recipe. Each group carries `lr_factor`.
    """
    in_head = {id(parameter) for parameter in head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in in_head, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decayed else 0.0,
            "lr_factor": head_lr_factor if of_head else 1.0,
        }
        for (of_head, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
