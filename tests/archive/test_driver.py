"""Who gets which piece, and what becomes of failures: with made workers that open no network."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import pytest

from detection.archive.driver import Driver
from detection.archive.pieces import (
    JoinPiece,
    Key,
    KeyPiece,
    NotCut,
    PeopleDone,
    PeoplePiece,
    SpanDone,
    SpanPiece,
    SpansPlanned,
    VideoDone,
    VideoPiece,
)
from detection.errors import UserError
from detection.files import BusyError, CannotWriteError
from detection.jobs.base import WorkerLostError
from detection.jobs.open import open_workers
from detection.pipeline.spans import VideoSpan
from detection.pipeline.video_folders import VideoFolder

SPANS = (VideoSpan(0, 4), VideoSpan(4, 8), VideoSpan(8, None))


def video(name):
    return VideoFolder(name, f"in/{name}", Path("out") / name)


class Made:
    """Does pieces as their videos' names say, and notes them; raises what is next in `errors`."""

    def __init__(self, **errors):
        self.errors = {name: list(some) for name, some in errors.items()}
        self.pieces = []
        self.key_notes = ()

    def __call__(self, piece, tell):
        self.pieces.append(piece)
        if isinstance(piece, KeyPiece):
            return Key("key", self.key_notes)
        name = piece.video.name
        kind = type(piece).__name__.removesuffix("Piece").lower()
        for waiting in (self.errors.get(name), self.errors.get(f"{name}_{kind}")):
            if waiting and (error := waiting.pop(0)) is not None:
                raise error
        tell(1.0)
        if isinstance(piece, PeoplePiece | SpanPiece):
            if name.startswith("reset"):
                return NotCut(name, "its clock falls back")
            if isinstance(piece, PeoplePiece):
                return PeopleDone(name, piece.span)
            return SpanDone(name, piece.span, ("of a span",) if "noted" in name else ())
        if isinstance(piece, VideoPiece) and "long" in name and not piece.whole:
            return SpansPlanned(name, SPANS, "plan", people_first="followed" in name)
        return VideoDone(name, 1.0, (f"note of {name}",) if "noted" in name else ())

    def count(self, kind):
        return Counter(p.video.name for p in self.pieces if isinstance(p, kind))


def drive(made, names, done=(), **more):
    with open_workers("here", functools.partial(lambda: made)) as workers:
        driver = Driver(workers, lambda video, key: video.name in done, **more)
        return driver.run([video(name) for name in names], count=len(names))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr("detection.archive.driver._BUSY_S", 0.0)


def test_no_video_at_all():
    progress = drive(Made(), [])
    assert (progress.done, progress.failures, progress.stopped) == (0, [], False)


def test_each_video_is_done_once_and_finished_ones_are_left_alone():
    made, notes = Made(), []
    progress = drive(made, ["a", "b", "c noted"], done={"b"}, on_note=notes.append)
    assert made.count(VideoPiece) == {"a": 1, "c noted": 1}
    assert (progress.done, progress.kept, progress.computed_s) == (3, 1, 2.0)
    assert notes == ["note of c noted"]


def test_notes_of_the_networks_and_of_spans_are_told():
    made, notes = Made(), []
    made.key_notes = ("names are Kinetics'", "runtime torch")
    drive(made, ["noted long"], on_note=notes.append)
    assert notes == [*made.key_notes, *["of a span"] * 3, "note of noted long"]


def test_spans_of_a_long_video_are_joined_once_all_are_there():
    made = Made()
    progress = drive(made, ["long", "a"])
    assert made.count(SpanPiece) == {"long": 3} and made.count(JoinPiece) == {"long": 1}
    (join,) = (p for p in made.pieces if isinstance(p, JoinPiece))
    assert (join.spans, join.key) == (SPANS, "plan")
    assert made.pieces.index(join) > max(
        i for i, p in enumerate(made.pieces) if isinstance(p, SpanPiece)
    )
    assert (progress.done, progress.spans, progress.spans_done) == (2, 0, 0)


def test_people_of_all_spans_are_detected_before_any_is_scored():
    made = Made()
    progress = drive(made, ["long followed", "a"])
    kinds = [type(p).__name__ for p in made.pieces if p != KeyPiece() and p.video.name != "a"]
    assert kinds == ["VideoPiece", *["PeoplePiece"] * 3, *["SpanPiece"] * 3, "JoinPiece"]
    spans = [p for p in made.pieces if isinstance(p, SpanPiece)]
    assert [(p.span, p.people, p.key) for p in spans] == [(span, SPANS, "plan") for span in SPANS]
    (join,) = (p for p in made.pieces if isinstance(p, JoinPiece))
    assert join.people_first
    assert (progress.done, progress.spans, progress.spans_done) == (2, 0, 0)


