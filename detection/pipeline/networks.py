"""The two networks behind one call: a group of keyframes in, people and their action scores out.

Legend: N people of a frame, A action classes asked for, T frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detection.checkpoints.file import ModelFile
from detection.checkpoints.model_folder import people_of_folder
from detection.checkpoints.network_file import kinetics_classes
from detection.checkpoints.plain_file import (
    MODEL_CONFIG,
    MODEL_WEIGHTS,
    find_checkpoint,
    is_model_folder,
)
from detection.errors import UserError
from detection.export.artefact import find_artefact
from detection.export.runtimes import AUTO, RuntimeChoice
from detection.export.session import Threads
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import ClipClassifier
from detection.models.soundness import describe_large_logits
from detection.models.x3d import VARIANTS
from detection.people.base import NetworkDetector, PeopleDetector, check_finite, person_threshold
from detection.people.beside_run import PEOPLE_FILE, people_beside
from detection.people.whole_frame import WholeFrame
from detection.pipeline.action_file import ActionFile, open_action_file
from detection.pipeline.clip_buffer import FrameDetections, Group
from detection.pipeline.following import FollowedFrame
from detection.pipeline.gathered_classes import GatheredClasses, read_gathered_classes
from detection.pipeline.options import WHOLE_CLIP_THRESHOLD, PipelineOptions
from detection.pipeline.relevant_people import find_relevance, weigh_people
from detection.pipeline.scorers import ActionScorer, KeyframeClip, RoiScorer, SquareScorer
from detection.pipeline.shared_clips import SharedMaps
from detection.pipeline.timing import StageClock
from detection.relevance import Relevance
from detection.reports.thresholds_text import thresholds_line
from detection.structures import ActorBoxes, ClassThresholds, ClipSampling, LabelMap
from detection.tracking.tracker import Tracker

# X3D-XS was trained on 4 frames 0.4 s apart. Twice as many, closer, give people who do nothing with
# a name fewer wrong ones (benchmarks/zero_training.py --neutral, docs/results.md).
XS_SQUARE_SAMPLING = ClipSampling(8, 4, "inside")
# Larger videos are scaled down to this before squares are cut from their frames.
MOST_SQUARE_SOURCE_PX = 720
WHOLE_CLIP_NOTE = (
    "the action network was trained on whole clips, not on persons; "
    "each person is shown to it alone"
)
WHOLE_FRAME_NOTE = "the whole frame is taken for one person; no people are detected"
KINETICS_NOTE = (
    "Kinetics labels, not trained on persons: good for sports and large scenes; there are no names "
    "for standing, sitting or walking, so it is silent on them or, now and then, wrong"
)

_PEOPLE_SHORT_SIDE_PX = 256  # of frames for detectors that do not say theirs


@dataclass(frozen=True)
class Networks:
    """What a pipeline computes with.

    actions: scores the people of keyframes.
    knows_kinetics: whether its classes are Kinetics-400's, gathered or not.
    guesses: sentences on what the files did not say, a line each.
    people: the people detector.
    people_source: where it came from; an opened one itself.
    sampling: which frames a clip holds.
    short_side_px: of clips.
    label_map: the classes that are asked for.
    threshold: least score of an event, usually.
    thresholds: (A,) least score of each class.
    learned: the thresholds of its file; None where it has none, or others were asked for.
    relevance: that multiplies scores of people; None: none was asked for.
    person_score: least confidence of a new person.
    keep_score: least confidence of a person already seen.
    max_people: at one time.
    device: of the networks.
    half_precision: whether they compute in float16 (the action network in bfloat16 by OpenVINO).
    runtime: what runs the action network: "torch", or another with its version and precision.
    runtime_why: why it was chosen; "": it was asked for.
    people_runtime: that computes the people detector's dense parts, likewise.
    times_person_score: whether scores are multiplied by the confidence in the person before they
    are compared with thresholds.
    """

    actions: ActionScorer
    knows_kinetics: bool
    guesses: tuple[str, ...]
    people: PeopleDetector
    people_source: str | Path | PeopleDetector
    sampling: ClipSampling
    short_side_px: int
    label_map: LabelMap
    threshold: float
    thresholds: NDArray[np.float64]
    person_score: float
    keep_score: float
    max_people: int
    device: torch.device
    half_precision: bool
    learned: ClassThresholds | None = None
    relevance: Relevance | None = None
    runtime: str = "torch"
    runtime_why: str = ""
    people_runtime: str = "torch"
    times_person_score: bool = False

    @property
    def people_short_side_px(self) -> int:
        """Return the short side at which frames are handed to the people detector."""
        sides = getattr(self.people, "sides_px", None)
        return _PEOPLE_SHORT_SIDE_PX if sides is None else int(sides[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the results should know of the networks, a line each."""
        known = self.guesses
        if isinstance(self.people, WholeFrame):
            known = (*known, WHOLE_FRAME_NOTE)
        if self.relevance is not None:
            known = (*known, f"scores of people are multiplied by {self.relevance}")
        if self.learned is not None:
            return (*known, thresholds_line(self.learned, self.label_map, self.thresholds))
        if not self.are_of_whole_clips or isinstance(self.people, WholeFrame):
            return known
        return (*known, KINETICS_NOTE if self.knows_kinetics else WHOLE_CLIP_NOTE)

    @property
    def caption(self) -> str | None:
        """Return a line for the annotated video; None where there is nothing to say."""
        if not self.are_of_whole_clips:
            return None
        return "Kinetics labels, not trained on persons" if self.knows_kinetics else None

    @property
    def follows_people(self) -> bool:
        """Whether the action network takes people's boxes in each frame of the clip."""
        return self.actions.follows_people

    @property
    def are_of_whole_clips(self) -> bool:
        """Whether the action network is shown each person alone, as a clip of their own."""
        return isinstance(self.actions, SquareScorer)

    def signs_of_damage(self) -> tuple[str, ...]:
        """Return what says that the action network is broken, a line each, by what it gave so far.

        Networks of whole clips, which no run of a few clips has made, are not judged.
        """
        if not isinstance(self.actions, RoiScorer):
            return ()
        signs = (self.actions.damage, describe_large_logits(self.actions.largest[0]))
        return tuple(line for line in signs if line is not None)

    def new_tracker(self, max_gap_s: float) -> Tracker:
        """Return a tracker for a video's people."""
        return Tracker(
            start_score=self.person_score, keep_score=self.keep_score, max_gap_s=max_gap_s
        )

    def detect_people(self, group: Group, clock: StageClock) -> list[ActorBoxes]:
        """Return the people of each frame of a group, the best `max_people` at most."""
        with clock.measure("people"):
            images = [_chw(frame.rgb) for frame in group.frames]
            found = []
            for frame, boxes in zip(group.frames, self.people.detect(images), strict=True):
                check_finite(boxes, f"{self.people.name}: at {frame.time_s:.3f} s")
                if self.relevance is not None:
                    boxes = weigh_people(boxes, self.relevance)
                sure = np.flatnonzero(boxes.score >= self.keep_score)[: self.max_people]
                found.append(boxes.select(sure))
                frame.rgb = None  # is not needed any more
        return found

    def find(self, group: Group, clock: StageClock) -> list[FrameDetections]:
        """Return the people of each frame of a group, and their action scores at its keyframes."""
        frames = [
            FollowedFrame(frame, boxes, np.ones(len(boxes), np.int64), None)
            for frame, boxes in zip(group.frames, self.detect_people(group, clock), strict=True)
        ]
        return self.score(frames, clock)

    def score(self, frames: Sequence[FollowedFrame], clock: StageClock) -> list[FrameDetections]:
        """Return the detections of frames; people without a track have scores of 0."""
        scored = [f for f in frames if f.frame.clip is not None and (f.track > 0).any()]
        with clock.measure("actions"):
            found = self.actions.score([_keyframe_clip(each) for each in scored])
        scores = {each.frame.index: rows for each, rows in zip(scored, found, strict=True)}
        return [self._detections(each, scores.get(each.frame.index)) for each in frames]

    def _detections(
        self, each: FollowedFrame, scores: NDArray[np.float32] | None
    ) -> FrameDetections:
        every = None
        if each.frame.clip is not None:
            every = np.zeros((len(each.boxes), len(self.label_map)), np.float32)
            if scores is not None:
                every[each.track > 0] = scores
        frame = each.frame
        return FrameDetections(frame.index, frame.time_s, each.boxes, every, frame.arrived_s)


