"""The options of a search (`configs/expand_*.yaml`), typed, with units and descriptions."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from detection.bounds import (
    LARGEST_FACTOR,
    LARGEST_SEED,
    LARGEST_SIDE_PX,
    LONGEST_STEP,
    MOST_FRAMES,
    MOST_THREADS,
    MOST_WORKERS,
)
from detection.expansion.axes import AXES, Axis, with_crop
from detection.models.x3d import X3DDescription
from detection.yaml_files import ConfigurationFiles, expand_home

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
UNITS = {"macs": "MMAC", "parameters": "thousand parameters", "milliseconds": "ms"}
SCALES = {"macs": 1e6, "parameters": 1e3, "milliseconds": 1.0}


@dataclass(frozen=True, config=_STRICT)
class BasisConfig:
    """The network that the search starts from; the defaults are X2D with clips of one frame."""

    num_frames: int = Field(default=1, ge=1, le=MOST_FRAMES, description="Frames in a clip.")
    step: float = Field(
        default=30,
        gt=0,
        le=LONGEST_STEP,
        description="Spacing of frames in 1/30 s. One frame stands for this long a time, which the "
        "frame rate axis divides.",
    )
    crop_px: int = Field(
        default=112, ge=32, le=LARGEST_SIDE_PX, description="Side of the training crop."
    )
    width_factor: float = Field(
        default=2.0, gt=0, le=LARGEST_FACTOR, description="Channels: 12, 24, 48, 96 times it."
    )
    bottleneck_factor: float = Field(
        default=1.0, gt=0, le=LARGEST_FACTOR, description="Inner over outer channels."
    )
    depth_factor: float = Field(
        default=1.0, gt=0, le=LARGEST_FACTOR, description="Blocks: 1, 2, 5, 3 times it."
    )

    def describe(self) -> X3DDescription:
        """Return the network."""
        network = X3DDescription(
            self.num_frames, self.step, self.crop_px, (1, 1), 1, width_factor=self.width_factor,
            depth_factor=self.depth_factor, bottleneck_factor=self.bottleneck_factor,
        )  # fmt: skip
        return with_crop(network, self.crop_px)


@dataclass(frozen=True, config=_STRICT)
class LimitsConfig:
    """Limits of the videos; null: the median over training videos, from their headers."""

    longest_clip_s: float | None = Field(
        default=None, gt=0, description="Seconds that the frames of a clip may span."
    )
    fastest_fps: float | None = Field(
        default=None, gt=0, description="Frames a second there are to take."
    )
    largest_side_px: int | None = Field(default=None, gt=0, description="Short side of the videos.")


@dataclass(frozen=True, config=_STRICT)
class ExpandConfig:
    """A search: where it starts, what it costs, and how its candidates are trained."""

    training: dict[str, Any] = Field(
        description="Options of train_ava.py; the search sets `model`'s and `clip`'s network "
        "numbers, `seed` and `output` itself. The task decides the score: frame-mAP of actions, "
        "top-1 of classification."
    )
    target: float = Field(
        gt=0, description="Cost to reach: MMAC, thousands of parameters, or milliseconds."
    )
    cost: Literal["macs", "parameters", "milliseconds"] = Field(
        default="macs", description="What a network costs: of one clip at the training crop."
    )
    factor: float = Field(default=2.0, gt=1, description="Growth of the cost in a step.")
    tolerance: float = Field(
        default=0.15,
        gt=0,
        lt=1,
        description="An axis takes no part in a step whose cost it misses by more than this share.",
    )
    axes: tuple[Axis, ...] = Field(default=AXES, min_length=1, description="Axes to try.")
    seeds: int = Field(
        default=1, ge=1, le=1000, description="Trainings of a candidate; their mean decides."
    )
    first_seed: int = Field(
        default=0, ge=0, le=LARGEST_SEED, description="Seed of the first of them."
    )
    start_from_parent: bool = Field(
        default=False,
        description="Candidates start from the weights they share with the network they grew from "
        "(the paper trains from scratch).",
    )
    basis: BasisConfig = field(default_factory=BasisConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    output: str | None = Field(
        default=None, description="Search folder; null: runs/ and the configuration file's name."
    )
    jobs: int = Field(
        default=1, ge=1, le=MOST_WORKERS, description="Candidates trained side by side."
    )
    threads: int = Field(default=1, ge=1, le=MOST_THREADS, description="CPU threads of each.")

    _home = field_validator("output")(expand_home)

    def __post_init__(self) -> None:
        if len(set(self.axes)) < len(self.axes):
            raise ValueError(f"axes: one is there twice, got {', '.join(self.axes)}")


_FILES = ConfigurationFiles(ExpandConfig)
load_expand_config = _FILES.load
to_values = _FILES.to_dict
