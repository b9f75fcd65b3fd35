"""Search for a network by stepwise expansion, as the X3D paper, on your own data and budget."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ava_tools.cli import run_command

if TYPE_CHECKING:
    from detection.expansion.axes import Cost, DataLimits
    from detection.expansion.config import ExpandConfig
    from detection.expansion.report import Finalist, Units
    from detection.expansion.search import Search
    from detection.expansion.trainings import Trainings
    from detection.models.network import Network
    from detection.models.x3d import X3DDescription

EXAMPLE = """examples:
  python -m ava_tools.expand --replay paper
  python -m ava_tools.expand --cfg configs/expand_demo.yaml
  python -m ava_tools.expand --cfg configs/expand_demo.yaml --rivals --final-seeds 3
  torchrun --nproc-per-node 8 -m ava_tools.expand --cfg configs/expand_demo.yaml
Killed or interrupted, the same command goes on where it was and repeats nothing.
"""
EXIT_STOPPED = 75  # stopped by a signal, to be called again (as train_ava.py)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay the paper's path, or search, or hold a finished search against rivals."""
    options = parse(argv)
    if options.replay:
        print(replay_table())
        return 0
    from detection.engine.training import stop_signals
    from detection.expansion.config import load_expand_config
    from detection.expansion.trainings import Stopped, only_search

    config = load_expand_config(options.cfg, options.overrides)
    folder = Path(config.output or "runs/expand")
    rank = int(os.environ.get("RANK", "0"))
    with stop_signals() as should_stop:
        try:
            if rank:
                return carry_out(config, folder, options, should_stop)
            with only_search(folder):
                return carry_out(config, folder, options, should_stop)
        except Stopped:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return EXIT_STOPPED


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ava_tools.expand",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cfg", metavar="FILE", help="configuration of a search")
    what.add_argument("--replay", choices=("paper",), help="the published path, no training")
    parser.add_argument(
        "overrides", nargs="*", metavar="a.b=value", help="options that replace the file's"
    )
    parser.add_argument(
        "--rivals",
        action="store_true",
        help="after the search: train its network, one whose axes grew all together, and some "
        "whose axes were drawn at random, all of the same cost, and compare",
    )
    parser.add_argument("--draws", type=int, default=3, help="random paths (default 3)")
    parser.add_argument(
        "--final-seeds", type=int, default=3, help="trainings of each finalist (default 3)"
    )
    options = parser.parse_intermixed_args(argv)
    if min(options.draws, options.final_seeds) < 1:
        parser.error("--draws and --final-seeds must be at least 1")
    if options.replay and (options.overrides or options.rivals):
        parser.error("--replay takes no options")
    return options


