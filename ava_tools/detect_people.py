"""Detect people at a data set's keyframes: a file of person boxes in AVA's form."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ava_tools.cli import (
    auto_or_seconds,
    command_parser,
    none_or_at_a_time,
    path_text,
    run_command,
    share,
)
from detection.cores import usable_cores
from detection.errors import UserError, printable

if TYPE_CHECKING:
    from detection.datasets.folder import DatasetFolder, PeoplePart, Split
    from detection.people.box_table import Summary
    from detection.structures import Keyframe

EXAMPLE = """examples:
  python -m ava_tools.detect_people --dataset data/demo --split val \\
      --weights runs/people_demo --out data/demo/annotations/boxes_small.csv --register small
  torchrun --nproc-per-node 8 -m ava_tools.detect_people --dataset data/ava --split train \\
      --weights coco --network resnet50_v2 --out data/ava/annotations/boxes_coco_train.csv

A run that was stopped goes on where it was: give the same command again. Under torchrun, or with
--shard K/N on several machines that share a disk, every process does its share and the last to
finish writes the file. Keyframes that cannot be read are listed beside it (.unreadable.csv), are
counted in the last line, and are tried again by the same command; the exit code is 0 as long as any
can be read.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    began_s = time.time()
    options = _parse(arguments)

    from detection.datasets.folder import DatasetFolder
    from detection.people.register import check_box_name, register_boxes
    from detection.people.shards import Shard

    folder = DatasetFolder.open(options.dataset)
    split = folder.split(options.split)
    shard = Shard.parse(options.shard) if options.shard else Shard.of_torchrun()
    _check_out(options.out)
    relative = None
    if options.register:
        relative = check_box_name(
            folder, split.name, options.register, options.out, overwrite=options.overwrite
        )
    keyframes = _keyframes(folder, options)
    if shard.index == 0:
        _warn_of_mismatches(split, keyframes)

    import torch

    from detection.devices import choose_device
    from detection.people.box_table import make_box_table

    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    half = device.type == "cuda" if options.half is None else options.half
    detector_options = _detector_options(options, half, device)
    opened = _Opened(options, device, half)
    here = _is_here(options)
    summary = make_box_table(
        folder,
        keyframes,
        options.out,
        open_detector=opened.open if here else opened.in_worker(),
        options={"dataset": folder.name, **detector_options},
        notes={"weights": options.weights, "split": split.name, "device": str(device)},
        batch_size=options.batch_size,
        short_side_px=options.short_side,
        workers=_workers(options.workers),
        spread=None if here else _spread(options, device),
        shard=shard,
        overwrite=options.overwrite,
        began_s=began_s,
        progress=not options.quiet and shard.index == 0,
    )
    if summary.complete and relative is not None:
        people = opened.as_part(detector_options["network"])
        register_boxes(folder, split.name, options.register, relative, people=people)
    _say(summary, options, shard)
    return 0


def _check_out(out: Path) -> None:
    """Refuse what is no regular file, and a link that leads to itself."""
    from detection.files import behind_links

    if out.is_dir():
        raise UserError(f"{out}: is a folder, a file is required")
    if out.exists() and not out.is_file():
        raise UserError(
            f"{out}: no regular file, which is required: unfinished work and notes are kept beside "
            "it"
        )
    behind_links(out)


def _keyframes(folder: DatasetFolder, options: argparse.Namespace) -> list[Keyframe]:
    from detection.datasets.keyframe_times import describe_intervals
    from detection.people import keyframe_frames as keyframes

    split = folder.split(options.split)
    every: float | str | None = "auto" if options.every_second else options.every
    if every is None and split.videos and not split.annotations.stat().st_size:
        every = "auto"  # bare videos
    if options.keyframes:
        found, source = keyframes.listed_keyframes(options.keyframes), options.keyframes
    elif every is not None:
        every_s = None if isinstance(every, str) else every
        found, intervals_s = keyframes.regular_keyframes(folder, split, every_s)
        source = split.videos or split.annotations
        if intervals_s and not options.quiet:
            print(describe_intervals(intervals_s))
    else:
        found, source = keyframes.annotated_keyframes(split), split.annotations
    keyframes.check_any(found, str(source))
    return found


def _warn_of_mismatches(split: Split, keyframes: list[Keyframe]) -> None:
    """Say which of the split's labelled keyframes will have no boxes, and why it may be so."""
    from detection.datasets.actor_table import read_ground_truth_rows
    from detection.datasets.split_joins import keyframe_mismatches

    if not split.annotations.stat().st_size:
        return
    rows = read_ground_truth_rows(split)
    for sentence in keyframe_mismatches(split, rows, keyframes, name="the keyframes to process"):
        print(printable(f"warning: {sentence}"), file=sys.stderr)


