"""Any video in, events out: who does what, when.

    detector = ActionDetectorPipeline.from_checkpoint("runs/demo_x3d_xs")
    for event in detector.run("film.mp4"):
        print(event)
    for keyframe in detector.keyframes("film.mp4"):
        print(keyframe.time_s, keyframe.tracks, keyframe.doing)

One thread reads and gathers clips, some run the networks, one draws; queues between them are
bounded, so that memory does not grow with the video.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from detection.checkpoints.hub import DEFAULT_NETWORK
from detection.checkpoints.huggingface import local_source
from detection.checkpoints.network_file import find_weights
from detection.checkpoints.plain_file import find_checkpoint
from detection.cores import memory_limit_bytes, usable_cores
from detection.devices import choose_device
from detection.errors import UserError
from detection.export.artefact import ARTEFACT_FILE, find_artefact
from detection.files import sha256_of_text
from detection.people.base import PeopleDetector
from detection.people.whole_frame import WHOLE_FRAME, WholeFrame
from detection.pipeline.clip_buffer import PipelineSampling
from detection.pipeline.decisive import (
    Decisive,
    Input,
    common_key,
    people_input,
    video_input,
    weights_input,
)
from detection.pipeline.networks import Networks, open_networks
from detection.pipeline.options import PipelineOptions, Plan, Report
from detection.pipeline.postprocess import ShownKeyframe
from detection.pipeline.runner import VideoRun
from detection.pipeline.scorers import CLIPS_AT_A_TIME, SquareScorer
from detection.pipeline.segments import SegmentsFolder, write_segment
from detection.pipeline.spans import WHOLE, NotInSpansError, SpanPlan, VideoSpan, plan_spans
from detection.pipeline.video_results import KeyframeResult, VideoResults
from detection.pipeline.workers import (
    BYTES_PER_CLIP_PX,
    BYTES_PER_PEOPLE_PX,
    choose_workers,
    group_size,
)
from detection.pipeline.writers import check_output
from detection.tracking.events import ActionEvent
from detection.video.memory import Source, open_source
from detection.video.reader import VideoReader
from detection.video.stream import Gap, VideoStream

SEGMENT_S = 5.0


class RunOptions(TypedDict, total=False):
    """What may be chosen for one video.

    out: folder for the results; None: nothing is written.
    start_s, end_s: only keyframes between.
    live: newest keyframes first, older ones dropped (None: for addresses and cameras).
    reconnect_s: how long a lost live source is tried again.
    film, page: whether annotated.mp4 and review.html are written.
    overwrite: remove other results that are in `out`.
    video_id: the video's name in the results; None: its file's.
    identity: what else decides the results, such as the version of a people detector of your own
        (files are known by their content without it).
    computed: files that `compute_span` wrote for all spans of the video, in order: what is in them
        is not computed again.
    computed_key: the key of the plan that they are of; where it is given, `UserError` says that the
        video is another now.
    should_stop: ends early, results stay valid.
    on_progress: told the time of each frame in which people were detected.
    on_gap: told each stretch that could not be read.
    """

    out: str | Path | None
    start_s: float
    end_s: float
    live: bool | None
    reconnect_s: float
    film: bool
    page: bool
    overwrite: bool
    video_id: str | None
    identity: Mapping[str, str] | None
    computed: Sequence[Path]
    computed_key: str | None
    should_stop: Callable[[], bool]
    on_progress: Callable[[float], object]
    on_gap: Callable[[Gap], object]


class SpanOptions(TypedDict, total=False):
    """What may be chosen for a span; as for a video."""

    start_s: float
    end_s: float
    should_stop: Callable[[], bool]
    on_progress: Callable[[float], object]


class ActionDetectorPipeline:
    """People, what they do and when, in any video; make one with `from_checkpoint`.

    `report` tells about the run under way or the last one.
    """

    def __init__(
        self,
        networks: Networks,
        options: PipelineOptions,
        *,
        inputs: Mapping[str, Input] | None = None,
    ) -> None:
        self.networks, self.options = networks, options
        self._inputs = dict(inputs or {})
        self.report = Report()

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path = DEFAULT_NETWORK,
        *,
        people: str | Path | PeopleDetector | None = None,
        options: PipelineOptions | None = None,
        device: torch.device | str | None = None,
        half_precision: bool | None = None,
        runtime: str | None = None,
        on_note: Callable[[str], object] = lambda note: None,
    ) -> ActionDetectorPipeline:
        """Open an action network and a people detector.

        checkpoint: a run folder or checkpoint of `train_ava.py`, of actions or of whole clips; a
        classification file of SlowFast, pytorchvideo or mmaction2; a published name, fetched once
        (default: X3D-S of Kinetics-400).  people: weights or a run of `train_people`, a .pth of
        torchvision's, "coco", "coco:NETWORK", "whole-frame" (videos already cut around one subject:
        the frame is the box), or an opened detector; None: RUN/people.pt or
        RUN/people, stored beside a run of ours, and "coco" for networks of whole clips.
        device: as `choose_device` takes it; None: auto.  half_precision: None: on a GPU.
        checkpoint may also be the folder of an exported network, a model folder (its own people
        detector goes with it), or "hub:user/name", one on the Hugging Face Hub; runtime: "torch",
        "onnxruntime", "openvino" or "auto" (`open_networks`); None: the exported network's own,
        else torch.
        on_note: told a line about long work.
        Classes and sampling come from the checkpoint, the people's threshold from the detector.
        Raises `UserError` for what is missing.
        """
        options = options or PipelineOptions()
        checkpoint = local_source(checkpoint)
        if isinstance(people, str | Path):
            people = WholeFrame() if str(people) == WHOLE_FRAME else local_source(people)
        exported = find_artefact(checkpoint)
        weights = find_checkpoint(find_weights(checkpoint)[0]) if exported is None else None
        inputs = {"checkpoint": weights_input(weights or Path(exported or "") / ARTEFACT_FILE)}
        networks = open_networks(
            checkpoint,
            people=people,
            options=options,
            device=choose_device(device or "auto", option="device="),
            half_precision=half_precision,
            runtime=runtime,
            on_note=on_note,
        )
        inputs["people"] = people_input(networks.people_source, networks.device)
        if options.gathered_classes is not None:
            inputs["gathered classes"] = weights_input(options.gathered_classes)
        if options.class_list is not None:
            inputs["class list"] = weights_input(options.class_list)
        return cls(networks, options, inputs=inputs)

    def run(self, source: Source, **how: Unpack[RunOptions]) -> Iterator[ActionEvent]:
        """Yield the events of a video, each as soon as it is over, in order of their ends.

        source: a file, an address, `-` (standard input), a camera's number, an opened stream (whose
        own `live` and `reconnect_s` count; it is closed at the end), or an iterator of (time_s,
        frame) with (H, W, 3) uint8 RGB arrays, which is advanced in another thread.  how: see
        `RunOptions`. Where `out` holds the finished results of the same video, weights and options,
        the stored events are yielded. Raises `UserError` for a wrong kind of source, where `out`
        holds other results, and where the video changes while it is read.
        """
        with self._started(source, **how) as run:
            yield from run.events()

    def keyframes(self, source: Source, **how: Unpack[RunOptions]) -> Iterator[KeyframeResult]:
        """Yield the final keyframes of a video as they come; arguments and errors as for `run`.

        A keyframe is final once the scores that smoothing averages with it are there. Whoever stops
        early ends the threads; memory does not grow with the video, but finished results are read
        at once.
        """
        with self._started(source, **how) as run:
            if run.folder is not None and run.folder.is_complete:
                yield from self._stored(run).keyframes
                return
            with closing(run.results()) as results:
                for result in results:
                    yield from self._keyframe_results(run, result.keyframes)

    def analyse(self, source: Source, **how: Unpack[RunOptions]) -> VideoResults:
        """Return all events and keyframes of a video; arguments and errors as for `run`.

        All keyframes' boxes and scores are kept: N (A + 6) numbers each.
        """
        with self._started(source, **how) as run:
            if run.folder is not None and run.folder.is_complete:
                return self._stored(run)
            events: list[ActionEvent] = []
            keyframes: list[KeyframeResult] = []
            for result in run.results():
                events += result.events
                keyframes += self._keyframe_results(run, result.keyframes)
            return VideoResults(run.plan.video_id, self.networks.label_map, events, keyframes)

    def spans(
        self, source: Source, *, span_s: float, start_s: float = 0.0, end_s: float = math.inf
    ) -> SpanPlan:
        """Return spans of about `span_s` that cover a video, for `compute_span`.

        One span, the whole, where the video is hardly longer than one, cannot be read twice, or
        has no known length.  Raises `UserError` as `run`.
        """
        if not span_s > 0:
            raise UserError(f"span_s must be above 0, not {span_s:g}")
        with open_source(source, live=None, reconnect_s=0.0) as stream:
            plan = self._plan(stream, start_s, end_s, film=False, page=False, video_id=None)
            spans: tuple[VideoSpan, ...] = (WHOLE,)
            if stream.can_seek and (length_s := stream.duration_s):
                spans = tuple(plan_spans(plan, duration_s=length_s, span_s=span_s))
            key, people_first = self._span_key(stream, plan), self._people_first(spans)
            return SpanPlan(spans, key, stream.duration_s, people_first)

    def _span_key(self, stream: VideoStream, plan: Plan) -> str:
        plan = dataclasses.replace(plan, film=False, page=False, video_id=stream.video_id)
        decisive = self._decisive(stream, plan, {}).as_json()
        contents = {name: each["content"] for name, each in decisive["inputs"].items()}
        return sha256_of_text(json.dumps([decisive["options"], contents], sort_keys=True))

    def _people_first(self, spans: Sequence[VideoSpan]) -> bool:
        return self.networks.follows_people and tuple(spans) != (WHOLE,)

    def compute_people(
        self, source: Source, span: VideoSpan, path: str | Path, **how: Unpack[SpanOptions]
    ) -> bool:
        """Write the people of a span of a video; return False where stopped before.

        The files of all spans are what `compute_span` takes as `people`. Raises as `compute_span`.
        """
        return self._compute(source, span, path, people_only=True, **how)

    def compute_span(
        self,
        source: Source,
        span: VideoSpan,
        path: str | Path,
        *,
        people: Sequence[Path] = (),
        **how: Unpack[SpanOptions],
    ) -> bool:
        """Write what the networks find in a span of a video; return False where stopped before.

        The files of all spans are what `run` takes as `computed`: the results are then those of one
        run over the video.  people: where the plan says `people_first`, the files that
        `compute_people` wrote for all spans, in order.  Raises `UserError` as `run`, where these
        are missing or of other frames, and `NotInSpansError` where the times of later spans depend
        on this one.
        """
        if bool(people) != self._people_first([span]):
            required = "no files of people are" if people else "people= of all spans is"
            raise UserError(f"span {span.name}: {required} required of this network")
        return self._compute(source, span, path, people=people, **how)

    def _compute(
        self,
        source: Source,
        span: VideoSpan,
        path: str | Path,
        *,
        people_only: bool = False,
        people: Sequence[Path] = (),
        **how: Unpack[SpanOptions],
    ) -> bool:
        with self._started(source, span=span, people_only=people_only, people=people, **how) as run:
            segment = run.detections()
            if run.stream.repairs().resets:
                raise NotInSpansError(
                    f"{run.stream.shown_name}: its clock falls back, later times follow from that: "
                    "a run over the whole video is required"
                )
        if run.report.stopped:
            return False
        write_segment(Path(path), segment)
        return True

    @contextmanager
    def _started(
        self,
        source: Source,
        *,
        out: str | Path | None = None,
        start_s: float = 0.0,
        end_s: float = math.inf,
        live: bool | None = None,
        reconnect_s: float = 30.0,
        film: bool = True,
        page: bool = True,
        overwrite: bool = False,
        video_id: str | None = None,
        identity: Mapping[str, str] | None = None,
        computed: Sequence[Path] = (),
        computed_key: str | None = None,
        span: VideoSpan = WHOLE,
        people_only: bool = False,
        people: Sequence[Path] = (),
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[float], object] = lambda time_s: None,
        on_gap: Callable[[Gap], object] = lambda gap: None,
    ) -> Iterator[VideoRun]:
        """Open the source and the folder for its results; the source is closed at the end."""
        with open_source(source, live=live, reconnect_s=reconnect_s) as stream:
            plan = self._plan(stream, start_s, end_s, film=film, page=page, video_id=video_id)
            if computed_key is not None and computed_key != self._span_key(stream, plan):
                raise UserError(
                    f"{stream.shown_name}: has changed since its spans were computed; the same "
                    "command computes them again"
                )
            folder = None
            if out is not None:
                check_output(Path(out))
                folder = SegmentsFolder(
                    Path(out),
                    self._decisive(stream, plan, identity or {}),
                    now=lambda: self._decisive(stream, plan, identity or {}),
                    can_resume=stream.can_seek,
                    overwrite=overwrite,
                )
            run = VideoRun(
                stream,
                self.networks,
                self.options,
                plan,
                folder,
                should_stop=should_stop,
                on_progress=on_progress,
                on_gap=on_gap,
                span=span,
                people_only=people_only,
                people=people,
                computed=computed,
            )
            self.report = run.report
            yield run

    def _keyframe_results(
        self, run: VideoRun, keyframes: Sequence[ShownKeyframe]
    ) -> Iterator[KeyframeResult]:
        names = self.networks.label_map.names
        for shown in keyframes:
            yield KeyframeResult.of(shown, names, run.stream.frame_size())

    def _stored(self, run: VideoRun) -> VideoResults:
        assert run.folder is not None
        run.report.already_complete = True
        stored = VideoResults.open(run.folder.folder, size_px=run.stream.frame_size())
        run.report.events = len(stored.events)
        return stored

    def describe_bound(self, *, live: bool = False) -> str:
        """Return how many frames are kept at most, in a line."""
        sampling, batch = self._sampling(live), 1 if live else self.options.batch_size
        span_s, interval_s = sampling.clip.span_s, sampling.interval_s
        kept = 1 + self.workers(live=True) if live else batch
        under_way = math.floor(span_s / interval_s + 1e-9) + kept
        window_s = self._window_s(sampling, live)
        return (
            f"at most {under_way * sampling.clip.frames_read} frames with a short side of "
            f"{sampling.short_side_px} px are kept (a clip's {span_s:.2f} s"
            + ("" if live else f" and {batch - 1} keyframe intervals: {window_s:.2f} s")
            + f"), and {under_way * sampling.per_keyframe} frames of "
            f"{sampling.people_short_side_px} px for people"
        )

    def _window_s(self, sampling: PipelineSampling, live: bool) -> float:
        """Return the stretch of time that kept frames may span."""
        clip, interval_s = sampling.clip, sampling.interval_s
        window_s = clip.span_s + (0 if live else self.options.batch_size - 1) * interval_s
        if clip.stream:  # frames before the first keyframe and after the last one
            window_s += 2 * clip.before_s
        if self.networks.follows_people and not live:
            # A group waits for people up to the end of its clips, which come with a later group.
            window_s += clip.span_s - clip.before_s + sampling.group_size * interval_s
        return window_s

    def workers(self, *, live: bool = False) -> int:
        """Return how many batches are in the networks at a time.

        Two at most on a GPU, which one fills while the other is made ready, and of a live source,
        whose keyframes come late where each has few threads.
        """
        options, cores = self.options, usable_cores()
        if options.workers:
            return options.workers
        if live or self.networks.device.type != "cpu":
            return min(2, cores)
        return choose_workers(
            options.batch_size,
            cores=cores,
            threads=torch.get_num_threads(),
            memory_bytes=memory_limit_bytes(),
            batch_bytes=self._batch_bytes,
        )

    def _batch_bytes(self, keyframes: int) -> int:
        """Return about what the networks keep for a batch, of frames of 16:9."""
        networks, images = self.networks, keyframes * self.options.people_per_keyframe
        people_px = images * networks.people_short_side_px**2 * 16 / 9
        clips_px = keyframes * networks.short_side_px**2 * 16 / 9
        if isinstance(networks.actions, SquareScorer):  # one keyframe after the other
            clips_px = CLIPS_AT_A_TIME * networks.actions.side_px**2
        clips_px *= networks.sampling.frames_read
        return round(clips_px * BYTES_PER_CLIP_PX + people_px * BYTES_PER_PEOPLE_PX)

    def _sampling(self, live: bool) -> PipelineSampling:
        options = self.options
        return PipelineSampling(
            clip=self.networks.sampling,
            short_side_px=self.networks.short_side_px,
            people_short_side_px=self.networks.people_short_side_px,
            enlarge=not self.networks.are_of_whole_clips,
            interval_s=options.keyframe_interval_s,
            per_keyframe=options.people_per_keyframe,
            group_size=1 if live else group_size(options.batch_size, self.workers()),
        )

    def _plan(
        self,
        stream: VideoStream,
        start_s: float,
        end_s: float,
        *,
        film: bool,
        page: bool,
        video_id: str | None,
    ) -> Plan:
        if not start_s < end_s:
            raise UserError(f"start {start_s:g} s must lie before end {end_s:g} s")
        sampling = dataclasses.replace(
            self._sampling(stream.is_live), within_s=self._within_s(stream)
        )
        group_s = sampling.group_size * sampling.interval_s
        return Plan(
            video_id=video_id or stream.video_id,
            sampling=sampling,
            window_s=self._window_s(sampling, stream.is_live),
            groups_per_segment=max(1, round(SEGMENT_S / group_s)),
            workers=self.workers(live=stream.is_live),
            start_s=start_s,
            end_s=end_s,
            film=film,
            page=page,
        )

    def _within_s(self, stream: VideoStream) -> tuple[float, float] | None:
        """Return between which times clips are to stay; None: edge frames repeat.

        The end of what cannot be read twice is not known beforehand, and that of a damaged file
        is where its last good frame is: their clips repeat edge frames as well.
        """
        if self.networks.sampling.at_ends == "repeat" or not stream.can_seek:
            return None
        try:
            with VideoReader(stream.source) as video:
                return video.ends_s()
        except UserError:
            return None

    def results_key(
        self,
        *,
        start_s: float = 0.0,
        end_s: float = math.inf,
        film: bool = True,
        page: bool = True,
    ) -> str:
        """Return a digest of all that decides the results of a file but the file itself.

        `common_key` of a folder's run.json is the same where its results were made so.
        """
        common = self.results_common(start_s=start_s, end_s=end_s, film=film, page=page)
        return common_key(common.as_json())

    def results_common(
        self,
        *,
        start_s: float = 0.0,
        end_s: float = math.inf,
        film: bool = True,
        page: bool = True,
    ) -> Decisive:
        """Return all that decides the results of a file but the file itself."""
        options = self._decisive_options(
            start_s, end_s, film=film, page=page, workers=self.workers(), live=False
        )
        return Decisive(options, self._inputs)

    def _decisive(self, stream: VideoStream, plan: Plan, identity: Mapping[str, str]) -> Decisive:
        """Return what decides the results, by which unfinished work is known."""
        options = self._decisive_options(
            plan.start_s,
            plan.end_s,
            film=plan.film,
            page=plan.page,
            workers=plan.workers,
            live=stream.is_live,
        )
        named = {**options, "video_id": plan.video_id, **identity}
        return Decisive(named, {"video": video_input(stream), **self._inputs})

    def _decisive_options(
        self, start_s: float, end_s: float, *, film: bool, page: bool, workers: int, live: bool
    ) -> dict[str, Any]:
        options = dataclasses.asdict(self.options)
        del options["gathered_classes"], options["class_list"]  # known by their content
        if not self.options.relevance:
            del options["relevance"]  # as before there was any
        options["threshold"] = self.networks.threshold
        options["class_thresholds"] = dict(self.options.class_thresholds)
        return {
            **options,
            "workers": workers,
            "live": live,
            "start_s": start_s,
            "end_s": None if math.isinf(end_s) else end_s,
            "film": film,
            "page": page,
            "half_precision": self.networks.half_precision,
            "person_score": self.networks.person_score,
            "thresholds": self.networks.thresholds.tolist(),
            "classes": list(self.networks.label_map.names),
            "people": self.networks.people.name,
            **_unless_torch(
                runtime=self.networks.runtime, people_runtime=self.networks.people_runtime
            ),
        }


def _unless_torch(**runtimes: str) -> dict[str, str]:
    return {name: runtime for name, runtime in runtimes.items() if runtime != "torch"}
