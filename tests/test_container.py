"""The container's file: linted where hadolint is, and the files that it copies make the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def copied():
    """Return what the first stage copies, and where to."""
    first = TEXT.split("\nFROM ")[1].replace("\\\n", " ")
    for line in re.findall(r"^COPY (?!--from)(.*)$", first, re.MULTILINE):
        *names, target = line.split()
        yield from ((name, target) for name in names)


def test_it_passes_the_linter():
    program = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(program).is_file():
        pytest.skip("needs hadolint")
    done = subprocess.run(
        [program, "--no-color", "-"], input=TEXT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_that_it_copies_make_the_package(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    for name, target in copied():
        place, there = REPOSITORY / name, source / target
        if place.is_dir():
            shutil.copytree(place, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, there)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
        + ["--quiet", "--wheel-dir", str(tmp_path), "."],
        cwd=source, check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"train_ava.py", "ava_tools/detect_actions.py", "detection/py.typed"} <= names
    assert any(re.match(r"detection/configs/\w+\.yaml", name) for name in names)
    assert any(name.startswith("detection/review/assets/") for name in names)


def test_what_it_copies_is_let_through():
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    assert {f"!{name}" for name, _ in copied()} == {line for line in lines if line[0] == "!"}
    assert lines[0] == "*"


def test_its_extras_are_there_and_it_is_no_root():
    extras = re.search(r"^ARG EXTRAS=(.*)$", TEXT, re.MULTILINE)[1].split(",")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) <= set(project["optional-dependencies"])
    assert re.search(r"^USER 1000$", TEXT, re.MULTILINE)
    assert project["scripts"].keys() == {re.search(r'^ENTRYPOINT \["(.*)"\]', TEXT, re.M)[1]}


def test_the_summary_for_language_models_names_every_page():
    text = (REPOSITORY / "llms.txt").read_text(encoding="utf-8")
    named = set(re.findall(r"\(docs/([a-z_]+\.md)\)", text))
    there = {path.name for path in (REPOSITORY / "docs").glob("*.md")}
    assert named <= there
    assert there - named <= {"reference.md", "demo.md", "review.md", "classification.md",
                             "expansion.md"}  # fmt: skip
