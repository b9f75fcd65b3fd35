"""Trains and scores the candidates of a search, each in its own process.

Each network and seed has a folder: `config.yaml` (for `train_ava.py`), `run/` (its run folder),
`output.txt` (its output) and, when it has ended, `result.json`. Finished candidates are never
trained again and interrupted ones are resumed, so a search may be killed at any time.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detection.errors import EXIT_STOPPED, UserError
from detection.expansion.search import Outcome, TrainingRequest
from detection.files import only_writer, write_text
from detection.models.x3d import X3DDescription

_POLL_S = 0.3
# Variables of torchrun are not passed on to training processes.
_NOT_PASSED_ON = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")


class Stopped(Exception):
    """The search was asked to stop; running trainings have saved."""


@dataclass
class Scheduler:
    """Trains and scores networks, several at a time.

    folder: of the candidates.
    training: options of train_ava.py.
    command: the program, such as [python, train_ava.py].
    score_of: reads the score from a run's metrics.json.
    share: rank and number of the processes that share this search (and its disk).
    seeds: of each network.
    jobs: trainings at a time.
    threads: of each.
    initial: writes the weights that a network shares with its parent's finished run; None: random
        weights.
    on_progress: called with a line on each training that has ended.
    """

    folder: Path
    training: Mapping[str, Any]
    command: Sequence[str]
    score_of: Callable[[Mapping[str, Any]], float]
    seeds: Sequence[int] = (0,)
    jobs: int = 1
    threads: int = 1
    share: tuple[int, int] = (0, 1)
    initial: Callable[[X3DDescription, Path, Path], None] | None = None
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[str], None] = print
    started: list[str] = field(default_factory=list)

    def __call__(self, requests: Sequence[TrainingRequest]) -> list[Outcome]:
        """Return the outcomes of the networks, training those without one.

        Raises `Stopped` when `should_stop` says so.
        """
        work = [
            TrainingJob(self.folder / name_of(one.description) / f"seed{seed}", one, seed)
            for one in requests
            for seed in self.seeds
        ]
        # Candidates may coincide: each network is trained once.
        different = list({one.folder: one for one in work}.values())
        rank, count = self.share
        self._train([one for one in different[rank::count] if one.result() is None])
        while any(one.result() is None for one in work):  # the others' share
            if self.should_stop():
                raise Stopped
            time.sleep(_POLL_S)
        each = len(self.seeds)
        return [_outcome(work[index : index + each]) for index in range(0, len(work), each)]

    def _train(self, waiting: list[TrainingJob]) -> None:
        running: list[tuple[TrainingJob, subprocess.Popen[bytes], ExitStack]] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs and not self.should_stop():
                    training = waiting.pop(0)
                    lock = ExitStack()
                    handle = lock.enter_context(self._only(training))
                    if (training.run / "metrics.json").is_file():  # ended after the last kill
                        self._end(training, 0)
                        lock.close()
                        continue
                    running.append((training, self._start(training, handle), lock))
                for entry in list(running):
                    training, process, lock = entry
                    if process.poll() is not None:
                        running.remove(entry)
                        lock.close()
                        self._end(training, process.returncode)
                        if training.result() is None and not self.should_stop():
                            waiting.append(training)  # stopped by another process: to be resumed
                if self.should_stop():
                    for _, process, _ in running:
                        process.terminate()
                    if not running:
                        raise Stopped
                time.sleep(_POLL_S)
        finally:
            for _, process, lock in running:
                process.terminate()
                process.wait()
                lock.close()

    def _only(self, training: TrainingJob) -> AbstractContextManager[int]:
        """Hold a training's folder.

        Where a search was killed its trainings live on until they have saved; they are waited for.
        """

        def may_wait() -> bool:
            if self.should_stop():
                raise Stopped
            return True

        return only_writer(training.folder, busy="is being trained", may_wait=may_wait)

    def _start(self, training: TrainingJob, handle: int) -> subprocess.Popen[bytes]:
        checkpoint = training.run / "checkpoints" / "last.pt"
        if checkpoint.is_file():
            arguments = ["--resume", str(training.run)]
        else:
            config = training.folder / "config.yaml"
            write_text(config, yaml.safe_dump(self._values(training), sort_keys=False))
            arguments = ["--cfg", str(config), "--overwrite"]
        self.started.append(f"{training.folder.parent.name} seed {training.seed}")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)
        }
        environment["OMP_NUM_THREADS"] = str(self.threads)
        copied = os.dup(handle)  # so that the program holds the folder too, should we be killed
        try:
            with (training.folder / "output.txt").open("ab") as output:
                return subprocess.Popen(
                    [*self.command, *arguments, f"threads={self.threads}"],
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

    def _values(self, training: TrainingJob) -> dict[str, Any]:
        values = with_network(self.training, training.request.description)
        values |= {"seed": training.seed, "output": str(training.run)}
        parent = training.request.parent
        if self.initial is not None and parent is not None:
            start = training.folder / "initial.pt"
            run = self.folder / name_of(parent) / f"seed{training.seed}" / "run"
            self.initial(training.request.description, run, start)
            values["model"]["pretrained"] = str(start)
        return values

    def _end(self, training: TrainingJob, code: int) -> None:
        if code == EXIT_STOPPED or self.should_stop():
            return
        if code == 0:
            metrics = json.loads((training.run / "metrics.json").read_text(encoding="utf-8"))
            result: dict[str, Any] = {"score": self.score_of(metrics)}
            if not math.isfinite(result["score"]):
                result = {"failure": "its score is not a number"}
        else:
            result = {"failure": training.last_words(code)}
        write_text(training.folder / "result.json", json.dumps(result) + "\n")
        words = f"{result['score']:.4f}" if "score" in result else f"failed: {result['failure']}"
        self.on_progress(f"  {training.folder.parent.name}, seed {training.seed}: {words}")


def _stop_with_parent(parent: int) -> None:
    """Make the kernel send SIGTERM to this forked process when `parent` ends.

    A training whose search was killed then saves and ends. Linux only; elsewhere it trains to the
    end.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # where it was ignored, so it would be here
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before
            os._exit(EXIT_STOPPED)


_PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if os.name == "posix" else None
_PR_SET_PDEATHSIG = 1  # sys/prctl.h


@dataclass(frozen=True)
class TrainingJob:
    """The training of one network and seed, and its folder."""

    folder: Path
    request: TrainingRequest
    seed: int

    @property
    def run(self) -> Path:
        """The run folder of train_ava.py."""
        return self.folder / "run"

    def result(self) -> dict[str, Any] | None:
        """Return its result; None if it has not ended."""
        path = self.folder / "result.json"
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: not JSON; remove it to train this network again") from error
        if not isinstance(values, dict) or not ("score" in values) ^ ("failure" in values):
            raise UserError(f"{path}: a score or a failure is required, found {values!r}")
        return values

    def last_words(self, code: int) -> str:
        """Return why a training failed: its last line, or the signal that ended it."""
        if code < 0:
            return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
        text = (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
        return lines[-1].removeprefix("error: ") if lines else f"exit code {code}"


def name_of(description: X3DDescription) -> str:
    """Return a network's name, made of its numbers, for folders and reports."""
    return (
        f"{description.num_frames}x{description.step:.6g}_{description.train_crop}px"
        f"_w{description.width_factor:g}_b{description.bottleneck_factor:g}"
        f"_d{description.depth_factor:g}"
    )


def with_network(training: Mapping[str, Any], description: X3DDescription) -> dict[str, Any]:
    """Return train_ava.py's options for this network."""
    values = copy.deepcopy(dict(training))
    values["clip"] = {
        **(values.get("clip") or {}),
        "num_frames": description.num_frames,
        "step": description.step,
        "train_short_side_px": list(description.train_short_side),
        "train_crop_px": description.train_crop,
        "test_short_side_px": description.test_crop,
    }
    values["model"] = {
        **(values.get("model") or {}),
        "variant": "x2d",
        "width_factor": description.width_factor,
        "bottleneck_factor": description.bottleneck_factor,
        "depth_factor": description.depth_factor,
    }
    return values


def _outcome(trainings: Sequence[TrainingJob]) -> Outcome:
    results = [one.result() or {} for one in trainings]
    scores = tuple(result["score"] for result in results if "score" in result)
    return Outcome(scores, next((r["failure"] for r in results if "failure" in r), None))


def only_search(folder: Path) -> AbstractContextManager[int]:
    """Refuse a second search in the same folder at the same time."""
    return only_writer(folder, busy="another search works in this folder")
