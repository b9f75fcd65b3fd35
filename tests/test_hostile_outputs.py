"""detect_actions where its results cannot be written, or its video does not stay the same."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_pipeline import LABELS, SquareDetector, save_tiny_run, use_squares, write_squares

from detection.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent
TABLES = ("events.jsonl", "tracks.jsonl", "detections.csv", "label_map.pbtxt")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save_tiny_run(folder / "run")
    write_squares(folder / "film.mp4", seconds=6)
    return folder


@pytest.fixture
def command(monkeypatch):
    from ava_tools import detect_actions

    use_squares(monkeypatch)
    return detect_actions.main


def arguments(place, out, *more, video=None):
    given = [str(video or place / "film.mp4"), "--checkpoint", str(place / "run"), "--quiet"]
    return [*given, "--people", "coco", "--out", str(out), *more]


# Importing takes longer than running: one process, which forks a run for every line it is given.
LAUNCHER = """
import os, resource, sys
import detection.people.weights, detection.pipeline
from ava_tools import cli, detect_actions
from tiny_pipeline import SquareDetector
detection.people.weights.load_people_detector = lambda *_, **__: SquareDetector()
for line in sys.stdin:
    limit, out, said = line.split()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        if int(limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        sys.argv = ["detect_actions", *sys.argv[1:], "--out", out]
        cli.run_command(detect_actions.main)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def launched(place, tmp_path_factory):
    """Run the command in a process of its own that may write files of so many bytes (0: any)."""
    folder = tmp_path_factory.mktemp("said")
    paths = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "helpers")]
    given = [sys.executable, "-c", LAUNCHER, *arguments(place, "x", "--threads", "1")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as launcher:

        def run(out, limit=0):
            launcher.stdin.write(f"{limit} {out} {folder / 'said'}\n")
            launcher.stdin.flush()
            return int(launcher.stdout.readline()), (folder / "said").read_text()

        yield run
        launcher.stdin.close()


@pytest.fixture(scope="module")
def whole(launched, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    code, said = launched(out)
    assert code == 0, said
    return out


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def limits(whole):
    """A size that a segment exceeds, and one below each of the larger results' own."""
    sizes = {name: path.stat().st_size for name, path in files_in(whole).items()}
    names = ("detections.csv", "review.html")
    return {"segment": sizes["run.json"] + 50} | {name: sizes[name] - 1 for name in names}


def test_a_full_disk_is_one_line_wherever_it_is_met_and_the_command_goes_on(
    launched, whole, tmp_path
):
    """A real limit on the size of files, below each of the results in turn."""
    tried = limits(whole)
    for number, (name, limit) in enumerate(tried.items()):
        out = tmp_path / str(number)
        code, said = launched(out, limit)
        lines = [line for line in said.splitlines() if "keyframes to come" not in line]
        assert code == 2, (name, code, said)
        assert len(lines) == 1 and lines[0].startswith("error: "), (name, said)
        assert "cannot be written" in lines[0] and "File too large" in lines[0], (name, said)
        left = files_in(out)
        hidden = [each for each in left if Path(each).name.startswith(".")]
        assert not hidden, (name, hidden)
        assert all(path.stat().st_size <= limit for path in left.values()), name
        assert name not in left, "half of it"
        code, said = launched(out)
        assert code == 0, (name, said)
        for table in TABLES:
            assert (out / table).read_bytes() == (whole / table).read_bytes(), (name, table)
        assert set(files_in(out)) == set(files_in(whole)), name


@pytest.mark.parametrize("kind", ["file", "device", "loop", "link to nothing", "below a file"])
def test_a_place_that_is_no_folder_is_named(place, tmp_path, command, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "device":
        out = Path("/dev/null")
    elif kind == "loop":
        out.symlink_to(out)
    elif kind == "link to nothing":
        out.symlink_to(tmp_path / "absent")
    else:
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / "out"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=str(out)) as caught:
        command(arguments(place, out))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    if kind == "file":
        assert out.read_text() == "mine" and "not a folder" in str(caught.value)


def test_a_disk_that_takes_nothing_is_one_line(place, command):
    with pytest.raises(UserError, match="/proc/none") as caught:
        command(arguments(place, "/proc/none/out"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("page", [True, False])
def test_a_video_that_changes_while_it_is_read_gives_no_results(place, tmp_path, page):
    from detection.pipeline import ActionDetectorPipeline

    video, out = tmp_path / "cam.mp4", tmp_path / "out"
    write_squares(video, seconds=4)
    other = write_squares(tmp_path / "other.mp4", seconds=4, speed=9).read_bytes()

    class Meddler(SquareDetector):
        def detect(self, images):
            video.write_bytes(other)
            return super().detect(images)

    def look(people, out):
        detector = ActionDetectorPipeline.from_checkpoint(place / "run", people=people)
        return list(detector.run(video, out=out, film=page, page=page))

    with pytest.raises(UserError, match="no results: the video .*cam.mp4 has changed since"):
        look(Meddler(), out)
    assert not files_in(out), "nothing of either is left"
    look(SquareDetector(), out)
    look(SquareDetector(), tmp_path / "new")
    for name in TABLES:
        assert (out / name).read_bytes() == (tmp_path / "new" / name).read_bytes()


def test_a_video_that_changes_while_the_results_are_written_is_noticed_too(
    place, tmp_path, command, monkeypatch
):
    from detection.pipeline import writers

    video, out = tmp_path / "cam.mp4", tmp_path / "out"
    write_squares(video, seconds=4)
    tables = writers.write_tables

    def write(*given):
        nobody_s = tables(*given)
        with video.open("ab") as file:
            file.write(b"more")
        return nobody_s

    monkeypatch.setattr("detection.pipeline.writers.write_tables", write)
    with pytest.raises(UserError, match="has changed since it was begun"):
        command(arguments(place, out, "--no-film", video=video))
    assert not files_in(out)


def test_names_that_drive_a_terminal_are_written_out(tmp_path, command, capfd):
    """Class names of a checkpoint, and a video's own name."""
    names = ("be \x1b[31m\x9b2Jred", "be \x9b2Jblue", "be\u2028here")
    save_tiny_run(tmp_path / "run", labels=dataclasses.replace(LABELS, names=names))
    video = write_squares(tmp_path / "cam\x1b]0;x\x07.mp4", seconds=3)
    given = arguments(tmp_path, tmp_path / "o\x1but", "--threshold", "0.01", "--no-film")
    given[0] = str(video)
    assert command([*given, "--live", "--reconnect", "0"]) == 0
    assert command([*given, "--overwrite"]) == 0
    said = capfd.readouterr()
    for text in (said.out, said.err):
        assert all(c.isprintable() or c in "\n\r" for c in text), ascii(text)
    assert '"be \\u001b[31m\\u009b2Jred"' in said.out and '"be\\u2028here"' in said.out
    with pytest.raises(UserError) as caught:
        command([*given, "--threshold", "fly\x1b=0.5"])
    assert "fly" in str(caught.value)
    events = (tmp_path / "o\x1but" / "events.jsonl").read_text(encoding="utf-8")
    assert "\x9b" not in events and "\u2028" not in events


torch.set_num_threads(1)
