"""What workers promise, whatever runs them: here, processes, Ray."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path

import pytest
from piece_work import (
    descendants,
    is_gone,
    open_that_breaks,
    open_that_dies,
    open_that_dies_at,
    open_that_refuses,
    open_work,
    until,
)

from detection.errors import EXIT_STOPPED, UserError
from detection.jobs.base import PieceError, Resources, WorkerLostError
from detection.jobs.open import open_workers
from detection.jobs.processes import _gpus_of
from detection.jobs.run_all import run_all

HELPERS = Path(__file__).resolve().parent.parent / "helpers"
RAY = pytest.param("ray", marks=pytest.mark.ray)


@pytest.fixture(scope="module")
def ray():
    """Ray on this machine, once for all tests of the module, which use its connection."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    with open_workers("ray", open_work, workers=2):
        yield


@pytest.fixture(params=["here", "processes", RAY])
def engine(request):
    if request.param == "ray":
        request.getfixturevalue("ray")
    return request.param


@pytest.fixture(params=["processes", RAY])
def apart(request):
    """An engine whose workers are no part of this process."""
    if request.param == "ray":
        request.getfixturevalue("ray")
    return request.param


def by_value(ended):
    return sorted((one.piece[1], one.result) for one in ended)


def test_every_piece_ends_once_whatever_the_order(engine):
    pieces = [("times", value) for value in range(7)]
    amounts = []
    with open_workers(engine, functools.partial(open_work, 3), workers=2) as workers:
        assert 1 <= workers.count <= 2
        ended = list(run_all(workers, pieces, on_progress=amounts.append))
        assert workers.pending == 0
        assert workers.wait(60) == []  # at once
    assert by_value(ended) == [(value, 3 * value) for value in range(7)]
    assert all(one.error is None for one in ended)
    assert sum(amounts) == sum(range(7))
    assert {id(one.piece) for one in ended} == {id(piece) for piece in pieces}


def test_no_pieces_open_nothing(engine):
    with open_workers(engine, open_that_dies, workers=2) as workers:
        assert list(run_all(workers, [])) == []
        assert workers.take_progress() == 0


def test_progress_without_a_callback(engine):
    with open_workers(engine, open_work, workers=1) as workers:
        workers.submit(("times", 5))
        while workers.pending:
            workers.wait(1)
        assert workers.take_progress() == 5
        assert workers.take_progress() == 0


def test_errors_stay_with_their_pieces(engine):
    pieces = [
        ("fail", UserError("a.mp4: file not found")),
        ("fail_in_two_parts", "rows.csv"),
        ("divide", 0),
        ("divide", 2),
    ]
    with open_workers(engine, open_work, workers=1) as workers:
        ended = {str(one.piece[1]): one for one in run_all(workers, pieces)}
    assert type(ended["a.mp4: file not found"].error) is UserError
    assert str(ended["a.mp4: file not found"].error) == "a.mp4: file not found"
    assert isinstance(ended["rows.csv"].error, UserError)
    assert str(ended["rows.csv"].error) == "rows.csv:3"
    broken = ended["0"].error
    assert isinstance(broken, PieceError)
    assert "ZeroDivisionError: division by zero" in str(broken)
    assert "in _divide" in str(broken)
    assert ended["2"].result == 0.5


def test_a_result_that_cannot_be_pickled_is_an_error(apart):
    with open_workers(apart, open_work, workers=1) as workers:
        (ended,) = run_all(workers, [("unpicklable", 0)])
    assert isinstance(ended.error, PieceError)
    assert "pickle" in str(ended.error)


def test_an_open_that_refuses_ends_all(engine):
    with (
        open_workers(engine, open_that_refuses, workers=2) as workers,
        pytest.raises(UserError, match=r"^weights.pt: file not found$"),
    ):
        list(run_all(workers, [("times", 1)] * 3))


def test_an_open_that_breaks_ends_all_with_its_traceback(engine):
    with (
        open_workers(engine, open_that_breaks, workers=1) as workers,
        pytest.raises(PieceError, match="(?s)open_that_breaks.*in the open"),
    ):
        list(run_all(workers, [("times", 1)]))


