"""Weights that others have published, by name.

Files go to torch.hub's cache (TORCH_HOME), under the names that torch.hub would give them, so that
a file fetched by other means is found as well. torch.hub's own loader begins again after every
break and keeps no hash; `detection.transfer.download` resumes and records it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from detection.errors import UserError
from detection.files import read_text, sha256_of, write_text


@dataclass(frozen=True)
class Published:
    """Where a file is and how it can be recognised.

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


def fetch_published(name: str, *, cache: Path | None = None) -> Path:
    """Return the local path of a published file, fetching it if it is not there yet.

    cache: folder; default torch.hub's. The hash that was seen first is kept beside the file and
    must not change. Raises `UserError` without a network, naming address and path.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published weights '{name}'; known: {', '.join(PUBLISHED)}")
    entry = PUBLISHED[name]
    folder = cache if cache is not None else Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / entry.file_name
    if not path.is_file():
        download(name, entry, folder)
    check_hash(path, entry)
    return path


def download(name: str, entry: Published, folder: Path) -> None:
    """Fetch one file into `folder`; a broken attempt is taken up where it ended."""
    from detection.transfer.download import fetch_files
    from detection.transfer.manifest import RemoteFile

    path = folder / entry.file_name
    by_hand = f"{name}: fetch {entry.url} by other means and put it at {path}"
    try:
        result = fetch_files([RemoteFile(entry.url, entry.file_name)], folder=folder, jobs=1)
    except UserError as error:
        raise UserError(f"{by_hand} ({error})") from error
    if result.failed:
        raise UserError(f"{by_hand} ({result.failed[entry.file_name]})")


def check_hash(path: Path, entry: Published) -> None:
    """Compare with the publisher's hash where known, and with the one that was seen first."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if entry.sha256_prefix is not None and not found.startswith(entry.sha256_prefix):
        raise UserError(
            f"{path}: its hash begins with {found[:8]}, the publisher says {entry.sha256_prefix}; "
            "delete it to fetch it again"
        )
    record = path.with_name(path.name + ".sha256")
    if record.is_file():
        known = read_record(record)
        if known != found:
            raise UserError(
                f"{path}: changed since it came (hash {found[:8]}..., recorded {known[:8]}...); "
                f"delete it and {record.name} to fetch it again"
            )
    else:
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
