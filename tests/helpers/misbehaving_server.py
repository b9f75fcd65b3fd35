"""A local web server that stalls, cuts, refuses and changes files on request."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


@dataclass
class Page:
    """A file of the server. faults are used up in order, one a GET; then it behaves."""

    data: bytes
    etag: str | None = '"one"'
    faults: list[str] = field(default_factory=list)
    kind: str = "application/octet-stream"
    ranges: bool = True
    length: bool = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site = self.server
        path = self.path.lstrip("/")
        asked = self.headers.get("Range")
        site.log.append((self.command, path, asked, self.headers.get("If-Range")))
        page = site.pages.get(path)
        fault = page.faults.pop(0) if page and page.faults and body else ""
        if page is None or fault == "404":
            return self._error(404)
        if fault.isdigit():
            return self._error(int(fault))
        if fault == "close":
            self.close_connection = True
            return None
        if fault == "change":
            page.data, page.etag = page.data[::-1], '"two"'
        start = 0
        if asked and page.ranges and (page.etag == self.headers.get("If-Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if fault == "blind-range" and asked:  # ignores If-Range
            page.data, page.etag = page.data[::-1], '"two"'
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(page.data):
            return self._error(416)
        rest = page.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", page.kind)
        if page.length:
            self.send_header("Content-Length", str(len(rest)))
        else:
            self.close_connection = True
            self.send_header("Connection", "close")
        if start:
            span = f"bytes {start}-{len(page.data) - 1}/{len(page.data)}"
            self.send_header("Content-Range", span)
        if page.etag:
            self.send_header("ETag", page.etag)
        self.end_headers()
        if body:
            self._send(rest, fault)
        return None

    def _send(self, rest: bytes, fault: str) -> None:
        if fault in ("cut", "stall", "drip"):
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            self.close_connection = True
            if fault == "stall":
                self.server.freed.wait(5)
            end = time.monotonic() + 3
            while fault == "drip" and time.monotonic() < end and not self.server.freed.wait(0.1):
                self.wfile.write(b"x")
            return
        self.wfile.write(rest)

    def _error(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = {}
        self.log: list[tuple[str, str, str | None, str | None]] = []
        self.freed = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client hangs up on purpose in these tests

    def ranges_asked(self, path: str) -> list[str | None]:
        return [asked for verb, name, asked, _ in self.log if verb == "GET" and name == path]


@contextmanager
def running_server() -> Iterator[Server]:
    """Serve on the loopback until the block ends."""
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        running.freed.set()
        running.shutdown()
        thread.join()
        running.server_close()


T = TypeVar("T")


def within(seconds: float, do: Callable[[], T]) -> T:
    """Return what `do` returns; an AssertionError where it still goes on after `seconds`.

    It is left behind then, so that a download without an end fails its test and does not hang.
    """
    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(do())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return ended.result(seconds)
    except FutureTimeout as error:
        if ended.done():
            raise
        raise AssertionError(f"still going on after {seconds:g} s") from error


def payload(num_bytes: int = 300_000, seed: bytes = b"film") -> bytes:
    blocks = (hashlib.sha256(seed + bytes([i % 256, i // 256])).digest() for i in range(1 << 16))
    data = bytearray()
    while len(data) < num_bytes:
        data += next(blocks)
    return bytes(data[:num_bytes])


@contextmanager
def raw_server(*pieces: bytes, then: bytes = b"", every_s: float = 0.0) -> Iterator[str]:
    """Answer every connection with `pieces`, then with `then` again and again; yields the address.

    No HTTP is known here: heads without an end and answers that lie can be said as they are.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)
            while then and not over.wait(every_s):
                connection.sendall(then)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listening.accept()[:1], daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.mp4"
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
