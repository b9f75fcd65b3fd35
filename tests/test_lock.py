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
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    asked = {re.match(r"[A-Za-z0-9-]+", one)[0].lower() for one in wanted}
    assert asked <= names, asked - names
    assert not re.search(r"https?:|file:|--index|--find-links|@ ", text)