def _detector_options(
    options: argparse.Namespace, half: bool, device: Any = "cpu"
) -> dict[str, Any]:
    """Return what decides the boxes, by which a run knows its own unfinished work."""
    from detection.files import sha256_of
    from detection.people.coco import COCO, coco_network, is_coco
    from detection.people.config_identity import config_digest
    from detection.people.weights import find_people_file

    named: dict[str, Any] = {
        "weights": options.weights,
        "network": options.network,
        "detectron2_config": options.detectron2_config,
        "actor_classes": ",".join(options.actor_class) if options.actor_class else None,
        "score_floor": options.score_floor,
        "half": half,
    }
    if options.detectron2_config is None and is_coco(options.weights):
        name = coco_network(options.weights, network=options.network, device=device)
        named |= {"weights": COCO, "network": name}
    elif options.detectron2_config is None:
        named["weights"] = sha256_of(find_people_file(options.weights))
    if (runtime := _runtime(options, device)) != "torch":
        named["runtime"] = runtime
    for key, digest in (("weights", sha256_of), ("detectron2_config", config_digest)):
        if named[key] and Path(named[key]).is_file():
            named[key] = digest(Path(named[key]))
    return named


def _runtime(options: argparse.Namespace, device: Any) -> str:
    """Return what computes the network; a detector that was exported is known by its files."""
    import torch

    from detection.export.artefact import find_artefact
    from detection.export.runtimes import choose_runtime

    if options.detectron2_config is not None and options.runtime not in (None, "auto", "torch"):
        raise UserError("detectors of detectron2 run in PyTorch: --runtime torch")
    if options.detectron2_config is not None or find_artefact(options.weights) is not None:
        return "torch"
    return choose_runtime(options.runtime, torch.device(device))[0]


def _open_detector(options: argparse.Namespace, device: Any, half: bool) -> Any:
    import torch

    from detection.export.runtimes import AUTO, RuntimeChoice
    from detection.export.session import Threads
    from detection.people.weights import load_people_detector

    def on_note(note: str) -> None:
        print(printable(f"note: {note}"), file=sys.stderr)

    threads = Threads(torch.get_num_threads())
    detector = load_people_detector(
        options.weights,
        network=options.network,
        actor_classes=options.actor_class,
        device=device,
        half_precision=half,
        score_floor=options.score_floor,
        detectron2_config=options.detectron2_config,
        runtime=RuntimeChoice(options.runtime, options.runtime == AUTO, threads, on_note),
    )
    for note in getattr(detector, "notes", ()):
        print(printable(f"note: {note}"), file=sys.stderr)
    return detector


