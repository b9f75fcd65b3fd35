"""The command from end to end with a random people detector: files, signals, one line of error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_pipeline import LABELS, save_tiny_run, use_squares, write_squares

from detection.datasets.ava_csv import read_detections
from detection.datasets.label_map import read_label_map
from detection.errors import UserError
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.video.reader import VideoReader

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    save_tiny_run(folder / "run")
    torch.manual_seed(0)
    network = build_people_network("small", num_classes=1, short_side_px=64)
    numbers = PeopleNetworkNumbers("small", 64, 128)
    save_people_file(folder / "run" / "people.pt", network, numbers=numbers, classes=["person"])
    write_squares(folder / "film.mp4", seconds=4)
    return folder


@pytest.fixture
def command(monkeypatch):
    """The command in this process, with a detector that finds the squares."""
    from ava_tools import detect_actions

    use_squares(monkeypatch)
    return detect_actions.main


def test_a_film_becomes_tables_events_a_film_and_a_page(place, tmp_path, command, capsys):
    arguments = [str(place / "film.mp4"), "--checkpoint", str(place / "run"), "--quiet"]
    arguments += ["--out", str(tmp_path / "out"), "--threshold", "0.3", "--threshold", "be red=0"]
    assert command([*arguments, "--timing"]) == 0
    said = capsys.readouterr().err
    assert "at most 36 frames" in said and "film: draw" in said and "8 keyframes" in said
    out = tmp_path / "out"
    rows = read_detections(out / "detections.csv")
    assert len(rows) == 8 * 2 * 3 and set(rows.action_id.tolist()) == set(LABELS.ids)
    assert read_label_map(out / "label_map.pbtxt").names == LABELS.names
    tracks = [json.loads(line) for line in (out / "tracks.jsonl").open()]
    assert [track["track"] for track in tracks] == [1, 2]
    assert tracks[0]["start_s"] == 0 and tracks[0]["end_s"] == 3.5
    first = tracks[0]["keyframes"][0]
    assert len(first["box_01"]) == 4 and len(first["scores"]) == len(tracks[0]["classes"]) == 3
    events = [json.loads(line) for line in (out / "events.jsonl").open()]
    assert {"track", "action", "start_s", "end_s", "peak_score"} <= events[0].keys()
    with VideoReader(out / "annotated.mp4") as reader:
        assert reader.info.codec == "h264" and reader.decoded_times_s()[-1] == pytest.approx(3.9)
        frame = reader.read([2.0]).frames[0].permute(1, 2, 0).numpy()
    with VideoReader(place / "film.mp4") as reader:
        plain = reader.read([2.0]).frames[0].permute(1, 2, 0).numpy()
    assert min(frame.shape[:2]) == 720
    plain = cv2.resize(plain, frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    assert (np.abs(frame.astype(int) - plain).max(axis=2) > 60).mean() > 0.02, "boxes are drawn"
    assert '"exclusive":[[0,1]]' in (out / "review.html").read_text(encoding="utf-8")
    assert command(arguments) == 0 and "kept" in capsys.readouterr().err


def test_a_folder_is_shared_and_one_bad_file_stops_no_other(
    place, tmp_path, command, capsys, monkeypatch
):
    films = tmp_path / "films"
    (films / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mp4", "z.mp4"):
        (films / name).write_bytes((place / "film.mp4").read_bytes())
    (films / "c.mkv").write_text("no film")
    arguments = [str(films), "--checkpoint", str(place / "run"), "--quiet", "--no-film"]
    out = films / "found"  # within the folder: no new videos the next time
    arguments += ["--no-page", "--out", str(out)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert command(arguments) == 0
    done = {p.parent.relative_to(out).as_posix() for p in out.rglob("run.json")}
    assert done == {"a", "sub/b"}
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="1 of 2 videos failed"):
        command(arguments)
    assert "c.mkv: not a video" in capsys.readouterr().err
    assert (out / "z" / "events.jsonl").is_file() and not (out / "c").exists()
    (out / "z" / "annotated.mp4").write_bytes((place / "film.mp4").read_bytes())
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="1 of 4 videos failed"):
        command(arguments)


def test_a_full_disk_is_one_line_and_leaves_what_was_whole(place, tmp_path, command, monkeypatch):
    """The third segment's file meets a full disk; the same command goes on afterwards."""
    film = write_squares(tmp_path / "long.mp4", seconds=18)
    arguments = [str(film), "--checkpoint", str(place / "run"), "--quiet", "--no-film"]
    arguments += ["--no-page", "--out"]
    assert command([*arguments, str(tmp_path / "whole")]) == 0
    save, calls = np.savez, []

    def full(path, **arrays):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        save(path, **arrays)

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(UserError, match="cannot be written"):
        command([*arguments, str(tmp_path / "cut")])
    assert len(list((tmp_path / "cut" / "parts").iterdir())) == 2
    assert command([*arguments, str(tmp_path / "cut")]) == 0
    for name in ("events.jsonl", "tracks.jsonl", "detections.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(("live", "code"), [("--live", 0), ("--no-live", 75)])
def test_stopping_is_the_end_of_a_live_source_and_a_break_of_a_file(
    place, tmp_path, command, capsys, monkeypatch, live, code
):
    @contextmanager
    def stop_soon():
        asked = count()
        yield lambda: next(asked) > 20

    monkeypatch.setattr("detection.signals.stop_signals", stop_soon)
    arguments = [str(place / "film.mp4"), "--checkpoint", str(place / "run"), "--quiet", live]
    arguments += ["--every", "0.1", "--reconnect", "0", "--out", str(tmp_path / "out")]
    assert command(arguments) == code
    assert ("the same command goes on" in capsys.readouterr().err) == (code == 75)
    assert (tmp_path / "out" / "parts").exists() == (code == 75)
    assert (tmp_path / "out" / "events.jsonl").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video": "none.mp4"}, "none.mp4: video file or folder not found"),
        ({"--checkpoint": "none"}, "none: checkpoint file or run folder not found"),
        ({"--people": "none.pt"}, "none.pt: file of weights or run folder not found"),
        ({"--threshold": "wave"}, "CLASS=NUMBER"),
        ({"--threshold": "fly=0.5"}, "'fly' is not in"),
        ({"--classes": "fly"}, "'fly' is not in"),
        ({"--every": "0.01"}, "keyframe_interval_s must be"),
        ({"--batch-size": "0"}, "batch_size must be at least 1"),
        ({"--top-k": "0"}, "top_k must be at least 1, not 0"),
        ({"--batches-at-once": "-1"}, "workers must be at least 0, not -1"),
        ({"video": "99"}, "camera 99: cannot be opened"),
        ({"video": "tcp://127.0.0.1:9/x"}, "tcp://127.0.0.1:9/x: cannot be opened"),
        ({"--start": "5", "--end": "4"}, "must lie before"),
    ],
)
def test_what_a_user_can_mend_is_one_line(place, tmp_path, capfd, change, words):
    from ava_tools.detect_actions import main

    values = {"--checkpoint": str(place / "run"), "--out": str(tmp_path / "out"), **change}
    video = values.pop("video", str(place / "film.mp4"))
    arguments = [text for pair in values.items() for text in pair]
    with pytest.raises(UserError, match=words) as caught:
        main([video, "--quiet", *arguments])
    assert "\n" not in str(caught.value)
    assert "\n" not in capfd.readouterr().err.strip()
    if "video" in change:
        assert not (tmp_path / "out").exists(), "no empty folder is left behind"


