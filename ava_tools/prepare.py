"""Cut and scale a data set's videos so that clips are quick to read (docs/data.md)."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from ava_tools.cli import command_parser, frame_rate, run_command, seconds, whole_number

EPILOG = """examples:
  python -m ava_tools.prepare --dataset data/ava --out data/ava_320
  python -m ava_tools.prepare --dataset data/ava --out /tmp/try --only=-5KQ66BBWC4

Each video keeps its presentation times, so annotations are copied unchanged. The span that the
keyframes of all splits require is kept, with a key frame every second, H.264, time base 1/90000.
prepared/ID.json says what was made of what. A stopped command goes on when it is given
again. Exit code 0: all done; 2: something is wrong, see the message."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from tqdm import tqdm

    from detection.datasets.folder import DatasetFolder
    from detection.errors import UserError
    from detection.prepare.dataset import prepare_dataset
    from detection.prepare.video import PrepareOptions
    from detection.video.repairs import repair_lines

    folder = DatasetFolder.open(options.dataset)
    with tqdm(unit="s of video", desc="preparing", unit_scale=True) as bar:

        def on_start(total_s: float) -> None:
            bar.total = round(total_s, 1)  # `bar.reset` would show it at once, in a log too

        report = prepare_dataset(
            folder,
            options.out,
            options=PrepareOptions(
                short_side=options.short_side,
                crf=options.crf,
                damage="skip" if options.tolerate_damage else "refuse",
            ),
            clip_span_s=options.clip_span,
            whole_videos=options.whole,
            only=options.only,
            leave_out_broken=options.leave_out_broken,
            frames_fps=options.fps if options.frames else None,
            frames_start_s=options.frames_start,
            jobs=options.jobs,
            engine=options.engine,
            address=options.address,
            how_to_get=f"python -m ava_tools.prepare {shlex.join(arguments or sys.argv[1:])}",
            on_start=on_start,
            on_progress=bar.update,
        )
    for line in repair_lines(report.repairs):
        print(f"note: {line}")
    for video_id, reason in sorted(report.failed.items()):
        print(f"{video_id}: {reason}")
    print(
        f"{options.out}: {len(report.prepared)} prepared, {len(report.kept)} were there, "
        f"{len(report.failed)} failed"
    )
    if report.failed and not report.whole:
        raise UserError(
            f"{len(report.failed)} video(s) could not be prepared, see above; the same command "
            "goes on, --leave-out-broken makes a data set of the others"
        )
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("prepare", __doc__, EPILOG)
    add = parser.add_argument
    # fmt: off
    parser.shared("--dataset", help="data set folder with the source videos")
    parser.shared("--out", help="data set folder to make")
    add("--short-side", type=whole_number(2), default=320,
        help="pixels; never enlarged (default %(default)s)")
    add("--crf", type=whole_number(0, 51), default=20,
        help="quality, 0 (lossless) to 51 (default %(default)s)")
    add("--clip-span", type=seconds, default=14.0, metavar="SECONDS",
        help="longest clip around a keyframe, all of whose frames are kept (default %(default)g)")
    add("--whole", action="store_true", help="keep videos in full length")
    parser.shared("--only")
    add("--leave-out-broken", action="store_true",
        help="make a data set of the videos that can be prepared, and list the others in it")
    add("--tolerate-damage", action="store_true",
        help="keep damaged frames inside a source as players show them")
    add("--frames", action="store_true",
        help="write frames/ID/ID_000001.jpg in place of videos, and lists of them as SlowFast's")
    add("--fps", type=frame_rate, default=30.0,
        help="of --frames (default %(default)g)")
    add("--frames-start", type=seconds, metavar="SECONDS",
        help="when frame 1 is shown (AVA's usual: 900; default: the first second required)")
    parser.shared("--jobs")
    parser.shared("--engine")
    parser.shared("--address")
    # fmt: on
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
