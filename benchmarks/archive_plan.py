"""Seconds and memory to list and name many videos: python -m benchmarks.archive_plan [COUNT].

Made-up videos (empty files) in a folder, a CSV list of them, and a list of remote addresses; each
is read and each video gets its result folder, as before a run over all of them.
"""

from __future__ import annotations

import csv
import resource
import sys
import tempfile
import time
from pathlib import Path

from detection.archive.sources import read_sources
from detection.pipeline.video_folders import name_folders


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{_peak_mb():,.0f} MB with what is imported")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = [f"{n % 997:03}/{n // 997 % 7}/video_{n}.mp4" for n in range(count)]
        for name in names:
            path = root / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        _write_list(root / "local.csv", [f"videos/{name}" for name in names], names)
        _write_list(root / "remote.csv", [f"s3://bucket/{name}" for name in names], names)
        for source in ("videos", "local.csv", "remote.csv"):
            begun = time.perf_counter()
            videos = read_sources([str(root / source)], root / "out")
            listed = time.perf_counter()
            folders = name_folders(root / "out", [video.name for video in videos])
            named = time.perf_counter()
            assert len(videos) == len(set(folders.values())) == count
            print(
                f"{source:10}  {count:,} videos  listed {listed - begun:5.1f} s  named "
                f"{named - listed:5.1f} s  peak {_peak_mb():,.0f} MB"
            )


def _write_list(path: Path, files: list[str], names: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "name"), *zip(files, names, strict=True)])


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main()
