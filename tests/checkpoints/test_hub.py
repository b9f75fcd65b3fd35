"""Named weights: fetched once, resumed, checked; a clear line without a network."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from detection.checkpoints import hub as published
from detection.checkpoints.load import load_pretrained
from detection.checkpoints.network_file import read_network_file
from detection.checkpoints.weights import to_their_names
from detection.errors import UserError
from detection.models.classifier import HeadDescription, build_classifier
from detection.models.x3d import X3DDescription
from detection.transfer import download as transfer

TINY = X3DDescription(2, 5, 64, (64, 80), 64, width_factor=1.0, depth_factor=1.0)
NAME = "x3d_m_kinetics400"


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; breaks the line after `breaks_at` bytes the first `breaks` times."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.breaks = 0
        self.ranges: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content, asked = self.server.content, self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        stop = len(content)
        if self.server.breaks:
            self.server.breaks -= 1
            stop = start + (len(content) - start) // 2
        self.wfile.write(content[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    torch.manual_seed(0)
    network = build_classifier(TINY, HeadDescription(4, hidden=32))
    path = tmp_path / "served.pyth"
    torch.save({"model_state": to_their_names(network.state_dict(), "slowfast")}, path)
    server = Server(path.read_bytes())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's cache in a folder of the test's own."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("http_proxy", raising=False)
    return tmp_path / "hub" / "checkpoints"


def point_at(url: str, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    entry = dataclasses.replace(published.PUBLISHED[NAME], url=url, **changes)
    monkeypatch.setitem(published.PUBLISHED, NAME, entry)


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/x3d_m.pyth"


def test_a_name_is_fetched_once_and_its_hash_recorded(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(url_of(server), monkeypatch)
    network = build_classifier(TINY, HeadDescription(4, hidden=32))
    report = load_pretrained(network, NAME)
    assert not report.missing
    wanted = hashlib.sha256(server.content).hexdigest()
    assert (hub / "x3d_m.pyth.sha256").read_text().split()[0] == wanted
    load_pretrained(network, NAME)
    assert len(server.ranges) == 1


def test_a_broken_line_is_taken_up_where_it_broke(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(url_of(server), monkeypatch)
    monkeypatch.setattr(transfer.TransferRules, "__init__", _hasty)
    server.breaks = 1
    path = published.fetch_published(NAME)
    assert path.read_bytes() == server.content
    assert server.ranges[0] is None
    assert server.ranges[1] == f"bytes={len(server.content) // 2}-"


def test_who_needs_the_same_file_at_once_waits_for_it(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(url_of(server), monkeypatch)
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(published.fetch_published, [NAME] * 4))
    assert set(paths) == {hub / "x3d_m.pyth"}
    assert len(server.ranges) == 1


def test_a_cache_that_cannot_be_written_serves_files_of_known_hash(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(server.content).hexdigest()
    point_at(url_of(server), monkeypatch, sha256_prefix=digest[:8])
    hub.mkdir(parents=True)
    (hub / "x3d_m.pyth").write_bytes(server.content)
    monkeypatch.setattr(published, "write_text", None)
    assert published.fetch_published(NAME) == hub / "x3d_m.pyth"
    assert not server.ranges


def _hasty(self: transfer.TransferRules) -> None:
    for name, value in (
        ("attempts", 3),
        ("timeout_s", 5.0),
        ("min_bytes_per_s", 0.0),
        ("backoff_s", 0.01),
        ("max_backoff_s", 0.01),
    ):
        object.__setattr__(self, name, value)


def test_a_file_that_changed_in_the_cache_is_refused(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(url_of(server), monkeypatch)
    path = published.fetch_published(NAME)
    path.write_bytes(server.content + b"x")
    with pytest.raises(UserError, match="changed since"):
        published.fetch_published(NAME)


def test_half_a_file_is_said_to_be_so_and_its_hash_is_forgotten(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at("http://no-such-host.invalid/x3d_m.pyth", monkeypatch)
    hub.mkdir(parents=True, exist_ok=True)
    path = hub / "x3d_m.pyth"
    torch.save(build_classifier(TINY).state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for read in (
        lambda: load_pretrained(build_classifier(TINY), NAME),
        lambda: read_network_file(NAME),
    ):
        with pytest.raises(UserError, match="truncated or damaged.*; delete it to fetch it again"):
            read()
        assert not path.with_name("x3d_m.pyth.sha256").exists()
    path.write_bytes(whole)  # its hash is not held against it
    assert not load_pretrained(build_classifier(TINY), NAME).missing


def test_the_publishers_hash_is_held_against_the_file(
    server: Server, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(url_of(server), monkeypatch, sha256_prefix="00000000")
    with pytest.raises(UserError, match="publisher says 00000000"):
        published.fetch_published(NAME)
    point_at(
        url_of(server), monkeypatch, sha256_prefix=hashlib.sha256(server.content).hexdigest()[:8]
    )
    assert published.fetch_published(NAME).is_file()


def test_without_a_network_one_line_says_what_to_do(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://no-such-host.invalid/x3d_m.pyth"
    point_at(url, monkeypatch)
    monkeypatch.setattr(transfer.TransferRules, "__init__", _hasty)
    with pytest.raises(UserError) as caught:
        load_pretrained(build_classifier(TINY), NAME)
    message = str(caught.value)
    assert url in message and str(hub / "x3d_m.pyth") in message and "\n" not in message
    # And that is enough: a file put there by hand is found.
    hub.mkdir(parents=True, exist_ok=True)
    torch.save(build_classifier(TINY).state_dict(), hub / "x3d_m.pyth")
    assert not load_pretrained(build_classifier(TINY), NAME).missing


def test_the_table_holds_the_published_addresses() -> None:
    table = published.PUBLISHED
    assert table[NAME].url == "https://dl.fbaipublicfiles.com/pyslowfast/x3d_models/x3d_m.pyth"
    assert table["x3d_xs_kinetics400_pytorchvideo"].file_name == "X3D_XS.pyth"
    assert table["x3d_m_kinetics400_mmaction2"].sha256_prefix == "3f42382a"
    assert len({entry.url for entry in table.values()}) == len(table) == 10
    assert all(entry.url.startswith("https://") for entry in table.values())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=NAME):
        published.fetch_published("x3d_m_kinetics9000")


@pytest.mark.parametrize("content", [b"", b"   \n", b"0123  x.pyth\n", b"\xff\xfe", b"g" * 64])
def test_records_that_are_no_hash_are_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pyth"
    path.write_bytes(b"weights")
    record = tmp_path / "x.pyth.sha256"
    record.write_bytes(content)
    entry = published.Published("https://example.org/x.pyth", "m")
    with pytest.raises(UserError, match=r"x\.pyth\.sha256") as caught:
        published.check_hash(path, entry)
    assert "\n" not in str(caught.value)
    record.unlink()
    published.check_hash(path, entry)
    assert published.read_record(record) == hashlib.sha256(b"weights").hexdigest()
    record.write_text(record.read_text().upper())
    published.check_hash(path, entry)
