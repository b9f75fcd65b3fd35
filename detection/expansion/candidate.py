"""The training of one candidate: a program of its own, started and watched by a worker.

Its folder has `config.yaml` (for `train_ava.py`), `run/` (its run folder) and `output.txt` (its
output). The folder is held while the program runs, by the worker and by the program itself.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detection.errors import EXIT_STOPPED, UserError
from detection.files import only_writer, write_text
from detection.jobs.base import Do, OnProgress
from detection.models.x3d import X3DDescription

POLL_S = 0.3
# Variables of torchrun are not passed on to training processes.
_NOT_PASSED_ON = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")


@dataclass(frozen=True)
class CandidateTraining:
    """A training as a worker gets it.

    folder: of the network and seed; there already, so that a worker without this disk says so.
    values: options of train_ava.py.
    command: the program, such as (python, train_ava.py).
    threads: of the program.
    initial: writes the weights that a network shares with its parent's finished run.
    description, parent_run: the network, and the run that it was grown from; None: random weights.
    """

    folder: Path
    values: Mapping[str, Any]
    command: tuple[str, ...]
    threads: int
    initial: Callable[[X3DDescription, Path, Path], None] | None
    description: X3DDescription
    parent_run: Path | None


@dataclass(frozen=True)
class ProgramEnd:
    """How a training program ended.

    code: its exit code, negative for a signal; 0 too where it had ended before.
    was_started: False where it had ended before.
    metrics: its metrics.json; None unless the code is 0.
    last_words: why it failed; None unless it did.
    """

    code: int
    was_started: bool
    metrics: dict[str, Any] | None
    last_words: str | None


def open_training() -> Do[CandidateTraining, ProgramEnd]:
    """Return what a worker does with each candidate."""
    return train_candidate


def train_candidate(candidate: CandidateTraining, on_progress: OnProgress) -> ProgramEnd:
    """Train a candidate, or go on with it; where `on_progress` raises the program saves and ends.

    Where a search was killed its trainings live on until they have saved; they are waited for.
    Raises `UserError` where the folder is not on this machine or cannot be written.
    """

    def may_wait() -> bool:
        on_progress(0.0)
        return True

    folder, metrics = candidate.folder, candidate.folder / "run" / "metrics.json"
    if not folder.is_dir():
        raise UserError(
            f"{folder}: not found on {socket.gethostname()}; all machines must share this disk"
        )
    with only_writer(folder, busy="is being trained", may_wait=may_wait) as handle:
        if metrics.is_file():  # ended after the last kill
            return ProgramEnd(0, False, json.loads(metrics.read_text(encoding="utf-8")), None)
        process = _start(candidate, handle)
        try:
            while process.poll() is None:
                on_progress(0.0)
                _wait(process)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    code = process.returncode
    if code == 0:
        return ProgramEnd(0, True, json.loads(metrics.read_text(encoding="utf-8")), None)
    return ProgramEnd(code, True, None, last_words(folder / "output.txt", code))


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait a little, no longer than the program runs."""
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return


def _start(candidate: CandidateTraining, handle: int) -> subprocess.Popen[bytes]:
    folder, threads = candidate.folder, candidate.threads
    if (folder / "run" / "checkpoints" / "last.pt").is_file():
        arguments = ["--resume", str(folder / "run")]
    else:
        config = folder / "config.yaml"
        write_text(config, yaml.safe_dump(_values(candidate), sort_keys=False))
        arguments = ["--cfg", str(config), "--overwrite"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)
    }
    environment["OMP_NUM_THREADS"] = str(threads)
    copied = os.dup(handle)  # so that the program holds the folder too, should we be killed
    try:
        with (folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [*candidate.command, *arguments, f"threads={threads}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[copied],
                start_new_session=True,  # a Ctrl-C reaches it as one SIGTERM, from this process
                preexec_fn=functools.partial(_stop_with_parent, os.getpid()),
            )
    finally:
        os.close(copied)


def _values(candidate: CandidateTraining) -> dict[str, Any]:
    values = dict(candidate.values)
    if candidate.initial is not None and candidate.parent_run is not None:
        start = candidate.folder / "initial.pt"
        candidate.initial(candidate.description, candidate.parent_run, start)
        values["model"] = {**values["model"], "pretrained": str(start)}
    return values


def _stop_with_parent(parent: int) -> None:
    """Make the kernel send SIGTERM to this forked process when `parent` ends.

    A training whose search was killed then saves and ends. Linux only; elsewhere it trains to the
    end.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # where they were ignored, so they would be here
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before
            os._exit(EXIT_STOPPED)


_PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if os.name == "posix" else None
_PR_SET_PDEATHSIG = 1  # sys/prctl.h


def last_words(output: Path, code: int) -> str:
    """Return why a training failed: the last line of its output, or the signal that ended it."""
    if code < 0:
        return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    text = output.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
