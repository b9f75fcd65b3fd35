"""The dense parts of a Faster R-CNN: as modules to export, and programs in place of them.

Backbone and RPN head are one part, box head and predictor the other. What branches on boxes stays
torchvision's: scaling, anchors, proposals, non-maximum suppression, RoIAlign.

Legend: B frames, H W pixels, L maps, N boxes, C channels, K classes with the background.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from detection.errors import UserError
from detection.export.session import RuntimeSession

# The programs of an exported detector, by the part that each is of.
PARTS = ("features", "boxes")
# Results of the same frames that are further apart are another network's: of probabilities, and of
# numbers as a share of the largest.
MOST_DIFFERENCE = 1e-3


class FeaturePart(nn.Module):
    """(B, 3, H, W) normalised frames -> L maps, then L of objectness, then L of box shifts.

    H and W are multiples of the network's size_divisible.
    for_export: pool so that runtimes can; the network is changed.
    """

    def __init__(self, network: FasterRCNN, *, for_export: bool = False) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.rpn.head
        for module in list(self.backbone.modules()) if for_export else ():
            for name, child in module.named_children():
                if isinstance(child, nn.AvgPool2d) and child.ceil_mode:
                    setattr(module, name, _CeilPool(child))

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Return all maps of all levels."""
        maps = list(named_maps(self.backbone(frames)).values())
        objectness, shifts = self.head(maps)
        return (*maps, *objectness, *shifts)


class _CeilPool(nn.Module):
    """Means of 2 x 2 positions, of fewer at the edge of odd maps, as `AvgPool2d(ceil_mode=True)`.

    OpenVINO takes such a pool of a map of one row or column for empty, without an error.
    """

    def __init__(self, pool: nn.AvgPool2d) -> None:
        super().__init__()
        assert (pool.kernel_size, pool.stride, pool.padding) == (2, 2, 0)

    def forward(self, maps: Tensor) -> Tensor:
        edge_again = nn.functional.pad(maps, (0, 1, 0, 1), mode="replicate")
        return nn.functional.avg_pool2d(edge_again, 2)


class BoxPart(nn.Module):
    """(N, C, h, w) features of boxes -> class logits (N, K), box shifts (N, 4 K)."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.head, self.predictor = network.roi_heads.box_head, network.roi_heads.box_predictor

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and shifts."""
        logits, shifts = self.predictor(self.head(features))
        return logits, shifts


