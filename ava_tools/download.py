"""Download AVA from its published addresses into a data set folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ava_tools.cli import command_parser, number, run_command, whole_number
from detection.transfer.bars import BarProgress, size_text

EPILOG = """examples:
  python -m ava_tools.download --dataset ava-v2.2 --out data/ava --dry-run
  python -m ava_tools.download --dataset ava-v2.2 --out data/ava
  python -m ava_tools.download --dataset ava-v2.2 --out data/ava --only 1j20qq1JyX4
  python -m ava_tools.download --dataset ava-v2.2 --out data/ava --what annotations boxes

A stopped command goes on where it was when it is given again. Fetched files are listed in
OUT/downloads.json with size and SHA-256; archives stay in OUT/downloads."""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser("download", __doc__, EPILOG)
    add = parser.add_argument
    # fmt: off
    add("--dataset", required=True, choices=("ava-v2.1", "ava-v2.2", "ava-kinetics"),
        help="which one (ava-kinetics: annotations only, its videos are the user's)")
    parser.shared("--out", help="data set folder, e.g. data/ava")
    add("--what", nargs="+", default=["annotations", "boxes", "films"],
        choices=("annotations", "boxes", "films"),
        help="annotations always come; boxes: FAIR's person boxes; films: the videos "
        "(default: everything, 157 GB)")
    parser.shared("--only")
    add("--test", action="store_true", help="the test set's videos and boxes too")
    add("--dry-run", action="store_true", help="list files and sizes, write nothing")
    parser.shared("--jobs", type=whole_number(1, 64), default=4,
        help="files at a time (default %(default)s)")
    add("--timeout", type=number(0, 86_400, above=True), default=60.0, metavar="S",
        help="longest silence in seconds (default 60)")
    add("--attempts", type=whole_number(1, 100), default=6,
        help="tries of a file in a row (default 6)")
    add("--base-url", metavar="URL",
        help="a mirror which holds the files as URL/HOST/PATH of their published addresses")
    # fmt: on
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse_arguments(arguments)
    from detection.errors import UserError
    from detection.prepare.ava_download import RELEASES, choose_films, read_film_lists
    from detection.transfer.download import TransferRules

    release = RELEASES[options.dataset]
    rules = TransferRules(attempts=options.attempts, timeout_s=options.timeout)
    with_films = "films" in options.what and bool(release.film_lists)
    if options.only and not release.film_lists:
        raise UserError(f"--only {options.only[0]}: {release.name} comes without films")
    # The lists come first: a wrong --only ends before anything large is fetched.
    films = []
    if with_films or options.only:
        films = read_film_lists(release, test=options.test, rules=rules, base_url=options.base_url)
        films = choose_films(films, options.only)
    if not with_films:
        films = []
    if options.dry_run:
        return _dry_run(release, films, options, rules)
    if failed := _fetch(release, films, options, rules):
        first = next(iter(failed))
        raise UserError(
            f"{len(failed)} file(s) did not come; first {first} ({failed[first]}); what came is "
            "kept, the same command tries the rest again"
        )
    print(f"{options.out}: complete")
    return 0


def _dry_run(release: Any, films: Sequence[Any], options: argparse.Namespace, rules: Any) -> int:
    from tqdm import tqdm

    from detection.errors import UserError
    from detection.prepare.ava_download import annotation_files
    from detection.transfer.download import ask_sizes
    from detection.transfer.manifest import Manifest

    manifest = Manifest.read(options.out)
    boxes = "boxes" in options.what
    files = annotation_files(release, boxes=boxes, test=options.test, base_url=options.base_url)
    files += [film.file for film in films]
    missing = [file for file in files if not manifest.holds(file)]
    with tqdm(total=len(missing), unit="file", desc="asking for sizes", leave=False) as bar:
        answers = ask_sizes([file.url for file in missing], rules=rules, on_progress=bar.update)
    here, to_come, unknown, refused = 0, 0, 0, 0
    for file in files:
        answer = answers.get(file.url)
        if answer is None:
            size = manifest.files[file.path].num_bytes
            here += size
            print(f"{size_text(size):>10}  here      {file.path}")
        elif isinstance(answer, str):
            refused += 1
            print(f"{'?':>10}  refused   {file.path}  ({answer})")
        else:
            to_come += answer.num_bytes or 0
            unknown += answer.num_bytes is None
            print(f"{size_text(answer.num_bytes):>10}  to come   {file.path}")
    print(
        f"{size_text(here)} here, {size_text(to_come)} to come in {len(missing) - refused} files",
        end="",
    )
    print(f", {unknown} of unknown size" if unknown else "", end="")
    print(f", {refused} refused" if refused else "")
    if refused:
        raise UserError(f"{refused} of {len(missing)} files are refused, see above")
    return 0


def _fetch(
    release: Any, films: Sequence[Any], options: argparse.Namespace, rules: Any
) -> dict[str, str]:
    from detection.prepare.ava_download import fetch_annotations, write_dataset_folder
    from detection.transfer.download import ask_sizes, check_space, fetch_files
    from detection.transfer.manifest import Manifest

    with BarProgress() as progress:
        annotations = fetch_annotations(
            release,
            options.out,
            boxes="boxes" in options.what,
            test=options.test,
            base_url=options.base_url,
            jobs=options.jobs,
            rules=rules,
            progress=progress,
        )
    write_dataset_folder(release, options.out, only=options.only)
    failed = dict(annotations.failed)
    files = [film.file for film in films]
    if files:
        manifest = Manifest.read(options.out)
        missing = [file for file in files if not manifest.holds(file)]
        answers = ask_sizes([file.url for file in missing], rules=rules)
        sizes = {
            file.path: answer.num_bytes or 0
            for file in missing
            if not isinstance(answer := answers[file.url], str)
        }
        check_space(options.out, sum(sizes.values()))
        with BarProgress(sizes) as progress:
            failed |= fetch_files(
                files, folder=options.out, jobs=options.jobs, rules=rules, progress=progress
            ).failed
    return failed


if __name__ == "__main__":
    run_command(main)
