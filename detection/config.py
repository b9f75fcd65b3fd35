"""The one list of options: every one typed, with its unit and a sentence.

A configuration file holds only what differs from the defaults here. Unknown keys, wrong types and
doubled keys stop a run before any data is read, with file, line and what is required. This file
does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    field_validator,
)
from pydantic.dataclasses import dataclass

from detection import bounds
from detection.structures import GROUND_TRUTH_BOXES, AtEnds, ClipSampling, FillMisses
from detection.yaml_files import ConfigurationFiles, expand_home

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
OptionalCount = Annotated[int | None, Field(ge=1)]
BatchSize = Annotated[int, Field(ge=1, le=bounds.LARGEST_BATCH)]
SidePx = Annotated[int, Field(ge=32, le=bounds.LARGEST_SIDE_PX)]
OptionalSidePx = Annotated[int | None, Field(ge=32, le=bounds.LARGEST_SIDE_PX)]
Chance = Annotated[float, Field(gt=0, lt=1)]
OptionalChance = Annotated[float | None, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=bounds.LARGEST_SEED)]
Workers = Annotated[int, Field(ge=0, le=bounds.MOST_WORKERS)]
Threads = Annotated[int | None, Field(ge=1, le=bounds.MOST_THREADS)]
Minutes = Annotated[float, Field(gt=0, le=bounds.MOST_MINUTES)]
Factor = Annotated[float | None, Field(ge=bounds.SMALLEST_FACTOR, le=bounds.LARGEST_FACTOR)]


def _option(default: Any, description: str, **limits: Any) -> Any:
    """Return an option's default, the sentence that lists of options say of it, and its bounds."""
    return Field(default=default, description=description, **limits)


def _action_option(default: Any, description: str, **limits: Any) -> Any:
    """Return `_option` of what only people's boxes have a use for: other tasks refuse it."""
    return _option(default, description, json_schema_extra=_ONLY_FOR_ACTIONS, **limits)


_ONLY_FOR_ACTIONS: dict[str, JsonValue] = {"task": "actions"}


