"""A run from its configuration to its folder: start, go on, train, evaluate.

A run folder holds config.yaml, environment.json, log.jsonl, checkpoints/{last,best}.pt, and after
evaluation detections.csv, per_class.csv and metrics.json.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from detection import build
from detection.checkpoints.file import ModelFile, read_checkpoint
from detection.checkpoints.huggingface import local_source
from detection.checkpoints.load import build_network, load_state
from detection.config import (
    AnyConfig,
    BoardName,
    RunConfig,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    load_config,
)
from detection.datasets.loader import ClipLoader, TrainBatches, print_unreadable
from detection.engine.boards import Board
from detection.engine.checkpoint import (
    check_configuration,
    keep_copy,
    restore_training,
    save_checkpoint,
    unaveraged_weights,
)
from detection.engine.data_digests import check_data, digests
from detection.engine.distributed import ALONE, Processes
from detection.engine.ema import WeightAverage
from detection.engine.environment import prepare_device
from detection.engine.loop import Progress, train_epochs
from detection.engine.metrics_log import MetricsLog
from detection.engine.precise_norm import compute_norm_statistics
from detection.engine.run_folder import (
    TAUGHT_FILE,
    check_begins_again,
    check_run_folder,
    folder_of,
    make_run_folder,
    results_folder,
)
from detection.engine.tasks.base import Task, TrainingBatch
from detection.engine.tasks.by_name import open_task, read_saved_run
from detection.engine.tasks.x3d import X3DTask
from detection.engine.update import Updater, random_state
from detection.errors import EXIT_STOPPED, ProcessLostError, UserError
from detection.export.artefact import Artefact, find_artefact, read_artefact
from detection.export.make import open_beside
from detection.export.networks import open_exported
from detection.export.runtimes import FORM_OF, Runtime, choose_runtime, describe_runtime
from detection.export.session import Threads
from detection.files import write_text
from detection.reports.figures import write_png
from detection.reports.learning_curve import draw_learning_curve, read_learning_curve
from detection.signals import stop_signals

if TYPE_CHECKING:
    from detection.engine.tasks.base import SavedRun

# What may change when a run goes on: how it is carried out, never what it computes.
_CHANGEABLE = (
    "workers",
    "threads",
    "device",
    "checkpoint_minutes",
    "checkpoints_kept",
    "tensorboard",
    "boards",
    "data.max_unreadable",
    "data.root",
    "classification.video_folder",
)

_PLACES = ("data.root=", "classification.video_folder=")

ResultT = TypeVar("ResultT")


@dataclass
class Run:
    """Everything of a run that is under way.

    config: what it computes and how.
    folder: where its files are.
    task: what is trained, on which data.
    model: the network, on its device.
    average: the exponential moving average (EMA) of its weights, where one is kept.
    device: that computes.
    log: its log.jsonl.
    processes: those that train it together.
    data_digests: of the files that determine training and scoring data.
    runtime: that runs the model: "torch", or another with its version.
    """

    config: AnyConfig
    folder: Path
    task: Task
    model: nn.Module
    average: WeightAverage | None
    device: torch.device
    log: MetricsLog
    processes: Processes
    data_digests: Mapping[str, str] = field(default_factory=dict)
    runtime: str = "torch"

    @property
    def scored_model(self) -> nn.Module:
        """The network that is scored: the averaged one where there is one."""
        if self.average is None or not self.config.evaluation.use_average:
            return self.model
        return self.average.model


def start(
    config: AnyConfig, *, overwrite: bool, processes: Processes = ALONE
) -> tuple[Run, Training]:
    """Check everything that can be checked, then make the run folder.

    The caller holds the folder: `with only_run(folder_of(config), processes)`.
    """
    folder = folder_of(config)
    _check_processes(config, processes)
    processes.by_first(lambda: check_run_folder(folder, overwrite=overwrite))
    device = prepare_device(config)
    build.build_precision(config, device)
    _seed(config.seed)
    task = open_task(config)
    model = task.build_model()
    report = task.initialize(model)
    run = _run(config, folder, task, model, device, processes, learns=True)
    run.data_digests = digests(task.data_files)
    training = _training(run)
    processes.by_first(
        lambda: make_run_folder(
            folder, config_yaml=config_to_yaml(config), seed=config.seed, processes=processes.count
        )
    )
    _seed_apart(config.seed, processes, update=0)
    _tell_start(run)
    if report is not None and processes.is_first:
        print(report)
        run.log.write("pretrained", report=str(report))
    _fit_probe(run)
    if _is_contest(run):
        _save(run, training, "probe")
    return run, training


def _check_processes(config: AnyConfig, processes: Processes) -> None:
    processes.part_of(config.optim.batch_size, "optim.batch_size")
    processes.check_gpus(config.device)


def _tell_start(run: Run) -> None:
    """Begin the log, and the task's own files; say where the learning rate was scaled."""
    config, processes = run.config, run.processes
    optim = config.optim
    run.log.write(
        "start",
        seed=config.seed,
        processes=processes.count,
        lr=optim.peak_lr,
        global_batch=optim.global_batch,
        precision=str(build.build_precision(config, run.device)).removeprefix("torch."),
        **(run.task.begin(run.folder) if processes.is_first else {}),
    )
    if optim.lr_batch is not None and processes.is_first:
        print(
            f"learning rate {optim.peak_lr:g}: {optim.lr:g} for {optim.lr_batch} clips, scaled to "
            f"{optim.global_batch} clips an update"
        )