def test_people_that_fail_are_tried_again_alone_and_counted_apart_from_scores():
    failing = {"long followed_people": [UserError("odd")], "long followed_span": [UserError("odd")]}
    made = Made(**failing)
    progress = drive(made, ["long followed"], retries=1)
    assert progress.done == 1 and not progress.failures
    assert made.count(PeoplePiece) == made.count(SpanPiece) == {"long followed": 4}
    made = Made(**{"long followed_people": [UserError("odd")] * 99})
    progress = drive(made, ["long followed", "a"], retries=1)
    assert [f.video for f in progress.failures] == ["long followed"]
    assert progress.done == 1 and not made.count(SpanPiece)
    assert (progress.spans, progress.spans_done) == (0, 0)


def test_a_followed_video_whose_people_say_that_it_cannot_be_cut_is_done_whole():
    made, notes = Made(), []
    progress = drive(made, ["reset long followed"], on_note=notes.append)
    assert progress.done == 1 and not made.count(SpanPiece) and not made.count(JoinPiece)
    assert notes == ["its clock falls back; it is not cut into spans"]


def test_a_followed_video_is_scored_before_people_of_others_are_detected():
    made = Made()
    drive(made, ["long followed", "long followed too"])
    kinds = [(type(piece), piece.video.name) for piece in made.pieces[1:]]
    last = max(i for i, kind in enumerate(kinds) if kind == (PeoplePiece, "long followed too"))
    assert kinds.index((SpanPiece, "long followed")) < last


def test_a_video_that_cannot_be_cut_is_done_whole():
    made, notes = Made(), []
    progress = drive(made, ["reset long"], on_note=notes.append)
    assert progress.done == 1 and not made.count(JoinPiece)
    assert made.count(VideoPiece) == {"reset long": 2}
    assert notes == ["its clock falls back; it is not cut into spans"]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_video_that_fails_is_tried_again_and_then_written_down(retries):
    made = Made(bad=[UserError("bad: no video")] * 9, once=[RuntimeError("odd")])
    progress = drive(made, ["bad", "good", "once"], retries=retries)
    assert made.count(VideoPiece)["bad"] == retries + 1
    failed = {failure.video: failure for failure in progress.failures}
    assert (failed["bad"].attempts, failed["bad"].error) == (retries + 1, "bad: no video")
    assert ("once" in failed) == (retries == 0)
    assert progress.done == 3 - len(failed)
    if not retries:
        assert failed["once"].error == "RuntimeError: odd", "the last line of the traceback"


def test_a_lost_worker_is_said_and_what_is_wrong_with_a_video_once_it_has_failed():
    lost = WorkerLostError("its process was ended by SIGKILL")
    made, notes = Made(bad=[UserError("bad: no video")] * 9, a=[lost, RuntimeError("odd")]), []
    progress = drive(made, ["bad", "a"], retries=2, on_note=notes.append)
    assert progress.done == 1 and [failure.video for failure in progress.failures] == ["bad"]
    assert notes == [
        "a: its process was ended by SIGKILL; attempt 2 of 3 follows",
        "a: RuntimeError: odd; attempt 3 of 3 follows",
    ]


def test_a_span_that_fails_is_tried_again_alone():
    made = Made(long_span=[None, UserError("odd")])
    progress = drive(made, ["long"], retries=1)
    assert progress.done == 1 and made.count(SpanPiece) == {"long": 4}
    assert made.count(VideoPiece) == made.count(JoinPiece) == {"long": 1}


def test_a_machine_that_is_lost_with_many_spans_is_one_attempt_of_each():
    lost = WorkerLostError("its process ended by signal 9")
    made = Made(long_span=[lost, lost, lost])
    progress = drive(made, ["long"], retries=1)
    assert progress.done == 1 and not progress.failures
    assert made.count(SpanPiece) == {"long": 6} and made.count(JoinPiece) == {"long": 1}


def test_a_span_that_always_fails_is_one_failure_and_no_join():
    made = Made(long_span=[UserError("odd")] * 99)
    progress = drive(made, ["long", "a"], retries=1)
    (failure,) = progress.failures
    assert (failure.video, failure.attempts, progress.done) == ("long", 2, 1)
    assert not made.count(JoinPiece)


def test_joining_that_fails_begins_with_the_video_again():
    """What its spans were of may have changed."""
    made = Made(long_join=[UserError("has changed")])
    progress = drive(made, ["long"], retries=1)
    assert progress.done == 1 and not progress.failures
    assert made.count(VideoPiece) == made.count(JoinPiece) == {"long": 2}
    assert made.count(SpanPiece) == {"long": 6}
    assert (progress.spans, progress.spans_done) == (0, 0)


