"""Chromium by selenium: pages opened from disk, keys, the mouse, downloads."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1440,1000",
)
# Generous: two cores may be shared by eight.
PATIENCE_S = float(os.environ.get("BROWSER_PATIENCE_S", "60"))


def open_browser(profile: Path) -> Any:
    """Start Chromium with a profile folder of its own."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService("/usr/bin/chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(PATIENCE_S)
    driver.set_script_timeout(PATIENCE_S)
    return driver


class Browser:
    """One test's view of the browser."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads
        downloads.mkdir()
        where = {"behavior": "allow", "downloadPath": str(downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        driver.get_log("browser")

    def open(self, page: Path, fragment: str = "") -> None:
        """Open a page from disk, anew, and wait for what it shows first."""
        self.driver.get("about:blank")
        self.driver.get(page.resolve().as_uri() + fragment)
        self.until("window.review !== undefined")

    def js(self, script: str, *arguments: object) -> Any:
        """Evaluate an expression."""
        return self.driver.execute_script(f"return ({script})", *arguments)

    def until(self, condition: str, *arguments: object) -> Any:
        """Wait until an expression holds; return its value."""
        return wait(lambda: self.js(condition, *arguments), condition)

    def at_rest(self, time_s: float) -> None:
        """Wait until the frame at a time is shown."""
        self.until(
            "Math.abs(review.view.player.presented - arguments[0]) < 0.2 "
            "&& !review.view.player.video.seeking && !review.view.player.seeking",
            time_s,
        )

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def chord(self, *keys: str) -> None:
        """Hold all keys but the last one while it is pressed."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        for key in keys[:-1]:
            chain = chain.key_down(key)
        chain = chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain = chain.key_up(key)
        chain.perform()

    def element(self, selector: str) -> Any:
        """Wait for an element."""
        self.until("document.querySelector(arguments[0]) !== null", selector)
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        """Click an element as a mouse does."""
        self.element(selector).click()

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.element(selector).text)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse over the video; places are fractions of it."""
        from selenium.webdriver import ActionChains

        boxes = self.element(".boxes")
        width, height = boxes.size["width"], boxes.size["height"]

        def offset(place: tuple[float, float]) -> tuple[int, int]:
            return round((place[0] - 0.5) * width), round((place[1] - 0.5) * height)

        chain = ActionChains(self.driver, duration=50)
        chain = chain.move_to_element_with_offset(boxes, *offset(start)).click_and_hold()
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        for place in (middle, end):
            chain = chain.move_to_element_with_offset(boxes, *offset(place))
        chain.release().perform()

    def downloaded(self, name: str) -> Path:
        """Wait for a file to be saved whole."""
        path = self.downloads / name
        wait(lambda: path.is_file() and not list(self.downloads.glob("*.crdownload")), name)
        return path

    def complaints(self) -> list[str]:
        """Return what the page's script and its policy complained of since the last look."""
        log = self.driver.get_log("browser")
        return [json.dumps(entry) for entry in log if "ERR_FILE_NOT_FOUND" not in entry["message"]]

    def forget(self) -> None:
        """Clear what the page keeps in the browser."""
        # The page saves what is not saved yet when it is left.
        self.driver.execute_script("window.review?.edits.unsaved.clear(); localStorage.clear()")
        self.driver.get("about:blank")


def wait(done: Callable[[], Any], what: str) -> Any:
    """Wait for a value that counts as true; fails, naming `what`, after a minute."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := done():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")
