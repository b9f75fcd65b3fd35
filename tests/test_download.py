"""Downloads against a local server that misbehaves on request."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from misbehaving_server import Page, Server, payload, running_server, within

from detection.errors import UserError
from detection.transfer.download import TransferRules, fetch_files
from detection.transfer.manifest import Manifest, RemoteFile

FAST = TransferRules(
    attempts=4, timeout_s=0.4, min_bytes_per_s=1.0, backoff_s=0.01, max_backoff_s=0.02
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    with running_server() as running:
        yield running


def fetch(server: Server, folder: Path, name: str = "a.mp4", rules: TransferRules = FAST) -> bytes:
    result = fetch_files(
        [RemoteFile(f"{server.url}/{name}", f"videos/{name}")], folder=folder, rules=rules
    )
    assert not result.failed, result.failed
    return (folder / "videos" / name).read_bytes()


def test_whole_file_with_manifest_and_nothing_left_behind(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload())
    assert fetch(server, tmp_path) == payload()
    entry = json.loads((tmp_path / "downloads.json").read_text())["files"]["videos/a.mp4"]
    assert entry["bytes"] == 300_000
    assert entry["sha256"] == hashlib.sha256(payload()).hexdigest()
    assert entry["validator"] == '"one"'
    assert not (tmp_path / ".partial").exists()


def test_the_data_are_on_the_disk_before_the_name_is_theirs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that survives a power cut must not vouch for a file that did not."""
    synced: dict[int, int] = {}  # inode: how many of its bytes were brought to the disk
    fsync, target = os.fsync, tmp_path / "videos/a.mp4"

    def noted(handle: int) -> None:
        if not target.exists():
            synced[os.fstat(handle).st_ino] = os.fstat(handle).st_size
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    server.pages["a.mp4"] = Page(payload())
    fetch(server, tmp_path)
    assert synced.get(target.stat().st_ino) == len(payload())


def test_no_files_is_fine(tmp_path: Path) -> None:
    assert fetch_files([], folder=tmp_path).fetched == ()


def test_empty_file(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(b"")
    assert fetch(server, tmp_path) == b""


def test_second_run_asks_for_nothing(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload())
    fetch(server, tmp_path)
    asked = len(server.log)
    assert fetch(server, tmp_path) == payload()
    assert len(server.log) == asked


def test_a_file_cut_after_the_fact_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload())
    fetch(server, tmp_path)
    (tmp_path / "videos/a.mp4").write_bytes(b"short")
    assert fetch(server, tmp_path) == payload()


def test_a_film_that_was_there_already_is_taken_over(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload())
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(payload())
    assert fetch(server, tmp_path) == payload()
    assert server.ranges_asked("a.mp4") == []
    entry = Manifest.read(tmp_path).files["videos/a.mp4"]
    assert entry.sha256 == hashlib.sha256(payload()).hexdigest()


@pytest.mark.parametrize("fault", ["cut", "stall", "drip"])
def test_resumes_where_the_line_broke(server: Server, tmp_path: Path, fault: str) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=[fault])
    rules = TransferRules(
        attempts=4, timeout_s=0.4, min_bytes_per_s=1e6, backoff_s=0.01, max_backoff_s=0.02
    )
    if fault == "drip":  # junk came in with the drip; the server calls it another version
        server.pages["a.mp4"].faults = ["drip", "change"]
    got = fetch(server, tmp_path, rules=rules)
    if fault == "drip":
        assert got == payload()[::-1]
    else:
        assert got == payload()
        assert server.ranges_asked("a.mp4") == [None, "bytes=150000-"]


def test_resumes_in_a_later_run(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=["cut", "404"])
    files = [RemoteFile(f"{server.url}/a.mp4", "videos/a.mp4")]
    result = fetch_files(files, folder=tmp_path, rules=FAST)
    assert "404" in result.failed["videos/a.mp4"]
    assert not (tmp_path / "videos/a.mp4").exists()
    assert fetch(server, tmp_path) == payload()
    assert server.ranges_asked("a.mp4")[-1] == "bytes=150000-"


def test_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=["cut"], ranges=False)
    assert fetch(server, tmp_path) == payload()


def test_without_a_mark_nothing_is_pasted_together(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload(), etag=None, faults=["cut"])
    assert fetch(server, tmp_path) == payload()
    assert server.ranges_asked("a.mp4") == [None, None]


