"""A run's folder has one writer: whoever holds it first; what a killed one left is no obstacle."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_data import make_dataset

import train_ava
from ava_tools import train_people
from detection.engine.distributed import Processes
from detection.engine.run_folder import only_run
from detection.errors import UserError
from detection.files import only_writer

REPOSITORY = Path(__file__).resolve().parents[2]
BUSY = "another run writes here"
SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64}
model: {variant: x2d, head_width: 32, dropout: 0.1}
optim: {epochs: 1, batch_size: 4, lr: 0.1}
evaluation: {every_epochs: 2}
workers: 0
threads: 1
device: cpu
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data", train=4, val=1)


@pytest.fixture
def cfg(tmp_path, data):
    path = tmp_path / "tiny.yaml"
    path.write_text(f"data: {{root: '{data}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    return path


@pytest.fixture
def people_cfg(tmp_path, data):
    values = {
        "data": {"root": str(data), "held_out_share": 0.25},
        "output": str(tmp_path / "run"),
        "device": "cpu",
        "workers": 0,
        "picture": {"short_side_px": 64, "long_side_px": 96},
        "optim": {"epochs": 1, "batch_size": 4, "warmup_updates": 1},
    }
    path = tmp_path / "people.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("command", "config"), [(train_ava, "cfg"), (train_people, "people_cfg")], ids=["ava", "people"]
)
def test_who_comes_second_is_refused_and_changes_nothing(tmp_path, request, command, config):
    path, run = request.getfixturevalue(config), tmp_path / "run"
    with only_run(run), pytest.raises(UserError, match=BUSY):  # begun, and nothing in it yet
        command.main(["--cfg", str(path)])
    assert command.main(["--cfg", str(path)]) == 0
    before, identity = content(run), run.stat().st_ino
    again = [
        ["--cfg", str(path)],
        ["--cfg", str(path), "--overwrite"],
        ["--resume", str(run)],
        ["--eval-only", "--checkpoint", str(run)],
    ]
    with only_run(run):
        for arguments in again:
            with pytest.raises(UserError, match=BUSY):
                command.main(arguments)
    assert content(run) == before
    assert command.main(["--cfg", str(path), "--overwrite"]) == 0
    assert run.stat().st_ino == identity, "emptied, not replaced: the lock is on it"
    assert command.main(["--resume", str(run)]) == 0


def test_of_two_programs_started_together_one_wins(tmp_path):
    """Each of them would remove what the other has made, were it let in."""
    program = """
import sys, time
from pathlib import Path
from detection.engine.run_folder import check_run_folder, make_run_folder, only_run
from detection.errors import UserError
folder, overwrite = Path(sys.argv[1]), sys.argv[2] == "overwrite"
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    sys.stdin.readline()
    try:
        with only_run(folder / str(number)):
            check_run_folder(folder / str(number), overwrite=overwrite)
            make_run_folder(folder / str(number), config_yaml="seed: 0\\n", seed=0)
            mine = folder / str(number) / "mine.txt"
            mine.write_text("mine")
            print("won", flush=True)
            sys.stdin.readline()
            assert mine.read_text() == "mine"
    except UserError as error:
        print("refused", flush=True)
        sys.stdin.readline()
"""
    rounds = 12
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), "overwrite", str(rounds)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(2)
    ]

    def tell() -> None:
        for process in pair:
            process.stdin.write("go\n")

    for process in pair:
        assert process.stdout.readline() == "ready\n"
    for _ in range(rounds):
        tell()
        assert sorted(process.stdout.readline() for process in pair) == ["refused\n", "won\n"]
        tell()
    assert [process.wait(60) for process in pair] == [0, 0]


def test_a_forked_process_does_not_keep_a_killed_holder_s_lock(tmp_path):
    child_id, ready = tmp_path / "child", tmp_path / "ready"
    program = f"""
