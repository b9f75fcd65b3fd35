"""Report what a network costs by stage: parameters, multiply-adds, memory, milliseconds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ava_tools.cli import SHARED, command_parser, run_command, whole_number
from detection import bounds
from detection.errors import printable

if TYPE_CHECKING:
    from detection.checkpoints.file import ModelFile
    from detection.models.action_detector import ActionDetector
    from detection.models.classifier import X3DClassifier

    Network = ActionDetector | X3DClassifier

EXAMPLE = """examples:
  python -m ava_tools.inspect_model --variant m
  python -m ava_tools.inspect_model --variant all
  python -m ava_tools.inspect_model --cfg configs/ava_x3d_m.yaml --size 256
  python -m ava_tools.inspect_model --checkpoint x3d_s_kinetics400
  python -m ava_tools.inspect_model --checkpoint runs/demo
"""
VARIANT_NAMES = ("xs", "s", "m", "l", "xl", "x2d")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of one network, or of the whole family."""
    args = _parse(argv)
    args.file = None  # read by `choose`
    import torch

    from detection.errors import UserError, is_out_of_memory
    from detection.models.x3d import VARIANTS

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.variant == "all":
        rows = [family_row(name, description) for name, description in VARIANTS.items()]
        print(json.dumps(rows, indent=1) if args.json else family_table(rows))
        return 0
    model, num_frames, size_px, title = choose(args)
    try:
        summary = summarise(model, num_frames=num_frames, size_px=size_px, actors=args.actors)
        if not args.no_timing:
            summary |= measure(model, num_frames, size_px, args)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"not enough memory for {num_frames} frames of {size_px} x {size_px} pixels and "
            f"{args.actors} actors; --no-timing counts without computing"
        ) from error
    learned = of_thresholds(args.file)
    if learned is not None:
        summary["thresholds"] = learned[1]
    print(json.dumps(summary, indent=1) if args.json else stage_table(title, summary))
    if args.class_list is not None and args.file is not None and not args.json:
        print(f"{len(args.file.classes)} classes: {printable(', '.join(args.file.classes.names))}")
    if learned is not None and not args.json:
        print(learned[0])
    if args.file is not None and args.file.relevance is not None and not args.json:
        print(printable(str(args.file.relevance)))
    return 0


def of_thresholds(file: ModelFile | None) -> tuple[str, dict[str, Any]] | None:
    """Return the thresholds that a file holds as text and as JSON; None where it has none."""
    from detection.reports.thresholds_text import thresholds_json, thresholds_table

    if file is None or file.thresholds is None or file.classes is None:
        return None
    lines = thresholds_table(file.thresholds, file.classes).split("\n")
    text = "\n".join(map(printable, lines))
    return text, thresholds_json(file.thresholds, file.classes)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser("inspect_model", __doc__, EXAMPLE)
    what = parser.add_mutually_exclusive_group(required=True)
    add = parser.add_argument
    # fmt: off
    what.add_argument("--variant", choices=(*VARIANT_NAMES, "all"),
        help="X3D by name; all: a table")
    what.add_argument("--cfg", **SHARED["--cfg"])
    what.add_argument("--checkpoint", type=Path,
        help="a checkpoint of an X3D network, this project's or another's, a run folder, or the "
        "name of published weights")
    add("--task", choices=("actions", "classification"), default="actions",
        help="with --variant: the network with an actor head (default), or with a clip head")
    add("--classes", type=whole_number(1, bounds.MOST_CLASSES),
        help="with --variant or --cfg (default 80; clips 400)")
    add("--class-list", type=Path, metavar="FILE",
        help="with --checkpoint: names of its classes, a line each (also N: name, or JSON)")
    add("--allow-unused", action="store_true",
        help="with --checkpoint: leave out weights that the network has no place for")
    add("--frames", type=whole_number(1, bounds.MOST_FRAMES),
        help="frames of a clip (default: the network's)")
    add("--size", type=whole_number(1, bounds.LARGEST_SIDE_PX),
        help="side of the square clip, pixels (default: the network's at test time)")
    add("--actors", type=whole_number(0, 1_000_000), default=1,
        help="people in the clip (default 1)")
    add("--no-timing", action="store_true", help="count only; takes no time")
    add("--training", action="store_true", help="time forward and backward too")
    add("--repeats", type=whole_number(1, 1_000_000), default=5,
        help="clips that are timed (median; default 5)")
    parser.shared("--threads")
    parser.shared("--device", default="cpu")
    add("--json", action="store_true", help="print JSON")
    # fmt: on
    return parser.parse_args(argv)


