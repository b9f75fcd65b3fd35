"""Verify that a data set has all that a training run needs, every video decoded."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ava_tools.cli import command_parser, cores, run_command
from detection.errors import printable

if TYPE_CHECKING:
    from detection.checks.videos import Finding, VerifyReport
    from detection.config import RunConfig
    from detection.datasets.folder import DatasetFolder

EPILOG = """examples:
  python -m ava_tools.verify data/ava_320
  python -m ava_tools.verify data/ava_320 --cfg configs/ava_x3d_m.yaml
  python -m ava_tools.verify ~/jhmdb                 (JHMDB's source, before it is imported)

Every video is decoded to its end, so this takes a while; what was found is kept in DATASET/verified
and used again while the file has not changed (--again decodes all).

Exit code 0: a training run would find all it needs; 1: problems, one line each, with what to do;
2: the command itself is wrong (data set not found, unknown option)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.checks.source import source_form, verify_source

    is_folder = (options.dataset / "dataset.yaml").is_file()
    form = None if is_folder else source_form(options.dataset)
    with _bar() as (started, told):
        if form is not None:
            report = verify_source(
                options.dataset, form, jobs=options.jobs, started=started, told=told
            )
        else:
            report = _verify_dataset(options, started, told)
    for finding in report.findings:
        print(printable(str(finding) if finding.is_problem else f"note: {finding}"))
    problems = report.problems
    print(
        f"{options.dataset}: {report.num_videos:,} videos, {report.num_frames:,} frames decoded, "
        f"{report.num_keyframes:,} keyframes: "
        + (f"{len(problems)} problem(s)" if problems else "a training run finds all it needs")
    )
    if options.json is not None:
        _write_json(options.json, report)
    return 1 if problems else 0


def _verify_dataset(
    options: argparse.Namespace, started: Callable[[int], None], told: Any
) -> VerifyReport:
    from detection.checks.videos import verify_dataset
    from detection.config import load_config
    from detection.datasets.folder import DatasetFolder
    from detection.errors import UserError

    folder = DatasetFolder.open(options.dataset)
    config = load_config(options.cfg, options.overrides) if options.cfg else None
    splits: Sequence[str] | None = options.split or None
    span_s = 0.0
    if config is not None:
        splits = splits or [config.data.train_split, config.data.val_split]
        span_s = config.clip.num_frames * config.clip.step / 30
    elif options.overrides:
        raise UserError(f"'{options.overrides[0]}': options of a run need --cfg")
    for name in splits or ():
        if name not in folder.file.splits:
            raise UserError(
                f"{options.dataset}: no split '{name}', it has {', '.join(folder.file.splits)}"
            )
    report = verify_dataset(
        folder,
        splits=splits,
        frame_lists=options.frame_lists,
        clip_span_s=span_s,
        again=options.again,
        jobs=options.jobs,
        started=started,
        told=told,
    )
    if config is not None:
        report.findings += _about_run(config, folder, options.cfg)
    return report


def _about_run(config: RunConfig, folder: DatasetFolder, cfg: str) -> Iterator[Finding]:
    """Yield what stands in the way of the tables that a run reads."""
    import dataclasses

    from detection import build
    from detection.checks.videos import Finding
    from detection.datasets.label_map import read_label_map
    from detection.errors import UserError

    def boxes(name: str) -> RunConfig:
        return dataclasses.replace(config, data=dataclasses.replace(config.data, val_boxes=name))

    try:
        label_map = folder.read_label_map()
        if config.data.label_map is not None:
            label_map = read_label_map(folder.root / config.data.label_map)
        build.read_train_table(config, folder, label_map)
        for name in (config.data.val_boxes, *config.data.also_score_boxes):
            build.read_val_table(boxes(name), folder, label_map)
    except (UserError, OSError) as error:
        yield Finding(cfg, str(error), "change the options of the run, or the data set")


def _write_json(path: Path, report: VerifyReport) -> None:
    import dataclasses

    from detection.files import write_text
    from detection.formats.json_text import json_text

    values = dataclasses.asdict(report)
    write_text(path, json_text(values, indent=1, ensure_ascii=False))


@contextmanager
def _bar() -> Iterator[tuple[Callable[[int], None], Any]]:
    from tqdm import tqdm

    every_s = 0.2 if sys.stderr.isatty() else 10.0
    with tqdm(unit="video", desc="verifying", mininterval=every_s) as bar:
        yield lambda total: bar.reset(total=total), bar.update


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("verify", __doc__, EPILOG)
    add = parser.add_argument
    # fmt: off
    add("dataset", type=Path, help="data set folder, or JHMDB's, UCF101-24's, MultiSports' source")
    parser.shared("overrides", help="options of the run, with --cfg")
    parser.shared("--cfg",
        help="configuration of a run (file or shipped name) to verify for: its splits, boxes, "
        "labels and clip length")
    add("--split", action="append", metavar="NAME", help="this split alone; repeatable")
    add("--frame-lists", type=Path, metavar="DIR",
        help="FAIR's frame_lists/{train,val}.csv to compare with (default: those in DATASET)")
    add("--again", action="store_true", help="decode also videos that were found whole before")
    parser.shared("--json")
    parser.shared("--jobs", default=cores())
    # fmt: on
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
