"""Where workers read videos and write results: copies of this machine, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from detection.archive.copies import Copies
from detection.archive.done import DoneCheck
from detection.archive.manifest import read_archive_manifest
from detection.errors import UserError
from detection.files import temporary_folder
from detection.pipeline.video_folders import VideoFolder
from detection.transfer import places

fsspec = pytest.importorskip("fsspec")
REPOSITORY = Path(__file__).resolve().parents[2]
# Copies a video and waits; killed, it removes nothing.
COPIES = """
import sys
from pathlib import Path
from detection.archive.copies import Copies
from detection.pipeline.video_folders import VideoFolder
from detection.transfer import places
places.write_bytes("memory://videos/a.mp4", b"content")
copies = Copies("memory://found")
print(copies.source(VideoFolder("a.mp4", "memory://videos/a.mp4", Path("a"))), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A folder of temporary files of this test alone, for programs that it starts too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    fsspec.filesystem("memory").store.clear()
    return folder


def start_copying():
    process = subprocess.Popen(
        [sys.executable, "-c", COPIES],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    copy = Path(process.stdout.readline().strip())
    assert copy.read_bytes() == b"content"
    return process, copy


def test_copies_of_killed_workers_go_with_the_next_one_and_a_living_ones_stay(temporary, tmp_path):
    living, of_living = start_copying()
    killed, of_killed = start_copying()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (temporary / "of-another-program").mkdir()
    assert of_killed.exists() and of_killed.is_relative_to(temporary)
    with temporary_folder() as own:
        Copies(str(tmp_path / "out"))
        left = {path.name for path in temporary.iterdir()}
        assert left == {own.name, of_living.relative_to(temporary).parts[0], "of-another-program"}
    assert of_living.read_bytes() == b"content" and not own.exists()
    living.communicate("\n")
    assert living.returncode == 0
    assert [path.name for path in temporary.iterdir()] == ["of-another-program"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users are of Unix")
def test_copies_of_other_users_stay(temporary, monkeypatch):
    with temporary_folder() as folder:
        name = folder.name
    (temporary / name).mkdir()
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: os.getuid() + 1)
        Copies("memory://found")
        assert (temporary / name).exists()
    Copies("memory://found")
    assert not (temporary / name).exists()


def video(name="a.mp4"):
    return VideoFolder(name, f"memory://videos/{name}", Path(name.removesuffix(".mp4")))


def test_only_a_file_that_is_not_there_is_none(monkeypatch, tmp_path):
    """What a network says no to may be results that took days."""
    local = VideoFolder("a.mp4", "a.mp4", tmp_path / "out" / "a")
    for root, each in (("memory://found/", video()), (str(tmp_path / "out"), local)):
        copies = Copies(root)
        assert copies.state(each) is None
        folder = "memory://found/a" if each.folder == Path("a") else str(each.folder)
        for content in (b"", b"[1]", b"{", b"\xff"):
            places.write_bytes(f"{folder}/run.json", content)
            assert copies.state(each) is None
        places.write_bytes(f"{folder}/run.json", b'{"complete": true}')
        assert copies.state(each) == {"complete": True}
    memory = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(memory, "info", refuse)
    with pytest.raises(UserError, match=r"^memory://found/a/run.json: cannot be read \(line is"):
        Copies("memory://found").state(video())
    assert not DoneCheck("memory://found").is_done(video(), "key"), "the worker says why"
    with pytest.raises(UserError, match=r"^memory://found/manifest.json: cannot be read \(line"):
        read_archive_manifest("memory://found")
    (tmp_path / "out" / "a" / "run.json").unlink()
    (tmp_path / "out" / "a" / "run.json").mkdir()
    with pytest.raises(UserError, match="run.json: no regular file"):
        Copies(str(tmp_path / "out")).state(local)


def refuse(*_, **__):
    raise ConnectionError("line is cut")
