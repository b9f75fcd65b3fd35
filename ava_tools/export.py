"""Export a network to OpenVINO, ONNX or a PyTorch program, with a card of what that changes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, path_text, run_command, whole_number
from detection.errors import UserError, printable

if TYPE_CHECKING:
    from detection.checkpoints.file import ModelFile
    from detection.export.artefact import Artefact
    from detection.export.card import ExportCard
    from detection.export.networks import ExportedNetwork

EXAMPLE = """examples:
  python -m ava_tools.export --checkpoint runs/demo_x3d_xs --to openvino
  python -m ava_tools.export --checkpoint runs/demo_x3d_xs --to onnx --out demo_onnx
  python -m ava_tools.export --checkpoint RUN --to openvino --dataset data/demo --split val
  python -m ava_tools.export --checkpoint x3d_s_kinetics400 --to openvino --out x3d_s
  python -m ava_tools.export --checkpoint runs/people_demo --to openvino

Bytes go in and logits come out: normalising, trunk, RoIAlign and head are inside. The folder holds
artefact.json (classes, sampling, hashes), the program, and a card (card.json, card.md): how far its
scores are from PyTorch's, how long both take here. detect_actions --checkpoint takes the folder.
With --dataset the clips are the data set's, and the card has the score before and after.
Of a people detector (a run of train_people, a .pth of torchvision's, coco) all but anchors, NMS and
RoIAlign is exported, for --people; with --dataset its card is of the split's keyframes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parse(arguments)
    if (options.dataset is None) != (options.split is None):
        raise UserError("--dataset and --split go together")
    if options.overrides and options.dataset is None:
        raise UserError(f"'{options.overrides[0]}': options of scoring go with --dataset")
    import torch

    from detection.checkpoints.network_file import read_network_file
    from detection.export.artefact import find_artefact, place_beside
    from detection.export.card import write_card
    from detection.export.make import export_network

    torch.set_num_threads(options.threads or 1)
    if _is_people(options.checkpoint):
        return _export_people(options)
    file = read_network_file(options.checkpoint)
    for note in file.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    folder = options.out or place_beside(file.path, options.to)
    _check_folder(folder, exported=find_artefact(folder) is not None, overwrite=options.overwrite)
    artefact = export_network(file, folder, options.to)
    if artefact.damage is not None:
        print(f"warning: {artefact.damage}", file=sys.stderr)
    card = measure_exports(file, artefact, options)
    write_card(folder, card)
    print(card.text())
    print(f"{folder}: exported; python -m ava_tools.detect_actions VIDEO --checkpoint {folder}")
    return 0


def _is_people(checkpoint: str) -> bool:
    from detection.people.weights import is_people_file

    return is_people_file(checkpoint)


def _export_people(options: argparse.Namespace) -> int:
    from detection.export.artefact import find_artefact, place_beside
    from detection.export.card import write_card
    from detection.people.export_card import (
        compare_people,
        keyframe_frames,
        made_up_frames,
    )
    from detection.people.exported import export_people
    from detection.people.weights import open_for_export

    if options.overrides:
        raise UserError(f"'{options.overrides[0]}': options are of action networks")
    opened = open_for_export(options.checkpoint)
    for note in opened.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    folder = options.out or place_beside(opened.path, options.to)
    _check_folder(folder, exported=find_artefact(folder) is not None, overwrite=options.overwrite)
    artefact = export_people(opened.network, opened.facts, folder, options.to)
    sides_px = artefact.facts.numbers.short_side_px, artefact.facts.numbers.long_side_px
    if options.dataset is None:
        card = compare_people(opened.network, artefact, made_up_frames(sides_px, options.clips))
    else:
        frames = keyframe_frames(options.dataset, options.split, sides_px)
        source = f"keyframes of {options.dataset.resolve().name}, {options.split}"
        card = compare_people(opened.network, artefact, frames, frames_from=source)
    write_card(folder, card)
    print(card.text())
    print(f"{folder}: exported; python -m ava_tools.detect_actions VIDEO --people {folder}")
    return 0


def measure_exports(file: ModelFile, artefact: Artefact, options: argparse.Namespace) -> ExportCard:
    """Run the network and its export on the same clips, in every precision this processor has."""
    import torch

    from detection.checkpoints.load import load_network
    from detection.export.compare import compare_exports, made_up_clips
    from detection.export.networks import open_exported
    from detection.export.runtimes import has_bfloat16
    from detection.export.session import Precision, Threads

    threads = Threads(torch.get_num_threads())
    precisions: list[Precision] = ["f32", "bf16"] if has_bfloat16(artefact.form) else ["f32"]
    exported: dict[str, ExportedNetwork] = {
        precision: open_exported(artefact, threads=threads, precision=precision)
        for precision in precisions
    }
    if options.dataset is not None:
        return score_both(file, artefact, exported, options)
    clips = made_up_clips(file, artefact.limits, repeats=options.clips)
    return compare_exports(load_network(file), exported, clips, artefact=artefact)


def score_both(
    file: ModelFile,
    artefact: Artefact,
    exported: dict[str, ExportedNetwork],
    options: argparse.Namespace,
) -> ExportCard:
    """Score a data set's split by the network and by its exports; compare them on all its clips."""
    import torch

    from detection.checkpoints.load import load_network
    from detection.config import config_from_dict
    from detection.engine.distributed import ALONE
    from detection.engine.tasks.by_name import open_x3d_task
    from detection.export.compare import card_of, run_side_by_side

    if file.config is None:
        raise UserError(f"{file.path}: holds no configuration, by which --dataset is scored")
    if file.config.get("task") == "classification":
        raise UserError("--dataset scores networks of actions; without it the clips are made up")
    given = [f"data.root={options.dataset}", f"data.val_split={options.split}", "data.val_every=1"]
    config = config_from_dict(file.config, file.path, [*given, "device=cpu", *options.overrides])
    task = open_x3d_task(config)
    task.check_fits(file)
    task.prepare_scoring(device=torch.device("cpu"), processes=ALONE)
    both = run_side_by_side(load_network(file), exported)
    metrics = {"torch": task.score(both).score}
    metrics |= {name: task.score(model).score for name, model in exported.items()}
    return card_of(
        both,
        artefact,
        clips_from=f"all of {options.dataset.resolve().name}, {options.split}",
        metric="frame-mAP" if task.metric == "mean_ap" else task.metric,
        metrics=metrics,
    )


def _check_folder(folder: Path, *, exported: bool, overwrite: bool) -> None:
    """Refuse a folder that holds something else, and one that is to be kept."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not exported:
        raise UserError(f"{folder}: holds files but no exported network, choose another --out")
    if not overwrite:
        raise UserError(f"{folder}: holds an exported network; --overwrite replaces it")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("export", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    add("--checkpoint", type=path_text, required=True, metavar="RUN",
        help="run folder or checkpoint of actions or people, another project's X3D file, or "
        "published weights by name")
    add("--to", choices=("onnx", "openvino", "torch"), required=True,
        help="onnx: ONNX, for ONNX Runtime; openvino: OpenVINO's form; torch: a .pt2 file for "
        "programs that have PyTorch alone")
    parser.shared("--out", required=False,
        help="folder to write (default: RUN/exported/FORM, where detect_actions finds it)")
    parser.shared("--dataset", required=False, help="data set folder to score before and after")
    parser.shared("--split", required=False)
    parser.shared("overrides")
    add("--clips", type=whole_number(1, 1000), default=3, metavar="N",
        help="made-up clips of the usual size to compare on without --dataset, beside those of odd "
        "sizes (default %(default)s)")
    parser.shared("--threads", "--overwrite")
    # fmt: on
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    run_command(main)
