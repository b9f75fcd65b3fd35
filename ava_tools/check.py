"""Check a data set before training on it: what is wrong, what is odd, what is in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import STDOUT, command_parser, run_command, whole_number
from ava_tools.verify import add_decoding_options, decoding_bar, decoding_options, run_of
from detection.errors import UserError, printable

if TYPE_CHECKING:
    from detection.checks.dataset import Check

EXAMPLE = """examples:
  python -m ava_tools.check data/mine
  python -m ava_tools.check data/ava --no-videos --json findings.json
  python -m ava_tools.check data/ava_320 --cfg configs/ava_x3d_m.yaml --decode

Rows, files, splits and the header of each video are always checked; --cfg adds what a training run
asks for, --decode decodes every video to its end, as the command `verify` does. The last line says
what was not looked at.

Two sheets of frames are drawn into DATASET/check: random keyframes (do the boxes sit on people, are
the labels right?) and those of the findings. Exit code 0: nothing wrong (warnings do not count);
1: errors found; 2: there is nothing to check.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.checks.dataset import check_dataset
    from detection.datasets.folder import DatasetFolder

    folder = DatasetFolder.open(options.dataset)
    if options.out is None and (folder.root / "check").is_symlink():
        raise UserError(f"{folder.root / 'check'}: is a link; --out names a folder for the sheets")
    if options.json and options.json.is_dir():
        raise UserError(f"{options.json}: is a folder, a file is required")
    config, splits, span_s = run_of(options, folder)
    if config is not None and config.task != "actions":
        raise UserError(f"{options.cfg}: task: {config.task}, task: actions is required")
    check = check_dataset(
        folder,
        splits=splits,
        videos=options.videos,
        clip_span_s=span_s,
        box_threshold=0.0 if config is None else config.data.box_score_threshold,
        kept_per_kind=options.limit,
        on_progress=_progress(options),
    )
    if config is not None:
        from detection.checks.run import run_findings

        check.findings.extend(run_findings(config, folder, options.cfg))
    if options.decode:
        from detection.checks.videos import decode_checked

        with decoding_bar() as bar:
            decode_checked(
                folder, check.findings, check.readable, splits=splits, clip_span_s=span_s,
                **decoding_options(options), **bar,
            )  # fmt: skip
    check.not_looked_at = [
        text for text, is_left_out in (
            ("the videos (--no-videos)", not options.videos),
            ("the frames inside the videos (--decode)", options.videos and not options.decode),
            ("what a training run asks for (--cfg FILE)", config is None),
        ) if is_left_out
    ]  # fmt: skip
    _say_statistics(check)
    _say_findings(check)
    if options.json:
        from detection.files import write_text
        from detection.formats.json_text import json_text

        write_text(options.json, json_text(check.to_json(), indent=1))
    if options.pictures and options.videos:
        _draw_sheets(check, options)
    return 0 if check.ok else 1


def _say_statistics(check: Check) -> None:
    from detection.checks.statistics import QUANTILES

    print(printable(f"{check.folder.name} ({check.folder.root})"))
    for name, stats in check.statistics.items():
        persons = "" if stats.num_persons is None else f" of {stats.num_persons:,} persons"
        print(
            f"\n{printable(name)}: {stats.num_videos:,} videos, {stats.num_keyframes:,} keyframes, "
            f"{stats.num_boxes:,} boxes{persons}, {stats.num_rows:,} rows"
        )
        people = ", ".join(f"{n}: {times:,}" for n, times in stats.people_per_keyframe.items())
        print(f"  keyframes by people: {people or 'none'}")
        if stats.without_action:
            print(f"  people without any action: {stats.without_action:,}")
        if stats.height_quantiles:
            marks = ", ".join(
                f"{q:.0%} {value:.2f}"
                for q, value in zip(QUANTILES, stats.height_quantiles, strict=True)
            )
            print(f"  box heights, of the frame's: {marks}")
    if check.statistics:
        _say_classes(check)


def _say_classes(check: Check) -> None:
    # Without a label map each split has the class ids that stand in it.
    counted = [stats.boxes_per_class for stats in check.statistics.values()]
    names = list(dict.fromkeys(name for counts in counted for name in counts))
    width = max([5, *(len(printable(name)) for name in names)])
    splits = list(check.statistics)
    print("\n" + "class".ljust(width) + "".join(f"  {split:>12}" for split in splits))
    for name in names:
        counts = (check.statistics[split].boxes_per_class.get(name, 0) for split in splits)
        print(printable(name).ljust(width) + "".join(f"  {count:>12,}" for count in counts))


