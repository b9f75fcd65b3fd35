"""Make a folder of a network that others can use: weights, description, card, hashes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ava_tools.cli import command_parser, path_text, run_command
from detection.errors import printable

EXAMPLE = """examples:
  python -m ava_tools.publish runs/demo_x3d_xs --out demo_model --people runs/people_demo
  python -m ava_tools.publish runs/mine --out mine_model --licence cc-by-4.0
  python -m ava_tools.publish runs/mine --out mine_model --licence cc-by-4.0 --push user/mine
  python -m ava_tools.publish runs/people_demo --out people_model

The folder holds model.safetensors, config.json (classes, sampling, thresholds, ...), README.md (a
card of what the run measured), SHA256SUMS, and people/, the detector that goes with it. Wherever a
checkpoint is taken, such a folder is taken too; hub:user/name is one on the Hugging Face Hub, for
which the extra [hub] is needed (pip install "x3d-action-detection[hub]")."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parse(arguments)
    from detection.checkpoints.huggingface import check_push_name, push_folder
    from detection.publishing.pretrained import save_pretrained

    if options.push is not None:
        check_push_name(options.push)
    if options.licence is None:
        _say("note: --licence TEXT is not given: the card says that it is not stated")
    folder = save_pretrained(
        options.run,
        options.out,
        people=options.people,
        licence=options.licence,
        name=options.push,
        overwrite=options.overwrite,
        on_note=lambda note: _say(f"note: {note}"),
    )
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            print(f"{printable(str(path))}: {path.stat().st_size:,} bytes")
    if options.push is not None:
        print(f"uploaded: {printable(push_folder(folder, options.push))}")
    return 0


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("publish", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    add("run", type=path_text, metavar="RUN",
        help="run folder or checkpoint, of actions, of whole clips or of people; another project's "
        "X3D file; published weights by name")
    parser.shared("--out", help="folder to make")
    add("--people", type=path_text, metavar="RUN_OR_FILE",
        help="people detector that goes with it: a run or checkpoint of train_people, a .pth of "
        "torchvision's, coco or coco:NETWORK (default: RUN/people.pt or RUN/people)")
    add("--licence", metavar="TEXT",
        help="licence of the data and the weights, in words or as SPDX has it, for the card")
    add("--push", metavar="USER/NAME", help="upload the folder to the Hugging Face Hub")
    parser.shared("--overwrite", help="replace the files of a model folder that is there")
    # fmt: on
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