def test_workers_that_die_in_open_are_tried_three_times(apart, tmp_path):
    open_ = functools.partial(open_that_dies_at, str(tmp_path / "tries"), range(100))
    with (
        open_workers(apart, open_, workers=1) as workers,
        pytest.raises(UserError, match="3 workers in a row ended before they were ready"),
    ):
        list(run_all(workers, [("times", 1)]))
    assert (tmp_path / "tries").read_text() == "xxx"


def test_only_deaths_in_a_row_count(tmp_path):
    open_ = functools.partial(open_that_dies_at, str(tmp_path / "tries"), (1, 2, 4, 5))
    with open_workers("processes", open_, workers=1) as workers:
        (ended,) = run_all(workers, [("kill_once", str(tmp_path / "a"))], retries=1)
    assert ended.result == "done"
    assert (tmp_path / "tries").read_text() == "x" * 6


def test_no_more_processes_than_pieces():
    with open_workers("processes", open_work, workers=4) as workers:
        before = len(multiprocessing.active_children())
        list(run_all(workers, [("times", 1)]))
        list(run_all(workers, [("times", 1)]))
        assert len(multiprocessing.active_children()) == before + 1
    assert len(multiprocessing.active_children()) == before


def test_the_callback_is_called_while_nothing_is_told(apart, tmp_path):
    """So that it can stop work that tells nothing."""

    def stop(amount):
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        open_workers(apart, open_work, workers=1, grace_s=0.1) as workers,
    ):
        list(run_all(workers, [("heedless", str(tmp_path / "pid"))], on_progress=stop))


@pytest.mark.parametrize(
    ("gpus", "most", "first"), [(0.5, 4, "GPU-a"), (1, 2, "GPU-a"), (2, 1, "GPU-a,GPU-b")]
)
def test_each_process_has_its_gpus(monkeypatch, gpus, most, first):
    monkeypatch.setattr("detection.jobs.processes._gpu_names", lambda: ["GPU-a", "GPU-b"])
    resources = Resources(gpus=gpus)
    with open_workers("processes", open_work, workers=None, resources=resources) as workers:
        assert workers.count == most
        (ended,) = run_all(workers, [("pid", None)])
    assert ended.result[2] == first


@pytest.mark.parametrize(
    ("slot", "each", "named"), [(1, 1.0, "b"), (1, 0.5, "a"), (3, 0.5, "b"), (1, 2.0, "c,d")]
)
def test_processes_of_one_gpu_are_neighbours(slot, each, named):
    assert _gpus_of(slot, each, ["a", "b", "c", "d"]) == named


def test_a_worker_that_is_killed_takes_one_piece_with_it(apart, tmp_path):
    pieces = [("times", 1), ("kill", 0), *[("times", value) for value in range(2, 6)]]
    with open_workers(apart, open_work, workers=2) as workers:
        ended = list(run_all(workers, pieces))
    lost = [one for one in ended if one.error]
    assert [one.piece for one in lost] == [("kill", 0)]
    assert isinstance(lost[0].error, WorkerLostError)
    assert lost[0].error.exit_code == EXIT_STOPPED
    assert "(out of memory?)" in str(lost[0].error)
    assert by_value(one for one in ended if not one.error) == [(v, v) for v in range(1, 6)]


def test_the_signal_is_named():
    with open_workers("processes", open_work, workers=1) as workers:
        (ended,) = run_all(workers, [("kill", 0)])
    assert str(ended.error) == "its process ended by signal 9 (out of memory?)"


def test_lost_pieces_are_attempted_again(apart, tmp_path):
    pieces = [("kill_once", str(tmp_path / "a")), ("fail_once", str(tmp_path / "b")), ("kill", 0)]
    with open_workers(apart, open_work, workers=1) as workers:
        ended = {one.piece[0]: one for one in run_all(workers, pieces, retries=1)}
    assert ended["kill_once"].result == ended["fail_once"].result == "done"
    assert isinstance(ended["kill"].error, WorkerLostError)