def open_networks(
    checkpoint: str | Path,
    *,
    people: str | Path | PeopleDetector | None,
    options: PipelineOptions,
    device: torch.device,
    half_precision: bool | None = None,
    runtime: str | None = None,
    on_note: Callable[[str], object] = lambda note: None,
) -> Networks:
    """Read the action network and the people detector.

    checkpoint: a run folder or checkpoint of this project, of actions or of classes of whole clips;
    a classification network of SlowFast, pytorchvideo or mmaction2; a published name; or an
    exported network's folder.
    people: as `load_people_detector` takes it, or an opened detector; None: the one stored beside
    the run, RUN/people.pt or RUN/people, and torchvision's for COCO where `checkpoint` is no run of
    ours.  half_precision: None: on a GPU; on a CPU it is bfloat16, by OpenVINO, of the action
    network alone.
    runtime: that runs both networks, as `choose_runtime` takes it; they are exported once and kept
    beside their files. An opened detector runs as it is.  on_note: told a line about long work.
    Raises `UserError` for what is missing in the files, and for unknown classes.
    """
    total = torch.get_num_threads()
    threads = Threads(total, options.most_workers(total))
    actions_file = open_action_file(
        checkpoint,
        device=device,
        half_precision=half_precision,
        runtime=runtime,
        threads=threads,
        class_list=options.class_list,
        on_note=on_note,
    )
    network = actions_file.file.network
    assert network is not None
    if people is None:
        people = find_people(actions_file.run, needed=network.task == "actions")
    relevance = None
    if options.relevance:
        relevance = find_relevance(actions_file.file, people, device)
    detector = people
    if isinstance(detector, str | Path):
        asked = actions_file.chosen if find_artefact(detector) is None else runtime
        choice = RuntimeChoice(asked, runtime in (None, AUTO), threads, on_note)
        half = device.type == "cuda" and actions_file.half_precision
        least = None if relevance is None else relevance.least_score
        detector = _open_people(detector, options, device, half, choice, least)
    networks = _with_rules(actions_file, detector, people, options, device)
    return dataclasses.replace(networks, relevance=relevance)


