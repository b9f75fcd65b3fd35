"""What a download folder holds: files with address, size and hash, in `downloads.json`."""

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
    """A file that is whole: bytes, hash, and what the server called it."""

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
                name: FetchedFile(
                    url=str(entry["url"]),
                    path=name,
                    num_bytes=int(entry["bytes"]),
                    sha256=str(entry["sha256"]),
                    validator=entry["validator"],
                )
                for name, entry in values["files"].items()
            }
            return cls(folder, files, dict(values.get("notes", {})))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: not a manifest of downloads ({error}); delete it to check every file anew"
            ) from error

    def write(self) -> None:
        """Write it whole."""
        files = {
            name: {
                "url": file.url,
                "bytes": file.num_bytes,
                "sha256": file.sha256,
                "validator": file.validator,
            }
            for name, file in sorted(self.files.items())
        }
        text = json.dumps({"files": files, "notes": self.notes}, indent=1, ensure_ascii=False)
        write_text(self.folder / "downloads.json", text + "\n")

    def holds(self, remote: RemoteFile) -> bool:
        """Say whether the file came from this address and lies there with its full size."""
        entry = self.files.get(remote.path)
        path = self.folder / remote.path
        return (
            entry is not None
            and entry.url == remote.url
            and path.is_file()
            and path.stat().st_size == entry.num_bytes
        )
