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
        self._spans_left: dict[str, set[VideoSpan]] = {}
        self._plans: dict[str, SpansPlanned] = {}
        self._attempts: dict[str, Counter[VideoSpan | None]] = {}

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
            self._plans[result.name] = result
            self._spans_left[result.name] = set(result.spans)
            self.progress.spans += len(result.spans)
            self._ready += [SpanPiece(piece.video, span, result.key) for span in result.spans]
        elif isinstance(result, SpanDone):
            assert isinstance(piece, SpanPiece)
            self._note_all(result.notes)
            self._end_span(piece)
        elif isinstance(result, NotCut):
            assert isinstance(piece, SpanPiece)
            if result.name in self._plans:  # the first of its spans that says so
                self.on_note(f"{result.why}; it is not cut into spans")
                self._forget(result.name)
                self._ready.append(VideoPiece(piece.video, whole=True))

    def _note_all(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.on_note(note)

    def _end_span(self, piece: SpanPiece) -> None:
        name = piece.video.name
        plan = self._plans.get(name)
        if plan is None:
            return  # of a video that is not cut any more, or has failed
        self.progress.spans_done += 1
        left = self._spans_left[name]
        left.discard(piece.span)
        if not left:
            self._ready.appendleft(JoinPiece(piece.video, plan.spans, plan.key))

    def _take_error(self, piece: Piece, error: Exception) -> None:
        if isinstance(piece, KeyPiece) or isinstance(error, CannotWriteError):
            raise error
        name = piece.video.name
        if isinstance(piece, SpanPiece) and name not in self._plans:
            return  # as in `_end_span`
        if isinstance(error, BusyError):
            self._later.append((time.monotonic() + _BUSY_S, piece))
            self.progress.busy = len(self._later)
            return
        # Of each span, for a machine that is lost takes many spans of a video with it.
        counts = self._attempts.setdefault(name, Counter())
        span = piece.span if isinstance(piece, SpanPiece) else None
        counts[span] += 1
        attempts = counts[span]
        if attempts <= self.retries:
            if another_worker_may(error):  # a lost worker, or a fault of ours
                follows = f"attempt {attempts + 1} of {self.retries + 1} follows"
                self.on_note(f"{name}: {_one_line(error)}; {follows}")
            self._ready.append(piece if isinstance(piece, SpanPiece) else self._afresh(piece))
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
        plan = self._plans.pop(name, None)
        left = self._spans_left.pop(name, set())
        if plan is not None:
            self.progress.spans -= len(plan.spans)
            self.progress.spans_done -= len(plan.spans) - len(left)


def _one_line(error: Exception) -> str:
    """Return an error as it is written down: of a fault of ours, its last line."""
    if isinstance(error, UserError):
        return str(error)
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
