"""Trains and scores the candidates of a search, each in its own process.

Each network and seed has a folder (`candidate.py`) and in it, when it has ended, `result.json`.
Finished candidates are never trained again and interrupted ones are resumed, so a search may be
killed at any time.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.errors import EXIT_STOPPED, UserError
from detection.expansion.candidate import POLL_S, CandidateTraining, ProgramEnd, open_training
from detection.expansion.search import Outcome, TrainingRequest
from detection.files import naming, only_writer, write_text
from detection.jobs.base import Engine, Resources, WorkerLostError, WorkStopped
from detection.jobs.open import open_workers
from detection.models.x3d import X3DDescription

_MOST_LOST = 2  # workers of one training; then the search ends


class Stopped(WorkStopped):
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
    gpus: of each; 0: as this process sees them.
    engine, address: what runs them (`detection.jobs.open.open_workers`). With Ray all machines
        share the disk, and have Python and the program under the same paths.
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
    gpus: float = 0.0
    engine: Engine = "processes"
    address: str | None = None
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
            time.sleep(POLL_S)
        each = len(self.seeds)
        return [_outcome(work[index : index + each]) for index in range(0, len(work), each)]

    def _train(self, trainings: Sequence[TrainingJob]) -> None:
        if not trainings:
            return
        at_a_time = min(self.jobs, len(trainings))
        here = self.engine == "processes" and at_a_time == 1 and not self.gpus
        with open_workers(
            "here" if here else self.engine,
            open_training,
            workers=at_a_time,
            resources=Resources(cores=self.threads, gpus=self.gpus),
            address=self.address,
            grace_s=None,  # a training saves before it ends
        ) as workers:
            workers.on_progress = self._heed
            of_folder = {training.folder: training for training in trainings}
            lost: Counter[Path] = Counter()
            for training in trainings:
                with naming(training.folder):
                    training.folder.mkdir(parents=True, exist_ok=True)
                workers.submit(self._candidate(training))
            while workers.pending:
                self._heed(0.0)
                for ended in workers.wait(POLL_S):
                    folder = ended.piece.folder
                    if isinstance(ended.error, WorkerLostError) and lost[folder] < _MOST_LOST:
                        lost[folder] += 1
                    elif ended.error is not None:
                        raise ended.error
                    else:
                        assert ended.result is not None
                        self._end(of_folder[folder], ended.result)
                    if of_folder[folder].result() is None:
                        workers.submit(ended.piece)  # stopped by another process: to be resumed

    def _heed(self, amount: float) -> None:
        """Raise `Stopped` where the search is to stop; also within a training of this process."""
        if self.should_stop():
            raise Stopped

    def _candidate(self, training: TrainingJob) -> CandidateTraining:
        values = with_network(self.training, training.request.description)
        parent = training.request.parent
        seed = f"seed{training.seed}"
        return CandidateTraining(
            folder=training.folder,
            values=values | {"seed": training.seed, "output": str(training.run)},
            command=tuple(self.command),
            threads=self.threads,
            initial=self.initial,
            description=training.request.description,
            parent_run=None if parent is None else self.folder / name_of(parent) / seed / "run",
        )

    def _end(self, training: TrainingJob, end: ProgramEnd) -> None:
        if end.was_started:
            self.started.append(f"{training.folder.parent.name} seed {training.seed}")
        if end.code == EXIT_STOPPED or self.should_stop():
            return
        if end.metrics is not None:
            result: dict[str, Any] = {"score": self.score_of(end.metrics)}
            if not math.isfinite(result["score"]):
                result = {"failure": "its score is not a number"}
        else:
            result = {"failure": end.last_words}
        write_text(training.folder / "result.json", json.dumps(result) + "\n")
        words = f"{result['score']:.4f}" if "score" in result else f"failed: {result['failure']}"
        self.on_progress(f"  {training.folder.parent.name}, seed {training.seed}: {words}")


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
