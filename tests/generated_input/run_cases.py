"""Generated bad inputs over all commands: how each ends, how long it takes, what it leaves behind.

    python tests/generated_input/run_cases.py [--seed 0] [--count 300] [--first 0] [--fresh]

Each case takes a command of `valid_inputs.COMMANDS` and damages one of its inputs, or one of its
options. It is run in a process of its own and must end with exit code 0, 2 or 75 (1 where `check`
or `verify` printed findings), at most three lines on stderr, no traceback, within 10 s of
processor time (a minute by the clock, as others may use the machine), below 2 GB, and leave no
temporary file. `--fresh` starts a new interpreter for each case; otherwise it is
forked from one that has the modules loaded, which is much quicker and leaves the same code to run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent.parent
for place in (TESTS.parent, TESTS / "helpers", TESTS / "generated_input"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from damage import copy_tree, damage_file, damage_option  # noqa: E402
from valid_inputs import COMMANDS, Command, make_valid_inputs  # noqa: E402

# A search that its input does not stop trains three networks, each in an interpreter of its own.
SEARCH_SECONDS = 30.0
MAX_SECONDS, MAX_BYTES, MAX_LINES = 10.0, 2 << 30, 3
GIVE_UP_S = 60.0
_BAR = re.compile(r"\d+%\||it/s|s/it|\?it|/s\]|s of video")


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    seconds: by the clock; cpu_seconds: of the processors, its children's too; peak_bytes: the
    largest resident set.
    """

    case: int
    what: str
    code: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str
    stderr: str
    leftovers: tuple[str, ...]

    def faults(self) -> list[str]:
        """Return what is wrong with the way it ended, in words."""
        lines = [line.rpartition("\r")[2] for line in self.stderr.split("\n")]
        lines = [line for line in lines if line.strip() and not _BAR.search(line)]
        findings = self.what.startswith(("check", "verify")) and bool(self.stdout.strip())
        found = []
        if self.code not in ((0, 1, 2, 75) if findings else (0, 2, 75)):
            found.append(f"exit code {self.code}")
        if "Traceback" in self.stderr or "Traceback" in self.stdout:
            found.append("a traceback")
        if len(lines) > MAX_LINES:
            found.append(f"{len(lines)} lines on stderr")
        if self.code == 2 and not any("error:" in line for line in lines):
            found.append("exit code 2 without a word")
        searched = self.what.startswith("expand --cfg") and self.code == 0
        if self.cpu_seconds > (SEARCH_SECONDS if searched else MAX_SECONDS):
            found.append(f"{self.cpu_seconds:.1f} s of processor time")
        if self.peak_bytes > MAX_BYTES:
            found.append(f"{self.peak_bytes / 2**20:.0f} MiB")
        if "\x1b" in self.stdout + self.stderr.replace("\x1b[A", ""):
            found.append("control characters in the output")
        if self.leftovers:
            found.append(f"left behind: {', '.join(self.leftovers)}")
        return found


def run_case(case: int, seed: int, valid: Path, folder: Path, *, fresh: bool = False) -> Outcome:
    """Damage, run and judge one case in `folder`, which must not exist."""
    random = np.random.default_rng([seed, case])
    command: Command = COMMANDS[int(random.integers(0, len(COMMANDS)))]
    copy_tree(valid, folder)
    arguments = list(command.arguments)
    if command.inputs and random.random() < 0.85:
        name = command.inputs[int(random.integers(0, len(command.inputs)))]
        what = f"{damage_file(random, folder / name)} {name}"
    else:
        what = damage_option(random, arguments)
    return _run(case, command.module, arguments, what, folder, fresh=fresh)


def run_command_line(command: Command, valid: Path, folder: Path) -> Outcome:
    """Run a command on undamaged inputs in `folder`, which must not exist."""
    copy_tree(valid, folder)
    return _run(-1, command.module, list(command.arguments), "undamaged", folder)


