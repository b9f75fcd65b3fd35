"""HTTP for large files, on the standard library: one answer, its bytes, and clear refusals.

Only http and https, redirects included; proxies come from the environment.

What a server can make a download do is bounded:

* an answer's head, with any number of `100 Continue`, and each piece of its body must arrive
  within `timeout_s`; a body must arrive at `min_bytes_per_s` on average;
* 100 header lines of 64 KiB, 5 redirects, none to another protocol nor from https to http;
* only 200 and 206 are a file; an invalid length, a range that contradicts itself and a compressed
  body (Content-Encoding) are refused; more bytes than announced end the attempt, and where no
  length is announced a file has at most 64 GiB;
* Retry-After is followed up to 5 minutes, and reported; a longer one ends the attempts, and an
  unreadable one is ignored.
"""

from __future__ import annotations

import email.utils
import http.client
import io
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from detection.errors import UserError, printable

_CHUNK = 1 << 18
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
MAX_RETRY_AFTER_S = 300.0
MAX_REDIRECTS = 5
MAX_UNPROMISED_BYTES = 64 << 30

T = TypeVar("T")


class FileRefused(Exception):
    """The server refuses the file; another attempt would not help."""


class TransferBroken(Exception):
    """It did not work this time; another attempt may. retry_after_s: of the server, or 0."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unreachable(TransferBroken):
    """No connection to the server at all."""


@dataclass(frozen=True)
class RemoteInfo:
    """What a server says of a file: its size, and the mark of its version; None: nothing."""

    num_bytes: int | None
    validator: str | None


@dataclass
class RangeAnswer:
    """A server's answer; a context manager that closes it.

    url: the file.
    response: the answer whose body holds the bytes.
    start: position of its first byte.
    total_bytes: size of the whole file; None where the server does not say.
    validator: the server's mark of this version of the file.
    """

    url: str
    response: http.client.HTTPResponse
    start: int
    total_bytes: int | None
    validator: str | None

    def __enter__(self) -> RangeAnswer:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()

    def chunks(self, min_bytes_per_s: float, window_s: float) -> Iterator[bytes]:
        """Yield the bytes as they come.

        Raises `TransferBroken` when the line goes silent or carries less than `min_bytes_per_s`
        over `window_s`: a slow server would otherwise hold a download for days.
        """
        window_start, window_bytes = time.monotonic(), 0
        total = self.total_bytes
        left = limit = MAX_UNPROMISED_BYTES if total is None else total - self.start
        while True:
            try:
                if isinstance(self.response, _Response):
                    self.response.clocked.start_clock()
                chunk = self.response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise TransferBroken(f"{self.url}: {_words(error)}") from error
            if not chunk:
                return
            left -= len(chunk)
            if left < 0:
                raise TransferBroken(f"{self.url}: more came than the {limit:,} bytes due")
            yield chunk
            window_bytes += len(chunk)
            elapsed = time.monotonic() - window_start
            if elapsed >= window_s:
                if window_bytes < min_bytes_per_s * elapsed:
                    raise TransferBroken(
                        f"{self.url}: only {window_bytes} bytes came in {elapsed:.0f} s"
                    )
                window_start, window_bytes = time.monotonic(), 0


def ask(url: str, *, timeout_s: float) -> RemoteInfo:
    """Ask for a file's size and mark without its bytes (HEAD)."""
    try:
        with _open(urllib.request.Request(url, method="HEAD"), timeout_s) as response:
            _refuse_pages(url, response)
            if response.status != 200:  # 204: nothing is said of the file
                return RemoteInfo(None, None)
            return RemoteInfo(_length(url, response), _validator(response))
    except FileRefused as error:
        if getattr(error.__cause__, "code", None) in (405, 501):
            return RemoteInfo(None, None)
        raise


