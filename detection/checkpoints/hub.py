"""Weights that others have published, by name.

Files go to torch.hub's cache (TORCH_HOME), under the names that torch.hub would give them, so that
a file fetched by other means is found as well. torch.hub's own loader begins again after every
break and keeps no hash; `detection.transfer.download` resumes and records it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from detection.errors import UserError
from detection.files import read_text, sha256_of, write_text


@dataclass(frozen=True)
class Published:
    """Where a file is and how it can be recognised.

    variant: of the network.
    sha256_prefix: beginning of its hash where the publisher tells it.
    """

    url: str
    variant: str
    sha256_prefix: str | None = None

    @property
    def file_name(self) -> str:
        """Last part of the address."""
        return self.url.rsplit("/", 1)[1]


_META = "https://dl.fbaipublicfiles.com"
_MMACTION2 = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/"
    "x3d_{}_facebook-kinetics400-rgb_20201027-{}.pth"
)
_VARIANTS = ("xs", "s", "m", "l")

PUBLISHED = {
    f"x3d_{v}_kinetics400": Published(f"{_META}/pyslowfast/x3d_models/x3d_{v}.pyth", v)
    for v in _VARIANTS
}
PUBLISHED |= {
    f"x3d_{v}_kinetics400_pytorchvideo": Published(
        f"{_META}/pytorchvideo/model_zoo/kinetics/X3D_{v.upper()}.pyth", v
    )
    for v in _VARIANTS
}
PUBLISHED |= {
    f"x3d_{shape[0]}_kinetics400_mmaction2": Published(
        _MMACTION2.format(shape, sha256), shape[0], sha256_prefix=sha256
    )
    for shape, sha256 in (("s_13x6x1", "623825a0"), ("m_16x5x1", "3f42382a"))
}


DEFAULT_NETWORK = "x3d_s_kinetics400"  # where no network is named


def fetch_published(name: str, *, cache: Path | None = None) -> Path:
    """Return the local path of a published file, fetching it if it is not there yet.

    name: one of `PUBLISHED`.  The rest: see `fetch`.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published weights '{name}'; known: {', '.join(PUBLISHED)}")
    return fetch(name, PUBLISHED[name], cache=cache)


def fetch(name: str, entry: Published, *, cache: Path | None = None) -> Path:
    """Return where a published file is; it is fetched once, with size and time left on a terminal.

    name: for messages.  cache: folder; default torch.hub's. The hash that was seen first is kept
    beside the file and must not change. Processes that need the same file wait for the one that
    fetches it. Raises `UserError`, one line: without a network with the address, the place for a
    file that came by other means, and its hash; for a file of another hash.
    """
    folder = cache if cache is not None else Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / entry.file_name
    if path.is_file():
        check_hash(path, entry)
        return path
    download(name, entry, folder)
    try:
        check_hash(path, entry)
    except UserError:
        path.unlink(missing_ok=True)  # others would take it for what its name says
        raise
    return path


@contextmanager
def told_to_fetch_again(path: Path) -> Iterator[None]:
    """Say of a published file that cannot be read that it may be deleted; forget its hash.

    A file put there by hand, or of a publisher who tells no hash, may be half a file.
    """
    try:
        yield
    except UserError as error:
        with suppress(OSError):
            path.with_name(path.name + ".sha256").unlink(missing_ok=True)
        raise UserError(f"{error}; delete it to fetch it again") from error


def download(name: str, entry: Published, folder: Path) -> None:
    """Fetch one file into `folder`; a broken attempt is taken up where it ended."""
    from detection.transfer.bars import OneFileBar
    from detection.transfer.download import fetch_files
    from detection.transfer.manifest import RemoteFile

    path = folder / entry.file_name
    try:
        result = fetch_files(
            [RemoteFile(entry.url, entry.file_name)],
            folder=folder,
            jobs=1,
            progress=OneFileBar(f"from {entry.url} to {path}"),
            may_wait=lambda: True,
        )
        reason = result.failed.get(entry.file_name)
    except UserError as error:
        reason = str(error)
    if reason is not None:
        known = entry.sha256_prefix
        hash_words = f"its SHA-256 begins with {known}" if known else "its publisher tells no hash"
        raise UserError(
            f"{name}: cannot be fetched ({reason}); fetch {entry.url} by other means, put it at "
            f"{path} ({hash_words}) and give the same command again"
        )


def check_hash(path: Path, entry: Published) -> None:
    """Compare with the publisher's hash where known, and with the one that was seen first."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if entry.sha256_prefix is not None and not found.startswith(entry.sha256_prefix):
        raise UserError(
            f"{path}: its hash begins with {found[:8]}, the publisher says {entry.sha256_prefix}: "
            f"not the file of {entry.url}, or not all of it; delete it to fetch it again"
        )
    record = path.with_name(path.name + ".sha256")
    if record.is_file():
        known = read_record(record)
        if known != found:
            raise UserError(
                f"{path}: changed since it came (hash {found[:8]}..., recorded {known[:8]}...); "
                f"delete it and {record.name} to fetch it again"
            )
    elif entry.sha256_prefix is None:  # else the next look at it compares just as well
        write_text(record, f"{found}  {path.name}\n")


def read_record(record: Path) -> str:
    """Return the hash that a record beside a file holds: 64 hexadecimal digits, then the name."""
    words = read_text(record, what="record of a hash", limit_bytes=1 << 16).split()
    known = words[0].lower() if words else ""
    if re.fullmatch("[0-9a-f]{64}", known) is None:
        what = f"begins with {known[:70]!r}" if known else "is empty"
        raise UserError(
            f"{record}: {what}, the 64 hexadecimal digits of a SHA-256 are required; delete it to "
            "record the hash of the file that is there"
        )
    return known