def choose(args: argparse.Namespace) -> tuple[Network, int, int, str]:
    """Build the network that was asked for; return it, frames, side in pixels and a title."""
    from detection.checkpoints.file import read_model_file
    from detection.checkpoints.load import load_network
    from detection.checkpoints.network_file import complete_file, find_weights
    from detection.datasets.class_list import read_class_list
    from detection.models.action_detector import build_detector
    from detection.models.actor_head import ActorHeadDescription
    from detection.models.classifier import HeadDescription, build_classifier
    from detection.models.x3d import VARIANTS

    sampling = side = None
    name = (args.variant or "").upper()
    if args.checkpoint is not None:
        path, variant = find_weights(args.checkpoint)
        names = None if args.class_list is None else read_class_list(args.class_list)
        read = read_model_file(path, weights_only=True)
        file = complete_file(read, variant=variant, label_map=names)
        model = load_network(file, allow_unused=args.allow_unused)
        title = f"{args.checkpoint} ({file.naming} names)"
        sampling, side = file.sampling, file.short_side_px
        args.file = file
    elif args.cfg is not None:
        return of_configuration(args)
    elif args.task == "actions":
        head = ActorHeadDescription(args.classes or 80)
        model, title = build_detector(VARIANTS[args.variant], head), f"X3D-{name}, actor head"
    else:
        clip_head = HeadDescription(args.classes or 400)
        model, title = build_classifier(VARIANTS[args.variant], clip_head), f"X3D-{name}, clip head"
    usual = model.trunk.description
    frames = args.frames or (sampling or usual.sampling).num_frames
    return model, frames, args.size or side or usual.test_crop, title


def of_configuration(args: argparse.Namespace) -> tuple[Network, int, int, str]:
    """Build the network of a configuration, for the data set's classes where that is there."""
    from detection import build
    from detection.config import load_config

    config = load_config(args.cfg)
    classes, known = args.classes, "as asked"
    frames = args.frames or config.clip.sampling.num_frames
    if config.task == "actions":
        if classes is None:
            classes, known = classes_of(Path(config.data.root))
        model: Network = build.build_model(config, num_classes=classes)
        size_px = args.size or config.clip.test_short_side_px
    else:
        if classes is None and Path(config.data.root).is_dir():
            path, label_map = build.read_clip_classes(config)
            classes, known = len(label_map), str(path)
        elif classes is None:
            classes, known = 400, f"no lists at {config.data.root} to ask, Kinetics has as many"
        model = build.build_classification_model(config, num_classes=classes)
        size_px = args.size or build.test_crop_px(config, config.classification.test_crops)
    return model, frames, size_px, f"{args.cfg}, {classes} classes ({known})"


def classes_of(root: Path) -> tuple[int, str]:
    """Return how many classes a data set has, and how that is known; 80 where it is not there."""
    from detection.datasets.folder import FILE_NAME, DatasetFolder

    if not (root / FILE_NAME).is_file():
        return 80, f"no data set at {root} to ask, AVA has as many"
    return len(DatasetFolder.open(root).read_label_map()), f"label map of {root}"


def summarise(model: Network, *, num_frames: int, size_px: int, actors: int = 1) -> dict[str, Any]:
    """Count a network for one clip; plain types."""
    import copy

    from detection.models.counting import count_parameters, count_stages

    total = count_parameters(model)
    if not next(model.parameters()).is_meta:
        model = copy.deepcopy(model).to("meta")
    rows = count_stages(model, num_frames=num_frames, size_px=size_px, actors=actors)
    return {
        "frames": num_frames,
        "size_px": size_px,
        "actors": actors,
        "parameters": total.all,
        "parameters_without_bn": total.without_norm,
        "macs": sum(row.macs for row in rows),
        "stages": [
            {
                "name": row.name,
                "blocks": row.blocks,
                "output": list(row.output),
                "parameters": row.parameters.all,
                "parameters_without_bn": row.parameters.without_norm,
                "macs": row.macs,
            }
            for row in rows
        ],
    }


def stage_table(title: str, summary: dict[str, Any]) -> str:
    """Lay a summary out as text."""
    lines = [
        f"{title}: {summary['frames']} frames of {summary['size_px']} x {summary['size_px']} px, "
        f"{summary['actors']} actor(s)",
        f"{'stage':8}{'blocks':>7}  {'output':24}{'parameters':>12}{'w/o BN':>12}{'MMAC':>12}",
    ]
    for row in summary["stages"]:
        shape = " x ".join(str(size) for size in row["output"])
        lines.append(
            f"{row['name']:8}{row['blocks']:>7}  {shape:24}{row['parameters']:>12,}"
            f"{row['parameters_without_bn']:>12,}{row['macs'] / 1e6:>12,.1f}"
        )
    lines += [
        f"{'all':41}{summary['parameters']:>12,}{summary['parameters_without_bn']:>12,}"
        f"{summary['macs'] / 1e6:>12,.1f}",
        f"{summary['parameters_without_bn'] / 1e6:.3f} M parameters without BN affine, "
        f"{summary['macs'] / 1e9:.3f} GMAC (1 per multiply-add)",
    ]
    for name, words in (("inference", "inference"), ("training", "forward and backward")):
        if f"{name}_ms" in summary:
            peak = summary[f"{name}_peak_mb"]
            memory = "memory not measurable here" if peak is None else f"{peak:.0f} MB"
            lines.append(
                f"{words}: {summary[f'{name}_ms']:.1f} ms a clip (median of {summary['repeats']}), "
                f"{memory} above the weights, {summary['device']}"
            )
    return "\n".join(lines)


