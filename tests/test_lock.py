"""The lock file names exact versions with hashes of all that pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def test_every_package_is_pinned_with_hashes_and_comes_from_nowhere_in_particular():
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert text.startswith("# ") and "`make lock` writes it" in text.partition("\n")[0]
    entries = [e for e in re.split(r"\n(?=[a-z])", text.replace("\\\n", "")) if e[0] != "#"]
    names = set()
    for entry in entries:
        match = re.match(r"([a-z0-9-]+)==[0-9][^ ]* ", entry)
        assert match and re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
        names.add(match[1])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = project["dependencies"] + project["optional-dependencies"]["dev"]
    asked = {re.match(r"[A-Za-z0-9-]+", one)[0].lower() for one in required}
    assert asked <= names, asked - names
    assert not re.search(r"https?:|file:|--index|--find-links|@ ", text)


def test_every_command_that_builds_detectron2_names_the_same_commit():
    files = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]
    files += REPOSITORY.glob("detection/**/*.py")
    found = {
        (path.name, match[1])
        for path in files
        for match in re.finditer(r"facebookresearch/detectron2([^\s\"']*)", path.read_text("utf-8"))
    }
    assert {name for name, _ in found} >= {"people.md", "detectron2_rcnn.py"}
    commits = {rest for _, rest in found}
    assert len(commits) == 1 and re.fullmatch(r"@[0-9a-f]{40}", commits.pop()), found
