"""A run of training a people detector: start, go on, train, score.

A run folder holds config.yaml, environment.json, log.jsonl, held_out_videos.txt,
checkpoints/{last,best}.pt (best: by the held-out part, where there is one) and metrics.json.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchvision.models.detection import FasterRCNN

from detection.datasets.actor_table import ActorTable
from detection.datasets.folder import DatasetFolder
from detection.datasets.held_out import TrainingBoxes, read_boxes
from detection.engine.data_digests import RULES, check_data, digests, rules_of, split_files
from detection.engine.loop import stop_signals
from detection.engine.metrics_log import MetricsLog
from detection.engine.people_parts import (
    EpochPictures,
    build_batches,
    build_optimizer,
    build_precision,
    check_videos,
    network_numbers,
    open_data,
    open_detector,
    prepare_device,
    read_boxes_to_learn,
)
from detection.engine.people_training import PeopleProgress, fit_people
from detection.engine.run_folder import (
    check_begins_again,
    check_run_folder,
    make_run_folder,
    only_run,
)
from detection.engine.saved_training import (
    checked_optimizer,
    checked_progress,
    checked_torch_random,
    training_values,
)
from detection.engine.tasks.people_scoring import (
    PeopleScore,
    print_people_results,
    score_people,
    write_people_results,
)
from detection.errors import ProcessLostError, UserError
from detection.files import write_text
from detection.people.config import (
    PeopleConfig,
    load_people_config,
    people_config_from_dict,
    people_config_to_dict,
    people_config_to_yaml,
)
from detection.people.torchvision_rcnn import TorchvisionDetector, build_people_network
from detection.people.training import freeze_batch_norm
from detection.people.weights import (
    PeopleFile,
    read_people_file,
    save_people_file,
    start_from_weights,
)

# What may change when a run goes on: how it is carried out, never what it computes.
_CHANGEABLE = ("workers", "threads", "device", "checkpoint_minutes", "data.root")


@dataclass
class PeopleRun:
    """Everything of a run that is under way."""

    config: PeopleConfig
    folder: Path
    data: DatasetFolder
    boxes: TrainingBoxes
    network: FasterRCNN
    device: torch.device
    batches: EpochPictures
    optimizer: torch.optim.Optimizer
    progress: PeopleProgress
    log: MetricsLog


def start(config: PeopleConfig, *, overwrite: bool) -> PeopleRun:
    """Check everything that can be checked, then make the run folder.

    The caller holds the folder: `with only_run(folder_of(config))`.
    """
    folder = folder_of(config)
    check_run_folder(folder, overwrite=overwrite)
    data = open_data(config)  # before weights are asked for: fetching them may take minutes
    _seed(config.seed)
    numbers = network_numbers(config)
    network = build_people_network(
        numbers.name,
        num_classes=1,
        short_side_px=numbers.short_side_px,
        long_side_px=numbers.long_side_px,
    )
    if config.model.start_from is not None:
        start_from_weights(network, numbers.name, config.model.start_from)
    run = _run(config, folder, network, data)
    make_run_folder(folder, config_yaml=people_config_to_yaml(config), seed=config.seed)
    held_out = run.boxes.held_out_videos
    write_text(folder / "held_out_videos.txt", "".join(f"{video}\n" for video in held_out))
    run.log.write(
        "start",
        seed=config.seed,
        learned_keyframes=len(run.boxes.learned),
        learned_boxes=run.boxes.learned.num_actors,
        held_out_keyframes=len(run.boxes.held_out),
    )
    return run


def folder_of(config: PeopleConfig) -> Path:
    """Return the folder that a configuration's run goes to."""
    return Path(config.output or "runs/unnamed")


def folder_to_resume(run_folder: str | Path) -> Path:
    """Return the folder of a run; `UserError` where it is none."""
    folder = Path(run_folder)
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder / 'config.yaml'}: not found, this folder is not a run")
    return folder


