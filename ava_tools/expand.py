"""Search for a network by stepwise expansion, as in the X3D paper, on your data and budget."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import SHARED, at_a_time, command_parser, run_command
from detection.errors import EXIT_STOPPED

if TYPE_CHECKING:
    from detection.checkpoints.load import Network
    from detection.engine.tasks.actions import ActionTask
    from detection.engine.tasks.clips import ClipTask
    from detection.expansion.axes import Cost, DataLimits
    from detection.expansion.config import ExpandConfig
    from detection.expansion.report import Units
    from detection.expansion.scheduler import Scheduler
    from detection.expansion.search import Search
    from detection.models.x3d import X3DDescription

EXAMPLE = """examples:
  python -m ava_tools.expand --replay paper
  python -m ava_tools.expand --cfg configs/expand_demo.yaml
  python -m ava_tools.expand --cfg configs/expand_demo.yaml --rivals --final-seeds 3
  python -m ava_tools.expand --cfg configs/expand_demo.yaml --engine ray --address auto
  torchrun --nproc-per-node 8 -m ava_tools.expand --cfg configs/expand_demo.yaml
Killed or interrupted, the same command goes on where it was and repeats nothing.
"""
METRICS = {"mean_ap": "frame-mAP", "top1": "top-1"}  # as people call them


def main(argv: Sequence[str] | None = None) -> int:
    """Replay the paper's path, or search, or compare a finished search with baselines."""
    options = _parse(argv)
    if options.replay:
        print(replay_table())
        return 0
    from detection.expansion.config import load_expand_config
    from detection.expansion.scheduler import Stopped, only_search
    from detection.signals import stop_signals

    config = load_expand_config(options.cfg, options.overrides)
    folder = Path(config.output or "runs/expand")
    rank = int(os.environ.get("RANK", "0"))
    with stop_signals() as should_stop:
        try:
            with nullcontext() if rank else only_search(folder):
                return carry_out(config, folder, options, should_stop)
        except Stopped:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return EXIT_STOPPED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser("expand", __doc__, EXAMPLE)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cfg", **SHARED["--cfg"])
    what.add_argument("--replay", choices=("paper",), help="the published path, no training")
    parser.shared("overrides")
    parser.add_argument(
        "--rivals",
        action="store_true",
        help="after the search: train its network beside baselines of the same cost, whose axes "
        "grew together or at random, and compare",
    )
    add = parser.add_argument
    parser.shared(
        "--engine",
        help="what runs `jobs` trainings at a time: processes of this machine, "
        "or Ray, on one machine or on many that share the disk (default %(default)s)",
    )
    parser.shared("--address")
    parser.shared(
        "--gpus",
        default=0.0,
        help="of each training; parts of one share it (default: each sees all of its machine)",
    )
    add("--draws", type=at_a_time, default=3, help="random paths (default 3)")
    add("--final-seeds", type=at_a_time, default=3, help="trainings of each finalist (default 3)")
    options = parser.parse_intermixed_args(argv)
    if options.replay and (options.overrides or options.rivals):
        parser.error("--replay takes no options")
    return options


def carry_out(
    config: ExpandConfig, folder: Path, options: argparse.Namespace, should_stop: Callable[[], bool]
) -> int:
    """Search, as one of the processes that share it; the first of them writes and speaks."""
    from detection.config import config_from_dict
    from detection.engine.tasks.by_name import open_x3d_task
    from detection.expansion.baselines import train_finalists
    from detection.expansion.config import SCALES, UNITS
    from detection.expansion.data_facts import data_limits
    from detection.expansion.folder import begin, refuse_another, write_chosen
    from detection.expansion.report import (
        Units,
        finalist_heads,
        finalist_rows,
        text_table,
        write_report,
    )
    from detection.expansion.scheduler import with_network

    first = int(os.environ.get("RANK", "0")) == 0
    refuse_another(config, folder, first=first)
    values = with_network(config.training, config.basis.describe()) | {"output": str(folder)}
    training = config_from_dict(values, f"{options.cfg}: training")
    task = open_x3d_task(training)
    limits = data_limits(training, task.label_map, config.limits)
    units = Units(SCALES[config.cost], UNITS[config.cost], METRICS.get(task.metric, task.metric))
    cost = cost_of(config, folder, task, should_stop)
    search = search_of(config, cost, limits, units)
    scheduler = scheduler_of(config, folder, task, options, should_stop)
    remarks = remarks_of(config, limits, made_up=_made_up(training.data.root))
    title, steps = f"Expansion: {Path(options.cfg).stem}", search.steps
    report = partial(write_report, folder, steps, units=units, title=title, remarks=remarks)
    if first:
        begin(config, folder)
        print("\n".join(remarks), flush=True)
    for _ in search.run(scheduler):
        if first:
            say_step(search, units)
            report()
    if first:
        write_chosen(config, search.current, folder, units)
    if options.rivals:
        start = config.first_seed + config.seeds
        seeds = range(start, start + options.final_seeds)
        finalists = train_finalists(search, scheduler, draws=options.draws, seeds=seeds)
        if first:
            print(text_table(finalist_rows(finalists, units), finalist_heads(units)))
            report(finalists=finalists)
    if first:
        print(f"page: {folder / 'search.html'}   table: {folder / 'search.csv'}")
        print(f"network: {folder / 'chosen.yaml'}")
    return 0