def _with_rules(
    actions_file: ActionFile,
    people: PeopleDetector,
    source: str | Path | PeopleDetector,
    options: PipelineOptions,
    device: torch.device,
) -> Networks:
    """Put opened networks together with the thresholds and sizes that they are used with."""
    file, half = actions_file.file, device.type == "cuda" and actions_file.half_precision
    assert file.sampling is not None and file.short_side_px is not None
    whole = isinstance(people, WholeFrame)
    actions, label_map = _open_actions(actions_file, options, device, half, whole_frames=whole)
    person_score = _least_person_score(options, people, file)
    follows = isinstance(actions, SquareScorer)
    knows_kinetics = follows and file.classes == kinetics_classes()
    learned = find_learned(file, label_map) if options.threshold is None and not follows else None
    usual = _usual_threshold(options, learned, follows=follows)
    return Networks(
        actions=actions,
        knows_kinetics=knows_kinetics,
        guesses=file.notes + (people.notes if isinstance(people, NetworkDetector) else ()),
        people=people,
        people_source=source,
        sampling=_square_sampling(file.sampling, knows_kinetics) if follows else file.sampling,
        short_side_px=MOST_SQUARE_SOURCE_PX if follows and not whole else file.short_side_px,
        label_map=label_map,
        threshold=usual,
        thresholds=find_thresholds(label_map, usual, options.class_thresholds, learned=learned),
        person_score=person_score,
        keep_score=person_score * options.keep_share,
        max_people=options.max_people,
        device=device,
        half_precision=actions_file.half_precision,
        learned=learned,
        runtime=actions_file.runtime,
        runtime_why=actions_file.why,
        people_runtime=getattr(people, "runtime", "torch"),
        times_person_score=_is_multiplied(options.multiply_person_score, learned, file.path),
    )