# What more than one kind of configuration has.
_ROOT = Field(description="Data set folder (holds dataset.yaml); see docs/data.md.")
_TRAIN_SPLIT = _option("train", "Split to learn from, as dataset.yaml names it.")
_OUTPUT = _option(None, "Run folder; null: runs/ and the configuration file's name.")
_DEVICE: Any = _option("auto", "auto: a GPU if there.")
_THREADS = _option(None, "CPU threads of the network; null: PyTorch's default.")
_TENSORBOARD = _option(
    False,
    "Write the log for TensorBoard too, to the run folder's tensorboard/ (an extra: pip install "
    "tensorboard).",
)
BoardName = Literal["tensorboard", "mlflow", "wandb"]
_BOARDS = _option(
    (),
    "Programs that draw the log too: tensorboard, mlflow (MLFLOW_TRACKING_URI, else mlflow.db "
    "beside the run folder), wandb (WANDB_MODE=offline without a network); extras of these names.",
)
_CHECKPOINTS_KEPT = _option(
    0,
    "Checkpoints of the last n epochs that are kept (checkpoints/epoch_0012.pt), beside last.pt "
    "and best.pt.",
)
_MAX_UNREADABLE = _option(
    0.02,
    "Share of an epoch's samples that may turn out to be unreadable: each is named, counted and "
    "replaced; more of them end the run. 0: the first does. In scoring they count as missed, "
    "however many.",
)
_USE_AVERAGE = _option(
    True,
    "Score the averaged weights where there are any (optim.ema_decay); false: the weights as last "
    "updated, for comparison.",
)
_HOW_TO_GET = _option(None, "Command that makes the folder, named when it is not there.")


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which data set, which part of it, whose boxes."""

    root: str = _ROOT
    train_split: str = _TRAIN_SPLIT
    val_split: str = _option("val", "Split to score on.")
    val_boxes: str = _action_option(
        GROUND_TRUTH_BOXES,
        "Actor boxes when scoring: 'ground-truth', or a box file named in the split.",
    )
    also_score_boxes: tuple[str, ...] = _action_option(
        (), "Further boxes to score on at the end, beside `val_boxes`, the headline."
    )
    box_score_threshold: Share = _action_option(
        0.8, "Detected boxes below this confidence are left out."
    )
    train_boxes: str | None = _action_option(
        None,
        "Box file of the training split, by name: boxes that fit a ground-truth box are learned "
        "from too, with its labels. null: ground truth alone.",
    )
    train_box_iou: ShareBelowOne = _action_option(
        0.9, "A detected training box fits where its IoU with ground truth is above this."
    )
    unmatched_as_negatives: bool = _action_option(
        False,
        "Learn from detected boxes that fit no labelled person as people who do nothing (AVA's "
        "labels do not say so: they may be people without a label).",
    )
    how_to_get: str | None = _HOW_TO_GET
    label_map: str | None = _option(
        None,
        "Classes that are learned, a file in the data set folder; null: those that dataset.yaml "
        "names, which are the ones scored in any case.",
    )
    skip_unknown_labels: bool = _action_option(
        False, "Skip (and count) rows whose action is not in the label map."
    )
    train_keyframes_per_video: OptionalCount = _action_option(
        None, "Random keyframes taken from each video an epoch; null: every keyframe."
    )
    max_unreadable: ShareBelowOne = _MAX_UNREADABLE
    val_every: Count = _option(
        1, "While training, score on every n-th keyframe; the end scores all."
    )

    _home = field_validator("root")(expand_home)

    def __post_init__(self) -> None:
        if self.unmatched_as_negatives and self.train_boxes is None:
            raise ValueError("unmatched_as_negatives needs train_boxes, the boxes it is about")


@dataclass(frozen=True, config=_STRICT)
class ClipConfig:
    """Which frames a clip holds, and how they are cut."""

    num_frames: int = _option(16, "Frames in a clip.", ge=1, le=bounds.MOST_FRAMES)
    step: float = _option(
        5,
        "Spacing of frames in 1/30 s; 0 repeats the keyframe's own frame.",
        ge=0,
        le=bounds.LONGEST_STEP,
    )
    at_ends: AtEnds = _option(
        "repeat",
        "A clip that would reach past its video's ends: 'repeat' the edge frame, or move it "
        "'inside' (one longer than the video is spread over it evenly), for short videos.",
    )
    stream: bool = _action_option(
        False,
        "Passes of num_frames follow each other along the video and keyframes share them: one is "
        "seen in num_frames around it, of one pass or of two (needs at_ends: inside). Where "
        "keyframes are close, a fraction of the time.",
    )
    train_short_side_px: tuple[int, int] = _option(
        (256, 320), "Training: the short side is drawn from this range, in pixels."
    )
    train_crop_px: SidePx = _option(224, "Training: side of the random crop, pixels.")
    test_short_side_px: SidePx = _option(256, "Test: short side of the whole frame.")
    flip_probability: Share = _option(0.5, "Training: horizontal flip.")
    color_jitter: Share = _option(
        0.0, "Training: strength of brightness, contrast and saturation jitter."
    )
    box_jitter: float = _action_option(
        0.0,
        "Training: each edge of a box moves by up to this share of its size, so that ground-truth "
        "boxes prepare for detected ones.",
        ge=0,
        lt=0.5,
    )
    min_visible: Share = _action_option(
        0.25, "Training: actors with less of their box inside the crop are left out."
    )

    @property
    def sampling(self) -> ClipSampling:
        """Which frames a clip holds: all that reads frames is handed this value."""
        return ClipSampling(self.num_frames, self.step, self.at_ends, self.stream)

    def __post_init__(self) -> None:
        low, high = self.train_short_side_px
        if not 0 < low <= high <= bounds.LARGEST_SIDE_PX:
            raise ValueError(
                f"train_short_side_px must be [low, high], at most {bounds.LARGEST_SIDE_PX}, got "
                f"[{low}, {high}]"
            )
        if self.num_frames * self.test_short_side_px**2 > bounds.MOST_PIXELS:
            raise ValueError(
                f"{self.num_frames} frames of {self.test_short_side_px} px are more than the "
                f"{bounds.MOST_PIXELS:,} pixels that a clip may hold"
            )
        if self.stream and (self.at_ends != "inside" or not self.step):
            raise ValueError("stream needs at_ends: inside, and a step above 0")
        if low < self.train_crop_px:
            raise ValueError(
                f"train_short_side_px starts at {low}, below train_crop_px {self.train_crop_px}"
            )


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The network."""

    variant: Literal["xs", "s", "m", "l", "xl", "x2d"] = _option("m", "X3D's family.")
    width_factor: Factor = _option(
        None,
        "The paper's gamma_w times 2: channels are 12, 24, 48, 96 times it; null: the variant's "
        "(2; XL 2.9).",
    )
    depth_factor: Factor = _option(
        None,
        "The paper's gamma_d: blocks are 1, 2, 5, 3 times it, rounded up; null: the variant's "
        "(2.2; L and XL 5; X2D 1).",
    )
    bottleneck_factor: Factor = _option(
        None,
        "The paper's gamma_b: channels inside a block are its outer ones times it; null: the "
        "variant's (2.25; X2D 1).",
    )
    width_divisor: int | None = _option(
        None,
        "Channels are rounded to multiples of it; null: 8. SlowFast's XL needs 1.",
        ge=1,
        le=4096,
    )
    pretrained: str | None = _option(
        None, "File, run folder or published name of weights to start from; null: random."
    )
    allow_unused: bool | tuple[str, ...] = _option(
        False,
        "Weights of `pretrained` that the network has no place for: false: an error; true: left "
        "out; a list: those whose names begin so are left out.",
    )
    freeze_batch_norm: bool | None = _option(
        None,
        "BatchNorm keeps statistics and affine; null: where it was folded into the weights that "
        "training starts from.",
    )
    frozen_stages: int = _option(
        0,
        "Parts of the trunk that keep their weights, from the input on: 1 the stem and res2, 2 "
        "res3 too, ... 4 res5 too, 5 all of it. No gradient is computed there.",
        ge=0,
        le=5,
    )
    res5_stride: Literal[1, 2] = _action_option(2, "Spatial stride of res5 (paper: 2).")
    roi_size: int = _action_option(7, "RoIAlign output is roi_size x roi_size.", ge=1, le=64)
    roi_pool: Literal["max", "mean"] = _action_option(
        "max",
        "Over a person's region: max (paper), or mean, as the classifier pools that pretrained "
        "weights come from.",
    )
    context: Literal["none", "frame"] = _action_option(
        "none",
        "frame: the last layer also sees the whole frame's pooled features beside the person's; "
        "none: the person's alone (paper).",
    )
    unit_features: bool = _action_option(
        False,
        "Bring the features before the last layer to length 1, the person's and the frame's each "
        "(paper: no).",
    )
    exclusive_actions: bool = _action_option(
        False,
        "Everybody does exactly one of the classes: their probabilities add up to 1, a softmax; "
        "false: independent, any number of actions (paper).",
    )
    actor_input: Literal["roi", "tube", "tube+crop"] = _action_option(
        "roi",
        "Where a person is looked at: roi: in the keyframe's box (paper); tube: in their own box "
        "in each frame, for people who move; tube+crop: there, and in a square that follows them, "
        "one more pass of the trunk a person.",
    )
    crop_px: SidePx = _action_option(
        160, "Side of the squares of `actor_input: tube+crop`, pixels."
    )
    time_parts: int = _action_option(
        1,
        "The clip's frames in so many stretches: the last layer sees the features of each, side by "
        "side, instead of their mean, which knows no order (paper: 1).",
        ge=1,
        le=bounds.MOST_FRAMES,
    )
    head_width: int = _option(2048, "Width of fc1.", ge=1, le=bounds.MOST_WIDTH)
    dropout: ShareBelowOne = _option(0.5, "Before the last layer.")
    first_probability: Chance = _option(
        0.5,
        "Probability of every action before anything is learned, by the last layer's bias: about "
        "the share of people who do one spares short runs learning that. Published weights start "
        "from 0.5.",
    )
    sync_batch_norm: bool = _option(
        False, "BatchNorm over the batches of all processes; GPUs only."
    )
    checkpoint_activations: bool = _option(
        False,
        "Keep the inputs of the trunk's blocks alone and compute the rest again on the way back: "
        "the same numbers from less memory, in a third more time or so.",
    )

    _home = field_validator("pretrained")(expand_home)

    def __post_init__(self) -> None:
        if self.sync_batch_norm and self.freeze_batch_norm:
            raise ValueError("sync_batch_norm and freeze_batch_norm exclude each other")
        if self.frozen_stages and self.pretrained is None:
            raise ValueError("frozen_stages needs pretrained: random weights would stay random")
        if self.frozen_stages and not self.freeze_batch_norm:
            raise ValueError("frozen_stages needs freeze_batch_norm: their statistics would move")


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """How the weights move."""

    epochs: int = _option(
        68,
        "Passes over the training keyframes; 0 (with `probe`): the probe is all.",
        ge=0,
        le=bounds.MOST_EPOCHS,
    )
    batch_size: BatchSize = _option(16, "Clips a forward pass.")
    accumulate: BatchSize = _option(1, "Forward passes per update of the weights.")
    lr: PositiveFloat = _option(0.1, "Peak learning rate, of one update.")
    lr_batch: OptionalCount = _option(
        None,
        "Clips an update that `lr` is stated for: it grows linearly with batch_size x accumulate "
        "(head_lr_factor on top; weight decay, warm-up and averaging stay). null: lr as it is.",
    )
    head_lr_factor: PositiveFloat = _option(1.0, "Factor on lr for the actor head.")
    optimizer: Literal["sgd", "adamw"] = _option(
        "sgd", "sgd (the paper's, Nesterov) or adamw (short runs from scratch)."
    )
    momentum: ShareBelowOne = _option(0.9, "Nesterov momentum, 0: plain SGD; AdamW's first beta.")
    beta2: Chance = _option(
        0.999,
        "AdamW's second beta; less in runs of few updates, whose first gradients would otherwise "
        "hold the steps short to the end.",
    )
    weight_decay: NonNegativeFloat = _option(1e-7, "Not on norms and biases.")
    warmup_updates: NonNegativeInt = _option(0, "Updates over which lr rises linearly.")
    warmup_epochs: NonNegativeFloat = _option(
        0, "The same in epochs, in place of `warmup_updates`."
    )
    warmup_start: float = _option(0.1, "First lr, as a share of lr.", gt=0, le=1)
    schedule: Literal["cosine", "step", "plateau", "constant"] = _option(
        "cosine", "cosine to 0; step: / 10 at `milestones`; plateau: / 10 when mAP saturates."
    )
    milestones: tuple[int, ...] = _option((), "Epochs at which `step` divides by 10.")
    patience: Count = _option(2, "plateau: evaluations without a better mAP before lr is divided.")
    clip_grad_norm: float | None = _option(None, "Largest gradient norm.", gt=0)
    precise_bn_batches: NonNegativeInt = _option(
        0,
        "Before each scoring, BatchNorm's statistics are computed anew over the first n batches "
        "of the epoch; 0: the running averages are used.",
    )
    ema_decay: OptionalChance = _option(
        None,
        "Keep a moving average of the weights, of this decay an update, and score it; null: none.",
    )

    @property
    def global_batch(self) -> int:
        """Clips an update, over processes and accumulated passes."""
        return self.batch_size * self.accumulate

    @property
    def peak_lr(self) -> float:
        """Peak learning rate, scaled to the global batch where `lr_batch` says so."""
        return self.lr if self.lr_batch is None else self.lr * self.global_batch / self.lr_batch

    def __post_init__(self) -> None:
        if self.warmup_updates and self.warmup_epochs:
            raise ValueError("warmup_updates and warmup_epochs: only one of them can be given")
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("schedule 'step' and a non-empty `milestones` go together")


