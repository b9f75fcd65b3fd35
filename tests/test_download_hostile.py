"""What a server can make a download do is bounded, and said."""

from __future__ import annotations

import email.utils
import io
import tarfile
import time
import zipfile

import pytest
from misbehaving_server import raw_server, within

from detection.errors import UserError
from detection.prepare import ava_download
from detection.prepare.ava_download import Member, copy_members
from detection.transfer import remote
from detection.transfer.download import DownloadProgress, TransferRules, ask_sizes, fetch_files
from detection.transfer.manifest import RemoteFile
from detection.transfer.remote import read_small

QUICK = TransferRules(
    attempts=2, timeout_s=0.5, min_bytes_per_s=1.0, backoff_s=0.01, max_backoff_s=0.02
)
OK = b"HTTP/1.1 200 OK\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


class Told(DownloadProgress):
    def __init__(self):
        self.waits = []

    def wait(self, path, pause_s, reason):
        self.waits.append((path, pause_s, reason))


def failure(url, folder, told=None):
    """Return why a file did not come, having seen that nothing of it is at its place."""
    file = RemoteFile(url, "videos/a.mp4")
    result = within(15, lambda: fetch_files([file], folder=folder, rules=QUICK, progress=told))
    assert not (folder / "videos/a.mp4").exists()
    reason = result.failed["videos/a.mp4"]
    assert reason.startswith(url) and "\n" not in reason
    return reason


@pytest.mark.parametrize(
    "pieces, then, every_s",
    [
        ((OK,), b"X", 0.05),  # a head that drips
        ((OK, b"X-A: "), b"b", 0.05),
        ((), b"HTTP/1.1 100 Continue\r\n\r\n", 0.0),
        ((OK + b"Transfer-Encoding: chunked\r\n\r\n",), b"1", 0.1),  # a size without an end
        ((OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",), b"X: y\r\n", 0.05),  # trailers
    ],
)
def test_dripping_without_an_end_ends(tmp_path, pieces, then, every_s):
    with raw_server(*pieces, then=then, every_s=every_s) as url:
        assert "silent" in failure(url, tmp_path)


def test_a_head_of_any_size_is_refused(tmp_path):
    with raw_server(OK, then=b"X-A: b\r\n") as url:
        assert "more than 100 headers" in failure(url, tmp_path)
    with raw_server(OK + b"X: ", then=b"b" * 1000) as url:
        assert "65536" in failure(url, tmp_path)


@pytest.mark.parametrize(
    "head, said",
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "answers 204 and no file"),
        (b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", "answers 205 and no file"),
        (OK + b"Content-Length: many\r\n\r\n", "Content-Length that is no number .*'many'"),
        (OK + b"Content-Length: -5\r\n\r\n", "Content-Length that is no number .*'-5'"),
        (OK + b"Content-Length: \xb2\r\n\r\n", "Content-Length that is no number"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "Content-Length that is no number"),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", r"comes packed \(gzip\)"),
        (OK + b"Content-Length: 10\r\n\r\nshort", "ended"),
        (b"HTTP/1.1 206 Part\r\nContent-Range: bytes 5-1/3\r\n\r\nx", "a part where the whole"),
        (b"nonsense\r\n\r\n", "nonsense"),
    ],
)
def test_answers_that_are_no_file(tmp_path, head, said):
    import re

    with raw_server(head) as url:
        assert re.search(said, failure(url, tmp_path))


@pytest.mark.parametrize(
    "text", ["bytes 9-1/3", "bytes 0-3/3", "bytes ²-3/9", "bytes " + "9" * 999]
)
def test_a_part_that_contradicts_itself(text):
    class Answer:
        headers = {"Content-Range": text}  # noqa: RUF012

    with pytest.raises(remote.TransferBroken, match="http://x/a: a part"):
        remote._content_range("http://x/a", Answer())


def test_a_body_without_a_promised_end_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "MAX_UNPROMISED_BYTES", 1_000_000)
    with raw_server(OK + b"\r\n", then=b"x" * 65536) as url:
        assert "more came than the 1,000,000 bytes due" in failure(url, tmp_path)


@pytest.mark.parametrize(
    "place",
    ["ftp://127.0.0.1/a.mp4", "file:///etc/hostname", "data:text/plain,x", "gopher://127.0.0.1/"],
)
def test_redirects_lead_to_http_alone(tmp_path, place):
    head = b"HTTP/1.1 302 There\r\nLocation: " + place.encode() + b"\r\n\r\n"
    with raw_server(head) as url:
        reason = failure(url, tmp_path)
        if place.startswith("ftp"):  # which urllib would follow
            assert reason.endswith(f"redirects to {place}, which is not followed")
        assert place in reason and "302" in reason or "not followed" in reason


