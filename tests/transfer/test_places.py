"""Files by path and by address: whole or not at all, one line where that fails, no secrets."""

from __future__ import annotations

import errno
import http.server
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from detection.errors import UserError
from detection.files import CannotWriteError
from detection.transfer import places

fsspec = pytest.importorskip("fsspec")


class Disobedient(fsspec.AbstractFileSystem):
    """A bucket that refuses as its class says."""

    protocol = "disobedient"
    cachable = False
    error: BaseException | None = None
    size = 3

    def info(self, path, **kwargs):
        if path.endswith("/absent"):
            raise FileNotFoundError(path)
        self._refuse()
        return {"name": path, "size": self.size, "type": "file"}

    def find(self, path, **kwargs):
        self._refuse()
        return {}

    def get_file(self, rpath, lpath, **kwargs):
        self._refuse()
        Path(lpath).write_bytes(b"abc")

    def put_file(self, lpath, rpath, **kwargs):
        self._refuse()

    def rm_file(self, path):
        self._refuse()

    def cat_file(self, path, **kwargs):
        self._refuse()
        return b"abcdef"

    def _refuse(self):
        if type(self).error is not None:
            raise type(self).error


fsspec.register_implementation("disobedient", Disobedient, clobber=True)


@pytest.fixture(autouse=True)
def _clean():
    fsspec.filesystem("memory").store.clear()
    Disobedient.error, Disobedient.size = None, 3
    yield
    Disobedient.error, Disobedient.size = None, 3


def test_addresses_are_told_from_paths():
    remote = ("s3://b/a.mp4", "gs://b", "https://h/a", "memory://a", "S3://B/x", "a+b.c-1://x")
    local = ("a.mp4", "/a/b", "file:///a/b.mp4", "FILE:///x", "a/b://c", "C:\\a", "", "://x", "-")
    assert all(map(places.is_remote, remote)) and not any(map(places.is_remote, local))
    assert str(places.local_path("file:///a/b%20c.mp4")) == "/a/b c.mp4"
    assert str(places.local_path("a%20b")) == "a%20b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://me:pass@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://a:b@c@h/x?sig=1 and ftp://u@h", "https://h/x?... and ftp://h"),
        ("s3://b/mail@me.mp4", "s3://b/mail@me.mp4"),
        ("url='https://h/x?token=1'", "url='https://h/x?...'"),
        ("/a?b@c", "/a?b@c"),
        ("s3://b/\x1b[1m", "s3://b/\\x1b[1m"),
    ],
)
def test_secrets_of_addresses_are_not_shown(text, shown):
    assert places.shown_address(text) == shown