def folder_to_resume(run_folder: str | Path) -> Path:
    """Return the folder of a run that is named by itself or by a checkpoint in it."""
    folder = Path(run_folder)
    if folder.is_file():
        folder = folder.parent.parent
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder / 'config.yaml'}: not found, this folder is not a run")
    return folder


def _open_task_again(config: AnyConfig) -> Task:
    """Open the data of a stopped run, and say how to where they are gone."""
    try:
        return open_task(config)
    except UserError as error:
        if Path(config.data.root).exists():
            raise
        where = "where the data moved, add data.root=NEW to the command"
        raise UserError(f"{error}; {where}") from error


def resume(
    run_folder: str | Path,
    *,
    overrides: Sequence[str],
    processes: Processes = ALONE,
    load: Callable[[Path, Sequence[str]], AnyConfig] = load_config,
) -> tuple[Run, Training]:
    """Go on with a stopped run: the same configuration, weights, order and random states.

    run_folder: goes on from its last checkpoint; or a checkpoint in it, to go on from there. A run
    that was killed before it had one begins again.  load: reads its configuration. The caller holds
    the folder: `with only_run(folder_to_resume(run_folder), processes)`.
    """
    folder = folder_to_resume(run_folder)
    for override in overrides:
        if override.partition("=")[0] not in _CHANGEABLE:
            raise UserError(
                f"command line: '{override}': a resumed run computes what it would have computed; "
                f"only {', '.join(_CHANGEABLE)} may change"
            )
    config = load(folder / "config.yaml", overrides)
    if (folder / TAUGHT_FILE).is_file():
        raise UserError(
            f"{folder}: a run of teach, which goes on with: python -m ava_tools.teach "
            f"--dataset {config.data.root} --out {folder}"
        )
    if Path(run_folder).is_dir() and not (folder / "checkpoints" / "last.pt").is_file():
        check_begins_again(folder)
        if processes.is_first:
            print(f"{folder}: stopped before its first checkpoint; it begins again")
        config = dataclasses.replace(config, output=str(folder))
        return start(config, overwrite=True, processes=processes)
    _check_processes(config, processes)
    if processes.is_first:
        for left in (folder / "checkpoints").glob(".writing-*"):  # a killed run's
            left.unlink()
    file = read_saved_run(config, run_folder)
    check_configuration(file, config, changeable=(*_CHANGEABLE, "output"))
    device = prepare_device(config)
    build.build_precision(config, device)
    _seed(config.seed)
    task = _open_task_again(config)
    task.check_fits(file)
    data = digests(task.data_files)
    if not check_data(file.path, file.training.get("data"), data) and processes.is_first:
        print(f"{file.path}: does not say what its annotations were, they are taken for the same")
    model = task.build_model()
    task.load(model, file)
    run = _run(config, folder, task, model, device, processes, learns=True)
    run.data_digests = data
    training = _training(run)
    if processes.is_first and any(text.startswith(_PLACES) for text in overrides):
        write_text(folder / "config.yaml", config_to_yaml(config))  # where the data are from now on
    _restore(run, training, file)
    return run, training


def _restore(run: Run, training: Training, file: SavedRun) -> None:
    """Continue exactly where a checkpoint was written."""
    processes = run.processes
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
        _seed_apart(run.config.seed, processes, update=training.progress.update)
    run.log.write("resume", processes=processes.count, **dataclasses.asdict(training.progress))


