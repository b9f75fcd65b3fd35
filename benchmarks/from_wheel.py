"""From an empty environment to an annotated video: three typed lines, by the clock.

    python benchmarks/from_wheel.py [--limit 120] [--installer pip]

Builds the wheel of this folder and gathers the packages that it depends on, in the versions of the
environment that runs this, so that the lines below find them without a network: in uv's cache, or
for pip as wheels in a folder. That is not timed. Then, in a folder outside of the repository, as a
user would: make an environment, install the wheel, run `x3d-actions detect_actions` on a video.
Checks the annotated video and the page, prints the seconds of each line, and ends with exit code 1
where something is missing, or all of it took longer than `--limit`.

The video is a real clip and the weights are real ones where ACTION_DATA or ../shared/data has them
(X3D-XS of Kinetics, YOLOX-nano for people, which needs the extra `export`); elsewhere a small video
and small random networks are made, and nothing is said about how good they are. Packages, the
unpacked cache and the environment take about 10 GB of the folder for temporary files (TMPDIR).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests/helpers")]

from detection.video.reader import VideoReader  # noqa: E402

PROJECT = "x3d-action-detection"
LIMIT_S = 120.0
NEEDED_BYTES = 10_000_000_000
# Mean difference to the video's own frames, of 255, that a frame with boxes has and H.264 alone has
# not: a box is few of the pixels, but far from what lies below it.
DRAWN_PIXELS, FAR = 0.002, 60


@dataclass(frozen=True)
class Inputs:
    """What the third line is given.

    video: a file.  options: words behind it.  extra: of the package, in brackets, or nothing.
    about: said in the report.
    """

    video: Path
    options: tuple[str, ...]
    extra: str
    about: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, gather, type the three lines, check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds (default 120)")
    parser.add_argument("--installer", choices=["uv", "pip"], default="uv")
    options = parser.parse_args(arguments)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < NEEDED_BYTES:
        print(
            f"{tempfile.gettempdir()}: {free / 1e9:.1f} GB free, {NEEDED_BYTES / 1e9:.0f} GB are "
            "required; TMPDIR names another folder",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="from_wheel_") as name:
        folder = Path(name)
        (folder / "work").mkdir()
        inputs = find_inputs(folder)
        started = time.monotonic()
        wheel = build_wheel(folder)
        settings = gather_packages(folder, wheel, inputs.extra, options.installer)
        print(f"wheel built, packages gathered: {time.monotonic() - started:.0f} s, not counted")
        lines = typed_lines(wheel.name, inputs, options.installer)
        shutil.copy(wheel, folder / "work")
        seconds = type_lines(lines, folder / "work", settings)
        problems = find_problems(folder / "work" / "found" / inputs.video.stem, inputs.video)
    return report(seconds, problems, about=inputs.about, limit_s=options.limit)


def find_inputs(folder: Path) -> Inputs:
    """Return a real clip and real weights where they are, else make small ones."""
    for place in (os.environ.get("ACTION_DATA"), REPOSITORY.parent / "shared" / "data"):
        data = Path(place) if place else folder / "none"
        video = data / "clips" / "archery.mp4"
        weights = data / "weights" / "x3d_xs_k400_from_int8.pyth"
        people = data / "detectors" / "yolox_nano.onnx"
        if video.is_file() and weights.is_file() and people.is_file():
            copy = shutil.copy(weights, folder)  # what is exported stays beside the weights
            real = ("--checkpoint", str(copy), "--people", str(people))
            return Inputs(video, real, "[export]", "a real clip of 10 s, real weights")
    from tiny_people import save_tiny_people
    from tiny_pipeline import save_tiny_run, write_squares

    video = write_squares(folder / "video.mp4", seconds=6)
    run, people = save_tiny_run(folder / "run"), save_tiny_people(folder / "people.pt")
    options = ("--checkpoint", str(run), "--people", str(people), "--person-score", "0.05")
    return Inputs(video, options, "", "a made-up video of 6 s, networks of random weights")


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel from a copy, so that nothing is left beside the sources."""
    source = folder / "source"
    source.mkdir()
    for name in ("detection", "ava_tools", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "train_ava.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder / "built", source], check=True)
    (wheel,) = (folder / "built").glob("*.whl")
    return wheel


def gather_packages(folder: Path, wheel: Path, extra: str, installer: str) -> dict[str, str]:
    """Bring all packages onto this machine; return the settings by which the installer finds them.

    Versions are those of this environment.
    """
    versions = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    pinned = folder / "versions.txt"
    lines = [f"{name}=={version}" for name, version in versions.items() if name != PROJECT]
    pinned.write_text("\n".join(sorted(lines)) + "\n")
    packages = folder / "packages"
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--only-binary", ":all:"]
    asked = [f"{wheel}{extra}", "--constraint", str(pinned), "--dest", str(packages)]
    subprocess.run([*pip, *asked], check=True)
    for copy in packages.glob(wheel.name):
        copy.unlink()
    if installer == "pip":
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages), "PIP_CONSTRAINT": ""}
    uv_toml = folder / "uv.toml"  # so that the typed line is a user's, and reaches no network
    uv_toml.write_text(f'offline = true\nno-index = true\nfind-links = ["{packages}"]\n')
    settings = {
        "UV_CONFIG_FILE": str(uv_toml),
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
    }
    warm = folder / "warm"
    make = ("uv", "venv", "--python", base_python(), str(warm))
    install = ("uv", "pip", "install", "--python", str(warm), f"{wheel}{extra}")
    type_lines([make, install], folder, settings, show=False)
    shutil.rmtree(warm)
    return settings


