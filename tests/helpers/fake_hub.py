"""A stand-in for the package huggingface_hub: a folder on this disk is all there is of the Hub."""

from __future__ import annotations

import fnmatch
import shutil
import sys
import types
from pathlib import Path


class HubDownError(Exception):
    """What the package raises without a network."""


class FakeHub(types.ModuleType):
    """Repositories are folders `root/user/name`; `down` makes every call fail."""

    def __init__(self, root: Path) -> None:
        super().__init__("huggingface_hub")
        self.root, self.cache, self.down = root, root / "cache", False
        self.calls: list[tuple] = []
        self.constants = types.SimpleNamespace(
            ENDPOINT="https://hub.example", HF_HUB_CACHE=str(self.cache)
        )

    def _answer(self, *call) -> None:
        self.calls.append(call)
        if self.down:
            raise HubDownError("Cannot reach the server.\nAnd more words")

    def snapshot_download(self, *, repo_id, revision=None, allow_patterns=None) -> str:
        self._answer("download", repo_id, revision)
        source, target = self.root / repo_id, self.cache / repo_id.replace("/", "--")
        if not source.is_dir():
            raise HubDownError(f"404: {repo_id}")
        shutil.rmtree(target, ignore_errors=True)
        self._copy(source, target, allow_patterns)
        return str(target)

    def create_repo(self, *, repo_id, exist_ok) -> None:
        self._answer("create", repo_id)
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message) -> None:
        self._answer("upload", repo_id)
        assert commit_message
        self._copy(Path(folder_path), self.root / repo_id, allow_patterns)

    def _copy(self, source: Path, target: Path, patterns) -> None:
        for path in source.rglob("*"):
            name = path.relative_to(source).as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / name)


def install(monkeypatch, root: Path) -> FakeHub:
    """Put a fake in place of the package for a test."""
    hub = FakeHub(root)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hub
