"""Decode the videos of a data set: the part `--decode` of `check`, see docs/data.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ava_tools.cli import CommandParser, command_parser, run_command
from detection.cores import usable_cores
from detection.errors import printable

if TYPE_CHECKING:
    from detection.checks.videos import VerifyReport
    from detection.config import RunConfig
    from detection.datasets.folder import DatasetFolder

EPILOG = """examples:
  python -m ava_tools.verify data/ava_320
  python -m ava_tools.verify data/ava_320 --cfg configs/ava_x3d_m.yaml
  python -m ava_tools.verify ~/jhmdb                 (JHMDB's source, before it is imported)

Every video is decoded to its end, so this takes a while; what was found is stored in
DATASET/verified and used again while the file has not changed (--again decodes anew).

Exit code 0: a training run finds all it needs; 1: problems, one line each, with what to do;
2: the command itself is wrong (no data set there, an unknown option)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.checks.source import source_form, verify_source

    is_folder = (options.dataset / "dataset.yaml").is_file()
    form = None if is_folder else source_form(options.dataset)
    if form is None:
        report = _verify_dataset(options)
    else:
        with decoding_bar() as bar:
            report = verify_source(options.dataset, form, jobs=options.jobs, **bar)
    for finding in report.findings:
        print(printable(f"note: {finding}" if finding.level == "note" else str(finding)))
    problems = report.problems
    print(
        f"{options.dataset}: {report.num_videos:,} videos, {report.num_frames:,} frames decoded, "
        f"{report.num_keyframes:,} keyframes: "
        + (f"{len(problems)} problem(s)" if problems else "a training run finds all it needs")
    )
    if options.json is not None:
        from detection.files import write_text
        from detection.formats.json_text import json_text

        write_text(options.json, json_text(report.to_json(), indent=1, ensure_ascii=False))
    return 1 if problems else 0


def _verify_dataset(options: argparse.Namespace) -> VerifyReport:
    from detection.checks.run import run_findings
    from detection.checks.videos import verify_dataset
    from detection.datasets.folder import DatasetFolder

    folder = DatasetFolder.open(options.dataset)
    config, splits, span_s = run_of(options, folder)
    with decoding_bar() as bar:
        report = verify_dataset(
            folder, splits=splits, clip_span_s=span_s, **decoding_options(options), **bar
        )
    if config is not None:
        report.findings += run_findings(config, folder, options.cfg, weights=False)
    return report


def run_of(
    options: argparse.Namespace, folder: DatasetFolder
) -> tuple[RunConfig | None, Sequence[str], float]:
    """Return the run of --cfg, the splits to look at (none: all) and the span of its clips."""
    from detection.config import load_config
    from detection.errors import UserError

    config, splits, span_s = None, options.split or [], 0.0
    if options.cfg is not None:
        config = load_config(options.cfg, options.overrides)
        splits = splits or [config.data.train_split, config.data.val_split]
        span_s = 2 * config.clip.sampling.before_s
    elif options.overrides:
        raise UserError(f"'{options.overrides[0]}': options of a run need --cfg")
    for name in splits:
        if name not in folder.file.splits:
            folder.split(name)  # raises
    return config, splits, span_s


@contextmanager
def decoding_bar() -> Iterator[dict[str, Any]]:
    """Yield `on_start` and `on_progress` of a progress bar that counts videos."""
    from tqdm import tqdm

    with tqdm(unit="video", desc="verifying") as bar:

        def on_start(total: int) -> None:
            bar.total = total  # `bar.reset` would show it at once, in a log too

        yield {"on_start": on_start, "on_progress": bar.update}


def add_decoding_options(parser: CommandParser) -> None:
    """Add the options of a run and of decoding."""
    parser.shared("overrides", help="options of the run, with --cfg")
    # fmt: off
    parser.shared("--cfg",
        help="configuration of a run (file or shipped name): its splits, boxes, labels and clip "
        "length are checked")
    parser.add_argument("--frame-lists", type=Path, metavar="DIR",
        help="FAIR's frame_lists/{train,val}.csv to compare with (default: those in DATASET)")
    parser.add_argument("--again", action="store_true",
        help="decode also videos that were found whole before")
    # fmt: on
    parser.shared("--jobs", default=usable_cores())


def decoding_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of decoding as arguments of `verify_dataset`."""
    return {name: getattr(options, name) for name in ("frame_lists", "again", "jobs")}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("verify", __doc__, EPILOG)
    add = parser.add_argument
    # fmt: off
    add("dataset", type=Path, help="data set folder, or JHMDB's, UCF101-24's, MultiSports' source")
    add("--split", action="append", metavar="NAME", help="this split alone; repeatable")
    parser.shared("--json")
    # fmt: on
    add_decoding_options(parser)
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    run_command(main)
