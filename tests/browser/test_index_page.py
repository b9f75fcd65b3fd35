"""The page of several videos in a real browser: on a telephone nothing lies beside the screen."""

from __future__ import annotations

import pytest

from detection.pipeline.folder_index import IndexRow, index_page
from detection.tracking.events import ActionEvent

pytestmark = pytest.mark.browser

FILES = ("review.html", "annotated.mp4", "events.jsonl", "tracks.jsonl", "detections.csv")


@pytest.mark.parametrize("width", [360, 700, 1300])
def test_a_row_fits_its_screen(browser, tmp_path, width):
    event = ActionEvent("a", 1, "passing American football (not in game)", 3, 0.25, 1.25, 0.6)
    rows = [
        IndexRow(
            name="a_very_long_name_" * 5 + ".mp4",
            folder="a",
            state="done",
            summary={"length_s": 139.0, "people": 2130, "persons": 16},
            events=(event,),
            files=frozenset(FILES),
        ),
        IndexRow(name="b.mp4", folder="b", state="failed", error="b.mp4: is no video " * 9),
    ]
    page = tmp_path / "index.html"
    page.write_text(index_page("videos", rows), encoding="utf-8")
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.driver.get(page.as_uri())
        assert browser.js("document.documentElement.scrollWidth") <= width
        assert len(browser.js("[...document.links].filter((a) => a.getClientRects().length)")) == 7
        shown = browser.text("tbody tr")
        assert "2,130 detections" in shown and "2:19" in shown
        heads = browser.js("getComputedStyle(document.querySelector('thead')).display")
        assert (heads == "none") == (width < 720)
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
