"""How long a review page's seek takes, by how far apart the key frames of its video lie.

    python benchmarks/seek_gaps.py --video film.mp4 [--out FOLDER] [--gaps 1 4 5 8 12]

A seek decodes from the last key frame on. The video's first seconds are encoded forwards and
backwards again and again, at each height and with each gap, as x264 does by default (B-frames
included), and each file is sought on a review page in headless Chromium: at random times, and at
the last frame before a key frame, which is the worst there is. Wall time is from the call until
the frame is on screen; a busy machine lengthens it, so that the least of a place's repeats and the
browser's processor time for each seek stand beside it. The last column is what decides: how many
megapixels lie between two key frames (`detection/review/media.py` links a video up to a limit).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "browser"))

from driving import open_browser, wait
from review_page import SEEK

from detection.review.document import ReviewDocument, ReviewVideo
from detection.review.page import write_review
from detection.structures import LabelMap
from detection.video.stream import StreamFrame, VideoStream
from detection.video.writer import VideoWriter

FPS, SECONDS, PLACES = 30, 24, 8
READY = "return window.review?.view?.player?.presented !== undefined"
HEADINGS = ("size", "gap s", "median ms", "worst ms", "last frame ms", "processor ms", "megapixels")


def main() -> None:
    """Encode, seek, print a row for each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder of the pages (kept for the next time)")
    parser.add_argument("--gaps", type=float, nargs="+", default=[1, 4, 5, 8, 12], metavar="S")
    parser.add_argument("--heights", type=int, nargs="+", default=[360, 720, 1080], metavar="PX")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.out or Path(temporary)
        files = [(height, gap_s) for height in options.heights for gap_s in options.gaps]
        pages = [
            (height, gap, write_page(root, options.video, height, gap)) for height, gap in files
        ]
        driver = open_browser(Path(temporary) / "profile")
        print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
        for height, gap_s, page in pages:
            print(measure(driver, page, height, gap_s, options.repeats), flush=True)
        driver.quit()


def measure(driver: Any, page: Path, height: int, gap_s: float, repeats: int) -> str:
    """Return the row of one file."""
    driver.get("about:blank")
    driver.get(page.resolve().as_uri())
    wait(lambda: driver.execute_script(READY), "the first frame")
    generator = np.random.default_rng(0)
    places_s = (generator.permutation(SECONDS * FPS - 1)[:PLACES] / FPS).tolist()
    last_s = [number * gap_s - 1 / FPS for number in range(1, round(SECONDS / gap_s) + 1)][:2]
    pid = driver.service.process.pid
    took_ms: dict[float, list[float]] = {time_s: [] for time_s in (*places_s, *last_s)}
    before_s = processor_s(pid)
    for _ in range(repeats):
        for time_s, found in took_ms.items():
            found.append(driver.execute_async_script(SEEK, time_s))
    spent_s = (processor_s(pid) - before_s) / (repeats * len(took_ms))
    least = [min(took_ms[time_s]) for time_s in places_s]
    width = round(height * 16 / 18) * 2
    pixels = width * height * FPS * gap_s / 1e6
    values = (
        np.median(least), max(least), max(min(took_ms[time_s]) for time_s in last_s),
        spent_s * 1000, pixels,
    )  # fmt: skip
    return f"| {width}x{height} | {gap_s:g} | " + " | ".join(f"{v:.0f}" for v in values) + " |"


def processor_s(pid: int) -> float:
    """Return the processor time of a process and of all that descend from it, by /proc."""
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        number = int(path.parent.name)
        parents.setdefault(int(fields[1]), []).append(number)
        ticks[number] = int(fields[11]) + int(fields[12])
    found = [pid]
    for number in found:
        found += parents.get(number, [])
    return sum(ticks.get(number, 0) for number in found) / os.sysconf("SC_CLK_TCK")


def write_page(root: Path, source: Path, height: int, gap_s: float) -> Path:
    """Write a page of one video of that height and gap, with a keyframe each second."""
    folder = root / f"{height}_{gap_s:g}"
    video = folder / "videos" / "video.mp4"
    width = round(height * 16 / 18) * 2
    if not video.is_file():
        with VideoWriter(
            video, width=width, height=height, fps=FPS, crf=23, keyframe_interval_s=gap_s
        ) as writer:
            for number, frame in zip(range(SECONDS * FPS), there_and_back(source), strict=False):
                writer.write(resized(frame, (width, height)), number / FPS)
    clip = ReviewVideo(
        "video", "videos/video.mp4", width, height, float(SECONDS), keyframes_s=range(SECONDS)
    )
    return write_review(folder, ReviewDocument("Seeks", LabelMap(("none",), (1,)), [clip]))


def there_and_back(source: Path) -> Iterator[np.ndarray]:
    """Yield the first 200 frames of a video forwards, backwards, forwards, ..."""
    frames: list[np.ndarray] = []
    with VideoStream(source, live=False) as stream:
        for item in stream.frames():
            if isinstance(item, StreamFrame):
                frames.append(item.rgb())
            if len(frames) == 200:
                break
    while True:
        yield from frames
        yield from frames[-2:0:-1]


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a frame at (width, height)."""
    import cv2

    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
