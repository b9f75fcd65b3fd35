"""Compare the reader of AVA's files with plain ones, on made-up files of the size of AVA's.

OMP_NUM_THREADS=1 python benchmarks/csv_speed.py --out FOLDER [--rounds 3] [--fraction 1.0]

The readers take turns within each round, every reading in a process of its own. Printed are medians
of processor seconds (all threads of the process), as the machine may be shared. All give the same
columns; none of the plain ones names a bad row or reads rows of two columns.

loadtxt             numpy.loadtxt (its reader is C) with one structured type
loadtxt, converter  the same; a converter gives each new video id its number
loadtxt, numbers    numpy.loadtxt for the numbers, str.partition for the video ids
box once            video, time and box of equal neighbours read once, the rest as lists
csv                 the csv module, a list a column
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from evaluator_files import write
from numpy.typing import NDArray

from detection.datasets import ava_csv

NUMBERS = ("time", "x1", "y1", "x2", "y2", "action", "last")
Columns = dict[str, NDArray[Any]]


def ours(path: Path, kind: str) -> Columns:
    """Read as the commands do."""
    read = ava_csv.read_ground_truth if kind == "ground truth" else ava_csv.read_detections
    rows = read(path)
    last = rows.person_id if kind == "ground truth" else rows.score
    assert last is not None
    return {
        "video": rows.video_index,
        "time": rows.time_us,
        "box": rows.boxes_01,
        "action": rows.action_id,
        "last": last,
    }


def loadtxt(path: Path, kind: str) -> Columns:
    """Read all columns by `numpy.loadtxt`, ids as texts of at most 64 characters."""
    table = np.loadtxt(
        path,
        dtype=[("video", "U64"), *_number_types(kind)],
        delimiter=",",
        quotechar='"',
        comments=None,
        encoding="utf-8",
    )
    changed = np.flatnonzero(table["video"][1:] != table["video"][:-1]) + 1
    return _columns(_index(table["video"], changed), table)


def loadtxt_numbers(path: Path, kind: str) -> Columns:
    """Read the numbers by `numpy.loadtxt`, and give each new id its number on the way."""
    videos: dict[str, int] = {}
    index: list[int] = []

    def rest_of_lines() -> Any:
        with path.open(encoding="utf-8") as file:
            for line in file:
                video, _, rest = line.partition(",")
                index.append(videos.setdefault(video, len(videos)))
                yield rest

    table = np.loadtxt(
        rest_of_lines(), dtype=_number_types(kind), delimiter=",", comments=None, max_rows=None
    )
    return _columns(np.array(index, np.int32), table)


def loadtxt_converter(path: Path, kind: str) -> Columns:
    """Read by `numpy.loadtxt`; a converter gives each new id its number."""
    videos: dict[str, int] = {}
    table = np.loadtxt(
        path,
        dtype=[("video", np.int32), *_number_types(kind)],
        delimiter=",",
        quotechar='"',
        comments=None,
        encoding="utf-8",
        converters={0: lambda video: videos.setdefault(video, len(videos))},
    )
    return _columns(table["video"], table)


def box_once(path: Path, kind: str) -> Columns:
    """Cut the last two columns off; read what is before them once for equal neighbours."""
    heads: list[str] = []
    starts: list[int] = []
    actions: list[str] = []
    lasts: list[str] = []
    before = None
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            head, action, last = line.rsplit(",", 2)
            if head != before:
                heads.append(head)
                starts.append(number)
                before = head
            actions.append(action)
            lasts.append(last)
    videos: dict[str, int] = {}
    types = _number_types(kind)
    table = np.loadtxt(
        heads,
        dtype=[("video", np.int32), *types[:5]],
        delimiter=",",
        comments=None,
        converters={0: lambda video: videos.setdefault(video, len(videos))},
    )
    table = np.repeat(table, np.diff(starts, append=len(actions)))
    last_type = types[-1][1]
    numbers = {name: table[name] for name in NUMBERS[:5]}
    numbers["action"] = np.array(list(map(int, actions)), np.int32)
    numbers["last"] = np.array(
        list(map(float if last_type == np.float64 else int, lasts)), last_type
    )
    return _columns(np.ascontiguousarray(table["video"]), numbers)


def csv_module(path: Path, kind: str) -> Columns:
    """Read by the csv module, a list a column."""
    with path.open(encoding="utf-8", newline="") as file:
        texts = list(zip(*csv.reader(file), strict=True))
    videos: dict[str, int] = {}
    index = np.array([videos.setdefault(video, len(videos)) for video in texts[0]], np.int32)
    table: dict[str, Any] = {
        name: np.array(list(map(float if kind_of == np.float64 else int, text)), kind_of)
        for (name, kind_of), text in zip(_number_types(kind), texts[1:], strict=True)
    }
    return _columns(index, table)


def _number_types(kind: str) -> list[tuple[str, type]]:
    last = np.int64 if kind == "ground truth" else np.float64
    return [(name, {"action": np.int32, "last": last}.get(name, np.float64)) for name in NUMBERS]


def _index(names: NDArray[Any], changed: NDArray[np.int64]) -> NDArray[np.int32]:
    starts = np.concatenate([[0], changed])
    videos: dict[str, int] = {}
    numbers = [videos.setdefault(name, len(videos)) for name in names[starts].tolist()]
    return np.repeat(np.array(numbers, np.int32), np.diff(starts, append=len(names)))


def _columns(index: NDArray[np.int32], table: Any) -> Columns:
    return {
        "video": index,
        "time": np.rint(table["time"] * 1e6).astype(np.int64),
        "box": np.stack([table[name] for name in ("x1", "y1", "x2", "y2")], axis=1),
        "action": np.ascontiguousarray(table["action"]),
        "last": np.ascontiguousarray(table["last"]),
    }


READERS: dict[str, Callable[[Path, str], Columns]] = {
    "ours": ours,
    "loadtxt": loadtxt,
    "loadtxt, converter": loadtxt_converter,
    "loadtxt, numbers": loadtxt_numbers,
    "box once": box_once,
    "csv": csv_module,
}


def once(name: str, path: Path, kind: str) -> dict[str, Any]:
    """Read one file once in this process."""
    start = time.process_time()
    columns = READERS[name](path, kind)
    seconds = time.process_time() - start
    return {
        "seconds": seconds,
        "rows": len(columns["video"]),
        "sums": [float(column.sum(dtype=np.float64)) for column in columns.values()],
    }


def main() -> None:
    """Write the files, then let the readers take turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=1.0, help="of AVA's size (default 1)")
    parser.add_argument("--only", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--once", nargs=3, metavar=("READER", "CSV", "KIND"))
    options = parser.parse_args()
    if options.once:
        name, path, kind = options.once
        print(json.dumps(once(name, Path(path), kind)))
        return
    small = write(options.out, fraction=0.3 * options.fraction)
    middle = write(options.out, fraction=1.5 * options.fraction, with_detections=False)
    large = write(options.out, fraction=5 * options.fraction, with_detections=False)
    cases = [
        (middle.ground_truth, "ground truth"),
        (large.ground_truth, "ground truth"),
        (small.detections, "detections"),
    ]
    print(f"numpy {np.__version__}; medians of {options.rounds}, processor seconds")
    for path, kind in cases:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
        for _ in range(options.rounds):
            for name, results in found.items():
                command = [sys.executable, __file__, "--out", str(options.out)]
                command += ["--once", name, str(path), kind]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                results.append(json.loads(done.stdout))
        rows, sums = found["ours"][0]["rows"], found["ours"][0]["sums"]
        print(f"{kind}, {rows:,} rows, {path.stat().st_size / 1e6:.0f} MB")
        base = statistics.median(result["seconds"] for result in found["ours"])
        for name, results in found.items():
            assert all(result["rows"] == rows for result in results)
            assert all(result["sums"] == sums for result in results), (name, results, sums)
            seconds = statistics.median(result["seconds"] for result in results)
            print(f"  {name:20} {seconds:7.2f} s  {base / seconds:6.2f} of ours' speed", flush=True)


if __name__ == "__main__":
    main()
