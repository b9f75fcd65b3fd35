"""The documentation as a site: built strictly, whole, and with nothing loaded from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import detection

REPOSITORY = Path(__file__).resolve().parent.parent
# What a browser fetches by itself, by tag.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


class Page(HTMLParser):
    """Reads the ids, the links and what is fetched."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        address = values.get(FETCHED.get(tag, ""))
        if address and values.get("rel") != "canonical":
            self.fetched.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    pages = {}
    for path in folder.glob("*.html"):
        pages[path.name] = page = Page()
        page.feed(path.read_text(encoding="utf-8"))
    return folder, pages


def test_every_page_of_docs_is_in_it(site):
    folder, pages = site
    written = {path.with_suffix(".html").name for path in (REPOSITORY / "docs").glob("*.md")}
    assert written <= set(pages) and "index.html" in pages
    menu = (folder / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in menu for name in written), "each is in the menu"


def test_blocks_of_code_are_shown_as_such(site):
    folder, pages = site
    for page in (folder / name for name in pages):
        assert "```" not in page.read_text(encoding="utf-8"), page.name


def test_nothing_is_loaded_from_elsewhere(site):
    _, pages = site
    away = {a for page in pages.values() for a in page.fetched if re.match(r"(https?:)?//", a)}
    assert not away
    assert any(page.fetched for page in pages.values()), "what is fetched was found"


def test_links_lead_to_pages_and_headings(site):
    folder, pages = site
    bad = []
    for name, page in pages.items():
        if name == "404.html":  # served at any address
            continue
        for link in page.links:
            path, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link) or path.startswith("/"):
                continue
            target = pages.get(path or name)
            if target is None:
                bad += [] if (folder / path).exists() else [f"{name}: {link}"]
            elif anchor and anchor not in target.ids:
                bad.append(f"{name}: {link}")
    assert not bad


def test_every_name_of_the_front_door_is_in_the_reference(site):
    _, pages = site
    shown = {anchor.rpartition(".")[2] for anchor in pages["reference.html"].ids}
    assert set(detection.__all__) <= shown
