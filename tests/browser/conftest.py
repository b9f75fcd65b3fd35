"""Headless Chromium for tests of pages: one for all, with nothing kept between two tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import Browser, open_browser

MISSING = "needs {}: apt-get install chromium chromium-driver; pip install selenium"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running Chromium; the tests are skipped where there is none."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(MISSING.format(program))
    pytest.importorskip("selenium", reason=MISSING.format("selenium"))
    driver = open_browser(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any, tmp_path: Path) -> Iterator[Browser]:
    """A page to drive. A test fails where the page's script or policy complained."""
    browser = Browser(chromium, tmp_path / "downloads")
    yield browser
    complaints = browser.complaints()
    browser.forget()
    assert not complaints
