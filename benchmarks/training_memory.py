"""What a training step keeps in memory, with and without recomputing blocks on the way back.

PYTHONPATH=. python benchmarks/training_memory.py --variant m --batch 1 --threads 1

Counts, on the CPU and in fp32, the bytes that autograd keeps for the way back (each storage once),
and the processor time of a step, for the trunk on random clips of the variant's training crop;
checks that outputs and gradients are equal. Where pytorchvideo is installed, the same network of
its own is measured too (random weights of its own). A step needs besides: weights, gradients, the
optimiser's state, and the working space of one layer. Half precision keeps about half.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import time

import torch
from torch import Tensor, nn

from detection.models.timing import describe_device
from detection.models.x3d import VARIANTS, X3DDescription, X3DTrunk


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", choices=VARIANTS, default="m")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    description = VARIANTS[args.variant]
    side = description.train_crop
    clips = torch.randn(args.batch, 3, description.num_frames, side, side)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    plain = X3DTrunk(description).to(memory_format=torch.channels_last_3d).train()
    saving = copy.deepcopy(plain)
    saving.checkpoint_activations = True
    print(
        f"X3D-{args.variant.upper()} trunk, batch {args.batch}, {description.num_frames} frames of "
        f"{side} px, fp32, {describe_device(clips.device)}"
    )
    results = {}
    for name, trunk in (("plain", plain), ("recomputing", saving)):
        steps = [step(trunk, clips) for _ in range(args.rounds)]
        seconds = statistics.median(spent for *_, spent in steps)
        kept_mb = steps[0][2] / 2**20
        results[name] = steps[0], kept_mb, seconds
        print(f"{name:12} keeps {kept_mb / args.batch:8.1f} MiB a clip, {seconds:6.2f} s a step")
    (one, mb, s), (other, less_mb, more_s) = results["plain"], results["recomputing"]
    same = torch.equal(one[0], other[0]) and all(
        torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True)
    )
    if importlib.util.find_spec("pytorchvideo") is not None:
        other_network = pytorchvideo_trunk(description, side)
        theirs_mb = step(other_network, clips)[2] / 2**20
        print(
            f"pytorchvideo keeps {theirs_mb / args.batch:8.1f} MiB a clip; "
            f"plain keeps {mb / theirs_mb:.0%} of it"
        )
    print(
        f"memory {less_mb / mb:.0%}, time {more_s / s:.0%}; numbers {'equal' if same else 'DIFFER'}"
    )


def pytorchvideo_trunk(description: X3DDescription, side: int) -> nn.Module:
    """Return pytorchvideo's stem to conv5, in training mode."""
    from pytorchvideo.models.x3d import create_x3d

    network = create_x3d(
        input_clip_length=description.num_frames,
        input_crop_size=side,
        depth_factor=description.depth_factor,
    )
    head = network.blocks[-1].pool
    trunk = nn.Sequential(*network.blocks[:-1], head.pre_conv, head.pre_norm, head.pre_act)
    return trunk.to(memory_format=torch.channels_last_3d).train()


def step(trunk: nn.Module, clips: Tensor) -> tuple[Tensor, list[Tensor], int, float]:
    """Return outputs, gradients, bytes kept and processor seconds."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    trunk.zero_grad(set_to_none=True)
    start = time.process_time()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = trunk(clips)
    kept_bytes = sum(kept.values())
    features.square().mean().backward()
    spent = time.process_time() - start
    gradients = [p.grad.clone() for p in trunk.parameters() if p.grad is not None]
    return features.detach(), gradients, kept_bytes, spent


if __name__ == "__main__":
    main()