def resume(run_folder: str | Path, *, overrides: Sequence[str]) -> PeopleRun:
    """Go on with a stopped run: the same configuration, weights, order and random states.

    A run that was killed before its first checkpoint begins again. The caller holds the folder:
    `with only_run(folder_to_resume(run_folder))`.
    """
    folder = folder_to_resume(run_folder)
    for override in overrides:
        if override.partition("=")[0] not in _CHANGEABLE:
            raise UserError(
                f"command line: '{override}': a resumed run computes what it would have computed; "
                f"only {', '.join(_CHANGEABLE)} may change"
            )
    config = load_people_config(folder / "config.yaml", overrides)
    if not (folder / "checkpoints" / "last.pt").is_file():
        check_begins_again(folder)
        print(f"{folder}: stopped before its first checkpoint; it begins again")
        return start(dataclasses.replace(config, output=str(folder)), overwrite=True)
    file = read_people_file(folder / "checkpoints" / "last.pt")
    if file.numbers != network_numbers(config):
        raise UserError(f"{file.path}: another network than {folder / 'config.yaml'} describes")
    run = _run(config, folder, file.build_network(), open_data(config))
    if not check_data(file.path, file.training.get("data"), data_digests(run)):
        print(f"{file.path}: does not say what its annotations were, they are taken for the same")
    if any(override.startswith("data.root=") for override in overrides):
        write_text(folder / "config.yaml", people_config_to_yaml(config))
    _restore(file, run)
    run.log.write("resume", **dataclasses.asdict(run.progress))
    return run


def train(run: PeopleRun) -> bool:
    """Train to the last epoch; return False when a signal stopped it before (it is saved)."""

    def score_held_out() -> float:
        if not run.boxes.held_out.num_actors:
            return math.nan
        detector = TorchvisionDetector(
            run.network,
            name=run.config.model.network,
            actor_labels=[1],
            device=run.device,
            score_floor=run.config.evaluation.score_floor,
            max_people=run.config.evaluation.max_people,
        )
        every = run.config.data.held_out_every
        return _score(run.config, run.data, run.boxes.held_out, detector, every).figures.ap50

    with stop_signals() as should_stop, _told_how_to_go_on(run):
        return fit_people(
            run.network,
            run.batches,
            run.optimizer,
            optim=run.config.optim,
            freeze_norms=run.config.model.freeze_batch_norm,
            progress=run.progress,
            device=run.device,
            score_held_out=score_held_out,
            score_every=run.config.evaluation.every_epochs,
            save=functools.partial(_save, run),
            save_every_minutes=run.config.checkpoint_minutes,
            log=run.log,
            should_stop=should_stop,
            precision=build_precision(run.config, run.device),
        )


@contextmanager
def _told_how_to_go_on(run: PeopleRun) -> Iterator[None]:
    """Say so where a process is lost and the run has been saved."""
    try:
        yield
    except ProcessLostError as error:
        command = f"python -m ava_tools.train_people --resume {run.folder}"
        raise ProcessLostError(f"{error}; saved, go on with: {command}") from error


def score_run(
    file_or_run: str | Path, *, overrides: Sequence[str] = (), held: bool = False
) -> dict[str, Any]:
    """Score a trained detector on its held-out part and its validation split.

    Results go to `output` where an override sets it, else beside the checkpoint. held: the caller
    holds that folder.
    """
    file = read_people_file(file_or_run, weights_only=True)
    config = people_config_from_dict(file.config, file.path, overrides)
    beside = Path(file.path).parent
    folder = beside.parent if beside.name == "checkpoints" else beside
    if any(override.startswith("output=") for override in overrides) and config.output:
        folder = Path(config.output)
    device = prepare_device(config)
    detector = open_detector(config, file.path, device, network=None)
    data = open_data(config)
    boxes = read_boxes_to_learn(config, data)
    with nullcontext() if held else only_run(folder):
        held_out = None
        if boxes.held_out.num_actors:
            held_out = _score(config, data, boxes.held_out, detector)
        return _report(config, data, folder, detector, held_out)