def carry_out(
    config: ExpandConfig,
    folder: Path,
    options: argparse.Namespace,
    should_stop: Callable[[], bool],
) -> int:
    """Search, as one of the processes that share it; the first of them writes and speaks."""
    from detection.config import config_from_dict
    from detection.engine.tasks import open_task
    from detection.expansion.config import SCALES, UNITS
    from detection.expansion.data_facts import data_limits
    from detection.expansion.inherit import write_shared_weights
    from detection.expansion.report import Units, write_report
    from detection.expansion.search import Search
    from detection.expansion.trainings import Trainings, with_network

    first = int(os.environ.get("RANK", "0")) == 0
    basis = config.basis.describe()
    values = with_network(config.training, basis)
    training = config_from_dict(values | {"output": str(folder)}, f"{options.cfg}: training")
    task = open_task(training)
    limits = data_limits(training, task.label_map, config.limits)
    cost = cost_of(config, num_classes=len(task.label_map))
    units = Units(SCALES[config.cost], UNITS[config.cost], score_words(task.metric))
    search = Search(
        basis,
        kept(cost, folder / "costs.json", write=first),
        config.target * units.scale,
        factor=config.factor,
        axes=config.axes,
        limits=limits,
        tolerance=config.tolerance,
        words=lambda value: f"{value / units.scale:.4g} {units.cost}",
    )
    same_search(config, folder, write=first)
    trainings = Trainings(
        folder / "candidates",
        config.training,
        train_command(),
        lambda metrics: _number(metrics.get(task.metric)),
        seeds=range(config.first_seed, config.first_seed + config.seeds),
        jobs=config.jobs,
        threads=config.threads,
        share=(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))),
        initial=write_shared_weights if config.start_from_parent else None,
        should_stop=should_stop,
    )
    title = f"Expansion: {Path(options.cfg).stem}"
    remarks = remarks_of(config, limits, made_up=_made_up(training.data.root))
    if first:
        print("\n".join(remarks))
    for _ in search.run(trainings):
        if first:
            say_step(search, units)
            write_report(folder, search.steps, units=units, title=title, remarks=remarks)
    if first:
        write_chosen(config, search, folder, units)
    if options.rivals:
        finalists = run_rivals(config, search, trainings, options)
        if first:
            say_finalists(finalists, units)
            write_report(
                folder,
                search.steps,
                units=units,
                title=title,
                remarks=remarks,
                finalists=finalists,
            )
    if first:
        print(f"page: {folder / 'search.html'}   table: {folder / 'search.csv'}")
        print(f"network: {folder / 'chosen.yaml'}")
    return 0


def run_rivals(
    config: ExpandConfig, search: Search, trainings: Trainings, options: argparse.Namespace
) -> list[Finalist]:
    """Train the search's network and its rivals with the same seeds, from random weights."""
    import dataclasses

    from detection.expansion.report import Finalist
    from detection.expansion.rivals import grow_all_together, grow_at_random
    from detection.expansion.search import Wanted

    ways = [("the search", search.current.description)]
    together = grow_all_together(
        search.basis,
        cost=search.cost,
        target=search.target,
        axes=search.axes,
        limits=search.limits,
    )
    ways.append(("all axes together", together))
    for draw in range(options.draws):
        network, path = grow_at_random(
            search.basis,
            cost=search.cost,
            target=search.target,
            seed=draw,
            factor=search.factor,
            axes=search.axes,
            limits=search.limits,
            tolerance=search.tolerance,
        )
        ways.append((f"random draw {draw} ({', '.join(path)})", network))
    # Seeds that no candidate was chosen by: the search's own pick would flatter it.
    start = config.first_seed + config.seeds
    again = dataclasses.replace(
        trainings,
        folder=trainings.folder.parent / "finalists",
        seeds=range(start, start + options.final_seeds),
        initial=None,
    )
    outcomes = again([Wanted(network) for _, network in ways])
    return [
        Finalist(way, network, search.cost(network), outcome)
        for (way, network), outcome in zip(ways, outcomes, strict=True)
    ]


def same_search(config: ExpandConfig, folder: Path, *, write: bool) -> None:
    """Refuse a folder that holds another search, naming the differences."""
    import yaml

    from detection.errors import UserError
    from detection.expansion.config import CHANGEABLE, to_values
    from detection.files import write_text
    from detection.yaml_files import read_yaml

    path = folder / "search.yaml"
    mine = {key: value for key, value in to_values(config).items() if key not in CHANGEABLE}
    if path.is_file():
        theirs = read_yaml(path, what="search").values
        differences = [
            f"{key}: {theirs_value!r} there, {mine_value!r} here"
            for key, theirs_value, mine_value in differing(theirs, mine)
        ]
        if differences:
            raise UserError(
                f"{path}: the folder holds another search ({'; '.join(differences)}); choose "
                "another with output=FOLDER"
            )
    elif write:
        if any(name.name != "lock" and name.name != "costs.json" for name in folder.iterdir()):
            raise UserError(f"{folder}: holds files but no search, choose another output=FOLDER")
        write_text(path, yaml.safe_dump(mine, sort_keys=False))