def named_maps(found: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a backbone's maps by the names that torchvision gives them."""
    return {"0": found} if isinstance(found, Tensor) else found


def map_strides(network: FasterRCNN) -> dict[str, int]:
    """Return by how much each of a network's maps is smaller than its frames, by name."""
    frames = example_frames(network, 1, 256, 256)  # strides are powers of two
    with torch.inference_mode():
        found = named_maps(network.backbone(frames))
    return {name: round(frames.shape[-1] / each.shape[-1]) for name, each in found.items()}


def example_frames(
    network: FasterRCNN, number: int, height: int = 160, width: int = 224, seed: int = 0
) -> Tensor:
    """Return (B, 3, H, W) random normalised frames of about that size."""
    step = int(network.transform.size_divisible)
    sides = [max(1, round(side / step)) * step for side in (height, width)]
    return torch.randn(number, 3, *sides, generator=torch.Generator().manual_seed(seed))


def example_boxes(network: FasterRCNN, number: int) -> Tensor:
    """Return (N, C, h, w) random features of boxes."""
    size = network.roi_heads.box_roi_pool.output_size
    shape = (number, int(network.backbone.out_channels), *size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(number))


def put_in_place(
    network: FasterRCNN, sessions: Mapping[str, RuntimeSession], strides: Mapping[str, int]
) -> FasterRCNN:
    """Have a network's dense parts computed by programs; return the network, which has no others.

    sessions: by `PARTS`; several threads may call the network.  strides: `map_strides`.
    """
    under_way = threading.local()
    network.backbone = _Backbone(sessions["features"], strides, under_way)
    network.rpn.head = _Head(under_way)
    network.roi_heads.box_head = _Boxes(sessions["boxes"])
    network.roi_heads.box_predictor = nn.Identity()
    return network


class _Backbone(nn.Module):
    """Runs the first program; hands what is the RPN head's to it, in the same thread."""

    def __init__(
        self, session: RuntimeSession, strides: Mapping[str, int], under_way: threading.local
    ) -> None:
        super().__init__()
        self._session, self._strides, self._under_way = session, dict(strides), under_way

    def forward(self, frames: Tensor) -> OrderedDict[str, Tensor]:
        found = _run(self._session, frames)
        levels = len(self._strides)
        maps = OrderedDict(zip(self._strides, found[:levels], strict=True))
        for name, stride in self._strides.items():
            _check_map(maps[name], frames, stride)
        self._under_way.head = found[levels : 2 * levels], found[2 * levels :]
        return maps


def _check_map(found: Tensor, frames: Tensor, stride: int) -> None:
    """Raise `UserError` for a map of another call: some runtimes give these where one fails."""
    sides = [math.ceil(side / stride) for side in frames.shape[-2:]]
    if [len(found), *found.shape[-2:]] != [len(frames), *sides]:
        height, width = frames.shape[-2:]
        raise UserError(
            f"frames of {width} x {height} px: the exported people detector cannot take them here; "
            "--runtime torch can"
        )


class _Head(nn.Module):
    """Gives what the first program has computed of the maps."""

    def __init__(self, under_way: threading.local) -> None:
        super().__init__()
        self._under_way = under_way

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, shifts = self._under_way.head
        del self._under_way.head
        return objectness, shifts


class _Boxes(nn.Module):
    """Runs the second program: logits and shifts."""

    def __init__(self, session: RuntimeSession) -> None:
        super().__init__()
        self._session = session

    def forward(self, features: Tensor) -> list[Tensor]:
        return _run(self._session, features)


def _run(session: RuntimeSession, values: Tensor) -> list[Tensor]:
    found = session.run_all([values.cpu().float().contiguous().numpy()])
    return [torch.from_numpy(each) for each in found]


@torch.inference_mode()
def check_parts(network: FasterRCNN, sessions: Mapping[str, RuntimeSession]) -> float:
    """Return how far the programs are from the network's parts, on random values of several sizes.

    Of probabilities the largest difference, of other numbers as a share of the largest. Raises
    `UserError` where it is more than `MOST_DIFFERENCE`.
    """
    features, boxes = FeaturePart(network).eval(), BoxPart(network).eval()
    apart = [0.0]
    for number, height, width in ((1, 96, 160), (2, 192, 64), (1, 1, 1)):
        frames = example_frames(network, number, height, width, seed=height)
        expected, found = list(features(frames)), _run(sessions["features"], frames)
        levels = len(expected) // 3
        for each in (expected, found):  # objectness is a logit
            each[levels : 2 * levels] = [one.sigmoid() for one in each[levels : 2 * levels]]
        apart += _differences(expected, found)
    for number in (0, 1, 7):
        values = example_boxes(network, number)
        expected, found = list(boxes(values)), _run(sessions["boxes"], values)
        for each in (expected, found):
            each[0] = each[0].softmax(1)
        apart += _differences(expected, found)
    worst = max(apart, key=lambda each: float("inf") if each != each else each)
    if not worst <= MOST_DIFFERENCE:
        raise UserError(
            f"the exported detector gives numbers up to {worst:.1e} from PyTorch's, at most "
            f"{MOST_DIFFERENCE:g} is required"
        )
    return worst


def _differences(expected: Sequence[Tensor], found: Sequence[Tensor]) -> list[float]:
    if [each.shape for each in expected] != [each.shape for each in found]:
        return [float("inf")]
    return [
        float((one - other).abs().max() / one.abs().max().clamp(min=1))
        for one, other in zip(expected, found, strict=True)
        if one.numel()
    ]