def score_weights(
    weights: str | Path, config: PeopleConfig, *, actor_classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Score any weights on a configuration's validation split; results go to its output."""
    device = prepare_device(config)
    detector = open_detector(
        config, weights, device, network=config.model.network, actor_classes=actor_classes
    )
    data = open_data(config)
    with only_run(folder_of(config)):
        return _report(config, data, folder_of(config), detector, None)


def _run(config: PeopleConfig, folder: Path, network: FasterRCNN, data: DatasetFolder) -> PeopleRun:
    device = prepare_device(config)
    boxes = read_boxes_to_learn(config, data)
    for table in (boxes.learned, boxes.held_out, read_boxes(data, config.data.val_split)):
        check_videos(data, table)
    network.to(device).to(memory_format=torch.channels_last)
    if config.model.freeze_batch_norm:
        freeze_batch_norm(network)  # before the optimiser is made: it takes what is trainable
    return PeopleRun(
        config,
        folder,
        data,
        boxes,
        network,
        device,
        build_batches(config, data, boxes.learned, device),
        build_optimizer(config, network),
        PeopleProgress(),
        MetricsLog(folder / "log.jsonl"),
    )


def _score(
    config: PeopleConfig,
    data: DatasetFolder,
    table: ActorTable,
    detector: TorchvisionDetector,
    every: int = 1,
) -> PeopleScore:
    return score_people(
        detector,
        data,
        table,
        batch_size=config.evaluation.batch_size,
        workers=config.workers,
        every=every,
    )


def _report(
    config: PeopleConfig,
    data: DatasetFolder,
    folder: Path,
    detector: TorchvisionDetector,
    held_out: PeopleScore | None,
) -> dict[str, Any]:
    val = _score(config, data, read_boxes(data, config.data.val_split), detector)
    metrics = write_people_results(
        folder, detector=detector.name, held_out=held_out, val=val, made_up=data.made_up
    )
    print_people_results(folder, held_out, val)
    return metrics


def _save(run: PeopleRun, name: str) -> None:
    save_people_file(
        run.folder / "checkpoints" / f"{name}.pt",
        run.network,
        numbers=network_numbers(run.config),
        classes=[run.config.data.class_name],
        config=people_config_to_dict(run.config),
        training={
            "progress": dataclasses.asdict(run.progress),
            "optimizer": run.optimizer.state_dict(),
            "data": data_digests(run),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    )


def data_digests(run: PeopleRun) -> dict[str, str]:
    """Return digests of the files that say what is learned and scored."""
    splits = (run.config.data.train_split, run.config.data.val_split)
    files: dict[str, Path | str] = {RULES: rules_of(run.data)}
    for name in splits:
        files.update(split_files(run.data, name))
    return digests(files)


def _restore(file: PeopleFile, run: PeopleRun) -> None:
    """Put optimiser, progress and random states back as they were when the file was written."""
    said = training_values(file.path, file.training)
    saved = checked_progress(said, run.progress)
    optimizer = checked_optimizer(file.path, said, run.optimizer)
    on_cpu = checked_torch_random(said, "random", torch.get_rng_state())
    on_gpus = said.listed("random_cuda")
    if not all(isinstance(state, torch.Tensor) for state in on_gpus):
        said.refuse("random_cuda", on_gpus, "a list of generators' states is")
    run.optimizer.load_state_dict(optimizer)
    for name, value in saved.items():
        setattr(run.progress, name, value)
    try:
        torch.set_rng_state(on_cpu)
        if on_gpus and torch.cuda.device_count() == len(on_gpus):
            torch.cuda.set_rng_state_all(on_gpus)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{file.path}: a damaged checkpoint: training.random is no state of random "
            f"generators ({error})"
        ) from error


def _seed(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