def test_a_video_that_is_not_cut_stays_so_when_it_is_tried_again():
    made, notes = Made(**{"reset long_video": [None, UserError("odd")]}), []
    progress = drive(made, ["reset long"], retries=1, on_note=notes.append)
    assert progress.done == 1 and len(notes) == 1
    assert made.count(VideoPiece) == made.count(SpanPiece) == {"reset long": 3}


def test_a_video_is_joined_before_spans_of_others_are_computed():
    made = Made()
    drive(made, ["long", "long too"])
    kinds = [(type(piece), piece.video.name) for piece in made.pieces[1:]]
    last_span = max(i for i, kind in enumerate(kinds) if kind == (SpanPiece, "long too"))
    assert kinds.index((JoinPiece, "long")) < last_span


def test_videos_are_taken_as_they_are_given_out():
    made, read = Made(), []
    names = (name for name in ["a", "b", "c", "d", "e"] if not read.append(name))
    with open_workers("here", functools.partial(lambda: made)) as workers:
        driver = Driver(workers, lambda video, key: False)
        driver.on_change = lambda progress: read.append(progress.done)
        driver.run(map(video, names), count=5)
    assert read.index(1) <= 3, "two pieces ahead of one worker"


def test_a_run_can_be_stopped_among_videos_that_are_done(monkeypatch):
    monkeypatch.setattr("detection.archive.driver._LOOK_UP_EVERY", 10)
    names, asked = [f"v{number}" for number in range(95)], iter(range(100))
    stop = {"should_stop": lambda: next(asked) > 2}
    progress = drive(Made(), names, done=names, **stop)
    assert progress.stopped and progress.kept == 30


def test_a_busy_video_is_left_alone_for_a_while(monkeypatch):
    class Clock:
        now_s = 0.0

        def monotonic(self):
            return self.now_s

        def sleep(self, seconds):
            self.now_s += seconds

    clock, seen = Clock(), []
    monkeypatch.setattr("detection.archive.driver.time", clock)
    monkeypatch.setattr("detection.archive.driver._BUSY_S", 2.0)
    made = Made(a=[BusyError("a: another process writes here")])
    progress = drive(made, ["a"], retries=0, on_change=lambda now: seen.append(now.busy))
    assert (progress.done, progress.busy) == (1, 0) and 1 in seen
    assert 2.0 <= clock.now_s < 3.0


def test_what_another_run_works_on_is_waited_for_and_is_no_failure():
    made = Made(a=[BusyError("a: another process writes here")] * 5)
    progress = drive(made, ["a", "b"], retries=0)
    assert (progress.done, progress.failures, progress.busy) == (2, [], 0)
    assert made.count(VideoPiece) == {"a": 6, "b": 1}


@pytest.mark.parametrize("where", ["a", "long_span", "long_join"])
def test_a_full_disk_ends_the_run(where):
    made = Made(**{where: [CannotWriteError("out/a: cannot be written (No space left)")]})
    with pytest.raises(CannotWriteError, match="No space left"):
        drive(made, ["a", "long"], retries=5)


def test_networks_that_cannot_be_opened_end_the_run():
    def failing():
        raise UserError("weights.pt: not found")

    with (
        open_workers("here", failing) as workers,
        pytest.raises(UserError, match="weights.pt: not found"),
    ):
        Driver(workers, lambda video, key: False).run([video("a")], count=1)


def test_a_run_that_is_stopped_says_so_and_gives_out_no_more():
    made, asked = Made(), iter(range(100))
    progress = drive(made, [f"v{i}" for i in range(50)], should_stop=lambda: next(asked) > 4)
    assert progress.stopped and 0 < progress.done < 10
    assert len(made.pieces) < 12


class Quiet(Made):
    """Does pieces without a word of progress."""

    def __call__(self, piece, tell):
        return super().__call__(piece, lambda amount: None)


def test_a_run_is_stopped_between_pieces_that_tell_nothing():
    made, asked = Quiet(), iter(range(100))
    progress = drive(made, [f"v{i}" for i in range(50)], should_stop=lambda: next(asked) > 4)
    assert progress.stopped and 0 < progress.done < 10


def test_a_piece_of_this_process_is_stopped_in_its_midst():
    made, is_asked = Made(), []
    do = made.__call__

    def call(piece, tell):
        if isinstance(piece, VideoPiece) and piece.video.name == "b":
            is_asked.append(True)
        return do(piece, tell)

    with open_workers("here", lambda: call) as workers:
        driver = Driver(workers, lambda video, key: False, should_stop=lambda: bool(is_asked))
        progress = driver.run([video("a"), video("b"), video("c")], count=3)
    assert progress.stopped and progress.done == 1
    assert made.count(VideoPiece) == {"a": 1, "b": 1}


def test_a_run_that_is_stopped_at_once_opens_nothing():
    made = Made()
    progress = drive(made, ["a"], should_stop=lambda: True)
    assert progress.stopped and made.pieces == []
