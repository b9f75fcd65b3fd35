"""A run from its configuration to its folder: start, go on, train, evaluate.

A run folder holds config.yaml, environment.json, log.jsonl, checkpoints/{last,best}.pt, and after
evaluation detections.csv, per_class.csv and metrics.json.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from detection import build
from detection.checkpoints.factory import Network, build_network
from detection.checkpoints.file import ModelFile
from detection.checkpoints.load import load_state
from detection.config import (
    RunConfig,
    config_from_dict,
    config_to_yaml,
    load_config,
)
from detection.datasets.loader import ClipLoader, TrainBatches, print_unreadable
from detection.engine.checkpoint import (
    check_configuration,
    followed_weights,
    keep_copy,
    read_checkpoint,
    restore_training,
    save_checkpoint,
)
from detection.engine.cpu_memory import keep_freed_memory
from detection.engine.data_digests import check_data, digests
from detection.engine.distributed import ALONE, Processes
from detection.engine.ema import WeightAverage
from detection.engine.loop import Progress, TrainingBatch, fit, stop_signals
from detection.engine.metrics_log import MetricsLog
from detection.engine.precise_norm import compute_norm_statistics
from detection.engine.random_state import random_state
from detection.engine.run_folder import check_begins_again, check_run_folder, make_run_folder
from detection.engine.tasks.base import Task
from detection.engine.tasks.by_name import open_task
from detection.engine.tensorboard_log import TensorBoard
from detection.engine.update import Updater
from detection.errors import ProcessLostError, UserError
from detection.files import write_text

# What may change when a run goes on: how it is carried out, never what it computes.
_CHANGEABLE = (
    "workers",
    "threads",
    "device",
    "checkpoint_minutes",
    "checkpoints_kept",
    "tensorboard",
    "data.max_unreadable",
    "data.root",
    "classification.video_folder",
)

_PLACES = ("data.root=", "classification.video_folder=")

ResultT = TypeVar("ResultT")


@dataclass
class Run:
    """Everything of a run that is under way."""

    config: RunConfig
    folder: Path
    task: Task
    model: Network
    average: WeightAverage | None
    device: torch.device
    log: MetricsLog
    processes: Processes
    data_digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def scored_model(self) -> Network:
        """The network whose mAP is told: the averaged one where there is one."""
        if self.average is None or not self.config.evaluation.use_average:
            return self.model
        return self.average.model


def start(
    config: RunConfig, *, overwrite: bool, processes: Processes = ALONE
) -> tuple[Run, Training]:
    """Check everything that can be checked, then make the run folder.

    The caller holds the folder: `with only_run(folder_of(config), processes)`.
    """
    folder = folder_of(config)
    processes.part_of(config.optim.batch_size, "optim.batch_size")
    processes.check_gpus(config.device)
    processes.by_first(lambda: check_run_folder(folder, overwrite=overwrite))
    device = build.build_device(config)
    build.build_precision(config, device)
    _seed(config.seed)
    task = open_task(config)
    model = task.build_model()
    report = build.start_from_pretrained(config, model, task.label_map)
    run = _run(config, folder, task, model, device, processes, learns=True)
    run.data_digests = digests(task.data_files)
    training = _training(run)
    processes.by_first(
        lambda: make_run_folder(
            folder,
            config_yaml=config_to_yaml(config),
            seed=config.seed,
            processes=processes.count,
        )
    )
    _seed_apart(config.seed, processes, update=0)
    run.log.write(
        "start",
        seed=config.seed,
        processes=processes.count,
        lr=config.optim.peak_lr,
        global_batch=config.optim.global_batch,
        precision=str(build.build_precision(config, device)).removeprefix("torch."),
    )
    if config.optim.lr_batch is not None and processes.is_first:
        optim = config.optim
        print(
            f"learning rate {optim.peak_lr:g}: {optim.lr:g} for {optim.lr_batch} clips, scaled to "
            f"{optim.global_batch} clips an update"
        )
    if report is not None and processes.is_first:
        print(report)
        run.log.write("pretrained", report=str(report))
    if config.probe.keyframes_per_video is not None:
        _fit_probe(run)
    return run, training


def folder_of(config: RunConfig) -> Path:
    """Return the folder that a configuration's run goes to."""
    return Path(config.output or "runs/unnamed")


