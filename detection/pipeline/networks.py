"""The two networks behind one call: a group of keyframes in, people and their action scores out.

Legend: N people of a frame, A action classes asked for, T frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detection.build import place_model
from detection.checkpoints.file import read_checkpoint
from detection.checkpoints.load import load_network
from detection.checkpoints.plain_file import find_checkpoint
from detection.datasets.transforms import EvalTransform
from detection.errors import UserError
from detection.models.action_detector import ActionDetector
from detection.people.base import PeopleDetector, check_finite
from detection.people.weights import load_people_detector, read_people_file
from detection.pipeline.clip_buffer import DetectionFrame, Group
from detection.pipeline.options import PipelineOptions
from detection.pipeline.timing import StageClock
from detection.structures import ActorBoxes, ClipSampling, LabelMap

PEOPLE_FILE = "people.pt"  # beside checkpoints/ in a run folder
_PEOPLE_SHORT_SIDE_PX = 256  # of frames for detectors that do not say theirs


@dataclass(frozen=True)
class FrameDetections:
    """The people in a detection frame.

    index: its number.
    time_s: its time.
    boxes: N people.
    action_scores: (N, A) float32; None where it is no keyframe.
    arrived_s: when the frame came, on this machine's monotonic clock.
    """

    index: int
    time_s: float
    boxes: ActorBoxes
    action_scores: NDArray[np.float32] | None
    arrived_s: float = 0.0


@dataclass(frozen=True)
class Networks:
    """What a pipeline computes with.

    model: the action network, on its device.
    people: the people detector.
    sampling: which frames a clip holds.
    short_side_px: of clips.
    label_map: the classes that are asked for.
    columns: where these are among the model's.
    thresholds: (A,) least score of each class.
    person_score: least confidence of a new person.
    keep_score: least confidence of a person already seen.
    max_people: at one time.
    device: of the networks.
    half_precision: whether they compute in float16.
    """

    model: ActionDetector
    people: PeopleDetector
    sampling: ClipSampling
    short_side_px: int
    label_map: LabelMap
    columns: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    person_score: float
    keep_score: float
    max_people: int
    device: torch.device
    half_precision: bool

    @property
    def people_short_side_px(self) -> int:
        """Return the short side at which frames are handed to the people detector."""
        sides = getattr(self.people, "sides_px", None)
        return _PEOPLE_SHORT_SIDE_PX if sides is None else int(sides[0])

    def find(self, group: Group, clock: StageClock) -> list[FrameDetections]:
        """Return the people of each frame of a group, and their action scores at its keyframes."""
        with clock.measure("people"):
            images = [_chw(frame.rgb) for frame in group.frames]
            found = []
            for frame, boxes in zip(group.frames, self.people.detect(images), strict=True):
                check_finite(boxes, f"{self.people.name}: at {frame.time_s:.3f} s")
                sure = np.flatnonzero(boxes.score >= self.keep_score)[: self.max_people]
                found.append(boxes.select(sure))
        keyframes = [i for i, m in enumerate(group.frames) if m.clip is not None and len(found[i])]
        with clock.measure("actions"):
            scores = self._actions(
                [group.frames[i] for i in keyframes], [found[i] for i in keyframes]
            )
        by_position = dict(zip(keyframes, scores, strict=True))
        no_person = np.zeros((0, len(self.columns)), np.float32)
        return [
            FrameDetections(
                frame.index,
                frame.time_s,
                boxes,
                None if frame.clip is None else by_position.get(position, no_person),
                frame.arrived_s,
            )
            for position, (frame, boxes) in enumerate(zip(group.frames, found, strict=True))
        ]

    @torch.inference_mode()
    def _actions(
        self, keyframes: Sequence[DetectionFrame], boxes: Sequence[ActorBoxes]
    ) -> list[NDArray[np.float32]]:
        transform = EvalTransform(short_side=self.short_side_px)
        params = transform.make_params(np.random.default_rng(0))
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        clips, rois = [], []
        for position, (frame, actors) in enumerate(zip(keyframes, boxes, strict=True)):
            assert frame.clip is not None
            frames = torch.from_numpy(np.stack([f for f in frame.clip if f is not None]))
            clip = transform.apply(frames.permute(0, 3, 1, 2), actors.xyxy_01, params)
            by_size[tuple(clip.frames.shape)].append(position)
            clips.append(clip.frames)
            rois.append(clip.boxes_px)
        scores: list[NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(clips)
        for positions in by_size.values():  # padding to another's size would change results
            rois_px = torch.cat(
                [
                    torch.nn.functional.pad(rois[position], (1, 0), value=float(number))
                    for number, position in enumerate(positions)
                ]
            )
            logits = self._logits(torch.stack([clips[p] for p in positions]), rois_px)
            parts = torch.split(logits, [len(rois[position]) for position in positions])
            for position, part in zip(positions, parts, strict=True):
                if not part.isfinite().all():
                    raise UserError(
                        f"the action network's scores at {keyframes[position].time_s:.3f} s are "
                        "not finite; its weights are damaged, or half precision is too little for "
                        "them (--no-half)"
                    )
                scores[position] = part.sigmoid().numpy()[:, self.columns].astype(np.float32)
        return scores

    def _logits(self, frames: torch.Tensor, rois_px: torch.Tensor) -> torch.Tensor:
        half = torch.autocast(self.device.type, torch.float16) if self.half_precision else None
        with half or nullcontext():
            logits: torch.Tensor = self.model(frames.to(self.device), rois_px.to(self.device))
        return logits.float().cpu()


def open_networks(
    checkpoint: str | Path,
    *,
    people: str | Path | PeopleDetector | None,
    options: PipelineOptions,
    device: torch.device,
    half_precision: bool | None = None,
) -> Networks:
    """Read the action detector and the people detector.

    people: weights or a run of `train_people`, or an opened detector; None: the detector stored
    beside the run, RUN/people.pt or the one in RUN/people.  half_precision: None: on a GPU.
    Raises `UserError` for what is missing in the files, and for unknown classes.
    """
    half = device.type == "cuda" if half_precision is None else half_precision
    if half and device.type != "cuda":
        raise UserError("half precision needs a GPU")
    file = read_checkpoint(checkpoint, weights_only=True)
    assert file.classes is not None
    assert file.sampling is not None and file.short_side_px is not None
    classes = file.classes
    columns = find_columns(classes, options.classes, file.path)
    person_score = options.person_score
    if person_score is None:
        person_score = file.box_score_threshold(default=0.5)
    keep_score = person_score * options.keep_share
    if people is None or isinstance(people, str | Path):
        people = load_people_detector(
            find_people(checkpoint) if people is None else people,
            device=device,
            half_precision=half,
            score_floor=keep_score,
            max_people=options.max_people,
        )
    model = place_model(load_network(file), device).eval()
    assert isinstance(model, ActionDetector)
    if model.head.description.exclusive:
        every = {"action": tuple(range(len(classes)))}
        classes = dataclasses.replace(classes, exclusive=every)
    label_map = classes.select(columns)
    return Networks(
        model=model,
        people=people,
        sampling=file.sampling,
        short_side_px=file.short_side_px,
        label_map=label_map,
        columns=np.asarray(columns, np.int64),
        thresholds=find_thresholds(label_map, options.threshold, options.class_thresholds),
        person_score=person_score,
        keep_score=keep_score,
        max_people=options.max_people,
        device=device,
        half_precision=half,
    )


def find_people(checkpoint: str | Path) -> Path:
    """Return the people detector stored beside a run; `UserError` says how to get one."""
    run = Path(checkpoint)
    if run.is_file():
        run = run.parent.parent if run.parent.name == "checkpoints" else run.parent
    for path in (run / PEOPLE_FILE, run / "people"):
        if path.exists():
            read_people_file(path, weights_only=True)
            return path
    raise UserError(
        f"{find_checkpoint(checkpoint)}: no people detector beside it ({run / PEOPLE_FILE}): give "
        "--people WEIGHTS, made by: python -m ava_tools.train_people --cfg configs/people_demo.yaml"
    )


def find_columns(label_map: LabelMap, names: Sequence[str], source: str) -> list[int]:
    """Return the columns of classes named by name or id; all where none is named."""
    if not names:
        return list(range(len(label_map)))
    chosen = set()
    for name in names:
        column = label_map.index_by_name.get(name)
        if column is None and name.isdecimal():
            column = label_map.index_by_id.get(int(name))
        if column is None:
            raise UserError(f"class '{name}' is not in {source}; it has: {_some(label_map)}")
        chosen.add(column)
    return sorted(chosen)


def find_thresholds(
    label_map: LabelMap, usual: float, by_name: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return the (A,) least score of each class."""
    thresholds = np.full(len(label_map), usual, np.float64)
    for name, value in by_name.items():
        (column,) = find_columns(label_map, [name], "the classes asked for")
        thresholds[column] = value
    return thresholds


def _some(label_map: LabelMap) -> str:
    names = ", ".join(f"'{name}'" for name in label_map.names[:8])
    rest = len(label_map) - 8
    return names + (f" and {rest} more" if rest > 0 else "")


def _chw(rgb: NDArray[np.uint8] | None) -> torch.Tensor:
    assert rgb is not None
    return torch.from_numpy(rgb).permute(2, 0, 1)