def download_range(url: str, *, start: int, validator: str | None, timeout_s: float) -> RangeAnswer:
    """Ask for the bytes from `start` on, if the file is still the one that `validator` marks.

    The answer says where it really starts: 0 where the file changed or ranges are not known.
    Raises `FileRefused`, `TransferBroken`, `Unreachable`.
    """
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if start and validator:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator)
    response = _open(request, timeout_s, past_end_is_fine=True)
    try:
        if response.status == 416 or (response.status == 206 and not start):
            response.close()
            if not start:
                raise TransferBroken(f"{url}: answers a part where the whole was asked for")
            # Nothing past `start`, or not of this version: the whole again settles it.
            return download_range(url, start=0, validator=None, timeout_s=timeout_s)
        _refuse_pages(url, response)
        if response.status not in (200, 206):
            raise FileRefused(f"{url}: the server answers {response.status} and no file")
        length, mark = _length(url, response), _validator(response)
        if response.status != 206:
            return RangeAnswer(url, response, 0, length, mark)
        first, total = _content_range(url, response)
        if first != start or mark != validator:
            response.close()
            return download_range(url, start=0, validator=None, timeout_s=timeout_s)
        return RangeAnswer(url, response, start, total, mark)
    except BaseException:
        response.close()
        raise


def read_small(url: str, *, timeout_s: float, attempts: int, max_bytes: int = 1 << 24) -> bytes:
    """Return a small file's bytes; raises `UserError` when it does not come."""

    def attempt() -> bytes:
        with download_range(url, start=0, validator=None, timeout_s=timeout_s) as answer:
            data = bytearray()
            for chunk in answer.chunks(64.0, timeout_s):
                data += chunk
                if len(data) > max_bytes:
                    raise UserError(f"{url}: over {max_bytes} bytes, a short list is required")
            if answer.total_bytes not in (None, len(data)):
                raise TransferBroken(
                    f"{url}: the connection ended after {len(data)} of {answer.total_bytes} bytes"
                )
            return bytes(data)

    try:
        return retry(attempt, attempts=attempts, backoff_s=min(1.0, timeout_s))
    except (FileRefused, TransferBroken) as error:
        raise UserError(str(error)) from error