def _least_person_score(options: PipelineOptions, people: PeopleDetector, file: ModelFile) -> float:
    measured = person_threshold(people) if options.person_score is None else options.person_score
    return file.box_score_threshold(default=0.5) if measured is None else measured


def _is_multiplied(asked: bool | None, learned: ClassThresholds | None, path: str) -> bool:
    """Return whether scores are multiplied by the person's: as asked, else as was learned."""
    if learned is None or asked is None:
        return bool(asked) if learned is None else learned.times_person_score
    if asked != learned.times_person_score:
        of = "scores times the person's" if learned.times_person_score else "the actions' scores"
        option = f"--{'' if asked else 'no-'}multiply-person-score"
        raise UserError(f"{path}: its thresholds were learned on {of}; {option} needs --threshold")
    return asked


def _usual_threshold(
    options: PipelineOptions, learned: ClassThresholds | None, *, follows: bool
) -> float:
    if options.threshold is not None:
        return options.threshold
    if learned is not None:  # where the review page's slider stands
        return round(float(np.median(learned.score)), 2)
    return WHOLE_CLIP_THRESHOLD if follows else 0.5


def find_learned(file: ModelFile, label_map: LabelMap) -> ClassThresholds | None:
    """Return the thresholds in a run's file of the classes asked for; None where it has none."""
    if file.thresholds is None or file.classes is None:
        return None
    return file.thresholds.select([file.classes.index_by_id[i] for i in label_map.ids])


def _square_sampling(sampling: ClipSampling, knows_kinetics: bool) -> ClipSampling:
    published = VARIANTS["xs"].sampling
    if knows_kinetics and sampling == published:
        return XS_SQUARE_SAMPLING
    return dataclasses.replace(sampling, at_ends="inside")


def _open_people(
    people: str | Path,
    options: PipelineOptions,
    device: torch.device,
    half: bool,
    runtime: RuntimeChoice,
    least_score: float | None = None,
) -> PeopleDetector:
    """Open a detector.  least_score: of boxes that are required anyway, people's or not."""
    from detection.people.weights import load_people_detector  # takes long to import

    # Whose threshold is not known yet gets a floor far below any.
    score_floor = options.keep_share * (options.person_score or 0.1)
    return load_people_detector(
        people,
        device=device,
        half_precision=half,
        score_floor=score_floor if least_score is None else min(score_floor, least_score),
        max_people=options.max_people,
        runtime=runtime,
    )


