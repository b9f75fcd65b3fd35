"""Hand movements per person on a label page of 30 videos, and how soon the page can be used.

python benchmarks/label_page.py [--videos 30] [--people 4] [--repeats 3] [--out FOLDER]

Made-up data: videos of 12 s in which a square moves, people of 6 to 12 keyframes, three poses of
which one holds at a time and two actions that combine. What each person does is drawn at random: a
pose, one of the actions in 3 of 10; in 1 of 8 the pose changes half way through; 1 box in 16 is no
person at all. A script in headless Chromium labels all of them, by keys, by mouse, and by keys with
suggestions of which 8 of 10 are right (the others are picked anew). Counted is every key press and
every click; the script waits for the frame where a pose changes as a person watching the loop does,
which is no movement. What the page then exports is compared with what was drawn: a difference ends
the script. Opening is measured by the page's own clock from the start of the navigation: until the
sheet of all videos answers keys, and from Enter on until the first person's box lies over its
decoded frame. The limits are 3 movements and 2 s.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "browser"))

from driving import Browser, open_browser
from selenium_keys import ENTER

from detection.review.document import ReviewDocument, ReviewTrack, ReviewVideo
from detection.review.page import write_review
from detection.structures import LabelMap
from detection.video.writer import VideoWriter

WIDTH, HEIGHT, FPS, SECONDS = 320, 180, 10, 12
MAP = LabelMap(("stand", "sit", "walk", "wave", "phone"), (1, 2, 3, 4, 5))
POSE = (0, 1, 2)
MOVEMENTS_LIMIT, OPEN_LIMIT_S = 3.0, 2.0
RIGHT_SUGGESTIONS = 0.8

USABLE = """
const done = arguments[0];
const look = () => {
  const there = window.review?.view && document.readyState === "complete";
  if (there) requestAnimationFrame(() => done(performance.now()));
  else setTimeout(look, 2);
};
look();
"""
FIRST_PERSON = """
const done = arguments[0];
const start = performance.now();
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
const look = () => {
  const { view } = window.review;
  const there = view.player?.presented !== undefined && !view.player.seeking
    && document.querySelector(".box.chosen");
  if (there) requestAnimationFrame(() => done(performance.now() - start));
  else setTimeout(look, 2);
};
look();
"""


@dataclass(frozen=True)
class Person:
    """What one person does: columns at first, and from the place `change` on (None: no change)."""

    labels: tuple[int, ...]
    change: int | None
    then: tuple[int, ...]
    nobody: bool


def main() -> int:
    """Make the pages, label them, say whether they keep within the limits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=30)
    parser.add_argument("--people", type=int, default=4, help="of a video")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder of the pages (kept)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary) / "pages"
        people, videos = draw(options.videos, options.people)
        write_videos(folder / "videos", options.videos)
        plain = write(folder / "plain", videos, people, suggest=False)
        suggested = write(folder / "suggested", videos, people, suggest=True)
        number = sum(map(len, people))
        print(
            f"{options.videos} videos, {number} people, {len(MAP)} classes: "
            f"{plain.stat().st_size / 1e3:.0f} kB page"
        )
        counts = {}
        for name, page, mouse in (
            ("keys", plain, False),
            ("mouse", plain, True),
            ("keys, suggestions", suggested, False),
        ):
            counts[name] = label_all(page, people, Path(temporary) / name, mouse=mouse)
        opened = [time_opening(plain, Path(temporary) / f"open{i}") for i in range(options.repeats)]
    print(f"\n{'way':<20}{'people':>8}{'movements':>11}{'a person':>10}{'limit':>7}")
    for name, count in counts.items():
        print(f"{name:<20}{number:>8}{count:>11}{count / number:>10.2f}{MOVEMENTS_LIMIT:>7g}")
    print(f"\n{platform.machine()}, headless Chromium without a GPU, {options.repeats} openings")
    print(f"{'':<36}{'median s':>9}{'worst s':>9}{'limit s':>9}")
    for name, times in zip(
        ("page of all videos answers keys", "Enter to the first person shown"),
        zip(*opened, strict=True),
        strict=True,
    ):
        print(f"{name:<36}{np.median(times):>9.2f}{max(times):>9.2f}{OPEN_LIMIT_S:>9g}")
    within = (
        max(counts.values()) / number <= MOVEMENTS_LIMIT and max(map(max, opened)) <= OPEN_LIMIT_S
    )
    print("limits met" if within else "limits MISSED")
    return 0 if within else 1


def draw(num_videos: int, num_people: int) -> tuple[list[list[Person]], list[list[ReviewTrack]]]:
    """Return for each video what people do, and where they are."""
    generator = np.random.default_rng(0)
    people, tracks = [], []
    for _ in range(num_videos):
        mine, boxes = [], []
        for number in range(num_people):
            count = int(generator.integers(6, SECONDS + 1))
            pose = int(generator.integers(len(POSE)))
            more = (int(generator.integers(3, 5)),) if generator.random() < 0.3 else ()
            changes = generator.random() < 1 / 8
            mine.append(
                Person(
                    (pose, *more),
                    count // 2 if changes else None,
                    ((pose + 1) % len(POSE), *more),
                    generator.random() < 1 / 16,
                )
            )
            x = 0.02 + number / num_people + np.linspace(0, 0.3 / num_people, count)
            boxes_01 = np.stack(
                [x, np.full(count, 0.2), x + 0.5 / num_people, np.full(count, 0.9)], 1
            )
            boxes.append(
                ReviewTrack(
                    number + 1,
                    np.arange(count, dtype=np.float64),
                    boxes_01.round(6),
                    np.zeros((count, len(MAP)), np.float32),
                    np.ones(count, np.float32),
                )
            )
        people.append(mine)
        tracks.append(boxes)
    return people, tracks