def retry(attempt: Callable[[], T], *, attempts: int, backoff_s: float, silent_s: float = 0.0) -> T:
    """Call until it works, `attempts` times at most, twice where there is no connection.

    backoff_s: first pause, doubled each time.  silent_s: pauses up to this long are not reported.
    Raises `TransferBroken` of the last attempt, `UserError` where no server could be reached.
    """
    for count in range(1, attempts + 1):
        try:
            return attempt()
        except TransferBroken as error:
            unreachable = isinstance(error, Unreachable)
            is_last = count >= min(attempts, 2 if unreachable else attempts)
            pause = None if is_last else pause_s(error, backoff_s * 2 ** (count - 1))
            if pause is None and unreachable:
                raise UserError(str(error)) from error
            if pause is None:
                raise
            if pause > silent_s:
                print(f"{error}; again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)
    raise AssertionError("attempts must be at least 1")


def pause_s(error: TransferBroken, usual_s: float, longest_s: float = 60.0) -> float | None:
    """Return how long to wait before the next attempt; None: too long, the server says.

    usual_s: where the server does not say, at most `longest_s`.
    """
    if error.retry_after_s > MAX_RETRY_AFTER_S:
        return None
    return max(min(usual_s, longest_s), error.retry_after_s)


def _open(
    request: urllib.request.Request, timeout_s: float, *, past_end_is_fine: bool = False
) -> http.client.HTTPResponse:
    url = request.full_url
    request.add_header("User-Agent", "x3d-action-detection")
    try:
        return _opener().open(request, timeout=timeout_s)  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        if error.code == 416 and past_end_is_fine:
            return error  # type: ignore[return-value]
        error.close()
        reason = printable(" ".join(str(error.reason).split()))[:200]
        message = f"{url}: the server answers {error.code} {reason}".rstrip()
        if error.code in _RETRIED:
            wish_s = _retry_after_s(error.headers.get("Retry-After") or "")
            if wish_s > MAX_RETRY_AFTER_S:
                message += f" and wants {wish_s:,.0f} s to pass (Retry-After); try again later"
            raise TransferBroken(message, wish_s) from error
        raise FileRefused(message) from error
    except urllib.error.URLError as error:
        raise _cannot_connect(url, error.reason) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise FileRefused(f"{url}: leads to an address that is none ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise TransferBroken(f"{url}: {_words(error)}") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A few redirects, to http and https alone, never from https to http."""

    max_redirections = MAX_REDIRECTS

    def http_error_302(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any
    ) -> Any:
        fp.close()  # urllib would read the body first, which may have no end
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise FileRefused(f"{req.full_url}: redirects to {newurl[:80]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Clocked(io.RawIOBase):
    """The bytes of a connection until a deadline, however slowly they arrive."""

    def __init__(self, raw: Any, limit_s: float | None) -> None:
        self._raw, self._limit_s = raw, limit_s
        self.start_clock()

    def start_clock(self) -> None:
        limit_s = float("inf") if self._limit_s is None else self._limit_s
        self._deadline = time.monotonic() + limit_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError
        return self._raw.readinto(buffer)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head and whose pieces have a deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.clocked = _Clocked(self.fp.detach(), sock.gettimeout())
        self.fp = io.BufferedReader(self.clocked)


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        return self.do_open(_SecureConnection, req, context=context)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone: urllib's own would follow to ftp as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, _Http, _Https, _Redirects,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _cannot_connect(url: str, reason: object) -> Exception:
    host = urllib.parse.urlsplit(url).netloc
    if isinstance(reason, ssl.SSLCertVerificationError):
        return FileRefused(f"{url}: the server's certificate is not trusted ({reason})")
    if isinstance(reason, TimeoutError):
        return TransferBroken(f"{url}: no answer in time")
    if isinstance(reason, socket.gaierror | ConnectionRefusedError) or (
        isinstance(reason, OSError) and reason.errno in (101, 113)  # no route to net, to host
    ):
        return Unreachable(
            f"{host} cannot be reached ({_words(reason)}): is there a network, and does it need "
            "a proxy (https_proxy)?"
        )
    if isinstance(reason, OSError):
        return TransferBroken(f"{url}: {_words(reason)}")
    return FileRefused(f"{url}: {reason}")


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "the line went silent"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(str(said).split()))[:200]


def _retry_after_s(text: str) -> float:
    """Return the seconds that a Retry-After asks for: a number, a date; 0 where it is neither."""
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text):
        return float(text[:300])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _length(url: str, response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise FileRefused(f"{url}: a Content-Length that is no number of bytes ('{text[:40]}')")
    return int(text)


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Return the mark of this version; a weak ETag does not vouch for every byte (RFC 9110, 13)."""
    mark = response.headers.get("ETag")
    if mark and not mark.startswith("W/"):
        return str(mark)
    return response.headers.get("Last-Modified")


def _content_range(url: str, response: http.client.HTTPResponse) -> tuple[int, int | None]:
    text = response.headers.get("Content-Range", "")
    number = "([0-9]{1,18})"
    match = re.fullmatch(rf"bytes {number}-{number}/(?:{number}|\*)", text.strip())
    if match is None:
        raise TransferBroken(f"{url}: a part without a readable Content-Range ('{text[:80]}')")
    first, last, total = (None if group is None else int(group) for group in match.groups())
    assert first is not None and last is not None
    if last < first or (total is not None and last >= total):
        raise TransferBroken(f"{url}: a part that contradicts itself ('{text[:80]}')")
    return first, total


def _refuse_pages(url: str, response: http.client.HTTPResponse) -> None:
    """Login and error pages come with status 200 and would pass for data; so would packed bytes."""
    packed = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        raise FileRefused(f"{url}: comes packed ({packed[:40]}), which was not asked for")
    if response.headers.get_content_type() == "text/html":
        raise FileRefused(f"{url}: a web page came instead of the file")
