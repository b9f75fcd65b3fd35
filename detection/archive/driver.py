"""Gives the pieces of an archive's work to workers until every video is done or has failed.

Nothing here opens a video: what is long, damaged or done already is found by the workers. Of a
video that waits the driver keeps its name and place, of one under way its spans, of one that is
done nothing.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

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
)
from detection.errors import UserError
from detection.files import BusyError, CannotWriteError
from detection.jobs.base import Ended, Workers, WorkStopped
from detection.jobs.run_all import another_worker_may
from detection.pipeline.spans import VideoSpan
from detection.pipeline.video_folders import VideoFolder

_WAIT_S = 0.5
_BUSY_S = 2.0  # until a video that another run works on is looked at again
_LOOK_UP_EVERY = 1000  # videos found finished
_AHEAD = 2  # pieces given out for each worker
_OF_SPANS = (PeoplePiece, SpanPiece)


@dataclass(frozen=True)
class Failure:
    """A video that failed at every attempt, and its last error."""

    video: str
    attempts: int
    error: str


@dataclass
class ArchiveProgress:
    """What has been done so far.

    videos: of this run.  done: finished ones, those found so included.  kept: found finished.
    spans, spans_done: of long videos under way.  computed_s: seconds of video that went through the
    networks.  busy: videos that another run works on, as last seen.
    """

    videos: int
    done: int = 0
    kept: int = 0
    spans: int = 0
    spans_done: int = 0
    computed_s: float = 0.0
    busy: int = 0
    stopped: bool = False
    failures: list[Failure] = field(default_factory=list)


@dataclass
class _Cut:
    """A video that is computed in spans.

    people_left, spans_left: spans whose people, and which themselves, are still to be computed.
    """

    plan: SpansPlanned
    people_left: set[VideoSpan]
    spans_left: set[VideoSpan]


@dataclass
class Driver:
    """Runs the videos; `run` returns what became of them.

    is_done: told the digest of what decides the results, says of a video whether its results stand
    whole under it.
    retries: how often a video (or a span of one) that failed is attempted again.
    on_change: told the progress about twice a second.
    on_note: told a line about a video, or about the networks.
    """

    workers: Workers[Piece, Result]
    is_done: Callable[[VideoFolder, str], bool]
    retries: int = 1
    should_stop: Callable[[], bool] = lambda: False
    on_change: Callable[[ArchiveProgress], object] = lambda progress: None
    on_note: Callable[[str], object] = lambda line: None

    def __post_init__(self) -> None:
        self._ready: deque[Piece] = deque()
        self._later: list[tuple[float, Piece]] = []
        self._cut: dict[str, _Cut] = {}
        self._attempts: dict[str, Counter[tuple[type[Piece], VideoSpan] | None]] = {}

    def run(self, videos: Iterable[VideoFolder], *, count: int) -> ArchiveProgress:
        """Give out every video; return when all are done or have failed, or when stopped.

        videos: taken one by one, as workers become free.  count: of them.
        Raises `UserError` where no video can be done: networks that cannot be opened, results that
        cannot be written.
        """
        progress = self.progress = ArchiveProgress(count)
        key = self._ask_key()
        if key is None:
            progress.stopped = True
            return progress
        self.workers.on_progress = self._note_computed
        try:
            self._give_out(self._not_done(videos, key))
        except WorkStopped:
            progress.stopped = True
        return progress

    def _give_out(self, waiting: Iterator[VideoPiece]) -> None:
        is_read = False
        while not (is_read and self._is_empty()):
            while self.workers.pending < _AHEAD * self.workers.count:
                self._wake()
                piece = self._ready.popleft() if self._ready else next(waiting, None)
                if piece is None:
                    is_read = True
                    break
                self.workers.submit(piece)
            for ended in self._wait():
                self._take(ended)
            self._look_up()

    def _note_computed(self, amount: float) -> None:
        self.progress.computed_s += amount
        if self.should_stop():  # a piece that is done in this process ends by it, too
            raise WorkStopped

    def _look_up(self) -> None:
        self.on_change(self.progress)
        if self.should_stop():
            raise WorkStopped

    def _ask_key(self) -> str | None:
        self.workers.submit(KeyPiece())
        while self.workers.pending:
            if self.should_stop():
                return None
            for ended in self.workers.wait(_WAIT_S):
                if isinstance(ended.result, Key):
                    self._note_all(ended.result.notes)
                    return ended.result.key
                assert ended.error is not None
                raise ended.error
        return None

    def _not_done(self, videos: Iterable[VideoFolder], key: str) -> Iterator[VideoPiece]:
        for video in videos:
            if not self.is_done(video, key):
                yield VideoPiece(video)
                continue
            self.progress.done += 1
            self.progress.kept += 1
            if self.progress.kept % _LOOK_UP_EVERY == 0:
                self._look_up()

    def _is_empty(self) -> bool:
        return not (self.workers.pending or self._ready or self._later)

    def _wake(self) -> None:
        """Give out again what was busy, once it is time."""
        now_s = time.monotonic()
        while self._later and self._later[0][0] <= now_s:
            self._ready.append(self._later.pop(0)[1])
        self.progress.busy = len(self._later)

    def _wait(self) -> list[Ended[Piece, Result]]:
        if not self.workers.pending:  # everything that is left is busy elsewhere
            time.sleep(_WAIT_S)
            return []
        return self.workers.wait(_WAIT_S)

    def _take(self, ended: Ended[Piece, Result]) -> None:
        piece, result = ended.piece, ended.result
        if ended.error is not None:
            self._take_error(piece, ended.error)
        elif isinstance(result, VideoDone):
            self.progress.done += 1
            self._forget(result.name)
            self._note_all(result.notes)
        elif isinstance(result, SpansPlanned):
            assert isinstance(piece, VideoPiece)
            self._begin_spans(piece.video, result)
        elif isinstance(result, PeopleDone):
            assert isinstance(piece, PeoplePiece)
            self._end_people(piece)
        elif isinstance(result, SpanDone):
            assert isinstance(piece, SpanPiece)
            self._note_all(result.notes)
            self._end_span(piece)
        elif isinstance(result, NotCut):
            assert isinstance(piece, _OF_SPANS)
            if result.name in self._cut:  # the first of its spans that says so
                self.on_note(f"{result.why}; it is not cut into spans")
                self._forget(result.name)
                self._ready.append(VideoPiece(piece.video, whole=True))

    def _note_all(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.on_note(note)

    def _begin_spans(self, video: VideoFolder, plan: SpansPlanned) -> None:
        spans = set(plan.spans)
        self._cut[plan.name] = _Cut(plan, set(spans) if plan.people_first else set(), spans)
        self.progress.spans += len(spans)
        piece = PeoplePiece if plan.people_first else SpanPiece
        self._ready += [piece(video, span, plan.key) for span in plan.spans]

    def _end_people(self, piece: PeoplePiece) -> None:
        cut = self._cut.get(piece.video.name)
        if cut is None:
            return  # of a video that is not cut any more, or has failed
        cut.people_left.discard(piece.span)
        if not cut.people_left:  # before other videos are begun
            spans, key = cut.plan.spans, cut.plan.key
            pieces = [SpanPiece(piece.video, span, key, people=spans) for span in spans]
            self._ready.extendleft(reversed(pieces))

    def _end_span(self, piece: SpanPiece) -> None:
        cut = self._cut.get(piece.video.name)
        if cut is None:
            return  # as in `_end_people`
        self.progress.spans_done += 1
        cut.spans_left.discard(piece.span)
        if not cut.spans_left:
            spans, key = cut.plan.spans, cut.plan.key
            self._ready.appendleft(JoinPiece(piece.video, spans, key, bool(piece.people)))

    def _take_error(self, piece: Piece, error: Exception) -> None:
        if isinstance(piece, KeyPiece) or isinstance(error, CannotWriteError):
            raise error
        name = piece.video.name
        if isinstance(piece, _OF_SPANS) and name not in self._cut:
            return  # as in `_end_people`
        if isinstance(error, BusyError):
            self._later.append((time.monotonic() + _BUSY_S, piece))
            self.progress.busy = len(self._later)
            return
        # Of each span, for a machine that is lost takes many spans of a video with it.
        counts = self._attempts.setdefault(name, Counter())
        what = (type(piece), piece.span) if isinstance(piece, _OF_SPANS) else None
        counts[what] += 1
        attempts = counts[what]
        if attempts <= self.retries:
            if another_worker_may(error):  # a lost worker, or a fault of ours
                follows = f"attempt {attempts + 1} of {self.retries + 1} follows"
                self.on_note(f"{name}: {_one_line(error)}; {follows}")
            self._ready.append(piece if isinstance(piece, _OF_SPANS) else self._afresh(piece))
            return
        self._forget(name)
        self.progress.failures.append(Failure(name, attempts, _one_line(error)))

    def _afresh(self, piece: VideoPiece | JoinPiece) -> VideoPiece:
        """Return the piece that begins with a video once more; spans that stand are kept."""
        self._drop_plan(piece.video.name)
        return VideoPiece(piece.video, isinstance(piece, VideoPiece) and piece.whole)

    def _forget(self, name: str) -> None:
        self._drop_plan(name)
        self._attempts.pop(name, None)

    def _drop_plan(self, name: str) -> None:
        cut = self._cut.pop(name, None)
        if cut is not None:
            self.progress.spans -= len(cut.plan.spans)
            self.progress.spans_done -= len(cut.plan.spans) - len(cut.spans_left)


def _one_line(error: Exception) -> str:
    """Return an error as it is written down: of a fault of ours, its last line."""
    if isinstance(error, UserError):
        return str(error)
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