def folder_to_resume(run_folder: str | Path) -> Path:
    """Return the folder of a run that is named by itself or by a checkpoint in it."""
    folder = Path(run_folder)
    if folder.is_file():
        folder = folder.parent.parent
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder / 'config.yaml'}: not found, this folder is not a run")
    return folder


def _open_task_again(config: RunConfig) -> Task:
    """Open the data of a stopped run, and say how to where they are gone."""
    try:
        return open_task(config)
    except UserError as error:
        if Path(config.data.root).exists():
            raise
        raise UserError(
            f"{error}; where the data moved, add data.root=NEW to the command"
        ) from error


def resume(
    run_folder: str | Path, *, overrides: Sequence[str], processes: Processes = ALONE
) -> tuple[Run, Training]:
    """Go on with a stopped run: the same configuration, weights, order and random states.

    run_folder: goes on from its last checkpoint; or a checkpoint in it, to go on from there. A run
    that was killed before it had one begins again. The caller holds the folder:
    `with only_run(folder_to_resume(run_folder), processes)`.
    """
    folder = folder_to_resume(run_folder)
    for override in overrides:
        if override.partition("=")[0] not in _CHANGEABLE:
            raise UserError(
                f"command line: '{override}': a resumed run computes what it would have computed; "
                f"only {', '.join(_CHANGEABLE)} may change"
            )
    config = load_config(folder / "config.yaml", overrides)
    if Path(run_folder).is_dir() and not (folder / "checkpoints" / "last.pt").is_file():
        return _begin_again(config, folder, processes)
    processes.part_of(config.optim.batch_size, "optim.batch_size")
    processes.check_gpus(config.device)
    if processes.is_first:
        for left in (folder / "checkpoints").glob(".writing-*"):  # a killed run's
            left.unlink()
    file = read_checkpoint(run_folder)
    check_configuration(file, config, changeable=(*_CHANGEABLE, "output"))
    device = build.build_device(config)
    build.build_precision(config, device)
    _seed(config.seed)
    task = _open_task_again(config)
    _check_fits(file, task)
    data = digests(task.data_files)
    if not check_data(file.path, file.training.get("data"), data) and processes.is_first:
        print(f"{file.path}: does not say what its annotations were, they are taken for the same")
    model = task.build_model()
    load_state(model, file, class_names=task.label_map.names)
    build.freeze_parts(config, model)
    run = _run(config, folder, task, model, device, processes, learns=True)
    run.data_digests = data
    training = _training(run)
    if processes.is_first and any(text.startswith(_PLACES) for text in overrides):
        write_text(folder / "config.yaml", config_to_yaml(config))  # where the data are from now on
    restored = restore_training(
        file,
        model=run.model,
        updater=training.updater,
        progress=training.progress,
        rank=processes.rank,
        processes=processes.count,
    )
    training.batches.go_on(file.training.get("unreadable") or [], rank=processes.rank)
    if not restored:  # another number of processes: the same order and recipe, other dropout
        _seed_apart(config.seed, processes, update=training.progress.update)
    run.log.write("resume", processes=processes.count, **dataclasses.asdict(training.progress))
    return run, training


def _begin_again(config: RunConfig, folder: Path, processes: Processes) -> tuple[Run, Training]:
    check_begins_again(folder)
    if processes.is_first:
        print(f"{folder}: stopped before its first checkpoint; it begins again")
    return start(
        dataclasses.replace(config, output=str(folder)), overwrite=True, processes=processes
    )


