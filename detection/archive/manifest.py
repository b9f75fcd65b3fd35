"""manifest.json: by what the tables of all videos were made, what they count, and their hashes."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from detection import __version__
from detection.archive.table_columns import FORMAT
from detection.archive.table_files import MANIFEST_NAME
from detection.archive.table_rows import VideoRow, read_common
from detection.archive.tables import TablesPlan
from detection.errors import NotFoundError, UserError
from detection.files import sha256_of
from detection.formats.json_text import json_text
from detection.pipeline.decisive import common_key
from detection.transfer.places import read_bytes, reading, write_bytes

_PACKAGES = ("torch", "av")
_MOST_BYTES = 1 << 26


def write_archive_manifest(plan: TablesPlan, names: Sequence[str]) -> None:
    """Write manifest.json beside finished tables; the same results give the same bytes.

    names: of the tables' files, as `finish_tables` returns them, sorted. Raises `UserError`.
    """
    done = [row for row in plan.videos if row.state == "done"]
    common = read_common(plan.root, done[0].folder) if done else {"options": {}, "inputs": {}}
    values = {
        "format": FORMAT,
        "versions": _versions(plan.format),
        **common,
        "classes": [{"id": class_id, "name": name} for class_id, name in plan.classes],
        "counts": _counts(plan.videos),
        "files": {name: _identity(plan.root, name) for name in names},
    }
    place = f"{plan.root.rstrip('/')}/{MANIFEST_NAME}"
    write_bytes(place, json_text(values, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def read_archive_manifest(root: str) -> dict[str, Any] | None:
    """Return what manifest.json says; None where it tells of no finished video, or is not ours.

    Raises `UserError` where it cannot be read.
    """
    try:
        content = read_bytes(f"{root.rstrip('/')}/{MANIFEST_NAME}", _MOST_BYTES)
    except NotFoundError:
        return None
    try:
        values = json.loads(content)
        is_ours = values["format"] == FORMAT and values["counts"]["done"] > 0
        common_key(values)  # has all parts
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return dict(values) if is_ours else None


def _versions(table_format: str) -> dict[str, str]:
    packages = (*_PACKAGES, "pyarrow") if table_format == "parquet" else _PACKAGES
    return {
        "x3d-action-detection": __version__,
        **{package: importlib.metadata.version(package) for package in packages},
    }


def _counts(videos: Sequence[VideoRow]) -> dict[str, Any]:
    """Count videos by state, and what the finished ones hold; what is unknown of one counts 0."""
    states = Counter(row.state for row in videos)
    return {
        "videos": len(videos),
        **{state: states[state] for state in ("done", "unfinished", "failed", "waiting")},
        "length_s": round(sum(row.length_s or 0.0 for row in videos), 3),
        "keyframes": sum(row.keyframes or 0 for row in videos),
        "people": sum(row.people or 0 for row in videos),
        "persons": sum(row.persons or 0 for row in videos),
        "events": sum(row.events or 0 for row in videos),
    }


def _identity(root: str, name: str) -> dict[str, int | str]:
    with reading(f"{root.rstrip('/')}/{name}") as path:
        try:
            return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
