"""Milliseconds a clip of X3D on this machine: our layers against PyTorch's stock ones.

python benchmarks/x3d_speed.py --variant xs --size 160 --batch 4 --threads 2

Alternates the contenders and prints medians, of the clock and of the processor time of all threads
(which a busy machine hardly touches; with --threads 1 it is the time of an idle one). Contenders:
  stock        the 3D kernels of nn.Conv3d for all convolutions, clips in PyTorch's default layout
  stock, last  the same, clips and weights in channels_last_3d
  ours         the layers as they are, default layout
  ours, last   the same, clips and weights in channels_last_3d
`--check` also prints the largest difference of outputs and gradients from the first contender.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detection.models.convolutions import Convolution
from detection.models.timing import describe_device
from detection.models.x3d import VARIANTS, X3DTrunk


def with_stock_layers(trunk: X3DTrunk) -> X3DTrunk:
    """Return a copy whose convolutions all run PyTorch's stock 3D kernels."""
    trunk = copy.deepcopy(trunk)
    for parent in list(trunk.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv3d) and type(child) is not nn.Conv3d:
                numbers: dict[str, Any] = {"stride": child.stride, "padding": child.padding}
                kernel: Any = child.kernel_size
                stock = Convolution(
                    child.in_channels,
                    child.out_channels,
                    kernel,
                    **numbers,
                    groups=child.groups,
                    bias=False,
                )
                stock.load_state_dict(child.state_dict())
                setattr(parent, name, stock)
    return trunk


def train(trunk: X3DTrunk, clips: Tensor) -> Tensor:
    trunk.train()
    features: Tensor = trunk(clips)
    torch.autograd.backward(features.square().mean())
    return features.detach()


def infer(trunk: X3DTrunk, clips: Tensor) -> Tensor:
    trunk.eval()
    with torch.inference_mode():
        out: Tensor = trunk(clips)
        return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", choices=VARIANTS, default="xs")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    description = VARIANTS[args.variant]
    ours = X3DTrunk(description)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith("project_norm.weight"):
                parameter.fill_(0.5)  # at 0 the blocks would be skipped by their shortcut
    stock = with_stock_layers(ours)
    clips = torch.randn(args.batch, 3, description.num_frames, args.size, args.size)
    last = clips.contiguous(memory_format=torch.channels_last_3d)
    contenders: dict[str, tuple[X3DTrunk, Tensor]] = {
        "stock": (stock, clips),
        "stock, last": (copy.deepcopy(stock).to(memory_format=torch.channels_last_3d), last),
        "ours": (ours, clips),
        "ours, last": (copy.deepcopy(ours).to(memory_format=torch.channels_last_3d), last),
    }
    works: dict[str, Callable[[X3DTrunk, Tensor], Tensor]] = {
        "training step": train,
        "inference": infer,
    }
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for work, call in works.items():
        for round_number in range(args.rounds + 1):  # the first one warms up
            for name, (trunk, given) in contenders.items():
                clock, processor = time.perf_counter(), time.process_time()
                call(trunk, given)
                spent = (time.perf_counter() - clock, time.process_time() - processor)
                if round_number:
                    times.setdefault((work, name), []).append(spent)
    print(
        f"X3D-{args.variant.upper()} trunk, {description.num_frames} frames of {args.size} px, "
        f"batch {args.batch}, {describe_device(clips.device)}"
    )
    for (work, name), rounds in times.items():
        clock, processor = (
            statistics.median(1e3 * value / args.batch for value in values)
            for values in zip(*rounds, strict=True)
        )
        print(f"{work:14} {name:12} {clock:8.1f} ms a clip, processor {processor:8.1f} ms")
    if args.check:
        check(contenders)


def check(contenders: dict[str, tuple[X3DTrunk, Tensor]]) -> None:
    """Print how far outputs and gradients are apart, relative to the largest number."""
    found = {}
    for name, (trunk, clips) in contenders.items():
        trunk = copy.deepcopy(trunk)
        trunk.zero_grad()
        trunk.eval()
        features = trunk(clips)
        torch.autograd.backward(features.square().mean())
        gradients = torch.cat([p.grad.flatten() for p in trunk.parameters() if p.grad is not None])
        found[name] = (features.detach().flatten(), gradients)
    first = next(iter(found.values()))
    for name, values in found.items():
        apart = [
            ((value - expected).abs().max() / expected.abs().max()).item()
            for value, expected in zip(values, first, strict=True)
        ]
        print(f"{name:12} outputs {apart[0]:.1e}, gradients {apart[1]:.1e} apart")


if __name__ == "__main__":
    main()