def test_a_checkpoint_without_people_names_train_people(place, tmp_path):
    from ava_tools.detect_actions import main

    save_tiny_run(tmp_path / "alone")
    with pytest.raises(UserError, match="train_people"):
        main([str(place / "film.mp4"), "--checkpoint", str(tmp_path / "alone"), "--quiet"])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="not an X3D network"):
        main([str(place / "film.mp4"), "--checkpoint", str(tmp_path / "other.pt"), "--quiet"])


# Importing takes longer than running: once for all runs, each of which is a process of its own.
LAUNCHER = """
import os, sys
import detection.people.torchvision_rcnn, detection.pipeline
from ava_tools import cli, detect_actions
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        cli.run_command(detect_actions.main)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_ctrl_c_leaves_valid_files_and_the_command_goes_on(place, tmp_path):
    """Real processes with a real (random) network; stopped, then killed, then left alone."""
    film = write_squares(tmp_path / "long.mp4", seconds=16)
    arguments = [sys.executable, "-c", LAUNCHER, str(film), "--quiet"]
    arguments += ["--checkpoint", str(place / "run"), "--out", str(tmp_path / "out")]
    # Random weights are sure of no person: what is tested is the way there.
    arguments += ["--person-score", "0.9", "--threads", "1", "--every", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    parts = tmp_path / "out" / "parts"
    said_path = tmp_path / "said.txt"

    with (
        said_path.open("w") as said_file,
        subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said_file,
            text=True,
            cwd=tmp_path,
        ) as launcher,
    ):

        def run_until(segments, number):
            begun = said_path.stat().st_size
            launcher.stdin.write("\n")
            launcher.stdin.flush()
            child = int(launcher.stdout.readline())
            until = time.monotonic() + 900
            while len(list(parts.glob("??????.npz"))) < segments and is_running(child):
                assert time.monotonic() < until
                time.sleep(0.02)
            if is_running(child):
                os.kill(child, number)
            code = int(launcher.stdout.readline())
            return said_path.read_text()[begun:], code

        said, code = run_until(1, signal.SIGINT)
        assert (code, "stopped at" in said) in ((75, True), (0, False)), said
        with VideoReader(tmp_path / "out" / "annotated.mp4") as reader:
            assert len(reader.decoded_times_s()) > 45
        assert (tmp_path / "out" / "events.jsonl").is_file()
        if code == 0:
            pytest.skip("this machine was through before the signal came")
        _, code = run_until(2, signal.SIGKILL)
        if code == 0:
            pytest.skip("this machine was through before it was killed")
        assert code == -signal.SIGKILL
        said, code = run_until(99, None)
        assert code == 0 and "went on from" in said, said
    with VideoReader(tmp_path / "out" / "annotated.mp4") as reader:
        assert len(reader.decoded_times_s()) == 160


def is_running(process):
    """Say whether a process has not ended; its parent may still have to ask for its code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
