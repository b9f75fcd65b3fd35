"""Label people with actions of your own: a page that opens from disk, one pick a person."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, named_lists, run_command, share, whole_number
from detection.errors import UserError, printable

if TYPE_CHECKING:
    from detection.datasets.folder import DatasetFolder
    from detection.datasets.labelling_task import LabellingTask

EXAMPLE = """examples:
  python -m ava_tools.label --dataset data/raw --boxes people --one-of pose=stand,sit --actions wave
  python -m ava_tools.label --dataset data/raw          # again, with the same people and classes
  python -m ava_tools.teach --dataset data/raw          # once labels are exported: suggestions

Open DIR/label/review.html from disk with a browser, pick (the page lists its keys), and save what
it exports into DIR/labels/. Everything stays on your machine. The classes are kept in
DIR/labels.yaml; a data set with labels needs neither --actions nor --one-of. See docs/review.md.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)
    from detection.datasets.folder import DatasetFolder
    from detection.datasets.labelling_task import TASK_FILE, write_labelling_task
    from detection.review.labelling import find_people_to_label, write_label_pages

    folder = DatasetFolder.open(options.dataset)
    task = _task(folder, options)
    out = options.out or folder.root / "label"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, a folder is required")
    people = find_people_to_label(
        folder,
        task.split,
        task.boxes,
        least_person_score=task.min_score,
        least_length=task.min_length,
    )
    if not people.count:
        print(
            f"warning: {folder.boxes_path(folder.split(task.split), task.boxes)}: no person scores "
            f"{task.min_score:g} or more (--min-score)",
            file=sys.stderr,
        )
    label_map = task.label_map(folder)
    page = write_label_pages(
        out,
        folder,
        task.split,
        task.boxes,
        label_map,
        label_map.exclusive,
        least_person_score=task.min_score,
        least_length=task.min_length,
        show_progress=not options.quiet,
    )
    write_labelling_task(folder.root, task)
    print(f"{len(people.tracks)} videos, {people.count:,} people, {len(label_map)} classes")
    if people.loose:
        print(f"left out: {people.loose:,} boxes below {task.min_score:g} (--min-score)")
    if people.short:
        print(f"left out: {people.short:,} people of fewer than {task.min_length} boxes")
    print(f"classes: {printable(str(folder.root / TASK_FILE))}")
    print(printable(str(page)))
    return 0


def _task(folder: DatasetFolder, options: argparse.Namespace) -> LabellingTask:
    """Return what is to be labelled: as the options say, else as `labels.yaml` does."""
    from detection.datasets.labelling_task import TASK_FILE, LabellingTask, read_labelling_task

    path = folder.root / TASK_FILE
    before = None
    if path.is_file() and not options.overwrite:
        before = read_labelling_task(folder.root)
    one_of = {
        group: tuple(names)
        for group, names in named_lists("--one-of", "NAME=A,B,...", options.one_of).items()
    }
    actions = tuple(options.actions or ())
    for name in actions:
        if "," in name:
            print(
                f"warning: '{printable(name)}' is one class; blanks part those of --actions",
                file=sys.stderr,
            )
    if not one_of and not actions:
        one_of, actions = (before.one_of, before.actions) if before else _classes(folder)
    boxes = options.boxes or (before.boxes if before else _only_boxes(folder))
    split = options.split or (before.split if before else _only_split(folder, boxes))
    kept = (before.min_score, before.min_length) if before else (_usual_score(folder), 1)
    try:
        task = LabellingTask(
            boxes=boxes,
            split=split,
            actions=actions,
            one_of=one_of,
            min_score=kept[0] if options.min_score is None else options.min_score,
            min_length=kept[1] if options.min_length is None else options.min_length,
        )
    except ValueError as error:  # pydantic's, of several lines
        problem = str(error).splitlines()[-2 if "\n" in str(error) else 0].strip()
        raise UserError(f"--one-of, --actions: {_words_of(problem)}") from error
    if before is not None and task != before:
        raise UserError(
            f"{path}: says {_differing(before, task)}; what was picked belongs to that page: "
            f"--overwrite begins another one"
        )
    return task


def _usual_score(folder: DatasetFolder) -> float:
    """Return from which score on a box is a person, as the data set's detector says; else 0.5."""
    people = folder.file.people
    return 0.5 if people is None or people.score is None else people.score


def _words_of(problem: str) -> str:
    return problem.removeprefix("Value error, ").partition(" [type=")[0]


def _differing(before: LabellingTask, task: LabellingTask) -> str:
    """Say the first thing that differs: as it is, and as it was given."""
    for name in ("boxes", "split", "one_of", "actions", "min_score", "min_length"):
        old, new = getattr(before, name), getattr(task, name)
        if old != new:
            return f"{name} {_text(old)}, found {_text(new)}"
    raise AssertionError("equal")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{group}={','.join(names)}" for group, names in value.items()) or "none"
    return (" ".join(value) or "none") if isinstance(value, tuple) else str(value)


def _classes(folder: DatasetFolder) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return the classes of a data set that has a label map: groups, and those that combine."""
    if not (folder.root / folder.file.label_map).is_file():
        raise UserError(
            f"{folder.root}: has no classes yet: --one-of NAME=A,B,... or --actions is required"
        )
    label_map = folder.read_label_map()
    groups = {
        name: tuple(label_map.names[column] for column in columns)
        for name, columns in folder.exclusive_groups(label_map).items()
    }
    grouped = {name for names in groups.values() for name in names}
    return groups, tuple(name for name in label_map.names if name not in grouped)


def _only_boxes(folder: DatasetFolder) -> str:
    names = sorted({name for part in folder.file.splits.values() for name in part.boxes})
    if len(names) != 1:
        known = f"it has {', '.join(names)}" if names else "it has none, detect_people makes them"
        raise UserError(f"{folder.root}: --boxes NAME is required ({known})")
    return names[0]


def _only_split(folder: DatasetFolder, boxes: str) -> str:
    names = [name for name, part in folder.file.splits.items() if boxes in part.boxes]
    if len(names) > 1:
        raise UserError(f"{folder.root}: boxes '{boxes}' are in {', '.join(names)}: give --split")
    return names[0] if names else next(iter(folder.file.splits))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("label", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    parser.shared("--dataset")
    parser.shared("--split", required=False, help="split (default: the one that has these boxes)")
    add("--boxes", metavar="NAME",
        help="detected people, as dataset.yaml names them (default: the only ones)")
    add("--one-of", action="append", metavar="NAME=A,B,...",
        help="classes of which a person does one at a time; may be repeated")
    add("--actions", nargs="+", metavar="ACTION", help="classes that combine freely")
    parser.shared("--out", required=False, help="folder of the page (default: DIR/label)")
    add("--min-score", type=share, metavar="S",
        help="lowest score that starts a person's track (default: what the detector says, or 0.5)")
    add("--min-length", type=whole_number(1), metavar="N",
        help="leave out people of fewer boxes (default 1)")
    parser.shared("--quiet")
    parser.shared("--overwrite", help="other classes or people than before: another page")
    # fmt: on
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
