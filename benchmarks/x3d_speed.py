"""Processor milliseconds a clip of X3D on this machine, all contenders alternated in one run.

PYTHONPATH=. python benchmarks/x3d_speed.py --variant xs --today CHECKOUT

Prints medians over the rounds, in milliseconds a clip and as a share of the first contender's; the
flags of the processor; and how far outputs (and, with --work training, gradients) are from the
first contender's, relative to the largest number. Processor time is hardly touched by what else the
machine does; with one thread it is the time of an idle one. Memory is kept in the process, as the
commands keep it. Contenders:
  today         this project's trunk as a checkout of it has it (--today CHECKOUT), channels last
  pytorchvideo  the same network of pytorchvideo, where it is installed (inference: random weights
                of its own, so that its outputs are not compared)
  stock         PyTorch's own 3D kernels for all convolutions, channels last
  ours          this project's trunk; for inference, prepared for it
A further one is a function in CONTENDERS: it takes a `Setting` and returns what clips are given to.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detection.engine.environment import keep_malloc_memory
from detection.models.convolutions import Convolution
from detection.models.inference import FoldedTrunk
from detection.models.timing import describe_device
from detection.models.x3d import VARIANTS, X3DDescription, X3DTrunk

LEVELS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")


@dataclass(frozen=True)
class Setting:
    """What contenders are made from.

    description: of the network.
    trunk: its weights, in eval mode and channels_last_3d.
    training: whether training steps are timed.
    size_px: side of the clips.
    today: a checkout of this project; None: not asked for.
    """

    description: X3DDescription
    trunk: X3DTrunk
    training: bool
    size_px: int
    today: Path | None


Contender = Callable[[Tensor], Tensor]


def ours(setting: Setting) -> Contender:
    trunk = copy.deepcopy(setting.trunk)
    return trunk.train() if setting.training else FoldedTrunk(trunk)


def today(setting: Setting) -> Contender | None:
    if setting.today is None:
        return None
    trunk = checkout_modules(setting.today).X3DTrunk(setting.description)
    trunk.load_state_dict(setting.trunk.state_dict())
    trunk.to(memory_format=torch.channels_last_3d).train(setting.training)
    return trunk  # type: ignore[no-any-return]


def checkout_modules(folder: Path) -> Any:
    """Import detection.models.x3d of another checkout, beside this one's."""
    mine = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("detection.models.x3d")
    finally:
        sys.path.pop(0)
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(mine)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "detection"


def pytorchvideo(setting: Setting) -> Contender | None:
    if importlib.util.find_spec("pytorchvideo") is None:
        return None
    from pytorchvideo.models.x3d import create_x3d

    description = setting.description
    network = create_x3d(
        input_clip_length=description.num_frames,
        input_crop_size=setting.size_px,
        depth_factor=description.depth_factor,
    )
    head = network.blocks[-1].pool
    trunk = nn.Sequential(*network.blocks[:-1], head.pre_conv, head.pre_norm, head.pre_act)
    return trunk.to(memory_format=torch.channels_last_3d).train(setting.training)


def stock(setting: Setting) -> Contender:
    trunk = with_stock_layers(setting.trunk).to(memory_format=torch.channels_last_3d)
    return trunk.train(setting.training)


CONTENDERS: dict[str, Callable[[Setting], Contender | None]] = {
    "today": today,
    "pytorchvideo": pytorchvideo,
    "stock": stock,
    "ours": ours,
}
OTHER_WEIGHTS = ("pytorchvideo",)


def with_stock_layers(trunk: X3DTrunk) -> X3DTrunk:
    """Return a copy whose convolutions all run PyTorch's stock 3D kernels."""
    trunk = copy.deepcopy(trunk)
    for parent in list(trunk.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv3d) and type(child) is not nn.Conv3d:
                kernel: Any = child.kernel_size
                numbers: dict[str, Any] = {"stride": child.stride, "padding": child.padding}
                numbers |= {"groups": child.groups, "bias": child.bias is not None}
                layer = Convolution(child.in_channels, child.out_channels, kernel, **numbers)
                layer.load_state_dict(child.state_dict())
                setattr(parent, name, layer)
    return trunk


def run(contender: Contender, clips: Tensor, *, training: bool) -> Tensor:
    if not training:
        with torch.inference_mode():
            return contender(clips)
    features = contender(clips)
    torch.autograd.backward(features.square().mean())
    return features.detach()


def gradients(contender: Contender) -> Tensor:
    assert isinstance(contender, nn.Module)
    found = [p.grad.flatten() for p in contender.parameters() if p.grad is not None]
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", choices=VARIANTS, default="xs")
    parser.add_argument("--size", type=int, help="pixels; default: the variant's training crop")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", choices=("inference", "training"), default="inference")
    parser.add_argument("--today", type=Path, metavar="CHECKOUT")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    keep_malloc_memory()
    description = VARIANTS[args.variant]
    trunk = X3DTrunk(description).to(memory_format=torch.channels_last_3d).eval()
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if name.endswith("project_norm.weight"):
                parameter.fill_(0.5)  # at 0 the blocks would be skipped by their shortcut
    training, size_px = args.work == "training", args.size or description.train_crop
    setting = Setting(description, trunk, training, size_px, args.today)
    made = {name: CONTENDERS[name](setting) for name in args.only}
    contenders = {name: one for name, one in made.items() if one is not None}
    clips = torch.randn(args.batch, 3, description.num_frames, size_px, size_px)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    print(
        f"X3D-{args.variant.upper()} trunk, {args.work}, {description.num_frames} frames of "
        f"{size_px} px, batch {args.batch}, {describe_device(clips.device)} ({flags()}), "
        f"PyTorch {torch.__version__}"
    )
    compare(contenders, clips, training=training)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, contender in contenders.items():
            start = time.process_time()
            run(contender, clips, training=training)
            times[name].append(1e3 * (time.process_time() - start) / args.batch)
    first = statistics.median(next(iter(times.values())))
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:13} {middle:8.1f} ms a clip, {middle / first:.2f} of {next(iter(times))}'s")


def compare(contenders: dict[str, Contender], clips: Tensor, *, training: bool) -> None:
    """Warm every contender up and print how far its numbers are from the first one's."""
    expected: list[Tensor] = []
    for name, contender in contenders.items():
        found = [run(contender, clips, training=training).flatten()]
        if training:
            found.append(gradients(contender))
        if name in OTHER_WEIGHTS:
            continue
        expected = expected or found
        apart = [
            ((one - other).abs().max() / other.abs().max()).item()
            for one, other in zip(found, expected, strict=True)
        ]
        words = [
            f"{what} {value:.1e}"
            for what, value in zip(("outputs", "gradients"), apart, strict=False)
        ]
        print(f"{name:13} {', '.join(words)} apart")


def flags() -> str:
    """Return those of the processor's flags that numbers depend on."""
    path = Path("/proc/cpuinfo")
    words = path.read_text().split() if path.exists() else []
    return " ".join(name for name in LEVELS if name in words) or "flags unknown"


if __name__ == "__main__":
    main()
