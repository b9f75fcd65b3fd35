"""Candidates as programs: side by side, once each, going on after a kill, failures kept."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from landscape import rule_of_thumb

from detection.errors import UserError
from detection.expansion.candidate import train_candidate
from detection.expansion.scheduler import (
    Scheduler,
    Stopped,
    TrainingJob,
    name_of,
    only_search,
    with_network,
)
from detection.expansion.search import Search, TrainingRequest
from detection.models.x3d import VARIANTS

FAKE = Path(__file__).with_name("fake_train.py")
BASIS = dataclasses.replace(VARIANTS["x2d"], step=6)


def scheduler_of(folder, *, wishes=None, **options):
    training = {"data": {"root": "nowhere"}, "wishes": wishes or {}}
    return Scheduler(
        folder,
        training,
        [sys.executable, str(FAKE)],
        lambda metrics: metrics["mean_ap"],
        **{"on_progress": lambda _: None, **options},
    )


def networks(*frames):
    return [TrainingRequest(dataclasses.replace(BASIS, num_frames=count)) for count in frames]


def calls(folder):
    return [path.read_text().split() for path in sorted(folder.rglob("calls.txt"))]


def test_each_is_trained_once_and_found_again(tmp_path):
    first = scheduler_of(tmp_path, seeds=(0, 3), jobs=2)
    outcomes = first(networks(1, 2))
    assert [outcome.scores for outcome in outcomes] == [
        pytest.approx((0.1, 0.13)),
        pytest.approx((0.2, 0.23)),
    ]
    again = scheduler_of(tmp_path, seeds=(0, 3))
    assert again(networks(1, 2)) == outcomes
    assert len(first.started) == 4
    assert again.started == []
    assert again([]) == []


def test_a_failure_is_recorded_with_its_last_words_and_not_repeated(tmp_path):
    wishes = {"fail_from_frames": 2}
    outcomes = scheduler_of(tmp_path, wishes=wishes)(networks(1, 2))
    assert outcomes[0].failure is None
    assert outcomes[1].failure == "out of memory, as wished"
    again = scheduler_of(tmp_path, wishes=wishes)
    assert again(networks(1, 2)) == outcomes
    assert again.started == []


def test_processes_share_the_work(tmp_path):
    required = networks(1, 2, 3)
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(FAKE.parent)!r})
        from test_scheduler import networks, scheduler_of
        rank = int(sys.argv[1])
        work = scheduler_of(__import__("pathlib").Path({str(tmp_path)!r}), share=(rank, 2))
        print([one.scores for one in work(networks(1, 2, 3))], len(work.started))
        """
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(rank)], stdout=subprocess.PIPE)
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=120)[0].decode().split("] ") for process in running]
    assert said[0][0] == said[1][0]
    assert [int(words[1]) for words in said] == [2, 1]
    assert calls(tmp_path) == [["--cfg"]] * len(required)


