"""Collects the results of one run: records and draws as frames arrive, writes all files at the end.

Tables, page and the joined annotated video are made of the saved segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection.pipeline import writers
from detection.pipeline.annotated_video import AnnotatedVideoWriter, DrawingJob, FrameWalk
from detection.pipeline.networks import Networks
from detection.pipeline.options import PipelineOptions, Plan, Report
from detection.pipeline.postprocess import Postprocessed, Postprocessor, ShownKeyframe
from detection.pipeline.recording import Recorder
from detection.pipeline.segments import SegmentsFolder
from detection.pipeline.summary import write_summary
from detection.video.sound import Sound
from detection.video.stream import StreamFrame, VideoStream, join_videos
from detection.video.writer import LONGEST_GAP_S

# Networks that know one class from hundreds: most of these are never meant.
LEAST_SCORE = 0.01


@dataclass
class Results:
    """Takes frames and final keyframes of one run in order; `finish` writes the files.

    `close` ends its threads, also after an error.
    """

    folder: SegmentsFolder
    stream: VideoStream
    networks: Networks
    options: PipelineOptions
    plan: Plan
    report: Report

    def __post_init__(self) -> None:
        plan, clock = self.plan, self.report.clock
        self._keyframes: list[ShownKeyframe] = []
        self._segment = max(0, math.floor(plan.start_s / plan.segment_s))
        self._recorder: Recorder | None = None
        self._annotated: AnnotatedVideoWriter | None = None
        if not self.stream.can_seek and (plan.film or plan.page):
            may_drop = self.stream.is_live
            self._recorder = Recorder(self.folder, plan.segment_s, may_drop=may_drop, clock=clock)
        if plan.film:
            names = self.networks.label_map.names
            self._annotated = AnnotatedVideoWriter(
                names, plan.sampling.interval_s, clock, caption=self.networks.caption
            )

    def record(self, frame: StreamFrame) -> None:
        """Record a frame if the source cannot be read twice."""
        if self._recorder is not None:
            self._recorder.put(frame)

    def show(self, keyframes: Sequence[ShownKeyframe]) -> None:
        """Add the next final keyframes, and draw the segments that they complete."""
        if self._annotated is None:
            return
        for shown in keyframes:
            if self._segment_of(shown) > self._segment:
                self._draw_segment(shown)
            self._keyframes.append(shown)

    def finish(self) -> None:
        """Write all files, after the last keyframe."""
        folder, plan, networks = self.folder, self.plan, self.networks
        long_s = [h.end_s - h.start_s for h in self.report.gaps]
        long_s = [gap_s for gap_s in long_s if gap_s > LONGEST_GAP_S]
        if self._recorder is not None:
            self._recorder.close()
        if self._annotated is not None:
            self._draw_segment(None)
        with self.report.clock.measure("write"):  # while the last segments are drawn
            empty_s = writers.write_tables(
                folder.folder,
                plan.video_id,
                networks.label_map,
                self._again(),
                self.options.max_gap_s,
                LEAST_SCORE if networks.follows_people else 0.0,
            )
            if plan.page and not long_s:
                self._write_page()
        if self._annotated is not None:
            self._annotated.finish()
            with self.report.clock.measure("write"):
                if drawn := folder.annotated_segments():
                    self._join(drawn, shortened=bool(long_s))
        if long_s and (plan.film or plan.page):
            self.report.notes.append(
                f"{len(long_s)} stretch(es) without frames, of up to {max(long_s):.0f} s, are "
                f"longer than the {LONGEST_GAP_S:.0f} s that an MP4 file can hold: "
                f"{writers.ANNOTATED_NAME} shows each as one second, and review.html is not made"
            )
        write_summary(folder.folder, self.stream, self.report, self.networks)
        if not self.report.stopped or self.stream.is_live:
            folder.complete(writers.video_facts(plan.video_id, self.stream.frame_size(), empty_s))

    def _join(self, drawn: Sequence[Path], *, shortened: bool) -> None:
        """Write the annotated video with the source's sound; note why if that is left out.

        shortened: the video is shorter than the source by gaps that no MP4 file can hold.
        """
        stream, sound, reason = self.stream, None, ""
        repairs = stream.repairs()
        if not stream.can_seek:
            reason = "the source cannot be read twice"
        elif shortened:
            reason = "a stretch without frames is shortened"
        elif repairs.resets:
            reason = "the source's clock falls back"
        elif stream.has_sound:
            sound = Sound(Path(stream.source), repairs.shift_s)
        path = self.folder.folder / writers.ANNOTATED_NAME
        reason = join_videos(drawn, path, sound=sound) or reason
        if reason and stream.has_sound:
            self.report.notes.append(f"{writers.ANNOTATED_NAME} is without sound: {reason}")

    def close(self) -> None:
        """End the threads after their current work."""
        try:
            if self._recorder is not None:  # first: drawing may be waiting for recordings
                self._recorder.close()
        finally:
            if self._annotated is not None:
                self._annotated.close()

    def _segment_of(self, shown: ShownKeyframe) -> int:
        return math.floor((shown.keyframe.time_s + 1e-6) / self.plan.segment_s)

    def _draw_segment(self, after: ShownKeyframe | None) -> None:
        """Queue the current segment for drawing, with the keyframe `after` it (None: the last one).

        Following segments without a keyframe, up to that of `after`, are drawn with it.
        """
        assert self._annotated is not None
        number, length_s = self._segment, self.plan.segment_s
        path = self.folder.path(None if after is None else number, ".mp4")
        known = self._keyframes + ([] if after is None else [after])
        if after is None:
            half_s = self.plan.sampling.interval_s / 2
            end_s = math.inf if not self.report.stopped else self.report.end_s + half_s
        else:
            self._segment = self._segment_of(after)
            end_s = self._segment * length_s
        start_s = max(number * length_s, self.plan.start_s)
        if start_s < min(end_s, self.plan.end_s) and not path.is_file():
            walk = self._walk if self._recorder is None else self._walk_recordings
            self._annotated.submit(
                DrawingJob(path, start_s, min(end_s, self.plan.end_s), known, walk)
            )
        self._keyframes = self._keyframes[-1:]

    def _walk(self, from_s: float) -> FrameWalk:
        with VideoStream(self.stream.source, live=False) as stream:
            yield from stream.frames(from_s=from_s)

    def _walk_recordings(self, from_s: float) -> FrameWalk:
        assert self._recorder is not None
        for path in self._recorder.recordings_from(from_s):
            with VideoStream(path, live=False) as stream:
                yield from stream.frames()

    def _write_page(self) -> None:
        folder, video = self.folder, Path(self.stream.source)
        if self._recorder is not None:
            recordings = folder.recordings()
            if not recordings:
                return
            video = folder.folder / "videos" / "video.mp4"
            join_videos(recordings, video)
        writers.write_page(
            folder.folder,
            self.plan.video_id,
            video,
            self.networks,
            self._again(),
            threshold=self.networks.threshold,
            damaged=bool(self.report.gaps) and self._recorder is None,
            notes=self.networks.notes,
        )

    def _again(self) -> Iterator[Postprocessed]:
        postprocessor = Postprocessor(self.plan.video_id, self.networks, self.options)
        for segment in self.folder.segments(tail=True):
            for detections in segment.frames:
                yield postprocessor.feed(detections)
        yield postprocessor.finish()
