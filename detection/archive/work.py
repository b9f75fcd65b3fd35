"""What does the pieces of an archive's work: one worker with opened networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypedDict

import torch

from detection.archive.copies import Copies
from detection.archive.manifest import read_archive_manifest
from detection.archive.pieces import (
    JoinPiece,
    Key,
    KeyPiece,
    NotCut,
    PeopleDone,
    PeoplePiece,
    Piece,
    Result,
    SpanDone,
    SpanPiece,
    SpansPlanned,
    VideoDone,
    VideoPiece,
    WorkOptions,
    is_complete,
    people_name,
    span_name,
    state_key,
)
from detection.checkpoints.hub import DEFAULT_NETWORK
from detection.devices import choose_device
from detection.drawing.text import font_warning
from detection.engine.environment import keep_malloc_memory
from detection.errors import UserError
from detection.files import only_writer
from detection.jobs.base import OnProgress
from detection.pipeline.decisive import common_key
from detection.pipeline.detector import ActionDetectorPipeline
from detection.pipeline.folder_index import place_thumbnail
from detection.pipeline.segments import STATE_NAME
from detection.pipeline.spans import NotInSpansError
from detection.pipeline.video_folders import VideoFolder
from detection.transfer import places
from detection.video.repairs import repair_lines
from detection.video.stream import VideoStream


class _Part(TypedDict):
    start_s: float
    end_s: float


@dataclass
class Worker:
    """Does pieces with the networks that it has opened."""

    detector: ActionDetectorPipeline
    options: WorkOptions
    opening_notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        options = self.options
        self._copies = Copies(options.root)
        self._common = self.detector.results_common(
            start_s=options.start_s, end_s=options.end_s, film=options.film, page=options.page
        )
        self._key = common_key(self._common.as_json())
        self._signs_told = 0

    @classmethod
    def open(cls, options: WorkOptions) -> Self:
        """Open the networks that the options name; raises `UserError`."""
        keep_malloc_memory()
        torch.set_num_threads(options.threads)
        notes: list[str] = []
        detector = ActionDetectorPipeline.from_checkpoint(
            options.checkpoint or DEFAULT_NETWORK,
            people=options.people,
            options=options.pipeline,
            device=choose_device(options.device),
            half_precision=options.half_precision,
            runtime=options.runtime,
            on_note=notes.append,
        )
        return cls(detector, options, notes)

    def __call__(self, piece: Piece, tell: OnProgress) -> Result:
        """Do a piece; tell: told seconds of video that were computed."""
        if isinstance(piece, KeyPiece):
            self._check_manifest()
            return Key(self._key, (*self._notes(), *self._new_signs()))
        with self._copies.naming(piece.video):
            if isinstance(piece, VideoPiece):
                return self._do_video(piece, tell)
            if isinstance(piece, PeoplePiece | SpanPiece):
                return self._compute(piece, tell)
            return self._join(piece, tell)

    def _notes(self) -> list[str]:
        """Return what `detect_actions` of one video says before it begins."""
        networks = self.detector.networks
        why = f" ({networks.runtime_why})" if networks.runtime_why else ""
        notes = [*self.opening_notes, *networks.notes, f"runtime {networks.runtime}{why}"]
        missing = font_warning(networks.label_map.names) if self.options.film else None
        return notes if missing is None else [*notes, missing.removeprefix("warning: ")]

    def _new_signs(self) -> tuple[str, ...]:
        """Return what says that the network is broken and was not told before."""
        signs = self.detector.networks.signs_of_damage()
        new, self._signs_told = signs[self._signs_told :], len(signs)
        return new

    def _check_manifest(self) -> None:
        """Raise `UserError` where tables of other options or weights stand: no video could join.

        Tables without a video that is done, and damaged ones, are replaced.
        """
        root = self.options.root
        manifest = None if self.options.overwrite else read_archive_manifest(root)
        if manifest is None or state_key(manifest) == self._key:
            return
        raise UserError(
            f"{places.shown_address(root)}: holds tables of other options or weights "
            f"({self._common.differences_from(manifest)}): another --out, or --overwrite"
        )

    def _do_video(self, piece: VideoPiece, tell: OnProgress) -> Result:
        video = piece.video
        if self._is_done(video):
            return self._finished(video, tell)
        if not (piece.whole or math.isinf(self.options.span_s)):
            plan = self.detector.spans(
                self._copies.source(video), span_s=self.options.span_s, **self._part()
            )
            if len(plan.spans) > 1:
                return SpansPlanned(video.name, plan.spans, plan.key, plan.people_first)
        return self._run(video, tell)

    def _part(self) -> _Part:
        return {"start_s": self.options.start_s, "end_s": self.options.end_s}

    def _compute(self, piece: PeoplePiece | SpanPiece, tell: OnProgress) -> Result:
        video, is_people = piece.video, isinstance(piece, PeoplePiece)
        done = (PeopleDone if is_people else SpanDone)(video.name, piece.span)
        name = (people_name if is_people else span_name)(video, piece.span, piece.key)
        # Another run that has joined the spans has removed their files.
        if self._copies.has(name) or self._is_done(video):
            return done
        source = self._copies.source(video)
        try:
            with self._copies.writing(name) as path:
                if isinstance(piece, PeoplePiece):
                    half = _steps(tell, share=0.5)  # the other half once they are scored
                    self.detector.compute_people(
                        source, piece.span, path, **self._part(), on_progress=half
                    )
                else:
                    self._compute_span(piece, source, path, tell)
        except NotInSpansError as error:
            return NotCut(video.name, str(error))
        return replace(done, notes=self._new_signs()) if isinstance(done, SpanDone) else done

    def _compute_span(self, piece: SpanPiece, source: str, path: Path, tell: OnProgress) -> None:
        names = [people_name(piece.video, span, piece.key) for span in piece.people]
        progress = _steps(tell, share=0.5 if names else 1.0)
        with self._copies.reading(names) as people:
            self.detector.compute_span(
                source, piece.span, path, people=people, **self._part(), on_progress=progress
            )

    def _join(self, piece: JoinPiece, tell: OnProgress) -> Result:
        video, key = piece.video, piece.key
        names = [span_name(video, span, key) for span in piece.spans]
        if self._is_done(video):
            done = self._finished(video, tell)
        else:
            with self._copies.reading(names) as paths:
                # The seconds were told by its spans.
                done = self._run(video, lambda amount: tell(0.0), computed=paths, computed_key=key)
        if piece.people_first:
            names += [people_name(video, span, key) for span in piece.spans]
        self._copies.remove(names)
        return done

    def _is_done(self, video: VideoFolder) -> bool:
        """Tell whether the results of a video stand whole, made by these networks and options."""
        state = self._copies.state(video)
        return is_complete(state) and state_key(state) == self._key

    def _finished(self, video: VideoFolder, tell: OnProgress) -> VideoDone:
        """Return what is told of results that stand whole; little where none of them are here."""
        return VideoDone(video.name, None) if self._copies.are_remote else self._run(video, tell)

    def _run(
        self,
        video: VideoFolder,
        tell: OnProgress,
        *,
        computed: Sequence[Path] = (),
        computed_key: str | None = None,
    ) -> VideoDone:
        """Make a video's results, of computed spans where there are any."""
        source, options = self._copies.source(video), self.options
        with (
            VideoStream(source, live=False) as stream,
            self._copies.folder(video, last=STATE_NAME) as folder,
            only_writer(folder, busy="another process writes here"),
        ):
            length_s = stream.duration_s
            events = self.detector.run(
                stream,
                out=folder,
                **self._part(),
                film=options.film,
                page=options.page,
                overwrite=options.overwrite,
                computed=computed,
                computed_key=computed_key,
                on_progress=_steps(tell),
            )
            for _ in events:
                pass
            notes = [f"{video.name}: {note}" for note in self.detector.report.notes]
            notes += repair_lines({video.name: stream.repairs().descriptions()})
            notes += self._new_signs()
            place_thumbnail(VideoFolder(video.name, source, folder))
        return VideoDone(video.name, length_s, tuple(notes))


def _steps(tell: OnProgress, *, share: float = 1.0) -> Callable[[float], object]:
    """Return a callback that is told times, and tells the seconds between them.

    share: how much of them counts as done.
    """
    last_s: float | None = None

    def progress(time_s: float) -> None:
        nonlocal last_s
        # 0 too: who watches may stop the piece.
        tell(0.0 if last_s is None else share * max(0.0, time_s - last_s))
        last_s = time_s

    return progress