def measure(
    model: Network, num_frames: int, size_px: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Time clips one by one and read the peak of memory above what the weights take."""
    import torch

    from detection.devices import choose_device
    from detection.models.action_detector import ActionDetector
    from detection.models.inference import prepare_for_inference
    from detection.models.timing import describe_device, time_and_memory

    device = choose_device(args.device)
    model = model.to(device)
    frames = torch.randint(0, 256, (1, 3, num_frames, size_px, size_px), dtype=torch.uint8)
    frames = frames.to(device)
    inputs = [frames]
    if isinstance(model, ActionDetector):
        box = torch.tensor([0, 0.2 * size_px, 0.1 * size_px, 0.6 * size_px, 0.9 * size_px])
        rois_px = box.repeat(args.actors, 1).to(device)
        inputs.append(model.head.description.standing(rois_px, num_frames))

    def infer() -> None:
        with torch.inference_mode():
            prepared(*inputs)

    def train() -> None:
        model(*inputs).sum().backward()
        model.zero_grad(set_to_none=True)

    result: dict[str, Any] = {"repeats": args.repeats, "device": describe_device(device)}
    prepared = prepare_for_inference(model)
    seconds, peak = time_and_memory(infer, device=device, repeats=args.repeats)
    result |= {"inference_ms": 1e3 * seconds, "inference_peak_mb": peak}
    if args.training:
        model.train()
        seconds, peak = time_and_memory(train, device=device, repeats=args.repeats)
        result |= {"training_ms": 1e3 * seconds, "training_peak_mb": peak}
    return result


def family_row(name: str, description: Any) -> dict[str, Any]:
    """Count one variant: clip head with 400 classes, actor head with 80."""
    import torch

    from detection.models.action_detector import build_detector
    from detection.models.classifier import build_classifier

    with torch.device("meta"):
        clips, actors = build_classifier(description), build_detector(description)
    frames = description.num_frames
    train = summarise(clips, num_frames=frames, size_px=description.train_crop)
    test = summarise(clips, num_frames=frames, size_px=description.test_crop)
    detector = summarise(actors, num_frames=frames, size_px=description.test_crop)
    head = train["stages"][-1]["macs"]  # at one position
    factors = ("width_factor", "depth_factor", "bottleneck_factor")
    return {
        "variant": name,
        "frames": frames,
        "step": description.step,
        "train_crop_px": description.train_crop,
        "test_crop_px": description.test_crop,
        **{factor: getattr(description, factor) for factor in factors},
        "stage_channels": list(description.stage_channels),
        "stage_depths": list(description.stage_depths),
        "parameters": train["parameters"],
        "parameters_without_bn": train["parameters_without_bn"],
        "parameters_pytorchvideo": train["parameters"] - 2 * description.stage_channels[0],
        "macs_train_crop": train["macs"],
        "macs_test_crop": test["macs"] - test["stages"][-1]["macs"] + head,
        "macs_test_crop_sliding": test["macs"],
        "actor_parameters_without_bn": detector["parameters_without_bn"],
        "actor_macs": detector["macs"],
    }


def family_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the family out as text."""
    lines = [
        "variant  T x step   crop  3-crop  width  depth  parameters     w/o BN  pytorchvideo   "
        "GMAC crop  GMAC 3-crop  (sliding)  actors: w/o BN    GMAC"
    ]
    for row in rows:
        clip = f"{row['frames']} x {row['step']}"
        lines.append(
            f"{row['variant'].upper():7}  {clip:>8}  {row['train_crop_px']:>5}  "
            f"{row['test_crop_px']:>6}  {row['width_factor']:>5}  {row['depth_factor']:>5}  "
            f"{row['parameters']:>10,}  {row['parameters_without_bn']:>9,}  "
            f"{row['parameters_pytorchvideo']:>12,}   {row['macs_train_crop'] / 1e9:>9.5f}  "
            f"{row['macs_test_crop'] / 1e9:>11.5f}  {row['macs_test_crop_sliding'] / 1e9:>9.5f}  "
            f"{row['actor_parameters_without_bn'] / 1e6:>12.3f} M  {row['actor_macs'] / 1e9:>6.3f}"
        )
    lines += [
        "parameters: 400 classes, with the BatchNorm on the res2 shortcut; pytorchvideo has none "
        "there.",
        "GMAC 3-crop: the clip head at one position, as the reference counts; sliding: at all "
        "positions. Actors: 80 classes, one actor, 3-crop size.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