def _run(
    case: int, module: str, arguments: list[str], what: str, folder: Path, *, fresh: bool = False
) -> Outcome:
    start = time.monotonic()
    if fresh:
        program = (
            [sys.executable, str(TESTS.parent / "train_ava.py")]
            if module == "train_ava"
            else [sys.executable, "-m", f"ava_tools.{module}"]
        )
        code, cpu_s, peak = _run_fresh([*program, *arguments], folder)
    else:
        code, cpu_s, peak = _run_forked(module, arguments, folder)
    seconds = time.monotonic() - start
    said = [(folder / name).read_text("utf-8", "replace") for name in ("stdout", "stderr")]
    leftovers = tuple(
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if path.name.startswith(".writing-") or "-building-" in path.name
    )
    line = f"{module} {' '.join(arguments)}: {what}"
    return Outcome(case, line, code, seconds, cpu_s, peak, *said, leftovers)


def _run_fresh(program: list[str], folder: Path) -> tuple[int, float, int]:
    environment = dict(os.environ, PYTHONPATH=str(TESTS.parent), OMP_NUM_THREADS="1")
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        child = subprocess.Popen(
            program, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            env=environment, start_new_session=True,
        )  # fmt: skip
    return _wait(child.pid)


def _run_forked(module: str, arguments: list[str], folder: Path) -> tuple[int, float, int]:
    name = "train_ava" if module == "train_ava" else f"ava_tools.{module}"
    main = importlib.import_module(name).main
    child = os.fork()
    if child:
        return _wait(child)
    code = 1
    try:
        os.setsid()
        # Helpers of multiprocessing that the parent started are no children of this process.
        multiprocessing.forkserver._forkserver.__init__()  # type: ignore[attr-defined,misc]
        multiprocessing.resource_tracker._resource_tracker.__init__()  # type: ignore[misc]
        os.chdir(folder)
        for number, path in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = (
            open(i, "rw"[i > 0], closefd=False)  # noqa: SIM115, PTH123
            for i in range(3)
        )
        sys.argv = [name, *arguments]
        from ava_tools.cli import run_command

        try:
            run_command(main)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> tuple[int, float, int]:
    """Wait for a process; return its exit code, processor seconds and peak bytes."""
    end = time.monotonic() + GIVE_UP_S
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            end = float("inf")
        time.sleep(0.02)
    cpu_s = usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(status), cpu_s, usage.ru_maxrss * 1024


def load_modules() -> None:
    """Load what the commands load late, once, before cases are forked."""
    for name in sorted({command.module for command in COMMANDS}):
        importlib.import_module("train_ava" if name == "train_ava" else f"ava_tools.{name}")
    for name in ("torch", "torchvision", "av", "cv2", "detection.engine.runs"):
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


def main() -> int:
    """Run the cases, print those that ended badly and a count of how all ended."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args()
    codes: dict[int, int] = {}
    bad, slowest, largest = 0, 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        valid = Path(name) / "valid"
        valid.mkdir()
        here = Path.cwd()
        os.chdir(valid)
        with contextlib.redirect_stdout(io.StringIO()):
            make_valid_inputs(valid)
        os.chdir(here)
        load_modules()
        for case in range(options.first, options.first + options.count):
            folder = Path(name) / str(case)
            outcome = run_case(case, options.seed, valid, folder, fresh=options.fresh)
            subprocess.run(["rm", "-rf", str(folder)], check=True)
            codes[outcome.code] = codes.get(outcome.code, 0) + 1
            slowest = max(slowest, outcome.seconds)
            largest = max(largest, outcome.peak_bytes)
            faults = outcome.faults()
            bad += bool(faults)
            if faults or options.verbose:
                print(f"case {case}: {outcome.what}\n  {'; '.join(faults) or 'well'}, code "
                      f"{outcome.code}, {outcome.seconds:.1f} s", flush=True)  # fmt: skip
                for line in outcome.stderr.strip().split("\n")[-4:]:
                    print(f"    {line.rpartition(chr(13))[2][:300]}", flush=True)
    print(f"{options.count} cases, {bad} ended badly; exit codes {dict(sorted(codes.items()))}; "
          f"slowest {slowest:.1f} s, largest {largest / 2**20:.0f} MiB")  # fmt: skip
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
