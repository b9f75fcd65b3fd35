"""The project's papers agree with each other: versions, checks, changelog, citation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from detection import __version__

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_commits_and_continuous_integration_are_checked_by_the_same_programs():
    lint = re.findall(r"^\t\$\(BIN\)/(.+)$", text("Makefile").partition("lint:")[2], re.MULTILINE)[
        :3
    ]
    assert [line.split()[0] for line in lint] == ["ruff", "ruff", "mypy"]
    repos = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"] and "rev" not in repos[0]
    hooks = repos[0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks]
    assert [entry.replace("ruff check", "ruff check .").replace("--check", "--check .")
            for entry in entries] == lint  # fmt: skip
    asked = " ".join(PROJECT["project"]["optional-dependencies"]["dev"])
    for tool in ("ruff", "mypy"):
        version = re.search(rf"\b{tool}==([0-9.]+)", asked)[1]
        assert re.search(
            rf"^{tool}=={re.escape(version)} ", text("requirements.lock"), re.MULTILINE
        )
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    ran = {step.get("run") for job in jobs.values() for step in job["steps"]}
    assert {".ci/run", ".ci/newest"} <= ran and "make test" in text(".ci/run")


def test_mypy_reads_all_that_is_no_test():
    files = set(PROJECT["tool"]["mypy"]["files"])
    programs = {path.name for path in REPOSITORY.glob("*.py")} - {"setup.py"}
    folders = {path.parent.name for path in REPOSITORY.glob("*/*.py")} - {"tests"}
    assert files == programs | folders


def test_the_citation_is_whole_and_of_this_version():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["version"] == __version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert {"title", "message", "authors"} <= set(citation) and citation["type"] == "software"
    for work in [citation, *citation["references"]]:
        assert work["title"] and all({"name", "family-names"} & set(who) for who in work["authors"])
    x3d = citation["references"][0]
    assert x3d["title"].startswith("X3D: ") and x3d["authors"][0]["family-names"] == "Feichtenhofer"
    assert re.fullmatch(r"10\.\d{4,9}/\S+", x3d["doi"]) and x3d["year"] == 2020


def test_the_changelog_has_this_version_and_what_comes_next():
    headings = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    for heading in headings[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", heading)
    assert headings[1].startswith(f"{__version__} - ")
    kinds = set(re.findall(r"^### (.+)$", text("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
FOLDERS = ("detection", "ava_tools", "tests", "benchmarks", "configs", "docs")
PROGRAMS = [path for folder in FOLDERS[:2] for path in REPOSITORY.glob(f"{folder}/**/*.py")]
FILES = {
    f"/{path.relative_to(REPOSITORY).as_posix()}"
    for folder in ("", *FOLDERS)
    for path in (REPOSITORY / folder).glob("**/*.*" if folder else "*.*")
}
OF_OTHERS = {
    *("get_ava_performance.py", "ava_eval_helper.py", "ava_utils.py"),
    *("ACT.py", "evaluation.py", "evaluate_multisports.py"),  # of evaluators
    "tasks.py",  # written by export_cvat
    "card.md",  # written by export
}


@pytest.mark.parametrize("page", [*PAGES, *PROGRAMS], ids=lambda page: page.name)
def test_texts_name_files_that_are_there(page):
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```console.*?^```", "", text, flags=re.M | re.S)  # files of who typed it
    for name in re.findall(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.(?:py|js|md))\b", text):
        if Path(name).name not in OF_OTHERS:
            assert any(file.endswith(f"/{name}") for file in FILES), name
    for name in re.findall(
        rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})(?:/[\w-]+)*)/(?![\w*{{-])", text
    ):
        assert (REPOSITORY / name).is_dir(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    def anchors(path: Path) -> set[str]:
        prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}

    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