def _open_in_worker(options: argparse.Namespace, device: Any, half: bool, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return _open_detector(options, device, half)


class _Opened:
    """The detector, opened when it is asked for, and how `dataset.yaml` names it."""

    def __init__(self, options: argparse.Namespace, device: Any, half: bool) -> None:
        self._how = options, device, half
        self._detector: Any = None

    def open(self) -> Any:
        """Return the detector."""
        if self._detector is None:
            self._detector = _open_detector(*self._how)
        return self._detector

    def in_worker(self) -> Callable[[], Any]:
        """Return what opens it in a worker, whose only GPU is number 0."""
        import torch

        options, device, half = self._how
        if device.type == "cuda" and options.gpus:
            device = torch.device("cuda", 0)
        return partial(_open_in_worker, options, device, half, _worker_cores(options))

    def as_part(self, network: str | None) -> PeoplePart | None:
        """Return what other commands open it by; None for detectron2, which they cannot."""
        from detection.datasets.folder import PeoplePart
        from detection.people.base import person_threshold
        from detection.people.coco import COCO, is_coco

        options = self._how[0]
        if options.detectron2_config is not None:
            return None
        weights = str(Path(options.weights).absolute())
        if is_coco(options.weights):
            weights = f"{COCO}:{network}"
        return PeoplePart(weights=weights, score=person_threshold(self.open()))


def _is_here(options: argparse.Namespace) -> bool:
    """Tell whether this process detects; refuse options that would then mean nothing."""
    here: bool = options.engine == "processes" and (options.jobs or 1) == 1
    if not here and options.workers is not None:
        raise UserError("--workers read for one process: not with --jobs or --engine ray")
    if options.address is not None and options.engine != "ray":
        raise UserError("--address is of a Ray cluster: --engine ray is required")
    return here


def _spread(options: argparse.Namespace, device: Any) -> Any:
    """Return what opens workers that read and detect."""
    from detection.jobs.base import Resources
    from detection.jobs.open import open_workers

    gpus = options.gpus if device.type == "cuda" else 0.0
    return partial(
        open_workers,
        options.engine,
        workers=options.jobs,
        resources=Resources(cores=_worker_cores(options), gpus=gpus),
        address=options.address,
    )


def _worker_cores(options: argparse.Namespace) -> int:
    """Return the threads of a worker: by default this machine's cores go to all of them alike."""
    if options.threads:
        return int(options.threads)
    return max(1, usable_cores() // (options.jobs or usable_cores()))


def _workers(asked: int | None) -> int:
    """Return how many processes read ahead: by default half of this process's cores, 1 to 8."""
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(8, cores // 2)) if asked is None else asked


def _say(summary: Summary, options: argparse.Namespace, shard: Any) -> None:
    from detection.people.box_table import unreadable_path

    if summary.outdated:
        print(
            f"{summary.outdated:,} batches were of videos that have changed since (or of an older "
            "version, which did not note them): done again",
            file=sys.stderr,
        )
    out = printable(str(options.out))
    if not summary.complete:
        print(
            f"shard {shard}: {summary.keyframes:,} keyframes done; "
            f"the last shard to finish writes {out}"
        )
        return
    frames = summary.keyframes - summary.unreadable
    speed = ""
    if summary.new_keyframes:
        per_s = summary.new_keyframes / max(summary.seconds, 1e-9)
        speed = f", {summary.new_keyframes:,} just now at {per_s:.1f} frames/s"
    if summary.kept:
        print(f"{out}: already made with these options, kept")
    if summary.unreadable:
        unreadable = printable(str(unreadable_path(options.out)))
        print(
            f"warning: {summary.unreadable:,} keyframes of {summary.unreadable_videos:,} videos "
            f"cannot be read: see {unreadable}; correct them and give the same command again",
            file=sys.stderr,
        )
    print(
        f"{summary.boxes:,} boxes at {frames:,} keyframes ({summary.empty:,} with no person), "
        f"{summary.unreadable:,} unreadable{speed} -> {out}"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("detect_people", __doc__, EXAMPLE)
    add = parser.add_argument
    # fmt: off
    parser.shared("--dataset", "--split")
    add("--weights", type=path_text, required=True, metavar="FILE",
        help="checkpoint or run of train_people, an ONNX file, a .pth of torchvision's, or 'coco' "
        "or 'coco:NETWORK', torchvision's weights (coco: mobile_320 on a CPU, else resnet50_v2)")
    parser.shared("--out", metavar="CSV", help="box file to write")
    add("--network", metavar="NAME",
        help="mobile_320, mobile or resnet50_v2, of a .pth or coco (default: as its weights say)")
    add("--detectron2-config", type=path_text, metavar="NAME",
        help="detectron2: model zoo name or config file")
    add("--actor-class", nargs="+", metavar="NAME",
        help="classes of the detector that count as people (default: person)")
    add("--keyframes", type=Path, metavar="CSV",
        help="video_id,time rows to process, in place of the ground truth's keyframes")
    add("--every", type=auto_or_seconds, metavar="S",
        help="process the split's videos at every multiple of S seconds, less its exclusions; "
        "auto: each second, in videos below 10 s more often (default without annotations)")
    add("--every-second", action="store_true", help="the same as --every auto")
    add("--register", metavar="NAME", help="name the boxes in dataset.yaml's split")
    add("--score-floor", type=share, default=0.05, metavar="S",
        help="leave out boxes of lower scores (default %(default)s)")
    add("--short-side", type=int, metavar="PX",
        help="decode larger frames at this short side (default: the detector's own)")
    add("--batch-size", type=none_or_at_a_time, default=8, metavar="N",
        help="frames in a forward pass (default %(default)s)")
    parser.shared("--workers",
        help="processes that read frames (default: half of the cores, 1 to 8; 0: none)")
    parser.shared("--jobs", help="processes, or workers of Ray, that read and detect, each with a "
        "detector of its own (default: this process alone; of Ray as many as its cores allow)")
    parser.shared("--engine", "--address", "--gpus")
    parser.shared("--runtime", default=None, metavar="NAME",
        help="what computes the network: torch (default; of an exported detector its own), "
        "onnxruntime, openvino, or auto: openvino where installed and on a CPU; the weights are "
        "exported once and what is made is kept beside them")
    parser.shared("--threads", "--device", "--half", "--overwrite", "--quiet")
    add("--shard", metavar="K/N", help="do the K-th of N shares; torchrun's processes need none")
    # fmt: on
    options = parser.parse_args(arguments)
    ways = ("keyframes", "every_second", "every")
    values = {f"--{way.replace('_', '-')}": getattr(options, way) for way in ways}
    given = [name for name, value in values.items() if value is not None and value is not False]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other")
    for name, least in (("batch_size", 1), ("short_side", 16)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    if options.score_floor == 1:
        raise UserError("--score-floor must be below 1, not 1")
    return options


if __name__ == "__main__":
    run_command(main)
