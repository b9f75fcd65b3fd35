"""The list of a download folder's files, with address, size and hash: `downloads.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from detection.errors import UserError
from detection.files import write_text


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: `url`, and `path` relative to the folder it goes to (forward slashes)."""

    url: str
    path: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in self.path:
            raise UserError(f"'{self.path}': would be written outside the download folder")


@dataclass(frozen=True)
class FetchedFile:
    """A file that is complete.

    url: where it came from.
    path: where it is, relative to the folder.
    num_bytes, sha256: size and hash.
    validator: the server's mark of this version (ETag or Last-Modified).
    """

    url: str
    path: str
    num_bytes: int
    sha256: str
    validator: str | None


@dataclass
class Manifest:
    """`downloads.json` in the folder: every file that arrived whole, by its path."""

    folder: Path
    files: dict[str, FetchedFile] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the folder's manifest; an empty one where there is none."""
        path = folder / "downloads.json"
        if not path.is_file():
            return cls(folder)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            files = {
                path: FetchedFile(
                    str(e["url"]), path, int(e["bytes"]), str(e["sha256"]), e["validator"]
                )
                for path, e in values["files"].items()
            }
            return cls(folder, files, dict(values.get("notes", {})))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: not a manifest of downloads ({error}); delete it to check every file anew"
            ) from error

    def write(self) -> None:
        """Write it whole."""
        files = {
            path: {"url": f.url, "bytes": f.num_bytes, "sha256": f.sha256, "validator": f.validator}
            for path, f in sorted(self.files.items())
        }
        text = json.dumps({"files": files, "notes": self.notes}, indent=1, ensure_ascii=False)
        write_text(self.folder / "downloads.json", text + "\n")

    def holds(self, remote: RemoteFile) -> bool:
        """Tell whether the file came from this address and is there with its full size."""
        entry = self.files.get(remote.path)
        path = self.folder / remote.path
        return (
            entry is not None
            and entry.url == remote.url
            and path.is_file()
            and path.stat().st_size == entry.num_bytes
        )