def open_for_evaluation(
    checkpoint: str | Path,
    *,
    cfg: str | None,
    overrides: Sequence[str],
    processes: Processes = ALONE,
    runtime: str | None = None,
) -> Run:
    """Open a checkpoint to be scored, by its own configuration or by `cfg`.

    checkpoint: also an exported network's folder, a model folder, or `hub:user/name`.
    runtime: as `choose_runtime` takes it; the network is exported once and kept beside the
    checkpoint.
    Results go to `output` where that is set by `cfg` or an override, else beside the run.
    """
    checkpoint = str(local_source(checkpoint))
    exported = find_artefact(checkpoint)
    artefact = None if exported is None else read_artefact(exported)
    file = read_checkpoint(checkpoint) if artefact is None else artefact.file
    if cfg is not None:
        config = load_config(cfg, overrides)
        folder = folder_of(config)
    else:
        if file.config is None:
            raise UserError(f"{file.path}: holds no configuration, give one with --cfg")
        config = config_from_dict(file.config, file.path, overrides)
        folder = results_folder(file.path, config, overrides)
    assert file.network is not None
    task = open_task(config)
    assert isinstance(task, X3DTask)
    task.check_fits(file)
    device = prepare_device(config)
    chosen, why = choose_runtime(runtime, device, artefact=artefact)
    model = None
    if artefact is None:
        model = build_network(file.network, source=file.path)
        if not config.evaluation.use_average:
            file = dataclasses.replace(file, state=unaveraged_weights(file, model))
        load_state(model, file, class_names=task.label_map.names)
    if model is not None and chosen == "torch":
        run = _run(config, folder, task, model, device, processes, learns=False)
        return dataclasses.replace(run, average=None)
    run = _run(config, folder, task, None, device, processes, learns=False)
    described = describe_runtime(FORM_OF[chosen], "f32")
    if processes.is_first:
        print(f"runtime: {described}" + (f" ({why})" if why else ""))
    opened = _open_exported(file, artefact, chosen, on_note=print if processes.is_first else None)
    return dataclasses.replace(run, model=opened, runtime=described)


def _open_exported(
    file: ModelFile,
    artefact: Artefact | None,
    runtime: Runtime,
    *,
    on_note: Callable[[str], object] | None,
) -> nn.Module:
    """Open an exported network, or a checkpoint's by a runtime."""
    threads = Threads(torch.get_num_threads())
    if artefact is not None:
        return open_exported(artefact, threads=threads)
    return open_beside(file, runtime, threads=threads, on_note=on_note or (lambda note: None))


def train_and_report(run: Run, training: Training) -> int:
    """Train to the last epoch, then score and report; return the exit code."""
    if not train(run, training):
        if run.processes.is_first:
            print(f"stopped and saved; go on with: {run.task.command} --resume {run.folder}")
        return EXIT_STOPPED
    if _is_contest(run):
        _keep_probe_unless_beaten(run, training)
    evaluate_and_report(run)
    if run.processes.is_first:
        _draw_learning_curve(run)
    return 0


def _draw_learning_curve(run: Run) -> None:
    """Write learning_curve.png, where anything was learned by updates."""
    figure = draw_learning_curve(
        read_learning_curve(run.folder / "log.jsonl", metric=run.task.metric)
    )
    if figure is not None:
        write_png(run.folder / "learning_curve.png", figure)


def train(run: Run, training: Training) -> bool:
    """Train to the last epoch; return False when a signal stopped it before (it is saved)."""
    config, task = run.config, run.task
    save = functools.partial(_save, run, training)
    if config.optim.epochs == 0:
        save("last")

    def before_scoring() -> None:
        if config.optim.precise_bn_batches:
            compute_norm_statistics(
                run.scored_model,
                training.batches.epoch(training.progress.epoch),
                forward=task.forward,
                count=config.optim.precise_bn_batches,
                processes=run.processes,
            )

    with stop_signals() as should_stop, _told_how_to_go_on(run):
        finished = train_epochs(
            training.updater,
            training.batches,
            optim=config.optim,
            progress=training.progress,
            before_scoring=before_scoring,
            evaluate=lambda: _uncompiled(task.score, run.scored_model),
            metric=task.metric,
            evaluate_every=config.evaluation.every_epochs,
            event=task.evaluation_event,
            score_last=task.scores_last_epoch,
            save=save,
            save_every_minutes=config.checkpoint_minutes,
            log=run.log,
            should_stop=should_stop,
        )
    if not finished:
        run.log.write("stopped", **dataclasses.asdict(training.progress))
    return finished


