"""`detect_actions --engine` with networks that follow people: people of all spans, then scores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from damaged_videos import damage
from test_archive_runs import REPOSITORY, assert_same_results, options_of, tables_of
from tiny_people import save_tiny_people
from tiny_pipeline import save_tiny_classifier, save_tiny_run, write_squares

from ava_tools import detect_actions


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("following")
    save_tiny_classifier(folder / "run")
    save_tiny_run(folder / "tube", actor_input="tube")
    save_tiny_people(folder / "people.pt")
    write_squares(folder / "videos/short.mp4", seconds=1.5)
    write_squares(folder / "videos/long.mp4", seconds=27, empty=(11, 12.5))
    write_squares(folder / "videos/reset.mp4", seconds=24, size=(256, 192))
    damage(folder / "videos/reset.mp4", 6.0, 9.5)
    return folder


def following(place, out, *more):
    return options_of(place, out, "--threshold", "0.34", *more)


def whole_of(place, factory, *more):
    out = factory.mktemp("whole") / "out"
    options = following(place, out, "--engine", "here", "--span", "inf", *more)
    assert detect_actions.main(options) == 0
    return out


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """The results of one process, no video cut."""
    return whole_of(place, tmp_path_factory)


def test_spans_give_the_tables_of_one_process(place, whole, tmp_path, capsys):
    out = tmp_path / "out"
    engine = ("--engine", "processes", "--workers", "2", "--span", "6")
    assert detect_actions.main(following(place, out, *engine)) == 0
    assert "reset.mp4: its clock falls back" in capsys.readouterr().err
    assert_same_results(out, whole)
    assert tables_of(out) == tables_of(whole)
    assert not list((out / ".spans").rglob("*.npz"))


def test_tubes_and_a_part_of_the_videos(place, tmp_path, tmp_path_factory):
    more = ("--checkpoint", place / "tube", "--start", "1", "--end", "20.4", "--every", "0.4")
    whole = whole_of(place, tmp_path_factory, *more)
    out = tmp_path / "out"
    engine = ("--engine", "here", "--span", "5")
    assert detect_actions.main(following(place, out, *engine, *more)) == 0
    assert_same_results(out, whole)
    assert tables_of(out) == tables_of(whole)


def test_by_addresses(place, whole, tmp_path):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.put(str(place / "videos") + "/", "/following/videos", recursive=True)
    options = following(place, "memory://following/found", "--engine", "here", "--span", "6")
    assert detect_actions.main(["memory://following/videos", *options[1:]]) == 0
    memory.get("/following/found", str(tmp_path) + "/", recursive=True)
    assert_same_results(tmp_path / "found", whole)
    assert tables_of(tmp_path / "found") == tables_of(whole)
    assert not [name for name in memory.find("/following/found") if name.endswith(".npz")]


KILLED = """
import os, signal, sys
from ava_tools import detect_actions
from detection.archive.pieces import SpanPiece
from detection.archive.work import Worker
from detection.pipeline.spans import VideoSpan

do, done = Worker.__call__, []

def call(self, piece, tell):
    if isinstance(piece, SpanPiece):
        done.append(piece)
        if len(done) > int(os.environ["SPANS_DONE"]):
            os.kill(os.getpid(), signal.SIGKILL)
    return do(self, piece, tell)

Worker.__call__ = call
raise SystemExit(detect_actions.main(sys.argv[1:]))
"""


def test_what_was_whole_when_all_was_killed_is_not_done_again(place, whole, tmp_path):
    """Killed between people and scores, then after one span was scored."""
    out, script = tmp_path / "out", tmp_path / "killed.py"
    script.write_text(KILLED)
    options = following(place, out, "--engine", "here", "--span", "6")
    options[0] = str(place / "videos" / "long.mp4")
    files: dict[Path, int] = {}
    for spans_done in (0, 1):
        ended = subprocess.run(
            [sys.executable, script, *options],
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "OMP_NUM_THREADS": "1",
                "SPANS_DONE": str(spans_done),
            },
            capture_output=True,
            timeout=240,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        now = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
        assert {path: now[path] for path in files} == files
        files = now
        assert len(list(out.rglob("*-people.npz"))) == 3 and len(files) == 3 + spans_done
    assert detect_actions.main(options) == 0
    ours, theirs = (place / "long" / "tracks.jsonl" for place in (out, whole))
    assert ours.read_bytes() == theirs.read_bytes()


def test_people_that_another_run_has_joined_are_not_required(place, tmp_path, monkeypatch):
    """It has removed their files while this run was about to read them."""
    from detection.archive.work import Worker

    out, do, seen = tmp_path / "out", Worker.__call__, []
    options = following(place, out, "--engine", "here", "--span", "6")
    options[0] = str(place / "videos" / "long.mp4")

    def call(self, piece, tell):
        if type(piece).__name__ == "SpanPiece" and not seen:
            seen.append(piece)
            monkeypatch.setattr(Worker, "__call__", do)
            assert detect_actions.main(options) == 0
        return do(self, piece, tell)

    monkeypatch.setattr(Worker, "__call__", call)
    assert detect_actions.main([*options, "--retries", "0"]) == 0
    assert seen and not (out / "failed.csv").exists()
