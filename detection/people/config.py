"""Options of training a people detector: every one typed, with its unit and a sentence. No torch.

A configuration file holds only what differs from the defaults here; see `detection.yaml_files` for
how strictly it is read.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from detection.config import MOST_THREADS, MOST_WORKERS
from detection.yaml_files import ConfigurationFiles

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class PeopleDataConfig:
    """Whose boxes are learned, and which are kept back for choices."""

    root: str = Field(description="Data set folder (holds dataset.yaml); see docs/data.md.")
    train_split: str = Field(
        default="train", description="Split to learn from, as dataset.yaml names it."
    )
    val_split: str = Field(
        default="val", description="Split to score on at the end; never used to choose anything."
    )
    how_to_get: str | None = Field(
        default=None, description="Command that makes the folder, named when it is not there."
    )
    class_name: str = Field(
        default="person", description="What the boxes hold: the name of the network's one class."
    )
    held_out_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Part of the training split's source videos that is not learned from: weights "
        "and score thresholds are chosen on it. 0: none, the last weights are kept.",
    )
    source_pattern: str | None = Field(
        default=None,
        description="Regular expression whose first group finds, in a video id, the source that "
        "it was cut from; clips of one source are held out together. null: each is its own.",
    )
    keyframes_per_video: int | None = Field(
        default=None,
        ge=1,
        description="Random keyframes taken from each video an epoch; null: every keyframe.",
    )
    held_out_every: int = Field(
        default=1,
        ge=1,
        description="While training, score on every n-th held-out keyframe of a video; the end "
        "scores all.",
    )
    keep_mb: int = Field(
        default=512, ge=0, description="Decoded pictures that each worker keeps, MB; 0: none."
    )

    def __post_init__(self) -> None:
        if self.source_pattern is None:
            return
        try:
            groups = re.compile(self.source_pattern).groups
        except re.error as error:
            raise ValueError(f"source_pattern is no regular expression ({error})") from error
        if not groups:
            raise ValueError("source_pattern needs a group (...) around what names the source")


@dataclass(frozen=True, config=_STRICT)
class PictureConfig:
    """The size of pictures, and how training varies them."""

    short_side_px: int = Field(
        default=144, ge=32, description="Short side that pictures are scaled to, in pixels."
    )
    long_side_px: int = Field(
        default=256, ge=32, description="Longest long side; the short side gives way to it."
    )
    scale_jitter: tuple[float, float] = Field(
        default=(0.7, 1.3),
        description="Training: pictures are drawn at a random scale from this range, cut or "
        "padded to their usual size.",
    )
    flip_probability: float = Field(
        default=0.5, ge=0, le=1, description="Training: horizontal flip."
    )
    color_jitter: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Training: strength of brightness, contrast and saturation jitter.",
    )
    min_visible: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Training: boxes of which less is left inside the picture are left out.",
    )

    def __post_init__(self) -> None:
        low, high = self.scale_jitter
        if not 0 < low <= high:
            raise ValueError(f"scale_jitter must be [low, high], got [{low}, {high}]")
        if self.long_side_px < self.short_side_px:
            raise ValueError(
                f"long_side_px {self.long_side_px} is less than short_side_px {self.short_side_px}"
            )


@dataclass(frozen=True, config=_STRICT)
class PeopleModelConfig:
    """The network and the weights it starts from."""

    network: Literal["small", "mobile_320", "mobile", "resnet50_v2"] = Field(
        default="small", description="small: cheap on a CPU; the others are torchvision's."
    )
    start_from: str | None = Field(
        default=None,
        description="Weights to start from: 'coco' (fetched by torchvision), a file or a run of "
        "train_people; null: random.",
    )
    freeze_batch_norm: bool = Field(
        default=False, description="Keep BatchNorm as it is: for small batches from good weights."
    )


@dataclass(frozen=True, config=_STRICT)
class PeopleOptimConfig:
    """How the weights move; the learning rate warms up and falls to 0 along a cosine."""

    epochs: int = Field(default=12, ge=1, description="Passes over the training keyframes.")
    batch_size: int = Field(default=8, ge=1, description="Pictures an update.")
    optimizer: Literal["sgd", "adamw"] = Field(default="adamw", description="sgd is Nesterov's.")
    lr: float = Field(default=0.001, gt=0, description="Peak learning rate.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="AdamW's first beta too.")
    weight_decay: float = Field(default=0.02, ge=0, description="Not on norms and biases.")
    warmup_updates: int = Field(
        default=50, ge=0, description="Updates over which lr rises linearly."
    )
    clip_grad_norm: float | None = Field(default=10, gt=0, description="Largest gradient norm.")
    ignore_unlabelled_above: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="A proposal without a label that the network itself takes for an actor with "
        "more than this probability is not taught as background: for data sets that "
        "leave people unlabelled. null: it is.",
    )
    ignore_after: float = Field(
        default=0.3, ge=0, le=1, description="Share of the run before ignoring begins."
    )


@dataclass(frozen=True, config=_STRICT)
class PeopleEvaluationConfig:
    """When the held-out part is scored, and which boxes count."""

    every_epochs: int = Field(
        default=1000, ge=1, description="Epochs between scorings of the held-out part."
    )
    batch_size: int = Field(default=16, ge=1, description="Pictures a forward pass.")
    score_floor: float = Field(
        default=0.05, ge=0, lt=1, description="Boxes below this confidence are not looked at."
    )
    max_people: int = Field(default=100, ge=1, description="At most so many boxes a picture.")


@dataclass(frozen=True, config=_STRICT)
class PeopleConfig:
    """Everything that decides a run."""

    data: PeopleDataConfig
    output: str | None = Field(
        default=None, description="Run folder; null: runs/ and the configuration file's name."
    )
    seed: int = Field(default=0, ge=0, description="Decides weights, order, pictures and samples.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a GPU if there."
    )
    workers: int = Field(
        default=1,
        ge=0,
        le=MOST_WORKERS,
        description="Processes that read pictures; 0: the main process.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=MOST_THREADS,
        description="CPU threads of the network; null: PyTorch's default.",
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="fp32",
        description="Arithmetic of training: bf16 is mixed (weights stay fp32); auto: bf16 where "
        "the processor or GPU has it, else fp32. Scoring is in fp32.",
    )
    checkpoint_minutes: float = Field(
        default=5,
        gt=0,
        description="Longest time between checkpoints; one is written each epoch too.",
    )
    picture: PictureConfig = field(default_factory=PictureConfig)
    model: PeopleModelConfig = field(default_factory=PeopleModelConfig)
    optim: PeopleOptimConfig = field(default_factory=PeopleOptimConfig)
    evaluation: PeopleEvaluationConfig = field(default_factory=PeopleEvaluationConfig)


_FILES = ConfigurationFiles(PeopleConfig)
load_people_config = _FILES.load
people_config_from_dict = _FILES.from_dict
people_config_to_dict = _FILES.to_dict
people_config_to_yaml = _FILES.to_yaml
list_people_options = _FILES.options