@pytest.mark.parametrize(
    ("of_sigterm", "options"),
    [
        (signal.SIG_DFL, {}),
        (signal.SIG_IGN, {}),
        (signal.SIG_IGN, {"jobs": 2}),  # by processes between the search and its programs
        pytest.param(signal.SIG_DFL, {"engine": "ray"}, marks=pytest.mark.ray),
    ],
)
def test_a_killed_search_goes_on_and_repeats_nothing(tmp_path, of_sigterm, options):
    if "engine" in options:
        pytest.importorskip("ray")
    signal.signal(signal.SIGTERM, of_sigterm)  # is inherited, as under `trap "" TERM`
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(FAKE.parent)!r})
        from test_scheduler import networks, scheduler_of
        path = __import__("pathlib").Path({str(tmp_path)!r})
        if __name__ == "__main__":
            scheduler_of(path, wishes={{"holds_at": 2}}, **{options!r})(networks(1, 2, 3))
        """
    )
    victim = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    while len(calls(tmp_path)) < 2 + (options.get("jobs") == 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    on = scheduler_of(tmp_path, wishes={"holds_at": 2}, **options)
    outcomes = on(networks(1, 2, 3))
    assert [outcome.scores for outcome in outcomes] == [
        pytest.approx((0.1,)),
        pytest.approx((0.2,)),
        pytest.approx((0.3,)),
    ]
    ended = [["--cfg", "--resume"], ["--cfg"], ["--cfg"]]
    assert sorted(calls(tmp_path)) == sorted(ended)  # the one under way ended with its search


def test_the_next_search_waits_until_a_killed_one_s_training_has_saved(tmp_path):
    wishes = {"holds_at": 1, "saves_s": 2}
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(FAKE.parent)!r})
        from test_scheduler import networks, scheduler_of
        path = __import__("pathlib").Path({str(tmp_path)!r})
        scheduler_of(path, wishes={wishes!r})(networks(1))
        """
    )
    victim = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    while not calls(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    victim.kill()
    victim.wait()
    outcome = scheduler_of(tmp_path, wishes=wishes)(networks(1))[0]
    assert outcome.failure is None and outcome.scores == pytest.approx((0.1,))
    assert calls(tmp_path) == [["--cfg", "--resume"]]


def test_an_interrupted_training_is_resumed(tmp_path):
    folder = tmp_path / name_of(BASIS) / "seed0"
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.pt").write_bytes(b"half")
    values = with_network({"data": {"root": "x"}}, BASIS) | {"seed": 0, "output": str(run)}
    (run / "config.yaml").write_text(json.dumps(values))
    outcome = scheduler_of(tmp_path)([TrainingRequest(BASIS)])[0]
    assert outcome.scores == pytest.approx((0.1,))
    assert calls(tmp_path) == [["--resume"]]


def test_networks_that_are_the_same_are_trained_once_side_by_side(tmp_path):
    work = scheduler_of(tmp_path, jobs=2)
    outcomes = work(networks(2, 2))
    assert outcomes[0] == outcomes[1]
    assert calls(tmp_path) == [["--cfg"]]


def test_a_training_that_others_stopped_goes_on(tmp_path):
    outcome = scheduler_of(tmp_path, wishes={"stopped_once": True})(networks(1))[0]
    assert outcome.scores == pytest.approx((0.1,))
    assert calls(tmp_path) == [["--cfg", "--resume"]]


def test_asked_to_stop_it_stops_and_keeps_nothing_half(tmp_path):
    start = time.monotonic()
    with pytest.raises(Stopped):
        scheduler_of(
            tmp_path,
            wishes={"seconds": 60},
            should_stop=lambda: len(calls(tmp_path)) > 0 or time.monotonic() - start > 100,
        )(networks(1))
    assert not list(tmp_path.rglob("result.json"))


def test_programs_do_not_inherit_torchrun_s_words(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    script = tmp_path / "show.py"
    script.write_text(
        "import os, sys; print('WORLD_SIZE' in os.environ, os.environ['OMP_NUM_THREADS']);"
        "sys.exit(3)"
    )
    work = scheduler_of(tmp_path / "c", threads=2)
    work.command = [sys.executable, str(script)]
    assert work(networks(1))[0].failure == "False 2"


@pytest.mark.parametrize("options", [{}, {"jobs": 2}])
def test_a_training_whose_worker_is_lost_goes_on(tmp_path, monkeypatch, options):
    """Here it is the program's: its own death is a result, and names the signal."""
    monkeypatch.setattr("detection.expansion.scheduler.open_training", open_deadly)
    requests = networks(1, 2)
    if options:
        outcomes = scheduler_of(tmp_path, **options)(requests)
        assert [one.scores for one in outcomes] == [pytest.approx((0.1,)), pytest.approx((0.2,))]
        assert calls(tmp_path) == [["--cfg"], ["--cfg"]]
    script = tmp_path / "dies.py"
    script.write_text("import os; os.kill(os.getpid(), 9)")
    work = scheduler_of(tmp_path / "c", **options)
    work.command = [sys.executable, str(script)]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "lost").touch()
    assert {one.failure for one in work(requests)} == {"ended by signal 9 (out of memory?)"}


def open_deadly():
    return lose_the_first


def lose_the_first(candidate, on_progress):
    note = candidate.folder.parents[1] / "lost"
    if not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train_candidate(candidate, on_progress)


def test_a_machine_without_the_disk_is_named(tmp_path):
    training = scheduler_of(tmp_path / "gone")
    job = TrainingJob(tmp_path / "gone" / "a" / "seed0", networks(1)[0], 0)
    with pytest.raises(UserError, match="seed0: not found on .*all machines must share this disk"):
        train_candidate(training._candidate(job), lambda amount: None)


def test_a_broken_result_is_named(tmp_path):
    folder = tmp_path / name_of(BASIS) / "seed0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json: not JSON"):
        scheduler_of(tmp_path)([TrainingRequest(BASIS)])


def test_two_searches_in_one_folder_are_refused(tmp_path):
    with (
        only_search(tmp_path),
        pytest.raises(UserError, match="another search"),
        only_search(tmp_path),
    ):
        pass
    with only_search(tmp_path):  # free again
        pass


def test_a_whole_search_over_programs(tmp_path):
    start = rule_of_thumb(BASIS)
    search = Search(BASIS, rule_of_thumb, target=3 * start, axes=("frames", "width"))
    steps = list(search.run(scheduler_of(tmp_path, jobs=2)))
    assert [step.choice.description.num_frames for step in steps] == [1, 2, 4, 3]
    assert steps[-1].contraction