def _open_actions(
    opened: ActionFile,
    options: PipelineOptions,
    device: torch.device,
    half: bool,
    *,
    whole_frames: bool,
) -> tuple[ActionScorer, LabelMap]:
    file, model = opened.file, opened.model
    assert file.classes is not None and file.short_side_px is not None
    assert file.network is not None
    classes, head = file.classes, file.network.head
    if isinstance(model, ClipClassifier):
        gathered = GatheredClasses.all_of(classes)
        if options.gathered_classes is not None:
            if file.is_multi_label:
                raise UserError(
                    f"{options.gathered_classes}: only exclusive classes add up, and the clips of "
                    f"{file.path} have any number of classes"
                )
            gathered = read_gathered_classes(options.gathered_classes, classes)
        named_in = str(options.gathered_classes or file.path)
        columns = find_columns(gathered.label_map, options.classes, named_in)
        gathered = gathered.select(columns)
        label_map, independent = gathered.label_map, file.is_multi_label
        scorer = SquareScorer(
            model, gathered.gather, file.short_side_px, independent, device, half, whole_frames
        )
        return scorer, label_map if independent else _all_exclusive(label_map)
    if options.gathered_classes is not None:
        raise UserError(
            f"{options.gathered_classes}: gathers exclusive classes of whole clips, and "
            f"{file.path} scores the actions of people; name classes by --classes"
        )
    columns = find_columns(classes, options.classes, file.path)
    if isinstance(head, ActorHeadDescription) and head.exclusive:
        classes = _all_exclusive(classes)
    chosen = np.asarray(columns, np.int64)
    by_region = RoiScorer(model, chosen, file.short_side_px, device, half, opened.damage)
    if file.sampling is not None and file.sampling.stream:
        by_region = dataclasses.replace(by_region, maps=SharedMaps())
    return by_region, classes.select(columns)


def _all_exclusive(classes: LabelMap) -> LabelMap:
    return dataclasses.replace(classes, exclusive={"action": tuple(range(len(classes)))})


def find_people(checkpoint: str | Path, *, needed: bool = True) -> str | Path:
    """Return the people detector stored beside a run or in a model folder, or `COCO`.

    needed: the run was trained on people: `UserError` says how to get a detector of them.
    """
    from detection.people.coco import COCO
    from detection.people.weights import read_people_file

    run = Path(checkpoint)
    at = run.parent if run.name in (MODEL_CONFIG, MODEL_WEIGHTS) else run
    is_folder = is_model_folder(at)
    if run.is_file():
        run = run.parent.parent if run.parent.name == "checkpoints" else run.parent
    if not needed and not (run / "checkpoints").is_dir() and not is_folder:
        return COCO  # a file of another project: what lies beside it is not its own
    beside = people_of_folder(run) if is_folder else people_beside(run)
    if beside is not None:
        if isinstance(beside, Path) and beside.is_relative_to(run):
            read_people_file(beside, weights_only=True)
        return beside
    if not needed:
        return COCO
    raise UserError(
        f"{find_checkpoint(checkpoint)}: no people detector beside it ({run / PEOPLE_FILE}): give "
        "--people WEIGHTS, made by: python -m ava_tools.train_people --cfg people_demo, or "
        "--people coco"
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
    label_map: LabelMap,
    usual: float,
    by_name: Mapping[str, float],
    *,
    learned: ClassThresholds | None = None,
) -> NDArray[np.float64]:
    """Return the (A,) least score of each class: by name, else as learned, else the usual one."""
    thresholds = np.full(len(label_map), usual, np.float64)
    if learned is not None:
        thresholds = learned.score.copy()
    for name, value in by_name.items():
        (column,) = find_columns(label_map, [name], "the classes asked for")
        thresholds[column] = value
    return thresholds


def _some(label_map: LabelMap) -> str:
    names = ", ".join(f"'{name}'" for name in label_map.names[:8])
    rest = len(label_map) - 8
    return names + (f" and {rest} more" if rest > 0 else "")


def _keyframe_clip(each: FollowedFrame) -> KeyframeClip:
    frame = each.frame
    assert frame.clip is not None
    return KeyframeClip(
        frame.time_s,
        [rgb for rgb in frame.clip if rgb is not None],
        each.boxes.xyxy_01[each.track > 0],
        each.paths_01,
        frame.weights,
    )


def _chw(rgb: NDArray[np.uint8] | None) -> torch.Tensor:
    assert rgb is not None
    return torch.from_numpy(rgb).permute(2, 0, 1)
