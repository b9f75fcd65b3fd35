"""A network as one program of PyTorch's operators, for clips of any number and size.

OpenVINO converts TorchScript's trace within a second or two; PyTorch's newer export, which all else
requires, takes several times as long to trace and to convert. A trace holds what Python decided by
the example's sizes: whoever makes one compares it with its network at others.

Legend: B clips, T frames, H W pixels, R people in the batch, A classes, P window positions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from detection.errors import UserError
from detection.export.artefact import FrameLimits
from detection.models.action_detector import ActionDetector
from detection.models.classifier import X3DClassifier

Network = ActionDetector | X3DClassifier
Program = ExportedProgram | torch.jit.ScriptModule


def trace(
    network: Network, *, num_frames: int, short_side_px: int, as_script: bool = False
) -> Program:
    """Return the program of a network in eval mode, on the CPU, its weights inside.

    It takes `frames` (B, 3, T, H, W) uint8, and of an action detector `rois_px` (R, 5) float32,
    (R, T, 5) where it follows people; it gives logits (R, A), or (B, P, A) of a classifier. B and R
    (0 included, but not of a network that sees squares of people), H and W are free within
    `frame_limits`, which has the same arguments.
    as_script: TorchScript's trace.
    Raises `UserError` for a network that cannot be traced.
    """
    limits = frame_limits(network, num_frames=num_frames, short_side_px=short_side_px)
    height = width = limits.side_px or limits.least_side_px + 33
    if limits.side_px is None:
        width += 32
    sizes = (3, 4) if limits.side_px is None else ()
    longer = (2,) if limits.longer else ()
    # Numbers of clips and frames of 0 and 1 would be taken for constants.
    frames = torch.zeros(2, 3, limits.num_frames + 2 * limits.longer, height, width).byte()
    inputs: tuple[Tensor, ...] = (frames,)
    free: tuple[tuple[int, ...], ...] = ((0, *longer, *sizes),)
    module: nn.Module = network
    if isinstance(network, ActionDetector):
        rois_px = torch.tensor([[0, 1, 2, 30, 40.0], [1, 0, 0, 20, 30], [1, 3, 3, 25, 31]])
        inputs += (network.head.description.standing(rois_px, num_frames),)
        free += ((0,),)
    else:
        module = _PositionLogits(network)
    return trace_module(module, inputs, free=free, as_script=as_script)


def trace_module(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    free: Sequence[Sequence[int]],
    as_script: bool = False,
) -> Program:
    """Return the program of a module, as `trace`.

    inputs: an example, no free size of which is 0 or 1.  free: the dimensions of each input that
    may have any size.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if as_script:  # all sizes are free
                traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                    module.eval(), inputs, check_trace=False
                )
                assert isinstance(traced, torch.jit.ScriptModule)
                return traced
            shapes = tuple({each: torch.export.Dim.DYNAMIC for each in one} for one in free)
            return torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)
    except (torch._dynamo.exc.UserError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"the network cannot be traced ({reason})") from error


def frame_limits(network: Network, *, num_frames: int, short_side_px: int) -> FrameLimits:
    """Return which frames the program of a network takes.

    num_frames, short_side_px: of the clips that the network is used with. A classifier's window
    slides over longer and larger clips; where it is larger than their map, it is as large as the
    map of square clips of `short_side_px`, and only these are taken.
    """
    if isinstance(network, ActionDetector):
        return FrameLimits(num_frames)
    frames, window, _ = network.head.pool
    stride = network.trunk.spatial_stride
    fits = math.ceil(short_side_px / stride) >= window
    return FrameLimits(
        num_frames=min(frames, num_frames),
        longer=num_frames >= frames,
        least_side_px=(window - 1) * stride + 1 if fits else short_side_px,
        side_px=None if fits else short_side_px,
    )


class _PositionLogits(nn.Module):
    """A classifier whose call gives the logits at every window position."""

    def __init__(self, network: X3DClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        return self.network.position_logits(frames)