def _say_findings(check: Check) -> None:
    findings = check.findings
    print()
    order = ("error", "warning", "note").index
    for (kind, level), times in sorted(findings.counts.items(), key=lambda item: order(item[0][1])):
        print(f"{level}: {kind}: {times:,}")
        shown = [f for f in findings.kept if (f.kind, f.level) == (kind, level)]
        for finding in shown[:5]:
            print(f"  {printable(str(finding))}")
        if times > 5:
            print(f"  and {times - min(5, len(shown)):,} more")
    errors, warnings = findings.total("error"), findings.total("warning")
    print(f"{errors:,} errors, {warnings:,} warnings" if errors or warnings else "nothing odd")
    if check.not_looked_at:
        print(f"not looked at: {', '.join(check.not_looked_at)}")


def _draw_sheets(check: Check, options: argparse.Namespace) -> None:
    out = options.out or check.folder.root / "check"
    try:
        for suspicious in (False, True):
            _draw(check, out, suspicious=suspicious, count=options.pictures, seed=options.seed)
    except OSError as error:
        if error.filename == STDOUT:  # who reads what is printed has gone: nothing of the sheets
            raise
        raise UserError(
            f"{error.filename or out}: the sheets of frames cannot be written ({error.strerror}); "
            "--out names another folder, --pictures 0 draws none"
        ) from error


def _draw(check: Check, out: Path, *, suspicious: bool, count: int, seed: int) -> None:
    """Write a sheet of keyframes; says where, or that there is nothing to draw."""
    import numpy as np

    from detection.checks.dataset import keyframes_to_show
    from detection.datasets.ava_csv import time_us_of
    from detection.datasets.open_video import open_video
    from detection.drawing.actors import gather
    from detection.drawing.annotated_video import Look, SheetPart, VideoActors, write_sheet

    path = out / ("suspicious.png" if suspicious else "keyframes.png")
    if check.label_map is None:
        return
    parts = []
    chosen = keyframes_to_show(check, count=count, seed=seed, suspicious=suspicious)
    for split, keyframes in chosen.items():
        for video_id in dict.fromkeys(video for video, _ in keyframes):
            try:
                source = open_video(check.folder, video_id)
            except UserError:
                continue  # named among the findings
            start_s, end_s = source.span_s()
            times = [t for v, t in keyframes if v == video_id and start_s - 0.1 <= t <= end_s + 0.1]
            rows = check.rows[split]
            rows = rows.select(np.isin(rows.time_us, [time_us_of(t) for t in times]))
            actors = VideoActors(video_id, gather(rows, video_id, check.label_map), None)
            if times:
                parts.append(SheetPart(source, actors, sorted(times)))
    if not parts:
        if path.exists():
            path.unlink()  # an old one would say something else
        return
    out.mkdir(parents=True, exist_ok=True)
    write_sheet(path, parts, look=Look())
    print(f"{'suspicious' if suspicious else 'random'} keyframes: {path}")


def _progress(options: argparse.Namespace) -> Callable[[int, int], None]:
    from tqdm import tqdm

    bar = tqdm(desc="videos", unit="video", disable=not options.videos, leave=False)

    def on_progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return on_progress


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("check", __doc__, EXAMPLE)
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="data set folder")
    add("--split", nargs="+", metavar="NAME", help="only these splits (default: all)")
    add("--no-videos", dest="videos", action="store_false",
        help="check the rows only: no times against videos, no sheets of frames")  # fmt: skip
    add("--decode", action="store_true", help="decode every video to its end (takes a while)")
    parser.shared("--json")
    add("--out", type=Path, metavar="DIR", help="folder of the sheets (default: DATASET/check)")
    add("--pictures", type=whole_number(0), default=24, metavar="N",
        help="keyframes on a sheet, 0: no sheets (default %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, help="of the random keyframes (default %(default)s)")
    add("--limit", type=whole_number(1), default=20, metavar="N",
        help="findings in words, of each kind and file (default %(default)s)")  # fmt: skip
    add_decoding_options(parser)
    options = parser.parse_intermixed_args(arguments)
    if options.decode and not options.videos:
        raise UserError("--decode and --no-videos exclude each other")
    return options


if __name__ == "__main__":
    run_command(main)