def _save(run: Run, training: Training, name: str) -> None:
    """Write checkpoints/NAME.pt; all processes call it, the first one writes."""
    folder, processes = run.folder / "checkpoints", run.processes
    if name.startswith("epoch_"):
        if processes.is_first and run.config.checkpoints_kept:
            keep_copy(folder / "last.pt", name, kept=run.config.checkpoints_kept)
        return
    states = processes.gather(random_state())
    unreadable = processes.gather(training.batches.num_unreadable)
    if processes.is_first:
        save_checkpoint(
            folder / f"{name}.pt",
            save=run.task.save,
            model=run.model,
            updater=training.updater,
            progress=training.progress,
            random_states=states,
            unreadable=unreadable,
            data=run.data_digests,
        )


@contextmanager
def _told_how_to_go_on(run: Run) -> Iterator[None]:
    """Say so where a process is lost and the run has been saved."""
    try:
        yield
    except ProcessLostError as error:
        saved = "saved" if run.processes.count == 1 else "the last checkpoint stands"
        raise ProcessLostError(
            f"{error}; {saved}, go on with: {run.task.command} --resume {run.folder}"
        ) from error


def evaluate_and_report(run: Run) -> None:
    """Score everything with the weights as they are; write and print the results.

    The caller holds the run's folder (`only_run`).
    """
    if run.runtime != "torch":
        run.log.write("runtime", runtime=run.runtime)
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

        def report(line: str) -> None:
            print_unreadable(line)
            log.write("unreadable", message=line)

        self._loader.report_unreadable = report


def _run(
    config: AnyConfig,
    folder: Path,
    task: Task,
    model: nn.Module | None,
    device: torch.device,
    processes: Processes,
    *,
    learns: bool,
) -> Run:
    """Put a run together.  model: None: one that is opened later, to be scored alone."""
    placed = nn.Identity() if model is None else task.place(model, device)
    task.prepare_scoring(device=device, processes=processes)
    decay = config.optim.ema_decay
    average = None
    if decay is not None and model is not None:
        average = WeightAverage(placed, decay=decay)
    older: tuple[BoardName, ...] = ("tensorboard",) if config.tensorboard else ()
    names = (*config.boards, *older)
    board = Board(names, folder, config_to_dict(config)) if learns and names else None
    log = MetricsLog(folder / "log.jsonl", silent=not processes.is_first, board=board)
    return Run(config, folder, task, placed, average, device, log, processes)


def _training(run: Run) -> Training:
    config = run.config
    loader, order = run.task.training_batches(device=run.device, processes=run.processes)
    updater = Updater(
        run.processes.wrap(run.task.training_module(run.model), run.device),
        run.task.build_optimizer(run.model),
        run.task.loss,
        device=run.device,
        precision=build.build_precision(config, run.device),
        clip_grad_norm=config.optim.clip_grad_norm,
        average=run.average,
        processes=run.processes,
    )
    batches = EpochBatches(loader, order)
    batches.log_unreadable(run.log)
    return Training(batches, updater, Progress())


def _fit_probe(run: Run) -> None:
    """Give the network, and its average where there is one, a fitted last layer, where asked."""
    done = run.task.fit_probe(run.model, device=run.device, processes=run.processes)
    if done is None:
        return
    if run.average is not None:
        run.average.restore(run.model.state_dict(), updates=0)
    if run.processes.is_first:
        print(done)
        run.log.write("probe", report=done)


def _is_contest(run: Run) -> bool:
    """Say whether the fine-tuned network has to beat the probe that it began with."""
    config = run.config
    if not isinstance(config, RunConfig) or config.probe.keyframes_per_video is None:
        return False
    return config.probe.keep_unless_beaten and config.optim.epochs > 0


def _keep_probe_unless_beaten(run: Run, training: Training) -> None:
    """Score both networks on the validation split; the probe's weights come back if as good."""
    path = run.folder / "checkpoints" / "probe.pt"
    probe = read_checkpoint(path)
    tuned_state = copy.deepcopy(run.scored_model.state_dict())
    tuned = _metric(run)
    run.scored_model.load_state_dict(probe.state)
    kept = _metric(run)
    better = tuned > kept
    if better:
        run.scored_model.load_state_dict(tuned_state)
    else:
        run.model.load_state_dict(probe.state)
        if run.average is not None:
            run.average.restore(probe.state, updates=training.progress.update)
        _save(run, training, "last")
    run.log.write("contest", probe=kept, fine_tuned=tuned, kept="fine_tuned" if better else "probe")
    if run.processes.is_first:
        verdict = "is kept" if better else "is no better: the probe is kept"
        print(
            f"{run.task.metric} on {run.config.data.val_split}: {kept:.4f} linear probe, "
            f"{tuned:.4f} fine-tuned, which {verdict}"
        )


def _metric(run: Run) -> float:
    evaluation = _uncompiled(run.task.score, run.scored_model)
    return math.nan if evaluation is None else evaluation.score


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