import os, time
from pathlib import Path
from detection.files import only_writer
with only_writer({str(tmp_path / "run")!r}, busy="busy"):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    Path({str(child_id)!r}).write_text(str(child))
    Path({str(ready)!r}).touch()
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert holder.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    try:
        with pytest.raises(UserError, match="busy"), only_writer(tmp_path / "run", busy="busy"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        while True:  # the child may not have run at all yet
            try:
                with only_writer(tmp_path / "run", busy="busy"):
                    break
            except UserError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    finally:
        os.kill(int(child_id.read_text()), signal.SIGKILL)


def test_a_lock_on_a_folder_that_was_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Between its opening and its locking another process may remove a folder that it made."""
    real, calls = fcntl.flock, []

    def flock(handle, how):
        if not calls:
            (tmp_path / "run").rmdir()
        calls.append(handle)
        return real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path / "run", busy="busy"):
        assert (tmp_path / "run").is_dir() and len(calls) == 2
        with pytest.raises(UserError, match="busy"), only_writer(tmp_path / "run", busy="busy"):
            pass


def test_a_folder_made_for_nothing_goes_again(tmp_path):
    with pytest.raises(UserError, match="bad"), only_run(tmp_path / "a/b"):
        assert (tmp_path / "a/b").is_dir()
        raise UserError("bad")
    assert not (tmp_path / "a").exists()
    with only_run(tmp_path / "a/b"):
        (tmp_path / "a/b/result").touch()
    assert (tmp_path / "a/b/result").exists()
    (tmp_path / "empty").mkdir()
    with only_run(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir(), "it was there before"


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOSYS])
def test_disks_that_lock_files_alone_or_nothing(tmp_path, monkeypatch, capsys, number):
    real = fcntl.flock

    def flock(handle, how):
        if number != errno.EBADF or os.path.samestat(os.fstat(handle), (tmp_path / "run").stat()):
            raise OSError(number, os.strerror(number))
        return real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path / "run", busy="busy"):
        if number == errno.EBADF:
            with pytest.raises(UserError, match="busy"), only_writer(tmp_path / "run", busy="busy"):
                pass
        else:
            assert "knows no locks" in capsys.readouterr().err
    with only_writer(tmp_path / "run", busy="busy"):
        pass


class First(Processes):
    """The first of two, whose other one hears what is shared."""

    def share(self, value):
        heard.append(value)
        return value


class Second(Processes):
    def share(self, value):
        return heard[-1]


heard: list = []


def test_the_other_processes_of_a_run_hear_of_a_refusal(tmp_path):
    heard.clear()
    with only_run(tmp_path):
        with pytest.raises(UserError, match=BUSY), only_run(tmp_path, First(0, 2)):
            pass
        with pytest.raises(SystemExit) as caught, only_run(tmp_path, Second(1, 2)):
            pass
    assert caught.value.code == 2
    with only_run(tmp_path, First(0, 2)), only_run(tmp_path, Second(1, 2)):
        pass


def test_torchrun_on_a_folder_in_use_ends_with_one_line(tmp_path, cfg):
    with only_run(tmp_path / "run"):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            + ["2", "train_ava.py", "--cfg", str(cfg)],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode != 0
    assert done.stderr.count(BUSY) == 1 and 'train_ava.py", line' not in done.stderr


def killed_at_its_start(run: Path, *, made: bool) -> None:
    """Leave what a run leaves that was killed before its first checkpoint."""
    (run / ".run-abc").mkdir(parents=True)
    (run / ".run-abc/config.yaml").write_text("half")
    if made:
        (run / "checkpoints").mkdir()
        (run / "checkpoints/.writing-x.pt").write_bytes(b"half")
        (run / "log.jsonl").write_text('{"event": "start"}\n{"event": "upd')


@pytest.mark.parametrize("overrides", [[], ["--overwrite"]], ids=["again", "overwrite"])
def test_a_start_that_was_killed_is_no_obstacle(tmp_path, cfg, overrides):
    killed_at_its_start(tmp_path / "run", made=False)
    assert train_ava.main(["--cfg", str(cfg), *overrides]) == 0
    assert not list((tmp_path / "run").glob(".run-*"))


@pytest.mark.parametrize(
    ("command", "config"), [(train_ava, "cfg"), (train_people, "people_cfg")], ids=["ava", "people"]
)
def test_a_run_killed_before_its_first_checkpoint_begins_again(
    tmp_path, request, capsys, command, config
):
    path, run = request.getfixturevalue(config), tmp_path / "run"
    assert command.main(["--cfg", str(path)]) == 0
    whole = content(run)
    shutil.rmtree(run)
    killed_at_its_start(run, made=True)
    made_of = {name: whole[name] for name in ("config.yaml", "environment.json")}
    for name, text in made_of.items():
        (run / name).write_bytes(text)
    capsys.readouterr()
    assert command.main(["--resume", str(run)]) == 0
    assert "stopped before its first checkpoint; it begins again" in capsys.readouterr().out
    events = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert events.count("start") == 1
    left = content(run)
    assert left["checkpoints/last.pt"] == whole["checkpoints/last.pt"]
    assert set(left) - {"held_out_videos.txt"} == set(whole) - {"held_out_videos.txt"}


def test_it_does_not_begin_again_where_something_would_be_lost(tmp_path, cfg):
    run = tmp_path / "run"
    train_ava.main(["--cfg", str(cfg), "checkpoints_kept=1"])
    (run / "checkpoints/last.pt").unlink()
    before = content(run)
    with pytest.raises(UserError, match=r"go on from one .*epoch_0001\.pt"):
        train_ava.main(["--resume", str(run)])
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(
        UserError, match=r"last\.pt to go on from, but .*detections\.csv.*--overwrite"
    ):
        train_ava.main(["--resume", str(run)])
    assert (
        "metrics.json" in before and (run / "metrics.json").read_bytes() == before["metrics.json"]
    )


def test_a_start_that_cannot_be_written_leaves_the_run_that_was_there(tmp_path, cfg, monkeypatch):
    run = tmp_path / "run"
    train_ava.main(["--cfg", str(cfg)])
    before = content(run)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("detection.engine.run_folder.write_text", full)
    with pytest.raises(UserError, match="cannot be written"), contextlib.suppress(SystemExit):
        train_ava.main(["--cfg", str(cfg), "--overwrite"])
    assert content(run) == before