def differing(
    theirs: Mapping[str, Any], mine: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, theirs, mine) of every value that differs."""
    found = []
    for key in dict.fromkeys([*theirs, *mine]):
        one, other = theirs.get(key), mine.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += differing(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append((f"{prefix}{key}", one, other))
    return found


def cost_of(config: ExpandConfig, *, num_classes: int) -> Cost:
    """Return the cost that the configuration asks for, of the networks that would be trained."""
    import torch

    from detection import build
    from detection.config import config_from_dict
    from detection.expansion.cost import macs_cost, milliseconds_cost, parameter_cost
    from detection.expansion.trainings import with_network

    def network(description: X3DDescription) -> Network:
        training = config_from_dict(with_network(config.training, description), "training")
        if training.task == "classification":
            return build.build_classification_model(training, num_classes=num_classes)
        return build.build_model(training, num_classes=num_classes)

    if config.cost == "macs":
        return macs_cost(network)
    if config.cost == "parameters":
        return parameter_cost(network)
    torch.set_num_threads(config.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return milliseconds_cost(network, device=device)


def kept(cost: Cost, path: Path, *, write: bool) -> Cost:
    """Return a cost that is counted or measured once and remembered in a file.

    Measured milliseconds differ from one time to the next, and a search that goes on must make the
    choices it made.
    """
    from detection.expansion.trainings import name_of
    from detection.files import write_text

    costs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def remembered(description: Any) -> float:
        name = name_of(description)
        if name not in costs:
            costs[name] = cost(description)
            if write:
                write_text(path, json.dumps(costs, indent=1) + "\n")
        return costs[name]

    return remembered


def write_chosen(config: ExpandConfig, search: Search, folder: Path, units: Units) -> None:
    """Write the network as a configuration that train_ava.py takes as it is."""
    import yaml

    from detection.expansion.trainings import name_of, with_network
    from detection.files import write_text

    chosen = search.current
    values = with_network(config.training, chosen.description)
    values["output"] = str(folder / "chosen")
    head = (
        f"# {name_of(chosen.description)}: {chosen.cost / units.scale:.4g} {units.cost}, "
        f"{units.score} {chosen.outcome.mean:.4f} in the search.\n"
        f"#   python train_ava.py --cfg {folder / 'chosen.yaml'}\n"
    )
    write_text(folder / "chosen.yaml", head + yaml.safe_dump(values, sort_keys=False))


def say_step(search: Search, units: Units) -> None:
    """Print the rows of the last step."""
    from detection.expansion.report import rows_of, text_table

    step = search.steps[-1]
    name = "contraction" if step.contraction else f"step {step.number}" if step.number else "basis"
    print(f"{name}\n{text_table(list(rows_of([step], units)))}\n", flush=True)


def say_finalists(finalists: Sequence[Finalist], units: Units) -> None:
    """Print the networks trained again, the best first."""
    from detection.expansion.report import finalist_heads, finalist_rows, text_table

    print(text_table(finalist_rows(finalists, units), finalist_heads(units)))


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
        what = "" if axis is None else f"{axis}: {axis_value(row.description, axis)}"
        if row.step.contraction:
            what += " (contracted)"
        description = row.description
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


def score_words(metric: str) -> str:
    """Name a metric as people do."""
    return {"mean_ap": "frame-mAP", "top1": "top-1"}.get(metric, metric)


def train_command() -> list[str]:
    """Return the program that trains, by the file that `train_ava` is."""
    found = find_spec("train_ava")
    if found is None or found.origin is None:
        raise RuntimeError("train_ava.py is not importable; install the project or run from it")
    return [sys.executable, found.origin]


def _made_up(root: str) -> bool:
    from detection.data.dataset_folder import FILE_NAME, DatasetFolder

    return (Path(root) / FILE_NAME).is_file() and DatasetFolder.open(root).made_up


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


if __name__ == "__main__":
    run_command(main)
