"""A run from its configuration to its folder: start, go on, train, evaluate.

A run folder holds config.yaml, environment.json, log.jsonl, checkpoints/{last,best}.pt, and after
evaluation detections.csv, per_class.csv and metrics.json.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from detection import build
from detection.config import (
    RunConfig,
    config_from_dict,
    config_to_yaml,
    load_config,
)
from detection.data.dataset_folder import DatasetFolder
from detection.data.label_map import LabelMap, read_label_map
from detection.data.loader import ClipLoader, TrainBatches
from detection.engine.averaging import WeightAverage
from detection.engine.checkpoint import (
    followed_weights,
    random_state,
    read_checkpoint,
    restore_training,
    save_checkpoint,
)
from detection.engine.cpu_memory import keep_freed_memory
from detection.engine.distributed import ALONE, Processes
from detection.engine.metrics_log import MetricsLog
from detection.engine.run_folder import check_run_folder, make_run_folder
from detection.engine.scoring import Scorer, print_results, timed_score, write_results
from detection.engine.training import Progress, fit, stop_signals
from detection.errors import UserError
from detection.evaluation.frame_map import AvaFrameMap
from detection.models.action_detector import ActionDetector
from detection.models.checkpoint_file import ModelFile
from detection.models.losses import action_loss
from detection.models.network import build_network
from detection.models.pretrained import load_state
from detection.structures import Batch

# What may change when a run goes on: how it is carried out, never what it computes.
_CHANGEABLE = ("workers", "threads", "device", "checkpoint_minutes")


@dataclass
class Run:
    """Everything of a run that is under way."""

    config: RunConfig
    folder: Path
    data: DatasetFolder
    label_map: LabelMap
    model: ActionDetector
    average: WeightAverage | None
    device: torch.device
    scorer: Scorer
    also_scorers: Sequence[Scorer]
    log: MetricsLog
    processes: Processes

    @property
    def scored_model(self) -> ActionDetector:
        """The network whose mAP is told: the averaged one where there is one."""
        if self.average is None or not self.config.evaluation.use_average:
            return self.model
        return self.average.model


def start(
    config: RunConfig, *, overwrite: bool, processes: Processes = ALONE
) -> tuple[Run, Training]:
    """Check everything that can be checked, then make the run folder."""
    folder = Path(config.output or "runs/unnamed")
    if processes.is_first:
        check_run_folder(folder, overwrite=overwrite)
    _seed(config.seed)
    data, label_map = _open_data(config)
    device = build.build_device(config)
    model = build.build_model(config, num_classes=len(label_map))
    report = build.start_from_pretrained(config, model, label_map)
    run = _run(config, folder, data, label_map, model, device, processes)
    training = _training(run)
    if processes.is_first:
        make_run_folder(
            folder,
            config_yaml=config_to_yaml(config),
            seed=config.seed,
            processes=processes.count,
        )
    processes.wait()
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
    return run, training


def resume(
    run_folder: str | Path, *, overrides: Sequence[str], processes: Processes = ALONE
) -> tuple[Run, Training]:
    """Go on with a stopped run: the same configuration, weights, order and random states."""
    folder = Path(run_folder)
    for override in overrides:
        if override.partition("=")[0] not in _CHANGEABLE:
            raise UserError(
                f"command line: '{override}': a resumed run computes what it would have computed; "
                f"only {', '.join(_CHANGEABLE)} may change"
            )
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder / 'config.yaml'}: no such file, this folder is not a run")
    config = load_config(folder / "config.yaml", overrides)
    file = read_checkpoint(folder)
    _seed(config.seed)
    data, label_map = _open_data(config)
    _check_classes(file, label_map, data)
    device = build.build_device(config)
    model = build.build_model(config, num_classes=len(label_map))
    load_state(model, file, class_names=label_map.names)
    build.freeze_parts(config, model)
    run = _run(config, folder, data, label_map, model, device, processes)
    training = _training(run)
    restored = restore_training(
        file,
        model=run.model,
        average=run.average,
        optimizer=training.optimizer,
        progress=training.progress,
        rank=processes.rank,
        processes=processes.count,
    )
    if not restored:  # another number of processes: the same order and recipe, other dropout
        _seed_apart(config.seed, processes, update=training.progress.update)
    run.log.write("resume", processes=processes.count, **dataclasses.asdict(training.progress))
    return run, training


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
        folder = Path(config.output or "runs/unnamed")
    else:
        config, folder = _own_config(file, overrides)
    assert file.network is not None
    data, label_map = _open_data(config)
    _check_classes(file, label_map, data)
    model = build_network(file.network, source=file.path)
    assert isinstance(model, ActionDetector)
    if not config.evaluation.use_average:
        file = dataclasses.replace(file, state=followed_weights(file))
    load_state(model, file, class_names=label_map.names)
    device = build.build_device(config)
    run = _run(config, folder, data, label_map, model, device, processes)
    return dataclasses.replace(run, average=None)


def train(run: Run, training: Training) -> bool:
    """Train to the last epoch; return False when a signal stopped it before (it is saved)."""
    config, processes = run.config, run.processes

    def save(name: str) -> None:
        states = processes.gather(random_state())
        if not processes.is_first:
            return
        save_checkpoint(
            run.folder / "checkpoints" / f"{name}.pt",
            config=config,
            label_map=run.label_map,
            model=run.model,
            optimizer=training.optimizer,
            progress=training.progress,
            average=run.average,
            random_states=states,
        )

    def evaluate() -> AvaFrameMap:
        return run.scorer.score(run.scored_model, every=config.data.val_every)[0]

    def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return action_loss(logits, labels, num_actors=processes.mean(len(labels)))

    with stop_signals() as should_stop:
        return fit(
            processes.wrap(run.model, run.device),
            training.batches,
            training.optimizer,
            loss_of,
            optim=config.optim,
            progress=training.progress,
            device=run.device,
            evaluate=evaluate,
            evaluate_every=config.evaluation.every_epochs,
            save=save,
            save_every_minutes=config.checkpoint_minutes,
            log=run.log,
            should_stop=should_stop,
            processes=processes,
            precision=build.build_precision(config, run.device),
            average=run.average,
        )


def evaluate_and_report(run: Run) -> None:
    """Score every keyframe with the weights as they are; write and print the results."""
    run.folder.mkdir(parents=True, exist_ok=True)
    score = timed_score(run.scorer, run.scored_model)
    others = [timed_score(scorer, run.scored_model) for scorer in run.also_scorers]
    if not run.processes.is_first:
        return
    write_results(run.folder, score, run.label_map, others=others)
    for one in (*others, score):
        run.log.write(
            "final", mean_ap=one.result.mean_ap, boxes=one.boxes, seconds=round(one.seconds, 1)
        )
    print_results(run.folder, score, run.scorer.scored, others=others, made_up=run.data.made_up)


@dataclass
class Training:
    """What only a run that learns has."""

    batches: EpochBatches
    optimizer: torch.optim.Optimizer
    progress: Progress


class EpochBatches:
    """A loader whose epochs can be entered at any batch."""

    def __init__(self, loader: ClipLoader, order: TrainBatches) -> None:
        self._loader = loader
        self._order = order

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterable[Batch]:
        """Return the batches of `epoch` from the `start`-th on."""
        self._order.set_epoch(epoch, start_batch=start)
        return self._loader


def _run(
    config: RunConfig,
    folder: Path,
    data: DatasetFolder,
    label_map: LabelMap,
    model: ActionDetector,
    device: torch.device,
    processes: Processes,
) -> Run:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        keep_freed_memory()

    def scorer(boxes: str) -> Scorer:
        with_boxes = dataclasses.replace(
            config, data=dataclasses.replace(config.data, val_boxes=boxes)
        )
        table = build.read_val_table(with_boxes, data, label_map)
        dataset = build.build_val_dataset(with_boxes, data, table)
        dataset.check_videos(show_progress=processes.is_first)
        return Scorer(with_boxes, data, label_map, dataset, device=device, processes=processes)

    model, decay = build.place_model(model, device), config.optim.ema_decay
    return Run(
        config,
        folder,
        data,
        label_map,
        model,
        None if decay is None else WeightAverage(model, decay=decay),
        device,
        scorer(config.data.val_boxes),
        [scorer(boxes) for boxes in config.data.also_score_boxes],
        MetricsLog(folder / "log.jsonl", silent=not processes.is_first),
        processes,
    )


def _training(run: Run) -> Training:
    table = build.read_train_table(run.config, run.data, run.label_map)
    dataset = build.build_train_dataset(run.config, run.data, table)
    dataset.check_videos(show_progress=run.processes.is_first)
    run.processes.part_of(run.config.optim.batch_size, "optim.batch_size")
    share = run.processes.rank, run.processes.count
    order = build.build_train_order(run.config, dataset, share=share)
    loader = build.build_loader(run.config, dataset, order, run.device)
    return Training(
        EpochBatches(loader, order), build.build_optimizer(run.config, run.model), Progress()
    )


def _open_data(config: RunConfig) -> tuple[DatasetFolder, LabelMap]:
    data = DatasetFolder.open(config.data.root, how_to_get=config.data.how_to_get)
    if config.data.label_map is None:
        return data, data.read_label_map()
    return data, read_label_map(data.root / config.data.label_map)


def _check_classes(file: ModelFile, label_map: LabelMap, data: DatasetFolder) -> None:
    """Refuse weights whose columns stand for other classes than the data set's label map."""
    assert file.classes is not None
    if (file.classes.names, file.classes.ids) != (label_map.names, label_map.ids):
        theirs, ours = set(file.classes.names), set(label_map.names)
        only = sorted(theirs ^ ours)[:3]
        what = f"among them {', '.join(only)}" if only else "in another order or with other ids"
        raise UserError(
            f"{file.path}: its {len(file.classes.names)} classes are not the {len(label_map)} of "
            f"{data.label_map_path} ({what})"
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


def _seed(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)


def _seed_apart(seed: int, processes: Processes, *, update: int) -> None:
    """Give each of several processes random numbers (dropout) of its own."""
    if processes.count > 1:
        _seed(hash((seed, processes.rank, update)) % 2**31)