def open_for_evaluation(
    checkpoint: str | Path,
    *,
    cfg: str | None,
    overrides: Sequence[str],
    processes: Processes = ALONE,
) -> Run:
    """Open a checkpoint to be scored, by its own configuration or by `cfg`.

    Results go to `output` where that is set by `cfg` or an override, else beside the run.
    """
    file = read_checkpoint(checkpoint)
    if cfg is not None:
        config = load_config(cfg, overrides)
        folder = folder_of(config)
    else:
        config, folder = _own_config(file, overrides)
    assert file.network is not None
    task = open_task(config)
    _check_fits(file, task)
    model = build_network(file.network, source=file.path)
    if not config.evaluation.use_average:
        file = dataclasses.replace(file, state=followed_weights(file, model))
    load_state(model, file, class_names=task.label_map.names)
    device = build.build_device(config)
    run = _run(config, folder, task, model, device, processes, learns=False)
    return dataclasses.replace(run, average=None)


def train(run: Run, training: Training) -> bool:
    """Train to the last epoch; return False when a signal stopped it before (it is saved)."""
    config, processes = run.config, run.processes

    folder = run.folder / "checkpoints"

    def save(name: str) -> None:
        if name.startswith("epoch_"):
            if processes.is_first and config.checkpoints_kept:
                keep_copy(folder / "last.pt", name, kept=config.checkpoints_kept)
            return
        states = processes.gather(random_state())
        unreadable = processes.gather(training.batches.num_unreadable)
        if not processes.is_first:
            return
        save_checkpoint(
            folder / f"{name}.pt",
            config=config,
            label_map=run.task.label_map,
            exclusive=run.task.exclusive,
            model=run.model,
            updater=training.updater,
            progress=training.progress,
            random_states=states,
            unreadable=unreadable,
            data=run.data_digests,
        )

    if config.optim.epochs == 0:
        save("last")

    def before_scoring() -> None:
        count = config.optim.precise_bn_batches
        if count:
            compute_norm_statistics(
                run.scored_model,
                training.batches.epoch(training.progress.epoch),
                count=count,
                device=run.device,
                processes=processes,
            )

    with stop_signals() as should_stop, _told_how_to_go_on(run):
        finished = fit(
            training.updater,
            training.batches,
            optim=config.optim,
            progress=training.progress,
            before_scoring=before_scoring,
            evaluate=lambda: _uncompiled(run.task.score, run.scored_model),
            metric=run.task.metric,
            evaluate_every=config.evaluation.every_epochs,
            save=save,
            save_every_minutes=config.checkpoint_minutes,
            log=run.log,
            should_stop=should_stop,
        )
    if not finished:
        run.log.write("stopped", **dataclasses.asdict(training.progress))
    return finished


@contextmanager
def _told_how_to_go_on(run: Run) -> Iterator[None]:
    """Say so where a process is lost and the run has been saved."""
    try:
        yield
    except ProcessLostError as error:
        saved = "saved" if run.processes.count == 1 else "the last checkpoint stands"
        raise ProcessLostError(
            f"{error}; {saved}, go on with: python train_ava.py --resume {run.folder}"
        ) from error


def evaluate_and_report(run: Run) -> None:
    """Score everything with the weights as they are; write and print the results.

    The caller holds the run's folder (`only_run`).
    """
    _uncompiled(run.task.report, run.scored_model, run.folder, run.log)


@dataclass
class Training:
    """What only a run that learns has."""

    batches: EpochBatches
    updater: Updater
    progress: Progress


class EpochBatches:
    """A loader whose epochs can be entered at any batch."""

    def __init__(self, loader: ClipLoader[Any], order: TrainBatches) -> None:
        self._loader = loader
        self._order = order
        self._resumed = 0

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterable[TrainingBatch]:
        """Return the batches of `epoch` from the `start`-th on."""
        self._order.set_epoch(epoch, start_batch=start)
        self._loader.unreadable_before = self._resumed if start else 0
        self._resumed = 0
        return self._loader

    @property
    def num_unreadable(self) -> int:
        """Samples of the epoch under way that could not be read, before a stop too."""
        return self._loader.unreadable_before + len(self._loader.unreadable)

    def go_on(self, unreadable: Sequence[int], *, rank: int) -> None:
        """Take over how many samples each process could not read before the epoch was stopped."""
        self._resumed = unreadable[rank] if rank < len(unreadable) else 0

    def log_unreadable(self, log: MetricsLog) -> None:
        """Tell the log too of each sample that cannot be read (and is replaced)."""

        def tell(line: str) -> None:
            print_unreadable(line)
            log.write("unreadable", message=line)

        self._loader.report_unreadable = tell


