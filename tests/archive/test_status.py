"""How far a run is, as it is told from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from detection.archive import status
from detection.archive.status import StatusWriter, status_lines
from detection.errors import UserError


@dataclass
class ArchiveProgress:
    videos: int = 10
    done: int = 4
    kept: int = 1
    spans: int = 0
    spans_done: int = 0
    computed_s: float = 7200.0
    busy: int = 0
    stopped: bool = False
    failures: list[str] = field(default_factory=list)


@pytest.fixture
def clock(monkeypatch):
    """Seconds of both clocks, moved by the test."""
    now = {"s": 1_000_000.0}
    monkeypatch.setattr(status.time, "monotonic", lambda: now["s"])
    monkeypatch.setattr(status.time, "time", lambda: now["s"])
    return now


def file_of(root):
    (path,) = root.glob("progress*.json")
    return path


def values_of(root):
    return json.loads(file_of(root).read_text())


def test_progress_is_written_every_two_seconds(tmp_path, clock):
    with StatusWriter(str(tmp_path)) as writer:
        clock["s"] += 60
        writer.write(ArchiveProgress())
        values = values_of(tmp_path)
        assert {name: values[name] for name in ("videos", "done", "kept", "failed", "state")} == {
            "videos": 10, "done": 4, "kept": 1, "failed": 0, "state": "running",
        }  # fmt: skip
        assert values["times_real_time"] == 120 and values["left_s"] == 6 * 60 / 3
        assert (values["since"], values["written"]) == (
            "1970-01-12T13:46:40+00:00", "1970-01-12T13:47:40+00:00",
        )  # fmt: skip
        assert values["pid"] == os.getpid() and values["host"]
        clock["s"] += 1.9
        writer.write(ArchiveProgress(done=5))
        assert values_of(tmp_path)["done"] == 4
        clock["s"] += 0.2
        writer.write(ArchiveProgress(done=6))
        assert values_of(tmp_path)["done"] == 6
        writer.write(ArchiveProgress(done=9, failures=["x"]))
    values = values_of(tmp_path)
    assert (values["done"], values["failed"], values["state"]) == (9, 1, "ended")
    assert list(tmp_path.iterdir()) == [file_of(tmp_path)]


def lines_after(tmp_path, clock, seconds=60.0, later=0.0, **values):
    writer = StatusWriter(str(tmp_path))
    clock["s"] += seconds
    writer.write(ArchiveProgress(**values))
    return status_lines(str(tmp_path), now=clock["s"] + later)


def test_the_lines_say_how_far_it_is(tmp_path, clock):
    lines = lines_after(
        tmp_path, clock, done=1234, kept=12, videos=100_000, busy=2, spans=7, spans_done=3,
        failures=["a", "b"], computed_s=36_000.0, seconds=3600.0,
    )  # fmt: skip
    assert lines[0] == (
        "1,234 of 100,000 videos done, 12 found finished, 2 failed, 2 in other runs, "
        "3 of 7 spans of long videos"
    )
    assert lines[1] == "10.00 h of video, 10.0 times real time"
    assert lines[2].startswith("since 1970-01-12T13:46:40+00:00 on ")
    assert lines[2].endswith(f", process {os.getpid()}")
    assert lines[3] == "running, about 80:49:18 left" and len(lines) == 4


@pytest.mark.parametrize(
    ("computed_s", "words"),
    [
        (0.0, "0.0 s of video, 0.0 times"), (62.5, "62.5 s of video, 1.0 times"),
        (3599, "59:59 of video, "), (3600, "1.00 h of video, "), (4e6, "1,111.11 h of video, "),
    ],
)  # fmt: skip
def test_less_than_an_hour_of_video_is_said_in_minutes(tmp_path, clock, computed_s, words):
    assert lines_after(tmp_path, clock, computed_s=computed_s)[1].startswith(words)


@pytest.mark.parametrize(
    ("values", "later", "last"),
    [
        ({"done": 1, "kept": 1}, 0.0, "running"),
        ({"videos": 0, "done": 0, "kept": 0}, 0.0, "running"),
        ({"done": 4}, 30.0, "running, about 2:00 left"),
        ({"done": 4}, 31.0, "not heard of for 31.0 s: the process that leads it is gone, or "
            "cannot write; if it is gone, the same command goes on"),
        ({"done": 4}, -50.0, "running, about 2:00 left"),
    ],
)  # fmt: skip
def test_the_last_line_says_whether_it_runs(tmp_path, clock, values, later, last):
    assert lines_after(tmp_path, clock, later=later, **values)[-1] == last


def test_a_killed_leader_is_seen_gone_on_its_own_machine(tmp_path, clock):
    leader = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lines_after(tmp_path, clock)
    values = values_of(tmp_path) | {"pid": leader.pid}

    def last_line(later, **more):
        (tmp_path / "progress.json").write_text(json.dumps(values | more))
        return status_lines(str(tmp_path), now=clock["s"] + later)[-1]

    assert last_line(20).startswith("running") and last_line(31).startswith("not heard of")
    leader.kill()
    leader.wait()
    leader.stdin.close()
    gone = f"process {leader.pid} is gone; the same command goes on"
    assert last_line(7) == last_line(31) == gone
    assert last_line(5).startswith("running"), "it may have written its end"
    assert last_line(7, host="other").startswith("running")
    assert last_line(7, pid=10**30) == f"process {10**30} is gone; the same command goes on"
    for group in (0, -1):  # of processes, no process
        assert last_line(7, pid=group).startswith("running")


def test_the_last_line_says_how_it_ended(tmp_path, clock):
    for stopped, words in ((False, "ended 1970-01-12"), (True, "stopped 1970-01-12")):
        with StatusWriter(str(tmp_path)) as writer:
            writer.write(ArchiveProgress(stopped=stopped))
        assert status_lines(str(tmp_path), now=clock["s"] + 99)[-1].startswith(words)
    with pytest.raises(ZeroDivisionError), StatusWriter(str(tmp_path)) as writer:
        writer.write(ArchiveProgress())
        raise ZeroDivisionError
    assert status_lines(str(tmp_path))[-1].startswith("ended by an error 1970-01-12")


def test_a_run_that_never_told_anything_writes_nothing(tmp_path):
    with StatusWriter(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"no run with --engine has told of itself"):
        status_lines(str(tmp_path))
    with pytest.raises(UserError, match=r"none: no run with --engine"):
        status_lines(str(tmp_path / "none"))


def test_shares_tell_of_themselves_and_buckets_alike(tmp_path, clock):
    pytest.importorskip("fsspec").filesystem("memory").store.clear()
    with pytest.raises(UserError, match="memory://s: no run"):
        status_lines("memory://s")
    for root in (str(tmp_path), "memory://s/"):
        for share in ("1-of-2", "2-of-2"):
            StatusWriter(root, share=share).write(ArchiveProgress())
        lines = status_lines(root)
        assert lines[0] == "share 1 of 2:" and lines[5] == "share 2 of 2:" and len(lines) == 10


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_runs_into_one_place_tell_of_themselves_each(tmp_path, clock, monkeypatch, kind):
    """Two commands without shards: neither writes over the other, whatever became of one before."""
    if kind == "memory":
        pytest.importorskip("fsspec").filesystem("memory").store.clear()
    root = "memory://two" if kind == "memory" else str(tmp_path)
    here, gone = os.getpid(), unused_process()
    for host, pid, seconds in (("far/away", 7, 0), ("", gone, 29), ("", here, 0)):
        with monkeypatch.context() as other:
            if host:
                other.setattr(status.socket, "gethostname", lambda host=host: host)
            other.setattr(os, "getpid", lambda pid=pid: pid)
            StatusWriter(root).write(ArchiveProgress(done=pid % 5))
        clock["s"] += seconds
    lines = status_lines(root)
    heads = [line for line in lines if line.endswith(":")]
    mine = f"process {here} on {status.socket.gethostname()}:"
    assert heads == ["process 7 on far/away:", mine], "the one whose process is gone was removed"
    assert lines[1].startswith("2 of 10") and lines[6].startswith(f"{here % 5} of 10")
    clock["s"] += status.STALE_S
    StatusWriter(root, share="1-of-2").write(ArchiveProgress())
    assert len([line for line in status_lines(root) if line.endswith(":")]) == 3, "of another share"
    with StatusWriter(root) as writer:
        writer.write(ArchiveProgress(done=10))
    assert f"process {here}" in status_lines(root)[2]
    assert len(status_lines(root)) == 4 + 5, "what was silent for so long is removed"
    StatusWriter(root).write(ArchiveProgress())
    assert len(status_lines(root)) == 4 + 5, "what has ended is replaced"


def unused_process():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_cannot_be_written_is_said_once_and_the_run_goes_on(tmp_path, clock, capsys):
    (tmp_path / "file").write_text("")
    with StatusWriter(str(tmp_path / "file")) as writer:
        for _ in range(3):
            clock["s"] += 3
            writer.write(ArchiveProgress())
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("warning: ") and "the run goes on" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2), ("videos", "x"), ("written", "today"), ("computed_s", None), ("left_s", "x"),
        ("state", 1), ("pid", None), ("share", 1),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, clock, name, value):
    StatusWriter(str(tmp_path)).write(ArchiveProgress())
    values = values_of(tmp_path)
    less = {k: v for k, v in values.items() if k != name or name == "share"}  # of an older version
    for damaged in (values | {name: value}, *([less] if less != values else [])):
        file_of(tmp_path).write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=r"progress-.*\.json: damaged"):
            status_lines(str(tmp_path))
    for text in ("", "[]", "{"):
        file_of(tmp_path).write_text(text)
        with pytest.raises(UserError, match=r"progress-.*\.json: damaged"):
            status_lines(str(tmp_path))


def test_times_are_of_no_zone_of_this_machine(tmp_path, clock):
    StatusWriter(str(tmp_path)).write(ArchiveProgress())
    written = datetime.fromisoformat(values_of(tmp_path)["written"])
    assert written.timestamp() == clock["s"]