@pytest.mark.parametrize("fault", ["change", "blind-range"])
def test_file_changed_half_way(server: Server, tmp_path: Path, fault: str) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=["cut", fault])
    assert fetch(server, tmp_path) == payload()[::-1]


def test_partial_file_longer_than_the_file_now(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=["cut", "404"])
    fetch_files([RemoteFile(f"{server.url}/a.mp4", "videos/a.mp4")], folder=tmp_path, rules=FAST)
    server.pages["a.mp4"].data = payload(1000)  # shrunk under the same mark
    assert fetch(server, tmp_path) == payload(1000)


@pytest.mark.parametrize("fault", ["500", "503", "429", "close"])
def test_passing_failures_are_tried_again(server: Server, tmp_path: Path, fault: str) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=[fault, fault])
    assert fetch(server, tmp_path) == payload()
    assert len(server.ranges_asked("a.mp4")) == 3


def test_gives_up_after_the_attempts_and_goes_on_with_the_others(
    server: Server, tmp_path: Path
) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=["500"] * 50)
    server.pages["b.mp4"] = Page(payload(seed=b"b"))
    files = [RemoteFile(f"{server.url}/{n}.mp4", f"videos/{n}.mp4") for n in "abc"]
    result = fetch_files(files, folder=tmp_path, rules=FAST, jobs=2)
    assert result.fetched == ("videos/b.mp4",)
    assert "500" in result.failed["videos/a.mp4"]
    assert "404" in result.failed["videos/c.mp4"]
    assert len(server.ranges_asked("a.mp4")) == FAST.attempts
    assert len(server.ranges_asked("c.mp4")) == 1  # asking again cannot help
    assert sorted(Manifest.read(tmp_path).files) == ["videos/b.mp4"]


def test_silence_for_ever_ends(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=["stall"] * 9, ranges=False)
    rules = TransferRules(attempts=2, timeout_s=0.2, backoff_s=0.01)
    file = RemoteFile(f"{server.url}/a.mp4", "a.mp4")
    result = within(15, lambda: fetch_files([file], folder=tmp_path, rules=rules))
    assert "silent" in result.failed["a.mp4"]


def test_a_login_page_is_not_a_film(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(b"<html>log in</html>", kind="text/html")
    result = fetch_files([RemoteFile(f"{server.url}/a.mp4", "a.mp4")], folder=tmp_path, rules=FAST)
    assert "web page" in result.failed["a.mp4"]
    assert not (tmp_path / "a.mp4").exists()


def test_no_server_is_one_clear_line(tmp_path: Path, server: Server) -> None:
    dead = "http://127.0.0.1:9/a.mp4"
    with pytest.raises(UserError, match="cannot be reached.*network"):
        fetch_files([RemoteFile(dead, "a.mp4")], folder=tmp_path, rules=FAST)


def test_unknown_host_is_one_clear_line(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match="nowhere.invalid cannot be reached"):
        fetch_files(
            [RemoteFile("http://nowhere.invalid/a.mp4", "a.mp4")], folder=tmp_path, rules=FAST
        )


def test_two_downloads_do_not_share_a_folder(server: Server, tmp_path: Path) -> None:
    server.pages["a.mp4"] = Page(payload(), faults=["stall"])
    files = [RemoteFile(f"{server.url}/a.mp4", "a.mp4")]
    patient = TransferRules(attempts=2, timeout_s=3, backoff_s=0.01)
    first = threading.Thread(
        target=fetch_files, args=(files,), kwargs={"folder": tmp_path, "rules": patient}
    )
    first.start()
    try:
        while not server.ranges_asked("a.mp4"):
            time.sleep(0.01)
        with pytest.raises(UserError, match="another download"):
            fetch_files(files, folder=tmp_path, rules=FAST)
    finally:
        server.freed.set()
        first.join()
    assert (tmp_path / "a.mp4").read_bytes() == payload()


@pytest.mark.parametrize("path", ["../a", "/etc/a", "videos/../../a", "", "a\\..\\b"])
def test_no_path_leaves_the_folder(path: str) -> None:
    with pytest.raises(UserError, match="outside"):
        RemoteFile("http://x/a", path)


def test_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "downloads.json").write_text('{"files": {"a": 1}}')
    with pytest.raises(UserError, match=r"downloads\.json: not a manifest"):
        Manifest.read(tmp_path)
