"""Files written whole or not at all, also where the disk is full."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from detection.errors import UserError, printable
from detection.files import (
    CannotWriteError,
    identity_of,
    read_lines,
    read_text,
    replacing,
    sha256_of,
    write_text,
)

REPOSITORY = Path(__file__).resolve().parent.parent
FULL = """
import resource, signal, sys
from detection.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(sys.argv[1], "x" * 100000)
except ValueError as error:
    print("refused:", error)
"""


def test_a_disk_that_takes_no_more_is_one_line_and_the_old_file_stays(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == (
        f"refused: {path}: cannot be written (File too large); nothing was changed\n"
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_torch_wraps_is_told_by_its_cause_and_other_errors_are_left_alone(tmp_path):
    path = tmp_path / "weights.pt"
    full = r"weights.pt: cannot be written \(No space left"
    with pytest.raises(UserError, match=full), replacing(path):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("unexpected pos 704 vs 598") from error
    with pytest.raises(RuntimeError, match="a fault"), replacing(path):
        raise RuntimeError("a fault")
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_written_into_and_a_link_is_followed(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write_text(pipe, "through")
        assert read.result() == "through"
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    (tmp_path / "deep").mkdir()
    for target in (tmp_path / "deep" / "there.json", tmp_path / "deep" / "not_yet.json"):
        link = tmp_path / f"to_{target.name}"
        link.symlink_to(target)
        write_text(link, "new")
        assert link.is_symlink() and target.read_text() == "new"
    with pytest.raises(UserError, match="is a folder, a file is required"):
        write_text(tmp_path / "deep", "x")
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(UserError, match="cannot be written"):
        write_text(circle, "x")


def test_the_data_are_on_the_disk_before_the_name_is_theirs(tmp_path, monkeypatch):
    path, done = tmp_path / "weights.pt", []
    fsync, replace = os.fsync, Path.replace

    def synced(handle):
        done.append(("synced", os.pread(handle, 100, 0)))
        fsync(handle)

    def renamed(self, target):
        done.append(("renamed", self.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(path, "whole")
    assert done == [("synced", b"whole"), ("renamed", b"whole")]
    assert path.read_text() == "whole"


def test_null_and_full_survive_and_a_full_device_is_one_line(tmp_path):
    nodes = {"null": 3, "full": 7}  # our own: a fault here must not cost the machine its devices
    try:
        for name, minor in nodes.items():
            os.mknod(tmp_path / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    except PermissionError:
        pytest.skip("device nodes can be made by root alone")
    write_text(tmp_path / "null", "away")
    with pytest.raises(UserError, match=r"full: cannot be written \(No space left[^;]*$"):
        write_text(tmp_path / "full", "x" * 100_000)
    for name, minor in nodes.items():
        assert (tmp_path / name).stat().st_rdev == os.makedev(1, minor)


def test_a_pipe_whose_reader_left_is_one_line(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        gone = pool.submit(lambda: pipe.open("rb").close())
        with pytest.raises(UserError, match=r"pipe: cannot be written \(Broken pipe\)"):
            write_text(pipe, "x" * 10_000_000)
        gone.result()


def test_a_pipe_is_known_by_nothing_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (identity_of, sha256_of):
        for place in (Path("/dev/null"), tmp_path / "pipe"):
            with pytest.raises(OSError, match="no regular file") as caught:
                read(place)
            assert caught.value.filename == str(place)


def test_what_a_file_is_known_by_changes_with_size_time_and_any_end(tmp_path):
    path = tmp_path / "video.bin"
    content = bytearray(np.random.default_rng(0).bytes(5 << 20))
    path.write_bytes(content)
    os.utime(path, ns=(0, 10**18))
    seen = [identity_of(path)]
    for place in (0, len(content) - 1, len(content) // 63):
        content[place] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(0, 10**18))
        seen.append(identity_of(path))
    os.utime(path, ns=(0, 10**18 + 1))
    seen.append(identity_of(path))
    path.write_bytes(content[:-1])
    os.utime(path, ns=(0, 10**18))
    seen.append(identity_of(path))
    assert len({str(one) for one in seen}) == len(seen)
    folder = tmp_path / "frames"
    folder.mkdir()
    empty = identity_of(folder)
    (folder / "a.jpg").write_bytes(b"1")
    one = identity_of(folder)
    (folder / "a.jpg").rename(folder / "b.jpg")
    assert len({str(each) for each in (empty, one, identity_of(folder))}) == 3


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfa\r\n  b \r\n\r\n", b"a\nb", b"a\rb\r", b"\na\n\n\tb\t\n"]
)
def test_lines_are_the_same_whatever_editor_wrote_them(tmp_path, content):
    path = tmp_path / "videos.txt"
    path.write_bytes(content)
    assert read_lines(path) == ["a", "b"]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a\nb\xff\n", "videos.txt:2: not UTF-8 text; a list in UTF-8 is required"),
        ("a\n".encode("utf-16"), "videos.txt:1: not UTF-8 text, it looks like UTF-16"),
        (b"a\n\n\0", "videos.txt:3: a NUL byte in a list"),
    ],
)
def test_what_is_no_text_is_told_by_its_line(tmp_path, content, said):
    path = tmp_path / "videos.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_text(path, what="list")
    with pytest.raises(UserError, match="list not found"):
        read_text(tmp_path / "none.txt", what="list")
    with pytest.raises(UserError, match="no regular file"):
        read_text(tmp_path, what="list")
    with pytest.raises(UserError, match="bytes, at most 1 are read"):
        read_text(path, what="list", limit_bytes=1)
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path / ("n" * 300), what="list")


def test_names_of_others_cannot_drive_the_terminal():
    assert printable("\x1b[31mwalk\x07\nsit\u202e 走る é") == "\\x1b[31mwalk\\x07 sit\\u202e 走る é"


def test_a_name_that_cannot_be_looked_up_is_refused_for_that_reason(tmp_path):
    with pytest.raises(CannotWriteError, match=r"cannot be written \(File name too long\)"):
        write_text(tmp_path / ("n" * 5000), "x")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(CannotWriteError, match="a link that leads nowhere"):
        write_text(tmp_path / "round", "x")