def typed_lines(wheel: str, inputs: Inputs, installer: str) -> list[tuple[str, ...]]:
    """Return the three lines as words."""
    run = (".venv/bin/x3d-actions", "detect_actions", str(inputs.video), *inputs.options)
    asked = f"./{wheel}{inputs.extra}"
    if installer == "pip":
        return [(base_python(), "-m", "venv", ".venv"), (".venv/bin/pip", "install", asked), run]
    make = ("uv", "venv", "--python", base_python())
    # Named, so that no other environment can be meant.
    return [make, ("uv", "pip", "install", "--python", ".venv", asked), run]


def base_python() -> str:
    """Return the interpreter that this environment was made of."""
    return str(getattr(sys, "_base_executable", sys.executable))


def type_lines(
    lines: Sequence[Sequence[str]], folder: Path, settings: Mapping[str, str], *, show: bool = True
) -> list[float]:
    """Run lines in a folder, in an environment without this one's; return the seconds of each.

    Ends the program with exit code 1 where a line fails, with what it said.
    """
    kept = {name: value for name, value in os.environ.items() if not _leads_here(name)}
    seconds = []
    for line in lines:
        command = [uv_program() if line[0] == "uv" else line[0], *line[1:]]
        started, before = time.monotonic(), _processor_s()
        done = subprocess.run(
            command, cwd=folder, env={**kept, **settings}, capture_output=True, text=True
        )
        seconds.append(time.monotonic() - started)
        if show:
            spent = f"({seconds[-1]:.1f} s, {_processor_s() - before:.1f} s of processor time)"
            print(f"$ {' '.join(line)}\n{done.stdout}{spent}", flush=True)
        if done.returncode != 0:
            print(f"exit code {done.returncode}: {' '.join(line)}\n{done.stderr}", file=sys.stderr)
            sys.exit(1)
    return seconds


def _processor_s() -> float:
    """Return what programs that have ended took, on all cores."""
    spent = os.times()
    return spent.children_user + spent.children_system


def _leads_here(name: str) -> bool:
    """Say whether a variable would let another environment's packages or settings in."""
    return name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME") or name.startswith(("UV_", "PIP_"))


def uv_program() -> str:
    """Return uv, which is among the packages of this environment."""
    import uv

    return str(uv.find_uv_bin())


def find_problems(results: Path, video: Path) -> list[str]:
    """Return a line for each thing that is missing or wrong in a folder of results."""
    expected = ("annotated.mp4", "review.html", "detections.csv", "events.jsonl", "summary.json")
    missing = [f"{name} is missing" for name in expected if not (results / name).is_file()]
    if missing:
        return missing
    problems = []
    if not (results / "detections.csv").read_text().strip():
        problems.append("detections.csv: no person was found")
    page = (results / "review.html").read_text(encoding="utf-8")
    if not re.search(r"<script", page) or video.stem not in page:
        problems.append("review.html: no page of this video")
    json.loads((results / "summary.json").read_text())
    return problems + compare_videos(results / "annotated.mp4", video)


def compare_videos(annotated: Path, video: Path) -> list[str]:
    """Return what is wrong with an annotated video: it has the frames of the video, and boxes."""
    own, drawn = _frames(video), _frames(annotated)
    if len(own) != len(drawn):
        return [f"annotated.mp4: {len(drawn)} frames, the video has {len(own)}"]
    changed = 0
    for before, after in zip(own, drawn, strict=True):
        height, width = before.shape[:2]
        if abs(after.shape[1] / after.shape[0] - width / height) > 0.02:
            return [f"annotated.mp4: {after.shape} pixels, the video has {before.shape}"]
        # Small videos are drawn larger, so that names can be read.
        small = cv2.resize(after, (width, height), interpolation=cv2.INTER_AREA)
        far = np.abs(before.astype(np.int16) - small.astype(np.int16)).max(-1) > FAR
        changed += bool(far.mean() > DRAWN_PIXELS)
    return [] if changed else ["annotated.mp4: no box is drawn in any frame"]


def _frames(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame for _, frame in reader.frames()]


def report(seconds: Sequence[float], problems: Sequence[str], *, about: str, limit_s: float) -> int:
    """Print the seconds of each line and what is wrong; return the exit code."""
    made, installed, ran = seconds
    total = sum(seconds)
    print(
        f"from an empty environment to an annotated video: {total:.1f} s by the clock "
        f"(environment {made:.1f}, installation {installed:.1f}, {about}: {ran:.1f}; packages "
        "cached)"
    )
    problems = list(problems)
    if total > limit_s:
        problems.append(f"{total:.1f} s, at most {limit_s:g} s are allowed (--limit)")
    for problem in problems:
        print(f"from_wheel: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
