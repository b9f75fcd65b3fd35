"""Convert a checkpoint: to safetensors, to this project's form, or to another project's names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, run_command

if TYPE_CHECKING:
    from detection.checkpoints.file import ModelFile
    from detection.structures import LabelMap

EXAMPLE = """examples:
  python -m ava_tools.convert --checkpoint runs/demo --out demo.safetensors
  python -m ava_tools.convert --checkpoint runs/demo/checkpoints/best.pt --out best.safetensors
  python -m ava_tools.convert --checkpoint x3d_m.pyth --to pytorchvideo --out X3D_M.pyth
  python -m ava_tools.convert --checkpoint x3d_s_kinetics400 --to own --out x3d_s.pt
  python -m ava_tools.convert --checkpoint mine.pyth --variant s --label-map mine.json \\
      --to own --out mine.pt

Of another project's file, 400 classes without names are taken for Kinetics-400's.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Read, check by building the network, and write."""
    args = _parse(argv)
    from detection.checkpoints.file import check_class_layer, read_model_file
    from detection.checkpoints.network_file import complete_file, find_weights
    from detection.datasets.class_list import read_class_list

    path, variant = find_weights(args.checkpoint)
    file = read_model_file(path, weights_only=True)
    classes = None
    named = args.label_map or args.class_list
    if named is not None:
        classes = read_class_names(named) if args.label_map else read_class_list(named)
        check_class_layer(f"{named} on {args.checkpoint}", file.state, len(classes))
    whole = complete_file(file, variant=args.variant or variant, label_map=classes)
    for note in whole.notes:
        print(f"note: {note}")
    write(file, whole, args)
    print(f"{args.out}: {len(file.state)} weights read with {file.naming} names, as {args.to}")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser("convert", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    add("--checkpoint", type=Path, required=True, metavar="FILE",
        help="of this project (or a run folder: its last one), SlowFast, pytorchvideo or "
        "mmaction2; safetensors; or the name of published weights")
    add("--allow-unused", action="store_true",
        help="leave out weights that the network has no place for")
    parser.shared("--out", metavar="FILE", help="what to write")
    add("--to", choices=("safetensors", "own", "slowfast", "pytorchvideo", "mmaction2"),
        default="safetensors", help="safetensors and own keep all that is known of the network; "
        "the others are weights under that project's names (default %(default)s)")
    add("--variant", choices=("xs", "s", "m", "l", "xl", "x2d"),
        help="variant of another project's file (XS, S and M have the same shapes: default as the "
        "published or the file's name says, else m)")
    names = parser.add_mutually_exclusive_group()
    names.add_argument("--class-list", type=Path, metavar="FILE",
        help="class names to put in: a name a line, `N: name` lines, or JSON of ids and names")
    names.add_argument("--label-map", type=Path, metavar="FILE",
        help="class names to put in: a .pbtxt, or JSON {name: number} (or the reverse) from 0 on")
    # fmt: on
    return parser.parse_args(argv)


def write(file: ModelFile, whole: ModelFile, args: argparse.Namespace) -> None:
    """Write in the form asked for; building the network first checks every weight.

    file: as it was read.  whole: with what it does not say itself filled in.
    """
    from detection.checkpoints.file import save_model_file, save_plain
    from detection.checkpoints.load import (
        describe_network,
        fold_pytorchvideo_shortcut,
        load_network,
    )
    from detection.checkpoints.weights import to_their_names

    model = load_network(whole, allow_unused=args.allow_unused)
    state = model.state_dict()
    if args.to in ("slowfast", "pytorchvideo", "mmaction2"):
        if args.to == "pytorchvideo":
            state = fold_pytorchvideo_shortcut(state)
        key = "state_dict" if args.to == "mmaction2" else "model_state"
        save_plain(args.out, {key: to_their_names(state, args.to)})
        if lost := not_in_weights(file):
            print(f"note: {args.to}'s form holds weights alone; left out: {', '.join(lost)}")
        return
    save_model_file(
        args.out,
        state,
        network=describe_network(model),
        classes=whole.classes,
        sampling=whole.sampling,
        short_side_px=whole.short_side_px,
        config=file.config,
        thresholds=whole.thresholds,
        relevance=whole.relevance,
        safetensors=args.to == "safetensors",
    )


def not_in_weights(file: ModelFile) -> list[str]:
    """Say what a file knows, beside its weights, without which they give other scores."""
    lost = []
    if file.network is not None:
        head = file.network.head  # class layer and fc1 are told by weights, dropout is of training
        plain = type(head)(head.num_classes, head.hidden, head.dropout)
        usual = type(file.network)(file.network.trunk, plain).numbers()
        numbers = file.network.numbers()
        lost = [f"{name}={numbers[name]}" for name in numbers if numbers[name] != usual[name]]
    if file.sampling is not None:
        frames = f"{file.sampling.num_frames} frames, step {file.sampling.step:g}"
        at_ends = "" if file.sampling.at_ends == "repeat" else ", inside the video"
        stream = ", a stream" if file.sampling.stream else ""
        lost.append(f"sampling ({frames}, short side {file.short_side_px}{at_ends}{stream})")
    if file.classes is not None:
        lost.append(f"{len(file.classes)} class names")
    if file.thresholds is not None:
        lost.append("learned thresholds")
    if file.relevance is not None:
        lost.append("relevance")
    return lost


def read_class_names(path: Path) -> LabelMap:
    """Read class names from a label map, or from JSON as it is published for Kinetics."""
    from detection.datasets.clip_list import read_class_file
    from detection.datasets.label_map import read_label_map
    from detection.errors import UserError

    if path.suffix != ".json":
        return read_label_map(path)
    classes = read_class_file(path)
    if classes.ids != tuple(range(len(classes))):
        raise UserError(f"{path}: the numbers must run from 0 to {len(classes) - 1}, each once")
    return classes


if __name__ == "__main__":
    run_command(main)