def search_of(config: ExpandConfig, cost: Cost, limits: DataLimits, units: Units) -> Search:
    """Return the search that the configuration asks for; nothing is trained yet."""
    from detection.expansion.search import Search

    return Search(
        config.basis.describe(),
        cost,
        config.target * units.scale,
        factor=config.factor,
        axes=config.axes,
        limits=limits,
        tolerance=config.tolerance,
        words=lambda value: f"{value / units.scale:.4g} {units.cost}",
    )


def scheduler_of(
    config: ExpandConfig,
    folder: Path,
    task: ActionTask | ClipTask,
    options: argparse.Namespace,
    should_stop: Callable[[], bool],
) -> Scheduler:
    """Return what trains and scores candidates, in programs of their own."""
    from detection.expansion.inherit import write_shared_weights
    from detection.expansion.scheduler import Scheduler

    return Scheduler(
        folder / "candidates",
        config.training,
        train_command(),
        lambda metrics: float(math.nan if (v := metrics.get(task.metric)) is None else v),
        seeds=range(config.first_seed, config.first_seed + config.seeds),
        jobs=config.jobs,
        threads=config.threads,
        share=(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))),
        initial=write_shared_weights if config.start_from_parent else None,
        should_stop=should_stop,
        gpus=options.gpus,
        engine=options.engine,
        address=options.address,
        on_progress=partial(print, flush=True),
    )


def cost_of(
    config: ExpandConfig, folder: Path, task: ActionTask | ClipTask, should_stop: Callable[[], bool]
) -> Cost:
    """Return the cost that the configuration asks for, of the networks that would be trained."""
    import torch

    from detection import build
    from detection.config import config_from_dict
    from detection.devices import choose_device
    from detection.expansion.cost import macs_cost, milliseconds_cost, parameter_cost, remembered
    from detection.expansion.folder import settings_of
    from detection.expansion.scheduler import with_network

    num_classes = len(task.label_map)

    def network(description: X3DDescription) -> Network:
        training = config_from_dict(with_network(config.training, description), "training")
        if training.task == "classification":
            return build.build_classification_model(training, num_classes=num_classes)
        return build.build_model(training, num_classes=num_classes)

    if config.cost == "macs":
        cost = macs_cost(network)
    elif config.cost == "parameters":
        cost = parameter_cost(network)
    else:
        torch.set_num_threads(config.threads)
        cost = milliseconds_cost(network, device=choose_device())
    path, first = folder / "costs.json", int(os.environ.get("RANK", "0")) == 0
    of = settings_of(config)
    return remembered(cost, path, of=of, first=first, should_stop=should_stop)


def say_step(search: Search, units: Units) -> None:
    """Print the rows of the last step."""
    from detection.expansion.report import candidate_rows, text_table

    step = search.steps[-1]
    name = "contraction" if step.contraction else f"step {step.number}" if step.number else "basis"
    print(f"{name}\n{text_table(list(candidate_rows([step], units)))}\n", flush=True)


def replay_table() -> str:
    """Lay the paper's path out as text, with costs counted on networks built at each step."""
    from detection.expansion.axes import axis_value
    from detection.expansion.cost import macs_cost
    from detection.expansion.replay import replay
    from detection.expansion.report import text_table
    from detection.models.classifier import build_classifier

    rows = []
    for row in replay(macs_cost(build_classifier)):
        axis = row.step.axis
        description = row.description
        what = "" if axis is None else f"{axis}: {axis_value(description, axis)}"
        what += " (contracted)" * row.step.contraction
        rows.append(
            (
                str(row.step.number),
                what,
                f"{description.num_frames} x {description.train_crop} px",
                f"{description.width_factor:g}",
                f"{description.bottleneck_factor:g}",
                f"{description.depth_factor:g}",
                f"{row.cost / 1e6:,.2f}",
                f"x {row.growth:.2f}" if axis else "",
                row.step.name,
            )
        )
    heads = ("step", "axis", "clip", "width", "bottleneck", "depth", "MMAC", "growth", "")
    return text_table(rows, heads)


def remarks_of(config: ExpandConfig, limits: DataLimits, *, made_up: bool) -> list[str]:
    """Say what a reader must know of a search."""
    seeds = "one seed a candidate" if config.seeds == 1 else f"{config.seeds} seeds a candidate"
    remarks = [
        f"target {config.target:g} {config.cost}, each step x {config.factor:g}, {seeds}, "
        + ("from the parent's weights" if config.start_from_parent else "from random weights"),
        f"the videos give {limits.longest_clip_s:.2f} s, {limits.fastest_fps:.2f} frames a second, "
        f"{limits.largest_side_px:g} px",
    ]
    if made_up:
        remarks.append("data: made up (drawn by a program)")
    return remarks


def train_command() -> list[str]:
    """Return the program that trains, by the file that `train_ava` is."""
    found = find_spec("train_ava")
    if found is None or found.origin is None:
        raise RuntimeError("train_ava.py is not importable; install the project or run from it")
    return [sys.executable, found.origin]


def _made_up(root: str) -> bool:
    from detection.datasets.folder import FILE_NAME, DatasetFolder

    return (Path(root) / FILE_NAME).is_file() and DatasetFolder.open(root).file.made_up


if __name__ == "__main__":
    run_command(main)