@dataclass(frozen=True, config=_STRICT)
class ProbeConfig:
    """A linear probe before the first epoch: a last layer fitted to what pretrained weights see."""

    keyframes_per_video: OptionalCount = _action_option(
        None,
        "Random keyframes of each training video, as in testing, that the last layer is fitted to "
        "before the first epoch; null: it starts at random.",
    )
    l2: PositiveFloat = _action_option(
        1e-4,
        "On the squared weights of the probe; features have a mean squared length of 1, the loss "
        "is summed over classes.",
    )
    keep_unless_beaten: bool = _option(
        False,
        "After the last epoch score the probe and the fine-tuned network on the validation split, "
        "and put the probe back unless fine-tuning is better.",
    )


@dataclass(frozen=True, config=_STRICT)
class PeopleUseConfig:
    """What is made of detected people, beside their boxes."""

    relevance: Literal["none", "fit"] = _action_option(
        "none",
        "fit: a person's score is multiplied by the probability that the person is one who is "
        "labelled, by box, company and score, fitted to the training split's boxes of "
        "`data.val_boxes`. Right for that data and detector, harmful elsewhere, and refused there.",
    )


@dataclass(frozen=True, config=_STRICT)
class EvaluationConfig:
    """When and by which rules the run is scored."""

    every_epochs: Count = _option(1, "Epochs between evaluations.")
    batch_size: BatchSize = _option(16, "Clips a forward pass.")
    use_average: bool = _USE_AVERAGE
    multiply_person_score: bool = _action_option(
        False,
        "Multiply action scores by the confidence of the person's box, as some systems do; the "
        "results say so.",
    )
    track_reach_s: Annotated[float | None, Field(gt=0)] = _action_option(
        None,
        "Average the scores of actions and of the person along the person's track, with weights "
        "that fall from 1 at the keyframe to 0 so many seconds away (1e6: the mean of the track); "
        "null: each keyframe alone. The results say so.",
    )
    fill_misses: FillMisses = _action_option(
        "none",
        "Keyframes at which a track has no box: 'between' gives those between two of its boxes an "
        "interpolated one, 'whole-video' all of the video's, for short clips of one action (the "
        "person's score then counts times the root of the share of keyframes that saw them). Needs "
        "track_reach_s.",
    )
    protocol: str | None = _action_option(
        None,
        "Rules of the mAP; null: the data set's, else activitynet-2018 where all times are whole "
        "seconds and frame-map where not.",
    )

    def __post_init__(self) -> None:
        if self.fill_misses != "none" and self.track_reach_s is None:
            raise ValueError("fill_misses: needs track_reach_s, whose scores filled boxes have")


