"""Makes the site's first page of the README, whose links are those of the repository's root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# What the site does not hold is named by its path in the repository, without a link.
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the first page."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=from_docs(text)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files outside docs/ by their path."""
    return LINK.sub(lambda link: _without_way_up(link), markdown)


def from_docs(text: str) -> str:
    """Return the README's text with its links seen from docs/."""
    return LINK.sub(_seen_from_docs, text)


def _seen_from_docs(link: re.Match[str]) -> str:
    mark, shown, target = link.groups()
    if "://" in target or target.startswith("#"):
        return link[0]
    if target.startswith("docs/"):
        return f"{mark}[{shown}]({target.removeprefix('docs/')})"
    return f"`{target}`"


def _without_way_up(link: re.Match[str]) -> str:
    mark, shown, target = link.groups()
    return f"`{target.removeprefix('../')}`" if target.startswith("../") else link[0]
