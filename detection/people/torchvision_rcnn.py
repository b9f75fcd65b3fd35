"""Faster R-CNN from torchvision: its standard networks, and a small one for CPUs.

Legend: B frames, H W pixels, N boxes of a frame, C channels. Network: S. Ren, K. He, R. Girshick,
J. Sun, "Faster R-CNN" (2015); the parts are torchvision's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn_v2,
)
from torchvision.transforms.v2.functional import resize

from detection.bounds import LARGEST_SIDE_PX, between
from detection.people.base import NetworkDetector, check_frame
from detection.people.small_rcnn import small_rcnn
from detection.structures import ActorBoxes

NetworkName = Literal["small", "mobile_320", "mobile", "resnet50_v2"]
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)

# Short and long side in pixels that frames are scaled to for each network.
USUAL_SIDES_PX: Mapping[NetworkName, tuple[int, int]] = {
    "small": (144, 256),
    "mobile_320": (320, 640),
    "mobile": (800, 1333),
    "resnet50_v2": (800, 1333),
}


@dataclass(frozen=True)
class PeopleNetworkNumbers:
    """What a network is built from: its kind, and the sides that frames are scaled to."""

    name: NetworkName
    short_side_px: int = between(16, LARGEST_SIDE_PX)
    long_side_px: int = between(16, LARGEST_SIDE_PX)


class TorchvisionDetector(NetworkDetector):
    """Detects actors with a torchvision Faster R-CNN; a `PeopleDetector`.

    network: maps a list of (3, H, W) frames in 0 to 1 to a list of {"boxes", "labels", "scores"}.
    actor_labels: the network's labels (0 is the background) that are actors.
    score_floor: lower-scored boxes are dropped.
    runtime: that computes the dense parts: "torch", or another with its version and precision.

    The other options: see `NetworkDetector`. Results do not depend on the other frames of a call.
    """

    network: FasterRCNN

    def __init__(
        self,
        network: FasterRCNN,
        *,
        name: str,
        actor_labels: Sequence[int],
        device: torch.device | str = "cpu",
        half_precision: bool = False,
        score_floor: float = 0.05,
        max_people: int = 100,
        best_score: float | None = None,
        notes: Sequence[str] = (),
        runtime: str = "torch",
    ) -> None:
        if not actor_labels or 0 in actor_labels:
            raise ValueError(f"actor labels start at 1, got {list(actor_labels)}")
        super().__init__(
            network.to(memory_format=torch.channels_last),
            name=name,
            classes=actor_labels,
            nms_iou=float(network.roi_heads.nms_thresh),
            device=device,
            half_precision=half_precision,
            max_people=max_people,
            best_score=best_score,
            notes=notes,
        )
        self.runtime = runtime
        network.roi_heads.score_thresh = score_floor
        # This limit is over all classes: other classes must not displace actors.
        network.roi_heads.detections_per_img = 10_000

    @property
    def actor_labels(self) -> tuple[int, ...]:
        """The network's labels that are actors."""
        return tuple(self._classes.tolist())

    @property
    def sides_px(self) -> tuple[int, int]:
        """Short side that frames are scaled to, and the longest long side.

        Frames that are decoded at the short side are not scaled again.
        """
        transform = self.network.transform
        return int(transform.min_size[-1]), int(transform.max_size)

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[ActorBoxes]:
        """Return the actors of each (3, H, W) uint8 RGB frame, best score first."""
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            check_frame(image)
            by_size[tuple(image.shape)].append(index)
        found = [ActorBoxes.empty()] * len(images)
        for indices in by_size.values():  # padding to a common size would change results
            results = self._detect_alike([images[index] for index in indices])
            for index, boxes in zip(indices, results, strict=True):
                found[index] = boxes
        return found

    def _detect_alike(self, images: list[Tensor]) -> list[ActorBoxes]:
        stacked = torch.stack(images).to(self.device, non_blocking=True)
        stacked = self._reduce(stacked).float().div_(255)  # (B, 3, H, W)
        height, width = stacked.shape[-2:]
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self._half):
            results = self.network(list(stacked))
        size_px = (width, height)
        return [
            self._actors(r["boxes"].float(), r["scores"].float(), r["labels"], size_px=size_px)
            for r in results
        ]

    def _reduce(self, images: Tensor) -> Tensor:
        """Scale large frames down with antialiasing, which the network's own scaling lacks."""
        short_side, long_side = self.sides_px
        height, width = images.shape[-2:]
        scale = min(short_side / min(height, width), long_side / max(height, width))
        if scale >= 1:
            return images
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        reduced: Tensor = resize(images, size, antialias=True)
        return reduced


def build_people_network(
    name: NetworkName,
    *,
    num_classes: int,
    short_side_px: int | None = None,
    long_side_px: int | None = None,
) -> FasterRCNN:
    """Build a network with random weights from torch's global generator.

    num_classes: without the background.
    short_side_px, long_side_px: frames are scaled until one of them is met (None: the network's
        usual sides).

    In training the network does not scale frames: the loader does.
    """
    usual_short, usual_long = USUAL_SIDES_PX[name]
    short_side = short_side_px or usual_short
    sides: dict[str, Any] = {
        "min_size": short_side,
        "max_size": long_side_px or max(usual_long, 2 * short_side),
        "_skip_resize": True,  # torchvision's option: do not scale in training
    }
    if name == "small":
        return small_rcnn(num_classes=num_classes, **sides)
    return _STOCK[name](weights=None, weights_backbone=None, num_classes=num_classes + 1, **sides)


_STOCK: Mapping[NetworkName, Callable[..., FasterRCNN]] = {
    "mobile_320": fasterrcnn_mobilenet_v3_large_320_fpn,
    "mobile": fasterrcnn_mobilenet_v3_large_fpn,
    "resnet50_v2": fasterrcnn_resnet50_fpn_v2,
}


def count_classes(network: nn.Module) -> int:
    """Return the number of classes of a Faster R-CNN, with the background."""
    assert isinstance(network, FasterRCNN)
    return int(network.roi_heads.box_predictor.cls_score.out_features)