def test_files_go_to_memory_and_back(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    places.put_file(tmp_path / "a", "memory://bucket/sub/a.mp4")
    places.write_bytes("memory://bucket/b.json", b"{}")
    listed = places.list_files("memory://bucket/")
    assert listed == [
        ("b.json", "memory://bucket/b.json", 2),
        ("sub/a.mp4", "memory://bucket/sub/a.mp4", 3),
    ]
    assert places.list_files("memory://bucket", below=False) == listed[:1]
    into = tmp_path / "new" / "c.mp4"
    assert places.fetch(listed[1][1], into) == into and into.read_bytes() == b"abc"
    assert sorted(path.name for path in into.parent.iterdir()) == ["c.mp4"]
    assert places.exists("memory://bucket/sub/a.mp4") and places.exists("memory://bucket/sub")
    assert not places.exists("memory://bucket/x")
    assert places.read_bytes("memory://bucket/b.json", 2) == b"{}"
    with pytest.raises(UserError, match=r"^memory://bucket/sub/a.mp4: 3 bytes, at most 2 are"):
        places.read_bytes("memory://bucket/sub/a.mp4", 2)
    places.remove("memory://bucket/b.json")
    places.remove("memory://bucket/b.json")
    assert [name for name, _, _ in places.list_files("memory://bucket")] == ["sub/a.mp4"]
    fsspec.filesystem("memory").mkdir("/void")
    assert places.list_files("memory://void") == []


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_local_files_alike_and_without_the_package(tmp_path, monkeypatch, prefix):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    root = f"{prefix}{tmp_path}"
    places.write_bytes(f"{root}/in/b", b"xy")
    places.put_file(tmp_path / "in" / "b", f"{root}/in/sub/a")
    listed = [(name, size) for name, _, size in places.list_files(f"{root}/in")]
    assert listed == [("b", 2), ("sub/a", 2)]
    assert [name for name, _, _ in places.list_files(f"{root}/in", below=False)] == ["b"]
    assert places.fetch(f"{root}/in/b", tmp_path / "c").read_bytes() == b"xy"
    assert places.exists(f"{root}/in") and places.read_bytes(f"{root}/in/b", 2) == b"xy"
    places.remove(f"{root}/in/b")
    places.remove(f"{root}/in/b")
    assert not places.exists(f"{root}/in/b")
    for refused in (
        lambda: places.list_files(f"{root}/none"),
        lambda: places.fetch(f"{root}/none", tmp_path / "c"),
        lambda: places.put_file(tmp_path / "none", f"{root}/c"),
        lambda: places.read_bytes(f"{root}/none", 1),
    ):
        with pytest.raises(UserError, match="none: .*not found"):
            refused()
    assert (tmp_path / "c").read_bytes() == b"xy", "what was there stays"


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_the_last_file_of_a_folder_goes_last(tmp_path, monkeypatch, kind):
    folder = tmp_path / "done"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "run.json", "sub/z", ".lock", "sub/.x-unfinished"):
        (folder / name).write_bytes(b"new")
    to = "memory://out/v" if kind == "memory" else str(tmp_path / "out" / "v")
    places.write_bytes(f"{to}/run.json", b"old")
    places.write_bytes(f"{to}/a", b"old")
    order, put = [], places.put_file

    def watched(local, address):
        old = not order and places.exists(f"{to}/run.json")
        order.append((local.relative_to(folder).as_posix(), old))
        put(local, address)

    monkeypatch.setattr(places, "put_file", watched)
    places.put_folder(folder, f"{to}/", "run.json")
    assert order == [("a", False), ("sub/z", False), ("run.json", False)], "the old one went first"
    assert places.read_bytes(f"{to}/sub/z", 9) == places.read_bytes(f"{to}/run.json", 9) == b"new"
    (folder / "run.json").unlink()
    with pytest.raises(UserError, match="run.json: not found"):
        places.put_folder(folder, to, "run.json")


ACTIONS = {
    "listed": lambda address, path: places.list_files(address),
    "read": lambda address, path: places.fetch(address, path / "new"),
    "written": lambda address, path: places.put_file(path / "here", address),
    "removed": lambda address, path: places.remove(address),
}


@pytest.mark.parametrize("what", ACTIONS)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Access Denied"), r"\(no rights: Access Denied\)"),
        (PermissionError("Forbidden\nfor u:p@x"), r"\(no rights: Forbidden for u:p@x\)"),
        (ConnectionError("see https://u:p@h/?s=1"), r"\(see https://h/\?...\)"),
        (TimeoutError(), r"\(TimeoutError\)"),
        (OSError(errno.EIO, "Input/output error"), r"\(Input/output error\)"),
        (NotImplementedError("read only"), r"\(read only\)"),
    ],
)
def test_what_a_bucket_refuses_is_one_line(tmp_path, what, error, words):
    (tmp_path / "here").write_bytes(b"abc")
    Disobedient.error = error
    with pytest.raises(UserError, match=rf"^disobedient://b/a: cannot be {what} {words}$") as told:
        ACTIONS[what]("disobedient://me:secret@b/a", tmp_path)
    assert "secret" not in str(told.value) and "\n" not in str(told.value)
    assert not (tmp_path / "new").exists() and len(list(tmp_path.iterdir())) == 1
    refused = what == "written" and isinstance(error, PermissionError | NotImplementedError)
    assert isinstance(told.value, CannotWriteError) == refused, "others would fare no better"


