"""HTTP for large files, on the standard library: one answer, its bytes, and clear refusals.

Only http and https are spoken, redirects included; proxies come from the environment.
"""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from detection.errors import UserError

_CHUNK = 1 << 18
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


class FileRefused(Exception):
    """The server will not give this file, however often one asks."""


class TransferBroken(Exception):
    """It did not work this time; another attempt may. retry_after_s: the server's own wish."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unreachable(TransferBroken):
    """No connection to the server at all."""


@dataclass(frozen=True)
class RemoteInfo:
    """What a server says of a file; None where it says nothing."""

    num_bytes: int | None
    validator: str | None


class RangeAnswer:
    """The bytes of a file from `start` on, of `total_bytes` (None: not said); a context manager."""

    def __init__(
        self,
        url: str,
        response: http.client.HTTPResponse,
        *,
        start: int,
        total_bytes: int | None,
        validator: str | None,
    ) -> None:
        self.start, self.total_bytes, self.validator = start, total_bytes, validator
        self._url, self._response = url, response

    def __enter__(self) -> RangeAnswer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._response.close()

    def chunks(self, min_bytes_per_s: float, window_s: float) -> Iterator[bytes]:
        """Yield the bytes as they come.

        Raises `TransferBroken` when the line goes silent or carries less than `min_bytes_per_s`
        over `window_s`: a server that drips would otherwise hold a download for days.
        """
        window_start, window_bytes = time.monotonic(), 0
        while True:
            try:
                chunk = self._response.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise TransferBroken(f"{self._url}: {_words(error)}") from error
            if not chunk:
                return
            yield chunk
            window_bytes += len(chunk)
            elapsed = time.monotonic() - window_start
            if elapsed >= window_s:
                if window_bytes < min_bytes_per_s * elapsed:
                    raise TransferBroken(
                        f"{self._url}: only {window_bytes} bytes came in {elapsed:.0f} s"
                    )
                window_start, window_bytes = time.monotonic(), 0


def ask(url: str, *, timeout_s: float) -> RemoteInfo:
    """Ask for a file's size and mark without its bytes (HEAD)."""
    try:
        with _open(urllib.request.Request(url, method="HEAD"), timeout_s) as response:
            _refuse_pages(url, response)
            return RemoteInfo(_length(response), _validator(response))
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
        length, mark = _length(response), _validator(response)
        if response.status != 206:
            return RangeAnswer(url, response, start=0, total_bytes=length, validator=mark)
        first, total = _content_range(url, response)
        if first != start or mark != validator:
            response.close()
            return download_range(url, start=0, validator=None, timeout_s=timeout_s)
        return RangeAnswer(url, response, start=start, total_bytes=total, validator=mark)
    except BaseException:
        response.close()
        raise


def read_small(url: str, *, timeout_s: float, attempts: int, max_bytes: int = 1 << 24) -> bytes:
    """Return a small file's bytes; raises `UserError` when it does not come."""
    for attempt in range(attempts):
        try:
            with download_range(url, start=0, validator=None, timeout_s=timeout_s) as answer:
                data = bytearray()
                for chunk in answer.chunks(0.0, timeout_s):
                    data += chunk
                    if len(data) > max_bytes:
                        raise UserError(f"{url}: over {max_bytes} bytes, a short list is wanted")
                if answer.total_bytes not in (None, len(data)):
                    raise TransferBroken(
                        f"{url}: the connection ended after {len(data)} of "
                        f"{answer.total_bytes} bytes"
                    )
                return bytes(data)
        except FileRefused as error:
            raise UserError(str(error)) from error
        except TransferBroken as error:
            if attempt + 1 >= min(attempts, 2 if isinstance(error, Unreachable) else attempts):
                raise UserError(str(error)) from error
            time.sleep(min(1.0, timeout_s) * 2**attempt)
    raise AssertionError("attempts must be at least 1")


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
        message = f"{url}: the server answers {error.code} {error.reason}"
        if error.code in _RETRIED:
            raise TransferBroken(message, _retry_after(error)) from error
        raise FileRefused(message) from error
    except urllib.error.URLError as error:
        raise _cannot_connect(url, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransferBroken(f"{url}: {_words(error)}") from error


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone: urllib's own would follow to ftp as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
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
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _retry_after(error: urllib.error.HTTPError) -> float:
    text = (error.headers.get("Retry-After") or "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _length(response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Return the mark of this version; a weak ETag does not vouch for every byte (RFC 9110, 13)."""
    mark = response.headers.get("ETag")
    if mark and not mark.startswith("W/"):
        return str(mark)
    return response.headers.get("Last-Modified")


def _content_range(url: str, response: http.client.HTTPResponse) -> tuple[int, int | None]:
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", text.strip())
    if match is None:
        raise TransferBroken(f"{url}: a part without a readable Content-Range ('{text}')")
    return int(match[1]), None if match[3] == "*" else int(match[3])


def _refuse_pages(url: str, response: http.client.HTTPResponse) -> None:
    """Login and error pages come with status 200 and would pass for data."""
    if response.headers.get_content_type() == "text/html":
        raise FileRefused(f"{url}: a web page came instead of the file")
