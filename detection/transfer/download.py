"""Files from web servers, whole or not at all: resumed, checked, several at once.

A file grows under `DIR/.partial/` and moves to its place when it is complete. Beside the partial
file lie its address and the server's mark (ETag or Last-Modified): a later attempt asks for the
rest with `Range` and `If-Range`, and begins again where the file has changed, or the server does
not support ranges or gave no mark.
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from detection.errors import UserError
from detection.files import only_writer, sha256_of, sha256_of_text, write_text
from detection.transfer.manifest import FetchedFile, Manifest, RemoteFile
from detection.transfer.remote import (
    FileRefused,
    RemoteInfo,
    TransferBroken,
    Unreachable,
    ask,
    download_range,
    pause_s,
    retry,
)

_MIB = 1 << 20


@dataclass(frozen=True)
class TransferRules:
    """When to give up.

    attempts: attempts in a row that bring less than 1 MiB.
    timeout_s: longest silence, also the time over which `min_bytes_per_s` is averaged.
    min_bytes_per_s: a slower transfer is broken off.
    backoff_s, max_backoff_s: first and longest pause; it doubles each time.
    """

    attempts: int = 6
    timeout_s: float = 60.0
    min_bytes_per_s: float = 1024.0
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0


class DownloadProgress:
    """Receives the progress of downloads, from several threads; this one ignores it."""

    def update(self, path: str, done_bytes: int, total_bytes: int | None) -> None:
        """`done_bytes` of the file have arrived (fewer than before when it begins again)."""

    def wait(self, path: str, pause_s: float, reason: str) -> None:
        """Take note that the file is tried again after a pause, and why."""

    def finish(self, path: str, note: str) -> None:
        """Take note that the file is whole, or by `note` why not."""


@dataclass(frozen=True)
class FetchResult:
    """What `fetch_files` did: paths by outcome; `failed` gives the reason by path."""

    fetched: tuple[str, ...]
    kept: tuple[str, ...]
    failed: dict[str, str]


def fetch_files(
    files: Sequence[RemoteFile],
    *,
    folder: str | Path,
    jobs: int = 4,
    rules: TransferRules | None = None,
    progress: DownloadProgress | None = None,
    may_wait: Callable[[], bool] = lambda: False,
) -> FetchResult:
    """Fetch what the manifest does not hold yet, `jobs` files at a time.

    A file that a server refuses, or that does not come within the rules, is reported in `failed`
    and the others go on. Raises `UserError` where nothing can work: no network, a full disk, a
    folder that another download is writing to (may_wait: asked whether to wait for it).
    """
    folder = Path(folder)
    rules = rules or TransferRules()
    progress = progress or DownloadProgress()
    busy = "another download is writing here; wait for it"
    with only_writer(folder, busy=busy, may_wait=may_wait):
        manifest = Manifest.read(folder)
        kept = [file for file in files if manifest.holds(file)]
        missing = [file for file in files if file not in kept]
        for file in kept:
            size = manifest.files[file.path].num_bytes
            progress.update(file.path, size, size)
            progress.finish(file.path, "was there")
        fetched, failed = _fetch_all(missing, manifest, jobs, rules, progress)
        partial = folder / ".partial"
        if partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()
    return FetchResult(tuple(fetched), tuple(file.path for file in kept), failed)


def _fetch_all(
    files: Sequence[RemoteFile],
    manifest: Manifest,
    jobs: int,
    rules: TransferRules,
    progress: DownloadProgress,
) -> tuple[list[str], dict[str, str]]:
    stop = threading.Event()
    fetched: list[str] = []
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="download") as pool:
        waiting: dict[Future[FetchedFile], RemoteFile] = {
            pool.submit(fetch_file, file, manifest.folder, rules, progress, stop): file
            for file in files
        }
        try:
            for future in as_completed(waiting):
                file = waiting[future]
                try:
                    manifest.files[file.path] = future.result()
                except (FileRefused, TransferBroken) as error:
                    failed[file.path] = str(error)
                    progress.finish(file.path, str(error))
                    continue
                manifest.write()
                fetched.append(file.path)
                progress.finish(file.path, "fetched")
        finally:
            stop.set()
            for future in waiting:
                future.cancel()
    return fetched, failed


def fetch_file(
    file: RemoteFile,
    folder: Path,
    rules: TransferRules,
    progress: DownloadProgress,
    stop: threading.Event,
) -> FetchedFile:
    """Fetch one file to its place under `folder`, resuming what is there of it.

    Raises `FileRefused` (the server says no), `TransferBroken` (it did not come within the
    rules), `UserError` (no network, disk full).
    """
    partial = _Partial(folder, file)
    failures = 0
    while True:
        before = partial.num_bytes()
        try:
            if (there := _take_over(file, folder, rules)) is not None:
                progress.update(file.path, there.num_bytes, there.num_bytes)
                return there
            total, validator = _attempt(file, partial, rules, progress, stop)
            break
        except TransferBroken as error:
            failures = 1 if partial.num_bytes() - before >= _MIB else failures + 1
            # A name that never resolved will hardly do so in half a minute: say so soon.
            limit = min(2, rules.attempts) if isinstance(error, Unreachable) else rules.attempts
            if failures >= limit:
                if isinstance(error, Unreachable):
                    raise UserError(str(error)) from error
                raise
            usual_s = rules.backoff_s * 2 ** (failures - 1) * (0.75 + random.random() / 2)
            pause = pause_s(error, usual_s, rules.max_backoff_s)
            if pause is None:
                raise
            progress.wait(file.path, pause, str(error))
            if stop.wait(pause):
                raise
        except OSError as error:
            raise UserError(f"{partial.data}: cannot be written ({error.strerror})") from error
    sha256 = partial.finish(folder / file.path)
    return FetchedFile(file.url, file.path, total, sha256, validator)


def _take_over(file: RemoteFile, folder: Path, rules: TransferRules) -> FetchedFile | None:
    """Keep a file that a person put there, or that came from a mirror, if its size is right."""
    place = folder / file.path
    if not place.is_file():
        return None
    info = ask(file.url, timeout_s=rules.timeout_s)
    if info.num_bytes is None or info.num_bytes != place.stat().st_size:
        return None
    return FetchedFile(file.url, file.path, info.num_bytes, sha256_of(place), info.validator)


def _attempt(
    file: RemoteFile,
    partial: _Partial,
    rules: TransferRules,
    progress: DownloadProgress,
    stop: threading.Event,
) -> tuple[int, str | None]:
    """Ask once for what is missing; return the file's size and mark when all of it is there."""
    known = partial.known()
    start = partial.num_bytes() if known else 0
    timeout_s = rules.timeout_s
    with download_range(file.url, start=start, validator=known, timeout_s=timeout_s) as answer:
        if answer.start == 0:
            partial.begin(answer.validator)
        done = answer.start
        progress.update(file.path, done, answer.total_bytes)
        with partial.data.open("r+b") as output:
            output.seek(done)
            output.truncate()
            for chunk in answer.chunks(rules.min_bytes_per_s, timeout_s):
                output.write(chunk)
                done += len(chunk)
                progress.update(file.path, done, answer.total_bytes)
                if stop.is_set():
                    raise TransferBroken(f"{file.url}: stopped")
            output.flush()
            os.fsync(output.fileno())
        if answer.total_bytes is not None and done != answer.total_bytes:
            raise TransferBroken(
                f"{file.url}: the connection ended after {done} of {answer.total_bytes} bytes"
            )
        return done, answer.validator