class FromTheWeb(Exception):
    """What aiohttp raises."""

    __module__ = "aiohttp.client_exceptions"

    def __init__(self, status):
        super().__init__(f"{status}, message='', url='https://u:p@h/'")
        self.status, self.message = status, "of the server"


@pytest.mark.parametrize(
    ("status", "words", "refused"),
    [
        (403, "the server answers 403 of the server", True),
        (405, "the server answers 405 of the server", True),
        (503, "the server answers 503 of the server", False),
        (0, "FromTheWeb", False),
    ],
)
def test_what_a_server_answers_is_said(tmp_path, status, words, refused):
    (tmp_path / "here").write_bytes(b"abc")
    Disobedient.error = FromTheWeb(status)
    with pytest.raises(UserError, match=rf"^disobedient://b/a: cannot be read \({words}\)$"):
        ACTIONS["read"]("disobedient://b/a", tmp_path)
    with pytest.raises(UserError, match=rf"a: cannot be written \({words}\)$") as told:
        ACTIONS["written"]("disobedient://b/a", tmp_path)
    assert isinstance(told.value, CannotWriteError) == refused


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_file_is_read_and_written_through_a_path_of_this_machine(tmp_path, kind):
    place = "memory://b/a.npz" if kind == "memory" else f"{tmp_path}/a.npz"
    with places.writing(place) as path:
        assert path.name == "a.npz"
        path.write_bytes(b"abc")
    assert places.read_bytes(place, 9) == b"abc"
    with places.reading(place) as path:
        assert path.name == "a.npz" and path.read_bytes() == b"abc"
    assert path.exists() == (kind == "local")
    with pytest.raises(ZeroDivisionError), places.writing(f"{place}2") as path:
        raise ZeroDivisionError
    assert not places.exists(f"{place}2") and not path.exists()
    with pytest.raises(UserError, match="^memory://b/no: damaged$"):  # noqa: SIM117
        with places.naming_address(tmp_path, "memory://me:secret@b/no"):
            raise UserError(f"{tmp_path}: damaged")


def test_a_full_disk_is_named_where_it_is(tmp_path):
    (tmp_path / "here").write_bytes(b"abc")
    Disobedient.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match=rf"^{tmp_path}/new: cannot be written \(No space"):
        ACTIONS["read"]("disobedient://b/a", tmp_path)
    with pytest.raises(UserError, match=r"^disobedient://b/a: cannot be written \(No space"):
        ACTIONS["written"]("disobedient://b/a", tmp_path)


def test_faults_of_this_project_keep_their_traceback(tmp_path):
    Disobedient.error = KeyError("x")
    with pytest.raises(KeyError):
        ACTIONS["read"]("disobedient://b/a", tmp_path)


def test_sizes_are_checked(tmp_path, monkeypatch):
    (tmp_path / "here").write_bytes(b"abc")
    ACTIONS["written"]("disobedient://b/a", tmp_path)
    Disobedient.size = 5
    for what in ("read", "written"):
        with pytest.raises(UserError, match="b/a: copied 3 bytes, 5 are required"):
            ACTIONS[what]("disobedient://b/a", tmp_path)
    Disobedient.size = None
    assert places.fetch("disobedient://b/a", tmp_path / "new").read_bytes() == b"abc"
    with pytest.raises(UserError, match="6 bytes, at most 5 are read"):
        places.read_bytes("disobedient://b/a", 5)
    Disobedient.size = 7
    monkeypatch.setattr(Disobedient, "cat_file", None)
    with pytest.raises(UserError, match="7 bytes, at most 5 are read"):
        places.read_bytes("disobedient://b/a", 5)


def test_not_found_is_one_line(tmp_path):
    for refused in (
        lambda: places.list_files("memory://none"),
        lambda: places.fetch("memory://none", tmp_path / "a"),
        lambda: places.read_bytes("memory://none", 1),
    ):
        with pytest.raises(UserError, match="^memory://none: not found$"):
            refused()
    places.remove("disobedient://b/absent")
    places.write_bytes("memory://one.mp4", b"1")
    with pytest.raises(UserError, match="one.mp4: a file, a folder is required"):
        places.list_files("memory://one.mp4")