def test_what_is_worth_another_attempt_can_be_said(tmp_path):
    with open_workers("here", open_work) as workers:
        piece = ("fail_once", str(tmp_path / "a"))
        (ended,) = run_all(workers, [piece], retries=1, retry_if=lambda error: False)
        assert isinstance(ended.error, PieceError)
        refused = ("fail", UserError("no"))
        tries = []
        (ended,) = run_all(
            workers, [refused], retries=2, retry_if=lambda error: not tries.append(error)
        )
        assert len(tries) == 2


def test_equal_pieces_are_pieces_each():
    piece = ("times", 2)
    with open_workers("here", open_work) as workers:
        assert len(list(run_all(workers, [piece, piece, ("times", 2)], retries=1))) == 3


def test_pieces_are_read_as_they_are_needed(engine):
    numbers = count()
    with open_workers(engine, open_work, workers=2) as workers:
        ended = list(islice(run_all(workers, (("times", n) for n in numbers), most_waiting=3), 5))
    assert len(ended) == 5
    assert next(numbers) <= 5 + 3


def test_work_under_way_stops_when_the_context_is_left(apart, tmp_path):
    place = tmp_path / "pid"
    with open_workers(apart, open_work, workers=1) as workers:
        workers.submit(("until_stopped", str(place)))
        until(lambda: workers.wait(0.1) == [] and place.exists() and place.read_text())
    assert (tmp_path / "pid.stopped").exists()
    until(lambda: is_gone(int(place.read_text())))


def test_work_that_heeds_nothing_is_ended(apart, tmp_path):
    place = tmp_path / "pid"
    with open_workers(apart, open_work, workers=1, grace_s=0.2) as workers:
        workers.submit(("heedless", str(place)))
        until(lambda: workers.wait(0.1) == [] and place.exists() and place.read_text())
        left_s = time.monotonic()
    assert time.monotonic() - left_s < 20
    until(lambda: is_gone(int(place.read_text())))


def test_an_error_of_the_callback_ends_all(engine):
    def stop(amount):
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        open_workers(engine, open_work, workers=1) as workers,
    ):
        list(run_all(workers, [("times", 1)] * 3, on_progress=stop))


def test_a_worker_knows_its_cores(apart):
    pieces = [("pid", None)] * 4
    resources = Resources(cores=2)
    with open_workers(apart, open_work, workers=1, resources=resources) as workers:
        found = {one.result for one in run_all(workers, pieces)}
    ((pid, threads, _),) = found  # one process did all
    assert threads == "2"
    assert pid != os.getpid()


def test_resources_that_are_not_there_are_refused(apart):
    with pytest.raises(UserError, match="GPUs a worker"):
        open_workers(apart, open_work, resources=Resources(gpus=512))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "threads"}, "here, processes or ray is required"),
        ({"engine": "processes", "workers": 0}, "1 or more are required"),
        ({"engine": "processes", "address": "auto"}, "the engine ray is required"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        open_workers(open_=open_work, **options)


@pytest.mark.parametrize("values", [{"cores": 0}, {"gpus": -1}, {"gpus": 1.5}])
def test_bad_resources_are_refused(values):
    with pytest.raises(UserError, match="a worker"):
        Resources(**values)


def test_processes_end_with_a_driver_that_is_killed(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
from piece_work import open_work
from detection.jobs.open import open_workers
from detection.jobs.run_all import run_all
pieces = [("heedless", {str(tmp_path)!r} + f"/{{number}}") for number in range(2)]
with open_workers("processes", open_work, workers=2) as workers:
    list(run_all(workers, pieces))
"""
    driver = subprocess.Popen([sys.executable, "-c", code])
    try:
        places = [tmp_path / "0", tmp_path / "1"]
        until(lambda: all(place.exists() and place.read_text() for place in places))
        pids = {int(place.read_text()) for place in places}
        assert pids <= set(descendants(driver.pid))
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    until(lambda: all(map(is_gone, pids)))