def test_redirects_from_https_do_not_lead_to_http():
    request = remote.urllib.request.Request("https://example.org/a")
    with pytest.raises(remote.FileRefused, match="redirects to http://example.org/a, which is not"):
        remote._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/a")


@pytest.mark.parametrize(
    "location, said",
    [
        (b"http://[::1", "an address that is none"),
        (b"http://127.0.0.1:port/", "an address that is none"),
        (b"/again", "redirect"),
    ],
)
def test_redirects_that_lead_nowhere(tmp_path, location, said):
    # the body of a redirect has no end either
    head = b"HTTP/1.1 301 There\r\nLocation: " + location + b"\r\n\r\n"
    with raw_server(head, then=b"x" * 1000) as url:
        assert said in failure(url, tmp_path)


def far_date():
    return email.utils.formatdate(time.time() + 7200, usegmt=True).encode()


@pytest.mark.parametrize("wish", [b"5000", b"9" * 5000, far_date()], ids=["s", "digits", "date"])
def test_a_wish_to_wait_for_hours_is_said_and_not_followed(tmp_path, wish):
    with raw_server(BUSY + b"Retry-After: " + wish + b"\r\n\r\n") as url:
        told = Told()
        reason = failure(url, tmp_path, told)
        assert "answers 503 Busy and wants" in reason and "try again later" in reason
        assert told.waits == []
        with pytest.raises(UserError, match="wants .* s to pass"):
            read_small(url, timeout_s=0.5, attempts=5)
        assert "try again later" in ask_sizes([url], rules=QUICK)[url]


@pytest.mark.parametrize("wish", [b"-5", b"soon", b"1e9", b"Mon, 99 Foo 99999 99:99:99 GMT", b""])
def test_an_unreadable_wish_counts_as_none(tmp_path, wish):
    with raw_server(BUSY + b"Retry-After: " + wish + b"\r\n\r\n") as url:
        told = Told()
        assert failure(url, tmp_path, told).endswith("503 Busy")
        ((path, pause_s, reason),) = told.waits  # every wait is told, with its reason
        assert path == "videos/a.mp4" and 0 < pause_s <= 0.02 and "503 Busy" in reason


def test_a_short_wish_is_followed(capsys):
    error = remote.TransferBroken("busy", 200.0)
    assert remote.pause_s(error, 1.0) == 200.0
    assert remote.pause_s(remote.TransferBroken("busy"), 1e9) == 60.0
    assert remote.pause_s(remote.TransferBroken("busy", 300.1), 1.0) is None


def archive(path, names):
    with tarfile.open(path, "w:gz") as bundle:
        for name, kind in names:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/hostname"
            info.size = 3 if kind == tarfile.REGTYPE else 0
            bundle.addfile(info, io.BytesIO(b"abc"))
    return path


def test_no_path_link_or_device_of_an_archive_decides_what_is_written(tmp_path):
    names = [("../../train.csv", tarfile.REGTYPE), ("/abs/other.csv", tarfile.REGTYPE)]
    names += [(f"x{kind!r}/val.csv", kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE,
              tarfile.CHRTYPE, tarfile.FIFOTYPE)]  # fmt: skip
    path = archive(tmp_path / "a.tar.gz", names)
    out = tmp_path / "deep" / "set"
    copy_members(path, [Member(r"train\.csv", "annotations/train.csv")], out)
    written = [place.relative_to(tmp_path) for place in tmp_path.rglob("*") if place.is_file()]
    assert sorted(map(str, written)) == ["a.tar.gz", "deep/set/annotations/train.csv"]
    with pytest.raises(UserError, match="holds no file named like"):
        copy_members(path, [Member(r"val\.csv", "annotations/val.csv")], out)


def test_archives_that_would_fill_the_disk_or_ask_for_a_password(tmp_path, monkeypatch):
    member = [Member(r"train\.csv", "train.csv")]
    monkeypatch.setattr(ava_download, "_MAX_ARCHIVE_BYTES", 5)
    monkeypatch.setattr(ava_download, "_MAX_MEMBERS", 3)
    many = archive(tmp_path / "many.tar.gz", [(f"{n}", tarfile.DIRTYPE) for n in range(4)])
    large = archive(tmp_path / "large.tar.gz", [(f"{n}", tarfile.REGTYPE) for n in range(2)])
    packed = tmp_path / "large.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("train.csv", "x" * 100)
    for path in (many, large, packed):
        with pytest.raises(UserError, match=f"{path.name}: says that it holds over"):
            copy_members(path, member, tmp_path / "out")
    locked = tmp_path / "locked.zip"
    with zipfile.ZipFile(locked, "w") as bundle:
        bundle.writestr("train.csv", "x")
    content = bytearray(locked.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    with pytest.raises(UserError, match="locked.zip: encrypted"):
        copy_members(locked, member, tmp_path / "out")
    assert not (tmp_path / "out").exists()
