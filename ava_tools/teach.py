"""Teach your own actions from a label page: fit in seconds, suggest what to label next."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, run_command
from detection.errors import UserError, first_few, printable

if TYPE_CHECKING:
    from detection.teaching.session import Session
    from detection.teaching.teach import Round
    from detection.teaching.watch import Facts, Inbox

EXAMPLE = """examples:
  python -m ava_tools.teach --dataset data/raw
  python -m ava_tools.teach --dataset data/raw --watch --watch-folder ~/Downloads

After python -m ava_tools.label: label some people on DIR/label/review.html, save what the page
exports into DIR/labels/, and teach. It fits what is labelled so far, writes a run folder that
detect_actions takes, and writes the page again: reload it, suggestions are on it, and those that
help most come first. Label files are only read. What the network sees of each person is computed
once and kept in DIR/features/; stopped at any time, the same command goes on (exit code 75).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    if options.watch_folder is not None and not options.watch:
        raise UserError("--watch-folder goes with --watch")
    if options.watch_folder is not None and not options.watch_folder.is_dir():
        raise UserError(f"{options.watch_folder}: folder not found (--watch-folder)")
    if options.watch_folder is not None and options.labels is not None:
        raise UserError("--watch-folder copies into DIR/labels, which --labels leaves out")
    for override in options.overrides:
        if override.startswith(("data.root=", "output=")):
            raise UserError(f"'{override}': --dataset and --out say where data and run are")
    from detection.config import load_config
    from detection.engine.run_folder import only_run
    from detection.teaching.run import check_taught_folder
    from detection.teaching.session import Session
    from detection.teaching.watch import file_facts

    config = load_config(options.cfg, options.overrides)
    run = options.out or Path("runs") / (options.dataset.resolve().name or "taught")
    session = Session.open(options.dataset, config, run, show_progress=not options.quiet)
    check_taught_folder(run)
    with only_run(run, option="--out RUN"):
        known = file_facts(_files(options))
        done = _teach(session, options)
        if options.watch:
            _watch(session, options, done, known)
    return 0


def _files(options: argparse.Namespace) -> list[Path]:
    from detection.teaching.watch import LABEL_FOLDER, label_files

    return list(options.labels or label_files(options.dataset / LABEL_FOLDER))


def _teach(session: Session, options: argparse.Namespace, before: Round | None = None) -> Round:
    """Do a round, and say what came of it."""
    from detection.teaching.label_folder import read_labelled
    from detection.teaching.teach import teach_once

    files = _files(options)
    labelled = read_labelled(session, files, prefer=options.prefer)
    done = teach_once(session, labelled, files=files)
    if done.classes:
        _say_round(session, done, before, len(files))
    else:
        _say_how_to_begin(session, done, options)
    return done


def _say_how_to_begin(session: Session, done: Round, options: argparse.Namespace) -> None:
    from detection.teaching.watch import LABEL_FOLDER

    folder = options.dataset / LABEL_FOLDER
    classes = ", ".join(map(printable, session.label_map.names))
    print(f"nothing is labelled yet ({printable(str(folder))}/*.json)")
    print(
        f"1. open {printable(str(done.page))} with a browser: {done.people} people, in random order"
    )
    print(f"2. label ten or so, some of each class: {classes}")
    print(f"3. export, and save the file into {printable(str(folder))}/")
    again = "this command sees it" if options.watch else "give this command again"
    print(f"4. {again}")


def _say_round(session: Session, done: Round, before: Round | None, files: int) -> None:
    from detection.people.beside_run import use_command
    from detection.teaching.report import report_lines

    more = "" if before is None else f" ({done.keyframes - before.keyframes:+d})"
    print(
        f"{files} label file{'s' * (files != 1)}: {done.decided} of {done.people} people decided, "
        f"{done.keyframes}{more} at keyframes, {done.no_person} of them no person"
    )
    if done.strangers:
        print(
            f"{done.strangers} decided boxes are on no track of the page: learned from all the same"
        )
    if session.unreadable:
        lines = first_few(list(map(printable, session.unreadable)))
        print(f"{len(session.unreadable)} keyframes cannot be read and are left out: {lines}")
    kept = session.computed < session.known and not session.unreadable
    others = ", the others were kept from before" if kept else ""
    print(f"features: {session.computed} computed{others}")
    for line in report_lines(done.classes):
        print(line)
    if done.thresholds is None:
        print("thresholds: none, examples in two videos at least are required to measure")
    else:
        common = ", one for all classes (few examples)" if done.thresholds.common else ""
        print(f"thresholds: of best F1 on {done.thresholds.source}{common}")
    for line in done.warnings:
        print(f"warning: {printable(line)}")
    if not done.idle:
        print(
            "every decided person does one of these actions: whoever does none in a new video is "
            "taken for what looks most like it; label some who do none too (Enter without a pick), "
            "unless there are none"
        )
    print(f"page: {printable(str(done.page))} (reload it)")
    print(f"run folder: {printable(str(session.run))}")
    print(f"draw it: python -m ava_tools.visualize --run {printable(str(session.run))}")
    print(f"use it: {printable(use_command(session.run))}")


def _watch(session: Session, options: argparse.Namespace, done: Round, known: Facts) -> None:
    """Teach again whenever label files have changed, until Ctrl-C.

    known: the files as they were before the round that is done.
    """
    from detection.teaching.watch import POLL_S, wait_for_change

    if not done.classes:
        session.compute_features({})  # while the first people are being labelled
    inbox = _inbox(session, options, done)
    places = [options.dataset / "labels" if options.labels is None else "the label files"]
    places += [] if inbox is None else [inbox.folder]
    print(f"watching {' and '.join(printable(str(place)) for place in places)}; Ctrl-C ends")

    def find() -> list[Path]:
        for copy in [] if inbox is None else inbox.collect():
            print(f"copied: {printable(str(copy))}")
        return _files(options)

    while True:
        sys.stdout.flush()
        try:
            known = wait_for_change(find, known, poll_s=POLL_S)
        except KeyboardInterrupt:  # nothing is under way
            return
        print(time.strftime("%H:%M:%S: the label files have changed"))
        try:
            done = _teach(session, options, before=done)
        except UserError as error:  # to be mended in a file that is watched
            print(printable(f"error: {error}"), file=sys.stderr)


def _inbox(session: Session, options: argparse.Namespace, done: Round) -> Inbox | None:
    if options.watch_folder is None:
        return None
    from detection.review.page import page_key
    from detection.teaching.watch import LABEL_FOLDER, Inbox

    into = options.dataset / LABEL_FOLDER
    return Inbox(options.watch_folder, into, page_key(done.page))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("teach", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    parser.shared("--dataset")
    parser.shared("--cfg", default="mine_x3d_xs",
                  help="configuration: a YAML file, or the name of a shipped one (default "
                       "%(default)s)")
    parser.shared("overrides")
    add("--labels", type=Path, nargs="+", metavar="FILE",
        help="label files (default: DIR/labels/*.json)")
    add("--prefer", type=Path, metavar="FILE",
        help="the label file that counts where two annotators disagree")
    parser.shared("--out", required=False, metavar="RUN",
                  help="run folder (default: runs/ and the data set folder's name)")
    add("--watch", action="store_true",
        help="go on: teach again when a label file is new or has changed, until Ctrl-C")
    add("--watch-folder", type=Path, metavar="DIR",
        help="with --watch: copy the page's exports (labels*.json) from here, such as a browser's "
             "downloads folder")
    parser.shared("--quiet")
    # fmt: on
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
