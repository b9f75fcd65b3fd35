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
from detection.files import temporary_folder

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