def test_missing_packages_say_how_to_install_them(monkeypatch):
    extra = r'pip install "x3d-action-detection\[remote\]"'
    for address, package, more in (
        ("s3://b/a", "s3fs", " s3fs"),
        ("gs://b/a", "gcsfs", " gcsfs"),
        ("https://h/a", "aiohttp", ""),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=f"{package} package is required: {extra}{more}$"):
            places.exists(address)
    with pytest.raises(UserError, match="nothing://a: unsupported address"):
        places.exists("nothing://a")
    with pytest.raises(UserError, match="'::' in an address is unsupported"):
        places.exists("zip://a::s3://b/a.zip")


def test_without_fsspec_an_address_says_how_to_install_it():
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from detection.transfer import places\n"
        "try: places.exists('memory://a')\n"
        "except places.UserError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == (
        'memory://a: the fsspec package is required: pip install "x3d-action-detection[remote]"\n'
    )


@pytest.fixture
def site(tmp_path):
    """Serve a folder on this machine; yields its address and the folder."""
    pytest.importorskip("aiohttp")
    folder = tmp_path / "site"
    (folder / "videos" / "sub").mkdir(parents=True)
    (folder / "videos" / "a b.mp4").write_bytes(b"abc")
    (folder / "videos" / "sub" / "c.mp4").write_bytes(b"de")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            self.send_error(405)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_server_lists_and_gives_files(site, tmp_path):
    address, _ = site
    assert places.list_files(f"{address}/videos/") == [
        ("a b.mp4", f"{address}/videos/a%20b.mp4", None),
        ("sub/c.mp4", f"{address}/videos/sub/c.mp4", None),
    ]
    into = places.fetch(f"{address}/videos/a%20b.mp4", tmp_path / "new.mp4")
    assert into.read_bytes() == b"abc"
    assert places.exists(f"{address}/videos/sub/c.mp4")
    assert places.read_bytes(f"{address}/videos/sub/c.mp4?sign=1", 2) == b"de"


def test_links_that_order_a_listing_are_no_files(site):
    address, folder = site
    links = ("?C=N;O=D", "a.mp4", "/elsewhere/b.mp4", "../c.mp4")
    page = "".join(f'<a href="{link}">{link}</a>' for link in links)
    (folder / "videos" / "sub" / "index.html").write_text(page)
    assert [name for name, _, _ in places.list_files(f"{address}/videos/sub")] == ["a.mp4"]


def test_a_web_server_that_refuses_is_one_line(site, tmp_path):
    address, _ = site
    host = address.partition("://")[2]
    with pytest.raises(UserError, match=f"^http://{host}/none.mp4: not found$"):
        places.fetch(f"http://me:secret@{host}/none.mp4", tmp_path / "a")
    (tmp_path / "here").write_bytes(b"abc")
    with pytest.raises(UserError, match="x: cannot be written .*server answers 405") as told:
        places.put_file(tmp_path / "here", f"http://me:secret@{host}/x")
    assert "secret" not in str(told.value)
    with pytest.raises(UserError, match=r"^http://127.0.0.1:9/a: cannot be read \(.*127.0.0.1"):
        places.fetch("http://127.0.0.1:9/a", tmp_path / "a")
    with pytest.raises(UserError, match=r"^http://127.0.0.1:9/a: cannot be read \(.*127.0.0.1"):
        places.exists("http://127.0.0.1:9/a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "site"]


def test_a_scheme_without_its_package_is_said_before_anything_is_fetched(monkeypatch):
    places.check_addresses(["a.mp4", "file:///a.mp4", "memory://bucket/a.mp4"])
    places.check_addresses([])
    monkeypatch.setitem(sys.modules, "s3fs", None)
    many = ["memory://bucket/a.mp4", *(f"s3://bucket/{n}.mp4" for n in range(3))]
    with pytest.raises(UserError, match="s3fs package is required"):
        places.check_addresses(many)
