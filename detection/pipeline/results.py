"""Collects the results of one run: records and draws as frames arrive, writes all files at the end.

Tables, page and the joined annotated video are made of the saved segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection.errors import UserError
from detection.pipeline import writers
from detection.pipeline.annotated_video import AnnotatedVideoWriter, DrawingJob, FrameWalk
from detection.pipeline.networks import Networks
from detection.pipeline.options import PipelineOptions, Plan, Report
from detection.pipeline.postprocess import Postprocessed, Postprocessor, ShownKeyframe
from detection.pipeline.recording import Recorder, write_recording
from detection.pipeline.segments import SegmentsFolder
from detection.pipeline.summary import scores_text, write_summary
from detection.review.media import place_encoded, why_encoded_anew
from detection.video.reader import VideoReader
from detection.video.sound import Sound
from detection.video.stream import StreamFrame, VideoStream, join_videos
from detection.video.writer import LONGEST_GAP_S

_PAGE_VIDEO = "video"
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
        if self._is_recorded():
            self._recorder = Recorder(
                self.folder,
                plan.segment_s,
                start_s=plan.start_s,
                end_s=plan.end_s,
                size_px=self.stream.frame_size() if self.stream.can_seek else None,
                resumes=self.folder.saved > 0,
                may_drop=self.stream.is_live,
                clock=clock,
            )
        if plan.film:
            names = self.networks.label_map.names
            self._annotated = AnnotatedVideoWriter(
                names, plan.sampling.interval_s, clock, caption=self.networks.caption
            )

    def _is_recorded(self) -> bool:
        """Whether the source cannot be read twice, or the page cannot show it as it is."""
        plan = self.plan
        if not self.stream.can_seek:
            return plan.film or plan.page
        if not plan.page:
            return False
        try:
            with VideoReader(self.stream.source) as reader:
                reason = why_encoded_anew(reader, start_s=plan.start_s, end_s=plan.end_s)
        except UserError:  # damaged: its good frames are recorded
            return True
        return reason is not None

    def record(self, frame: StreamFrame) -> None:
        """Record a frame if the results require it."""
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
            self._recorder.close(is_cut=self.report.stopped and self.stream.can_seek)
        if self._annotated is not None:
            self._draw_segment(None)
        with self.report.clock.measure("write"):  # while the last segments are drawn
            empty_s = writers.write_tables(
                folder.folder,
                plan.video_id,
                networks.label_map,
                self._again(),
                self.options.max_gap_s,
                LEAST_SCORE if networks.are_of_whole_clips else 0.0,
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
        scores = scores_text(self.options, networks)
        write_summary(folder.folder, self.stream, self.report, networks, scores=scores)
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
                self._recorder.close(is_cut=True)
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
            walk = self._walk if self.stream.can_seek else self._walk_recordings
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
        place = self._place_video()
        if place is None:
            return
        folder, is_whole = self.folder.folder, self.stream.can_seek and not self.report.gaps
        writers.write_page(
            folder,
            self.plan.video_id,
            place,
            self.networks,
            self._again(),
            threshold=self.networks.threshold,
            goes_on=self.options.goes_on,
            # Of a damaged source the size of its copy, which may be smaller, has to do.
            sized_as=Path(self.stream.source) if is_whole else folder / place,
            notes=self.networks.notes,
        )

    def _place_video(self) -> str | None:
        """Put the page's video beside it; return its path, relative to the results.

        None: nothing was recorded. Linked where browsers play it, else of what was judged alone.
        """
        folder, plan, recorder = self.folder, self.plan, self._recorder
        place = f"videos/{_PAGE_VIDEO}.mp4"
        if recorder is not None:
            if self.stream.can_seek:
                recorder.fill(self._walk)
            recordings = folder.recordings()
            if not recordings:
                return None
            join_videos(recordings, folder.folder / place)
            return place
        span = {"start_s": plan.start_s, "end_s": plan.end_s}
        if not self.report.gaps:
            with VideoReader(self.stream.source) as reader:
                encoded = place_encoded(reader, folder.folder, _PAGE_VIDEO, **span)
            if encoded is not None:
                return encoded
        written = write_recording(folder.folder / place, self._walk(plan.start_s), **span)
        return place if written else None

    def _again(self) -> Iterator[Postprocessed]:
        postprocessor = Postprocessor(self.plan.video_id, self.networks, self.options)
        for segment in self.folder.segments(tail=True):
            for detections in segment.frames:
                yield postprocessor.feed(detections)
        yield postprocessor.finish()