@dataclass(frozen=True, config=_STRICT)
class ClassificationConfig:
    """Whole videos as labelled clips (`task: classification`)."""

    labels: Literal["single", "multi"] = _option(
        "single",
        "single: one class a video (softmax, top-1 and top-5); multi: any number, joined by ';' "
        "(sigmoid, mAP by video, as Charades).",
    )
    video_folder: str | None = _option(
        None, "Folder that relative paths in the lists start from; null: data.root."
    )
    val_clips: BatchSize = _option(
        1, "While training: clips a video that are scored, one crop each."
    )
    test_clips: BatchSize = _option(10, "At the end: clips a video, evenly spaced in time.")
    test_crops: Literal[1, 3] = _option(
        1, "At the end: the middle square of each clip, or 3 over its long side."
    )
    test_crop_px: OptionalSidePx = _option(
        None,
        "Side of a square; null: clip.train_crop_px where there is 1, clip.test_short_side_px "
        "where there are 3.",
    )

    _home = field_validator("video_folder")(expand_home)


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """Everything that decides a run."""

    data: DataConfig
    task: Literal["actions", "classification"] = _option(
        "actions",
        "actions: of every person (data.root is a data set folder); classification: of whole "
        "clips (data.root holds lists of videos).",
    )
    output: str | None = _OUTPUT
    seed: Seed = _option(0, "Decides initial weights, order, crops and dropout.")
    device: Literal["auto", "cpu", "cuda"] = _DEVICE
    workers: Workers = _option(2, "Processes that read clips; 0: the main process.")
    threads: Threads = _THREADS
    precision: Literal["fp32", "bf16", "fp16", "auto"] = _option(
        "fp32",
        "Arithmetic of training: bf16 and fp16 are mixed (weights stay fp32); fp16 scales the "
        "loss and needs a GPU; auto: bf16 where the processor or GPU has it, else fp32. Scoring "
        "is in fp32.",
    )
    checkpoint_minutes: Minutes = _option(
        10, "Longest time between checkpoints; one is written each epoch too."
    )
    compile: bool = _option(
        False, "Compile the trunk for training (torch.compile; the first steps take minutes)."
    )
    tensorboard: bool = _TENSORBOARD
    boards: tuple[BoardName, ...] = _BOARDS
    checkpoints_kept: NonNegativeInt = _CHECKPOINTS_KEPT
    clip: ClipConfig = field(default_factory=ClipConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    people: PeopleUseConfig = field(default_factory=PeopleUseConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)

    _home = field_validator("output")(expand_home)

    def __post_init__(self) -> None:
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError(
                "precision 'fp16' and device 'cpu' exclude each other: fp16 needs a GPU"
            )
        if self.optim.epochs == 0 and self.probe.keyframes_per_video is None:
            raise ValueError("optim.epochs=0 needs probe.keyframes_per_video: nothing is learned")
        if self.probe.keyframes_per_video is not None and self.model.pretrained is None:
            raise ValueError("probe needs model.pretrained: random features tell little")
        if self.model.sync_batch_norm and self.device == "cpu":
            raise ValueError(
                "model.sync_batch_norm and device 'cpu' exclude each other: it works on GPUs only"
            )
        if self.optim.precise_bn_batches and self.model.freeze_batch_norm:
            raise ValueError(
                "optim.precise_bn_batches and model.freeze_batch_norm exclude each other"
            )
        if self.compile and self.model.checkpoint_activations:
            raise ValueError("compile and model.checkpoint_activations exclude each other")
        if self.optim.schedule == "plateau" and self.evaluation.every_epochs >= self.optim.epochs:
            raise ValueError(
                "optim.schedule 'plateau' needs evaluations while training, but "
                f"evaluation.every_epochs={self.evaluation.every_epochs} and "
                f"optim.epochs={self.optim.epochs}"
            )
        self._check_time()
        if self.task == "actions":
            _refuse_options(self, {"classification": list(vars(ClassificationConfig()))})
            _check_relevance(self)
        else:
            _refuse_options(self, _action_options(self))
            crop = self.classification.test_crop_px or self.clip.train_crop_px
            if crop > self.clip.test_short_side_px:
                raise ValueError(
                    f"the test crop of {crop} px is larger than clip.test_short_side_px "
                    f"{self.clip.test_short_side_px}"
                )

    def _check_time(self) -> None:
        """Hold what the head asks of a clip's frames against the clip."""
        model, clip = self.model, self.clip
        if model.time_parts > clip.sampling.num_frames:
            raise ValueError(
                f"model.time_parts={model.time_parts} needs as many frames, clip.num_frames is "
                f"{clip.sampling.num_frames}"
            )
        if clip.stream and (model.actor_input != "roi" or model.time_parts > 1):
            raise ValueError(
                "clip.stream takes the mean over its frames and the keyframe's boxes: "
                "model.actor_input 'roi' and model.time_parts 1 are required"
            )


def _check_relevance(config: RunConfig) -> None:
    if config.people.relevance == "none":
        return
    if config.data.val_boxes == GROUND_TRUTH_BOXES:
        raise ValueError(
            "people.relevance 'fit' needs data.val_boxes: the name of detected boxes, not "
            f"'{GROUND_TRUTH_BOXES}'"
        )
    if not config.evaluation.multiply_person_score:
        raise ValueError(
            "people.relevance 'fit' needs evaluation.multiply_person_score: it becomes a part of "
            "the person's score"
        )


def _action_options(config: RunConfig) -> dict[str, list[str]]:
    """Return the options that only people's boxes have a use for, by section."""
    return {
        section: [
            each.name
            for each in fields(options)
            if getattr(each.default, "json_schema_extra", None) == _ONLY_FOR_ACTIONS
        ]
        for section, options in vars(config).items()
        if is_dataclass(options)
    }


def _refuse_options(config: RunConfig, options: Mapping[str, Sequence[str]]) -> None:
    for section, names in options.items():
        given = getattr(config, section)
        for name in names:
            if getattr(given, name) != type(given).__dataclass_fields__[name].default.default:
                raise ValueError(f"{section}.{name} has no use with task '{config.task}'")


@dataclass(frozen=True, config=_STRICT)
class PeopleDataConfig:
    """Whose boxes are learned, and which are kept back for choices."""

    root: str = _ROOT
    train_split: str = _TRAIN_SPLIT
    val_split: str = _option("val", "Split to score on at the end; never used to choose anything.")
    how_to_get: str | None = _HOW_TO_GET
    class_name: str = _option("person", "What the boxes hold: the name of the network's one class.")
    held_out_share: ShareBelowOne = _option(
        0.1,
        "Part of the training split's source videos that is not learned from: weights and score "
        "thresholds are chosen on it. 0: none, the last weights are kept.",
    )
    source_pattern: str | None = _option(
        None,
        "Regular expression whose first group finds, in a video id, the source that it was cut "
        "from; clips of one source are held out together. null: each is its own.",
    )
    keyframes_per_video: OptionalCount = _option(
        None, "Random keyframes taken from each video an epoch; null: every keyframe."
    )
    held_out_every: Count = _option(
        1, "While training, score on every n-th held-out keyframe of a video; the end scores all."
    )
    keep_mb: NonNegativeInt = _option(512, "Decoded frames that each worker keeps, MB; 0: none.")
    max_unreadable: ShareBelowOne = _MAX_UNREADABLE

    _home = field_validator("root")(expand_home)

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
class FrameConfig:
    """The size of frames, and how training varies them."""

    short_side_px: SidePx = _option(144, "Short side that frames are scaled to, in pixels.")
    long_side_px: SidePx = _option(256, "Longest long side; the short side gives way to it.")
    scale_jitter: tuple[float, float] = _option(
        (0.7, 1.3),
        "Training: frames are drawn at a random scale from this range, cut or padded to their "
        "usual size.",
    )
    flip_probability: Share = _option(0.5, "Training: horizontal flip.")
    color_jitter: Share = _option(
        0.2, "Training: strength of brightness, contrast and saturation jitter."
    )
    min_visible: Share = _option(
        0.25, "Training: boxes of which less is left inside the frame are left out."
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

    network: Literal["small", "mobile_320", "mobile", "resnet50_v2"] = _option(
        "small", "small: cheap on a CPU; the others are torchvision's."
    )
    start_from: str | None = _option(
        None,
        "Weights to start from: 'coco' (fetched by torchvision), a file or a run of train_people; "
        "null: random.",
    )
    freeze_batch_norm: bool = _option(
        False, "Keep BatchNorm as it is: for small batches from good weights."
    )

    _home = field_validator("start_from")(expand_home)


@dataclass(frozen=True, config=_STRICT)
class PeopleOptimConfig(OptimConfig):
    """How the weights move; the same options as above with other defaults, and what is ignored."""

    epochs: int = _option(12, "Passes over the training keyframes.", ge=1, le=bounds.MOST_EPOCHS)
    batch_size: BatchSize = _option(8, "Frames a forward pass.")
    lr: PositiveFloat = _option(0.001, "Peak learning rate, of one update.")
    head_lr_factor: PositiveFloat = _option(
        1.0, "Factor on lr for the layers that follow the proposals."
    )
    optimizer: Literal["sgd", "adamw"] = _option("adamw", "sgd is Nesterov's.")
    weight_decay: NonNegativeFloat = _option(0.02, "Not on norms and biases.")
    warmup_updates: NonNegativeInt = _option(50, "Updates over which lr rises linearly.")
    warmup_start: float = _option(0.01, "First lr, as a share of lr.", gt=0, le=1)
    clip_grad_norm: float | None = _option(10, "Largest gradient norm.", gt=0)
    ignore_unlabelled_above: OptionalChance = _option(
        None,
        "Proposals without a label that the network itself takes for a person with more than this "
        "probability are ignored, not taught as background: for data sets that leave people "
        "unlabelled. null: they are taught.",
    )
    ignore_after: Share = _option(0.3, "Share of the run before ignoring begins.")


@dataclass(frozen=True, config=_STRICT)
class PeopleEvaluationConfig:
    """When the held-out part is scored, and which boxes count."""

    every_epochs: Count = _option(1000, "Epochs between scorings of the held-out part.")
    batch_size: BatchSize = _option(16, "Frames a forward pass.")
    score_floor: ShareBelowOne = _option(0.05, "Boxes below this confidence are not looked at.")
    max_people: BatchSize = _option(100, "At most so many boxes a frame.")
    use_average: bool = _USE_AVERAGE


@dataclass(frozen=True, config=_STRICT)
class PeopleConfig:
    """Everything that decides a run of training a people detector."""

    data: PeopleDataConfig
    output: str | None = _OUTPUT
    seed: Seed = _option(0, "Decides weights, order, frames and samples.")
    device: Literal["auto", "cpu", "cuda"] = _DEVICE
    workers: Workers = _option(1, "Processes that read frames; 0: the main process.")
    threads: Threads = _THREADS
    precision: Literal["fp32", "bf16", "auto"] = _option(
        "fp32",
        "Arithmetic of training: bf16 is mixed (weights stay fp32); auto: bf16 where the "
        "processor or GPU has it, else fp32. Scoring is in fp32.",
    )
    checkpoint_minutes: Minutes = _option(
        5, "Longest time between checkpoints; one is written each epoch too."
    )
    tensorboard: bool = _TENSORBOARD
    boards: tuple[BoardName, ...] = _BOARDS
    checkpoints_kept: NonNegativeInt = _CHECKPOINTS_KEPT
    picture: FrameConfig = field(default_factory=FrameConfig)
    model: PeopleModelConfig = field(default_factory=PeopleModelConfig)
    optim: PeopleOptimConfig = field(default_factory=PeopleOptimConfig)
    evaluation: PeopleEvaluationConfig = field(default_factory=PeopleEvaluationConfig)

    _home = field_validator("output")(expand_home)

    def __post_init__(self) -> None:
        if self.optim.precise_bn_batches and self.model.freeze_batch_norm:
            raise ValueError(
                "optim.precise_bn_batches and model.freeze_batch_norm exclude each other"
            )


AnyConfig = RunConfig | PeopleConfig

_FILES = ConfigurationFiles(RunConfig)
load_config = _FILES.load
config_from_dict = _FILES.from_dict
list_options = _FILES.options

_PEOPLE_FILES = ConfigurationFiles(PeopleConfig)
load_people_config = _PEOPLE_FILES.load
people_config_from_dict = _PEOPLE_FILES.from_dict
list_people_options = _PEOPLE_FILES.options


def config_to_dict(config: AnyConfig) -> dict[str, Any]:
    """Return plain types only, every option written out."""
    return _files_of(config).to_dict(config)


def flat_options(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options of `config_to_dict` by their names on a command line, such as optim.lr."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_options(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def config_to_yaml(config: AnyConfig) -> str:
    """Return the whole configuration as YAML."""
    return _files_of(config).to_yaml(config)


def same_kind_from_dict(config: AnyConfig, values: Mapping[str, Any], source: str) -> AnyConfig:
    """Check a plain dictionary as a configuration of the kind of `config`."""
    same: AnyConfig = _files_of(config).from_dict(values, source)
    return same


def _files_of(config: AnyConfig) -> ConfigurationFiles[Any]:
    return _PEOPLE_FILES if isinstance(config, PeopleConfig) else _FILES