def _run(
    config: RunConfig,
    folder: Path,
    task: Task,
    model: Network,
    device: torch.device,
    processes: Processes,
    *,
    learns: bool,
) -> Run:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        keep_freed_memory()

    model = build.prepare_to_train(config, build.place_model(model, device), device)
    task.prepare_scoring(device=device, processes=processes)
    decay = config.optim.ema_decay
    return Run(
        config,
        folder,
        task,
        model,
        None if decay is None else WeightAverage(model, decay=decay),
        device,
        MetricsLog(
            folder / "log.jsonl",
            silent=not processes.is_first,
            board=_board(config, folder, processes) if learns else None,
        ),
        processes,
    )


def _board(config: RunConfig, folder: Path, processes: Processes) -> TensorBoard | None:
    if not config.tensorboard or not processes.is_first:
        return None
    return TensorBoard(folder / "tensorboard")


def _training(run: Run) -> Training:
    config = run.config
    precision = build.build_precision(config, run.device)
    loader, order = run.task.training_batches(device=run.device, processes=run.processes)
    if config.compile:
        run.model.trunk.compile()
    updater = Updater(
        run.processes.wrap(run.model, run.device),
        build.build_optimizer(config, run.model),
        run.task.loss,
        device=run.device,
        precision=precision,
        clip_grad_norm=config.optim.clip_grad_norm,
        average=run.average,
        processes=run.processes,
    )
    batches = EpochBatches(loader, order)
    batches.log_unreadable(run.log)
    return Training(batches, updater, Progress())


def _fit_probe(run: Run) -> None:
    """Give the network, and its average where there is one, a fitted last layer."""
    done = run.task.fit_probe(run.model, device=run.device, processes=run.processes)
    if run.average is not None:
        run.average.restore(run.model.state_dict(), updates=0)
    if run.processes.is_first:
        print(done)
        run.log.write("probe", report=done)


def _check_fits(file: ModelFile, task: Task) -> None:
    """Refuse weights of another task, or whose columns stand for other classes."""
    assert file.classes is not None and file.network is not None
    if file.network.get("task") != task.name:
        raise UserError(
            f"{file.path}: a network for task '{file.network.get('task')}', one for task "
            f"'{task.name}' is wanted"
        )
    label_map = task.label_map
    if (file.classes.names, file.classes.ids) != (label_map.names, label_map.ids):
        theirs, ours = set(file.classes.names), set(label_map.names)
        only = sorted(theirs ^ ours)[:3]
        what = f"among them {', '.join(only)}" if only else "in another order or with other ids"
        raise UserError(
            f"{file.path}: its {len(file.classes.names)} classes are not the {len(label_map)} of "
            f"{task.classes_path} ({what})"
        )


def _own_config(file: ModelFile, overrides: Sequence[str]) -> tuple[RunConfig, Path]:
    if file.config is None:
        raise UserError(f"{file.path}: holds no configuration, give one with --cfg")
    config = config_from_dict(file.config, file.path, overrides)
    beside = Path(file.path).parent
    given = any(override.startswith("output=") for override in overrides)
    if given and config.output:
        return config, Path(config.output)
    return config, beside.parent if beside.name == "checkpoints" else beside


def _uncompiled(call: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Call without compiled code, which is made for the one shape of training clips."""
    with torch.compiler.set_stance("force_eager"):
        return call(*arguments)


def _seed(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)


def _seed_apart(seed: int, processes: Processes, *, update: int) -> None:
    """Give each of several processes random numbers (dropout) of its own."""
    if processes.count > 1:
        _seed(hash((seed, processes.rank, update)) % 2**31)
