"""Runs one video through reader, networks, tracking and results; can be stopped and resumed."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch

from detection.pipeline.clip_buffer import (
    ClipGatherer,
    FrameDetections,
    FrameWindow,
    Gathers,
    Group,
    with_gaps,
)
from detection.pipeline.following import FollowedFrame, PeopleFollower
from detection.pipeline.networks import Networks
from detection.pipeline.options import PipelineOptions, Plan, Report
from detection.pipeline.postprocess import Postprocessed, Postprocessor
from detection.pipeline.results import Results
from detection.pipeline.segments import Segment, SegmentsFolder
from detection.pipeline.spans import WHOLE, KnownPeople, VideoSpan, read_spans
from detection.pipeline.stored import stored_events
from detection.structures import ActorBoxes
from detection.tracking.events import ActionEvent
from detection.video.stream import Gap, StreamFrame, VideoStream


@dataclass(eq=False)
class VideoRun:
    """One run over a stream.

    `results` does all the work, `events` is what ends in it; their caller may stop iterating early.
    span: what the networks look at; `detections` alone takes a part of the video.
    people_only: detect the people of the span, score nothing.
    people: files of the people of all spans, in order, which are then not detected again; for
    networks that follow people.
    computed: files of the spans of the whole video, in order: the networks have nothing to do.
    """

    stream: VideoStream
    networks: Networks
    options: PipelineOptions
    plan: Plan
    folder: SegmentsFolder | None
    should_stop: Callable[[], bool]
    on_progress: Callable[[float], object]
    on_gap: Callable[[Gap], object]
    span: VideoSpan = WHOLE
    people_only: bool = False
    people: Sequence[Path] = ()
    computed: Sequence[Path] = ()
    report: Report = field(default_factory=Report, init=False)

    def __post_init__(self) -> None:
        self.options = self.options.for_source(live=self.stream.is_live)
        self._window = FrameWindow(math.inf if self.stream.is_live else self.plan.window_s)
        self._ending = threading.Event()
        workers = self.plan.workers
        # Results in order; the reader blocks while it is full.
        self._queue: queue.Queue[_Result | BaseException | None] = queue.Queue(2 * workers)
        self._in_networks = threading.Semaphore(workers)
        self._segment = Segment()
        self._segment_number = 0
        self._results: Results | None = None
        self._known: KnownPeople | None = None
        self._is_past_span = False
        self._follower: PeopleFollower | None = None
        if self.networks.follows_people and not (self.people_only or self.computed):
            self._follower = PeopleFollower(
                self.networks.new_tracker(self.options.max_gap_s),
                self.plan.sampling,
                look_ahead=not self.stream.is_live,
            )

    def events(self) -> Iterator[ActionEvent]:
        """Yield events as they end, and write the files; of finished results those stored."""
        if self.folder is not None and self.folder.is_complete:
            self.report.already_complete = True
            for event in stored_events(self.folder.folder):
                self.report.events += 1
                yield event
            return
        with closing(self.results()) as results:
            for result in results:
                yield from result.events

    def results(self) -> Generator[Postprocessed]:
        """Yield final keyframes and events as they come, and write the files of the plan."""
        folder = self.folder
        assert folder is None or not folder.is_complete, "finished results are read, not made again"
        postprocessor = Postprocessor(self.plan.video_id, self.networks, self.options)
        threads_before = torch.get_num_threads()
        try:
            if folder is not None:
                how = self.options.track_scoring
                changing_s = 0.0 if how is None else how.look_ahead_s
                folder.drop_tail(1 + math.ceil(changing_s / self.plan.segment_s))
                self._results = Results(
                    folder, self.stream, self.networks, self.options, self.plan, self.report
                )
                for segment in folder.segments():
                    for detections in segment.frames:
                        self._count(detections)
                        yield self._publish(postprocessor.feed(detections))
                        if self._follower is not None:
                            self._follower.replay(detections.time_s, detections.boxes)
                        self.report.resumed_s = detections.time_s
                    self.report.gaps += segment.gaps
                self._segment_number = folder.saved
            for detections in self._take_over() if self.computed else self._detections():
                yield self._publish(postprocessor.feed(detections))
            yield self._publish(postprocessor.finish())
            if folder is not None and self._results is not None:
                folder.check_inputs()
                self._results.finish()
        finally:
            self._ending.set()
            self._window.close()
            torch.set_num_threads(threads_before)
            self.report.clock.stop()
            if self._results is not None:
                self._results.close()

    def detections(self) -> Segment:
        """Return what the networks find in the span; nothing is written."""
        assert self.folder is None, "the results of a span are no results of the video"
        threads_before = torch.get_num_threads()
        try:
            if self.people:
                self._replay_people()
            frames = list(self._detections())
            return Segment(frames, self.report.gaps)
        finally:
            torch.set_num_threads(threads_before)
            self.report.clock.stop()

    def _replay_people(self) -> None:
        """Follow the people of earlier spans up to this one."""
        assert self._follower is not None, "people are known for networks that follow them"
        name, sampling = self.stream.shown_name, self.plan.sampling
        self._known = KnownPeople(self.people, sampling, video=name)
        for found in self._known.before(self.span.first_group):
            self._follower.replay(found.time_s, found.boxes)

    def _take_over(self) -> Iterator[FrameDetections]:
        """Yield the detections of the computed spans that are not saved yet; save them."""
        first_group = self._segment_number * self.plan.groups_per_segment
        for item in read_spans(self.computed, self.plan.sampling, first_group=first_group):
            if self._is_stopping():
                self.report.stopped = True
                break
            if isinstance(item, Gap):
                self._note_gap(item)
                continue
            number, found = item
            for detections in found:
                self._note(detections)
                yield detections
            self._keep(number, found)
        self._save_segment(None)

    # Reading and the networks

    def _detections(self) -> Iterator[FrameDetections]:
        """Read the rest of the video; yield detected people in order; save complete segments."""
        threads = max(1, torch.get_num_threads() // self.plan.workers)
        pool = ThreadPoolExecutor(
            self.plan.workers, "networks", initializer=torch.set_num_threads, initargs=(threads,)
        )
        reader = threading.Thread(target=self._read, args=(pool,), name="reader", daemon=True)
        reader.start()
        try:
            for number, found in self._computed(pool):
                for detections in found:
                    self._note(detections)
                    yield detections
                self._keep(number, found)
            self._save_segment(None)
        finally:
            self._ending.set()
            self._window.close()
            while reader.is_alive():  # it may be blocked by a full queue
                try:
                    self._queue.get(timeout=0.05)
                except queue.Empty:
                    continue
            pool.shutdown(cancel_futures=True)
        if self._is_past_span:
            self.report.stopped = False  # the reader alone was, ahead of the span

    def _computed(self, pool: ThreadPoolExecutor) -> Iterator[tuple[int, list[FrameDetections]]]:
        """Yield each group's number and detections, in order."""
        follower, scoring = self._follower, deque[_Scored]()

        def start_scoring(*, at_end: bool = False) -> bool:
            """Return whether the span is past: later groups are read for its last clips' ends."""
            for group, frames in follower.ready(at_end=at_end) if follower else ():
                if self.span.ends_before(group.number):
                    return True
                scoring.append((group.number, pool.submit(self._score, group, frames)))
            following = follower.next_group if follower else None
            return following is not None and self.span.ends_before(following)

        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, Gap):
                self._note_gap(item)
            elif isinstance(item, _PeopleFound):
                assert follower is not None
                follower.add(item.group, item.boxes())
            else:
                scoring.append(item)
            if start_scoring():
                self._is_past_span = True
                break
            while scoring and (follower is None or len(scoring) > self.plan.workers):
                number, future = scoring.popleft()
                yield number, future.result()
        else:
            start_scoring(at_end=True)
        yield from ((number, future.result()) for number, future in scoring)

    def _note_gap(self, gap: Gap) -> None:
        if self._follower is not None:
            self._follower.skip(gap)
        sampling = self.plan.sampling
        if not self.span.start_s(sampling) <= gap.start_s < self.span.end_s(sampling):
            return  # another span notes it
        self.report.gaps.append(gap)
        self._segment.gaps.append(gap)
        self.on_gap(gap)

    def _read(self, pool: ThreadPoolExecutor) -> None:
        try:
            self._read_all(pool)
        except BaseException as error:  # raised again in the main thread
            self._queue.put(error)
        else:
            self._queue.put(None)

    def _read_all(self, pool: ThreadPoolExecutor) -> None:
        plan, clock, stream = self.plan, self.report.clock, self.stream
        # With people known the span ends where its last clips are covered: see `_computed`.
        end_s = plan.end_s if self.people else min(plan.end_s, self.span.end_s(plan.sampling))
        gathers: Gathers = "people" if self.people_only else "clips" if self.people else "all"
        gatherer = ClipGatherer(
            plan.sampling,
            self._window,
            first_group=max(self._segment_number * plan.groups_per_segment, self.span.first_group),
            start_s=plan.start_s,
            end_s=end_s,
            may_drop=self._must_drop if stream.is_live else lambda: False,
            gathers=gathers,
        )
        longest_s = max(plan.sampling.clip.span_s, plan.sampling.clip.before_s)
        from_s = None
        if stream.can_seek:
            from_s = max(gatherer.from_s(), plan.start_s - longest_s)
        frames = with_gaps(stream.frames(from_s=from_s, should_stop=self._is_stopping))
        last_required_s = end_s + longest_s
        while not self._is_stopping():
            with clock.measure("decode"):
                item = next(frames, None)
            if isinstance(item, StreamFrame) and item.time_s > last_required_s:
                # It may be the nearest one to what is required before it.
                self._submit(pool, lambda item=item: gatherer.feed(item))  # type: ignore[misc]
                item = None
            if item is None:
                self._submit(pool, gatherer.finish)
                break
            if isinstance(item, Gap):
                self._queue.put(item)
            elif self._results is not None:
                self._results.record(item)
            self._submit(pool, lambda item=item: gatherer.feed(item))  # type: ignore[misc]
            self.report.dropped = gatherer.dropped
        self.report.stopped = self._is_stopping()

    def _submit(self, pool: ThreadPoolExecutor, gather: Callable[[], Iterator[Group]]) -> None:
        groups = gather()
        while True:
            with self.report.clock.measure("gather"):
                group = next(groups, None)
            if group is None:
                return
            if self.stream.is_live:
                self._in_networks.acquire()  # `_must_drop` saw a free one
            if self._follower is None:
                self._queue.put((group.number, pool.submit(self._compute, group)))
            elif self._known is not None:
                known = self._known.of(group)
                self._queue.put(_PeopleFound(group, lambda known=known: known))  # type: ignore[misc]
            else:
                clock = self.report.clock
                found = pool.submit(self.networks.detect_people, group, clock)
                self._queue.put(_PeopleFound(group, found.result))

    def _compute(self, group: Group) -> list[FrameDetections]:
        try:
            if not self.people_only:
                return self.networks.find(group, self.report.clock)
            people = self.networks.detect_people(group, self.report.clock)
            return [
                FrameDetections(frame.index, frame.time_s, boxes, None, frame.arrived_s)
                for frame, boxes in zip(group.frames, people, strict=True)
            ]
        finally:
            self._let_go(group)

    def _score(self, group: Group, frames: list[FollowedFrame]) -> list[FrameDetections]:
        try:
            return self.networks.score(frames, self.report.clock)
        finally:
            frames.clear()
            self._let_go(group)

    def _let_go(self, group: Group) -> None:
        group.frames.clear()  # before the window admits other frames
        self._window.finish(group.number)
        if self.stream.is_live:
            self._in_networks.release()

    def _must_drop(self) -> bool:
        """Whether the networks are busy: a live keyframe is then dropped."""
        if not self._in_networks.acquire(blocking=False):
            return True
        self._in_networks.release()
        return False

    def _is_stopping(self) -> bool:
        return self._ending.is_set() or self.should_stop()

    # Results

    def _note(self, detections: FrameDetections) -> None:
        self._count(detections)
        if detections.action_scores is not None:
            self.report.latency.note(time.monotonic() - detections.arrived_s)
        self.on_progress(detections.time_s)

    def _count(self, detections: FrameDetections) -> None:
        report, scores = self.report, detections.boxes.score
        report.end_s = detections.time_s
        if detections.action_scores is not None:
            report.keyframes += 1
            report.people += len(scores)
            report.best_person_score = max(report.best_person_score, scores.max(initial=0.0).item())

    def _keep(self, group: int, frames: list[FrameDetections]) -> None:
        if self.folder is None:
            return
        number = group // self.plan.groups_per_segment
        if number > self._segment_number:
            self._save_segment(number)
        self._segment.frames += frames
        if (group + 1) % self.plan.groups_per_segment == 0:
            self._save_segment(number + 1)

    def _save_segment(self, following: int | None) -> None:
        """Save the current segment unless it is empty; start segment `following` (None: ended)."""
        if self.folder is not None and (self._segment.frames or self._segment.gaps):
            self.folder.save(self._segment, None if following is None else self._segment_number)
        self._segment, self._segment_number = Segment(), following or 0

    def _publish(self, result: Postprocessed) -> Postprocessed:
        if self._results is not None:
            self._results.show(result.keyframes)
        for shown in result.keyframes:
            self.report.add(shown.compared, self.networks.label_map.names)
        self.report.events += len(result.events)
        return result


@dataclass(frozen=True)
class _PeopleFound:
    """A group whose people are being detected, or known.

    boxes: waits for them.
    """

    group: Group
    boxes: Callable[[], list[ActorBoxes]]


_Scored = tuple[int, "Future[list[FrameDetections]]"]
_Result = _Scored | _PeopleFound | Gap