class _Partial:
    """A file on its way: its bytes so far, and of which version they are."""

    def __init__(self, folder: Path, file: RemoteFile) -> None:
        name = sha256_of_text(file.path)[:8] + "-" + Path(file.path).name
        self.data = folder / ".partial" / name
        self._note = folder / ".partial" / f"{name}.json"
        self._url = file.url

    def num_bytes(self) -> int:
        return self.data.stat().st_size if self.data.is_file() else 0

    def known(self) -> str | None:
        """Return the mark to resume by; None: begin again."""
        if not self.data.is_file() or not self._note.is_file():
            return None
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            validator = note["validator"] if note["url"] == self._url else None
        except (ValueError, KeyError, TypeError):
            return None
        return validator if isinstance(validator, str) else None

    def begin(self, validator: str | None) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.data.write_bytes(b"")
        write_text(self._note, json.dumps({"url": self._url, "validator": validator}))

    def finish(self, place: Path) -> str:
        """Move the file to its place; return its SHA-256."""
        sha256 = sha256_of(self.data)
        place.parent.mkdir(parents=True, exist_ok=True)
        self.data.replace(place)
        self._note.unlink(missing_ok=True)
        return sha256


def ask_sizes(
    urls: Sequence[str],
    *,
    jobs: int = 8,
    rules: TransferRules | None = None,
    on_progress: Callable[[], object] = lambda: None,
) -> dict[str, RemoteInfo | str]:
    """Ask every server for size and mark (HEAD); the reason where it refuses.

    on_progress: called after each answer. Raises `UserError` without a network.
    """
    rules = rules or TransferRules()

    def one(url: str) -> RemoteInfo | str:
        attempt = functools.partial(ask, url, timeout_s=rules.timeout_s)
        try:
            return retry(attempt, attempts=3, backoff_s=rules.backoff_s, silent_s=5.0)
        except (FileRefused, TransferBroken) as error:
            return str(error)
        finally:
            on_progress()

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        return dict(zip(urls, pool.map(one, urls), strict=True))  # cancels the rest on an error


def check_space(folder: Path, required_bytes: int) -> None:
    """Raise `UserError` when the disk of `folder` has less room than that."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if required_bytes > free:
        raise UserError(
            f"{folder}: {required_bytes / 1e9:.1f} GB are required and {free / 1e9:.1f} GB are free"
        )