def write_videos(folder: Path, num_videos: int) -> None:
    """Write noise with a moving square, in as many files as there are videos."""
    generator = np.random.default_rng(0)
    for number in range(num_videos):
        path = folder / f"{number:02d}.mp4"
        if path.is_file():
            continue
        wall = np.kron(
            generator.integers(40, 216, (HEIGHT // 10, WIDTH // 10, 3), np.uint8),
            np.ones((10, 10, 1), np.uint8),
        )
        with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=FPS) as writer:
            for frame in range(SECONDS * FPS):
                image = wall.copy()
                image[40:160, frame : frame + 40] = 250
                writer.write(image)


def write(
    folder: Path, tracks: list[list[ReviewTrack]], people: list[list[Person]], *, suggest: bool
) -> Path:
    """Write a page; suggest: with scores, of which some are wrong."""
    generator = np.random.default_rng(1)
    videos = []
    for number, (mine, persons) in enumerate(zip(tracks, people, strict=True)):
        shown = []
        for track, person in zip(mine, persons, strict=True):
            scores = np.full((len(track.times_s), len(MAP)), 0.05, np.float32)
            right = generator.random() < RIGHT_SUGGESTIONS
            scores[:, list(person.labels if right else person.then)] = 0.8
            shown.append(
                ReviewTrack(
                    track.track_id,
                    track.times_s,
                    track.boxes_01,
                    scores if suggest else 0 * scores,
                    track.person_score,
                )
            )
        videos.append(
            ReviewVideo(
                f"video_{number:02d}",
                f"../videos/{number:02d}.mp4",
                WIDTH,
                HEIGHT,
                float(SECONDS),
                keyframes_s=[float(second) for second in range(SECONDS)],
                tracks=shown,
            )
        )
    document = ReviewDocument(
        "made up", MAP, videos, exclusive={"pose": POSE}, score_threshold=0.5, mode="label"
    )
    return write_review(folder, document)


class Hand:
    """Moves as a person does, and counts."""

    def __init__(self, browser: Browser, *, mouse: bool) -> None:
        self.browser, self.mouse, self.count = browser, mouse, 0

    def do(self, key: str, button: str) -> None:
        """Press a key, or click the button of the same meaning."""
        self.count += 1
        if self.mouse:
            self.browser.click(button)
        else:
            self.browser.press(key)

    def pick(self, columns: tuple[int, ...]) -> None:
        """Pick classes, the groups' first."""
        for column in columns:
            self.do(str(column + 1), f"[data-key='class:{column}']")

    def label(self, person: Person) -> None:
        """Label one person, from being shown to being left."""
        js = self.browser.js
        if person.nobody:
            self.do("0", "[data-key='nobody']")
            return
        shown = set(js("review.view.suggestion().map(([column]) => column)"))
        if shown == set(person.labels) and person.change is None:
            self.do("a", "[data-key='accept']")
            return
        self.pick(person.labels)
        if person.change is not None:
            # The loop comes to the frame by itself: only the key is a movement.
            js("review.view.seek(review.view.clip.times[arguments[0]])", person.change)
            self.do("[", "[data-key='start']")
            self.pick(person.then[:1])
        self.do(ENTER, "[data-key='next']")


def label_all(page: Path, people: list[list[Person]], temporary: Path, *, mouse: bool) -> int:
    """Label everybody; return the number of movements."""
    temporary.mkdir(parents=True)
    driver = open_browser(temporary / "profile")
    browser = Browser(driver, temporary / "downloads")
    browser.open(page)
    hand = Hand(browser, mouse=mouse)
    hand.do(ENTER, "#begin")
    for number, persons in enumerate(people):
        for position, person in enumerate(persons):
            browser.until(
                "review.index === arguments[0] && review.view.chosen?.id === arguments[1]",
                number,
                position + 1,
            )
            hand.label(person)
    hand.count += (
        2  # the dialog of the export opens by itself; a click saves, another chooses where
    )
    browser.click("#save-labels")
    file = json.loads(browser.downloaded("labels.json").read_text())
    driver.quit()
    check(file, people)
    return hand.count


def check(file: dict[str, Any], people: list[list[Person]]) -> None:
    """Hold what was exported to what was drawn."""
    assert len(file["videos"]) == len(people)
    for video, persons in zip(file["videos"], people, strict=True):
        wrong = {one["id"] for one in video["nobody"]}
        assert wrong == {i + 1 for i, person in enumerate(persons) if person.nobody}, video["id"]
        for one in video["people"]:
            person = persons[one["id"] - 1]
            for place, labels in zip(one["k"], one["l"], strict=True):
                changed = person.change is not None and place >= person.change
                drawn = person.then if changed else person.labels
                assert labels == sorted(MAP.ids[column] for column in drawn), (
                    video["id"],
                    one["id"],
                )


def time_opening(page: Path, profile: Path) -> tuple[float, float]:
    """Return seconds until the sheet can be used, and from Enter to the first person."""
    driver = open_browser(profile)
    driver.get(page.resolve().as_uri())
    usable = driver.execute_async_script(USABLE) / 1000
    first = driver.execute_async_script(FIRST_PERSON) / 1000
    driver.quit()
    return usable, first


if __name__ == "__main__":
    sys.exit(main())
