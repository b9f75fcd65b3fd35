"""What stands beside the tables: failed.csv and manifest.json."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass

import pytest
from made_results import make_results

from detection import __version__
from detection.archive.ending import write_tables
from detection.archive.failures import read_failures, write_failures
from detection.archive.tables import finish_tables, plan_tables, write_part
from detection.errors import UserError
from detection.transfer import places

NAMES = {"b/two.mp4": "b/two", "a.mp4": "a", "c.mkv": "c.mkv", "d.mp4": "d"}


@dataclass(frozen=True)
class Failed:
    video: str
    attempts: int
    error: str


def failed_rows(root):
    return list(csv.reader((root / "failed.csv").open(newline="")))


def test_failures_are_written_whole_and_sorted(tmp_path):
    errors = [Failed("b.mp4", 3, 'x, "y"\x1b[1m'), Failed("a.mp4", 1, "line 1\nline 2")]
    write_failures(str(tmp_path), errors)
    assert failed_rows(tmp_path) == [
        ["video", "attempts", "error"],
        ["a.mp4", "1", "line 1 line 2"],
        ["b.mp4", "3", 'x, "y"\\x1b[1m'],
    ]
    write_failures(str(tmp_path), errors[:1])
    assert [row[0] for row in failed_rows(tmp_path)] == ["video", "b.mp4"]
    write_failures(str(tmp_path), [])
    write_failures(str(tmp_path), [])
    assert list(tmp_path.iterdir()) == []


def test_failures_of_something_else_stay(tmp_path):
    (tmp_path / "failed.csv").write_text("student\n")
    for failures in ([], [Failed("a.mp4", 1, "x")]):
        with pytest.raises(UserError, match="failed.csv: not of this command"):
            write_failures(str(tmp_path), failures)
    assert (tmp_path / "failed.csv").read_text() == "student\n"
    for content in (b"student\n", b"", b'a\rb"c\n', b"\0\xff"):
        (tmp_path / "failed.csv").write_bytes(content)
        with pytest.raises(UserError, match="failed.csv: not of this command"):
            read_failures(str(tmp_path))


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
def test_the_manifest_says_by_what_and_how_much(tmp_path, table_format):
    if table_format == "parquet":
        pytest.importorskip("pyarrow")
    make_results(tmp_path / "a", seed=1)
    make_results(tmp_path / "b" / "two", people=3, keyframes=2, seed=2)
    write_tables(tmp_path, NAMES, failed=["c.mkv"], table_format=table_format)
    values = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    files = values.pop("files")
    versions = values.pop("versions")
    assert values == {
        "format": 1,
        "options": {"threshold": 0.5, "workers": 1},
        "inputs": {"checkpoint": {"named": "runs/a", "content": {"sha256": "ab" * 32}}},
        "classes": [
            {"id": 11, "name": "sit"}, {"id": 5, "name": "wave; é"}, {"id": 80, "name": 'say "x"'}
        ],
        "counts": {
            "videos": 4, "done": 2, "unfinished": 0, "failed": 1, "waiting": 1, "length_s": 25.0,
            "keyframes": 8, "people": 14, "persons": 5, "events": 30,
        },
    }  # fmt: skip
    packages = {"x3d-action-detection", "torch", "av"}
    assert set(versions) == packages | ({"pyarrow"} if table_format == "parquet" else set())
    assert versions["x3d-action-detection"] == __version__
    assert len(files) == 3
    for name, identity in files.items():
        content = (tmp_path / name).read_bytes()
        assert identity == {
            "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()
        }  # fmt: skip
    first = (tmp_path / "manifest.json").read_bytes()
    write_tables(tmp_path, NAMES, failed=["c.mkv"], table_format=table_format)
    assert (tmp_path / "manifest.json").read_bytes() == first


def test_a_manifest_never_stands_beside_other_tables(tmp_path):
    make_results(tmp_path / "a", seed=1)
    write_tables(tmp_path, NAMES, table_format="csv")
    plan = plan_tables(tmp_path, NAMES, table_format="csv")
    assert (tmp_path / "manifest.json").exists()
    write_part(plan.parts[0])
    finish_tables(plan)
    assert not (tmp_path / "manifest.json").exists()


def test_nothing_has_a_manifest_too_and_a_bucket(tmp_path):
    pytest.importorskip("fsspec").filesystem("memory").store.clear()
    for root in (str(tmp_path), "memory://ending/"):
        write_tables(root, {}, table_format="csv")
        write_failures(root, [Failed("a.mp4", 1, "x")])
    values = json.loads((tmp_path / "manifest.json").read_text())
    assert (values["options"], values["inputs"], values["classes"]) == ({}, {}, [])
    assert values["counts"]["videos"] == 0
    for name in ("manifest.json", "failed.csv"):
        there = places.read_bytes(f"memory://ending/{name}", 1 << 20)
        assert there == (tmp_path / name).read_bytes()
