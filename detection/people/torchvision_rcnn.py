"""Faster R-CNN from torchvision: its stock networks, and a small one that a CPU trains in minutes.

Legend: B pictures, H W pixels, N boxes of a picture, C channels.
Network: S. Ren, K. He, R. Girshick, J. Sun, "Faster R-CNN" (2015); the parts are torchvision's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn_v2,
)
from torchvision.ops import batched_nms
from torchvision.transforms.v2.functional import resize

from detection.errors import UserError
from detection.people.small_rcnn import small_rcnn
from detection.structures import ActorBoxes

NetworkName = Literal["small", "mobile_320", "mobile", "resnet50_v2"]
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)

# Short and long side in pixels at which each network is meant to look at a picture.
USUAL_SIDES_PX: Mapping[NetworkName, tuple[int, int]] = {
    "small": (144, 256),
    "mobile_320": (320, 640),
    "mobile": (800, 1333),
    "resnet50_v2": (800, 1333),
}


class TorchvisionDetector:
    """Finds actors with a torchvision Faster R-CNN; a `PeopleDetector`.

    network: gives a list of {"boxes", "labels", "scores"} for a list of (3, H, W) pictures in 0 to
        1.
    actor_labels: the network's labels (0 is the background) that count as actors; where there are
        several, boxes of one being under two names are made one.
    half_precision: float16, on a GPU only.
    score_floor: boxes below it are not returned.
    max_people: at most so many a picture. Results do not depend on which other pictures are asked
        about at the same time.
    """

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
    ) -> None:
        self.device = torch.device(device)
        if half_precision and self.device.type != "cuda":
            raise UserError("half precision of the people detector needs a GPU")
        if not actor_labels or 0 in actor_labels:
            raise ValueError(f"actor labels start at 1, got {list(actor_labels)}")
        self._name = name
        self._labels = torch.tensor(sorted(set(actor_labels)), device=self.device)
        self._half = half_precision
        self._max_people = max_people
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self.network.roi_heads.score_thresh = score_floor
        # This limit is on boxes of all classes: others must not crowd out the actors.
        self.network.roi_heads.detections_per_img = 10_000
        self._nms_iou = float(network.roi_heads.nms_thresh)

    @property
    def name(self) -> str:
        """Say which network this is."""
        return self._name

    @property
    def actor_labels(self) -> tuple[int, ...]:
        """Return the network's labels that count as actors."""
        return tuple(self._labels.tolist())

    @property
    def sides_px(self) -> tuple[int, int]:
        """Return the short side that pictures are scaled to, and the longest long side.

        Pictures decoded at the short side already cost no scaling here.
        """
        transform = self.network.transform
        return int(transform.min_size[-1]), int(transform.max_size)

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[ActorBoxes]:
        """Return the actors of each (3, H, W) uint8 RGB picture, best score first."""
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
                raise ValueError(
                    f"pictures must be (3, H, W) uint8, got {tuple(image.shape)} {image.dtype}"
                )
            if not image.numel():
                raise ValueError(f"a picture without pixels: {tuple(image.shape)}")
            by_size[tuple(image.shape)].append(index)
        found = [ActorBoxes.empty()] * len(images)
        for indices in by_size.values():  # padding to another's size would change results
            for index, boxes in zip(
                indices, self._detect_alike([images[i] for i in indices]), strict=True
            ):
                found[index] = boxes
        return found

    def _detect_alike(self, images: list[Tensor]) -> list[ActorBoxes]:
        stacked = torch.stack(images).to(self.device, non_blocking=True)
        stacked = self._reduce(stacked).float().div_(255)  # (B, 3, H, W)
        height, width = stacked.shape[-2:]
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self._half):
            results = self.network(list(stacked))
        return [self._to_actors(result, width, height) for result in results]

    def _reduce(self, images: Tensor) -> Tensor:
        """Shrink large pictures with smoothing, which the network's own scaling leaves out."""
        short_side, long_side = self.sides_px
        height, width = images.shape[-2:]
        scale = min(short_side / min(height, width), long_side / max(height, width))
        if scale >= 1:
            return images
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        return resize(images, size, antialias=True)

    def _to_actors(self, result: Mapping[str, Tensor], width: int, height: int) -> ActorBoxes:
        boxes, scores = result["boxes"].float(), result["scores"].float()
        wanted = torch.isin(result["labels"], self._labels)
        boxes, scores = boxes[wanted], scores[wanted]
        if len(self._labels) > 1:
            kept = batched_nms(boxes, scores, torch.zeros_like(scores), self._nms_iou)
            boxes, scores = boxes[kept], scores[kept]
        sides = boxes.new_tensor([width, height, width, height])
        xyxy = (boxes / sides).clamp(0, 1).cpu().numpy().astype(np.float32)
        score = scores.clamp(0, 1).cpu().numpy().astype(np.float32)
        has_area = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        order = np.argsort(-score, kind="stable")
        return ActorBoxes(xyxy, score).select(order[has_area[order]][: self._max_people])


def build_people_network(
    name: NetworkName,
    *,
    num_classes: int,
    short_side_px: int | None = None,
    long_side_px: int | None = None,
) -> FasterRCNN:
    """Build a network with random weights drawn from torch's global generator.

    num_classes: the actor classes, without the background.
    short_side_px, long_side_px: pictures are scaled until one of them is met (None: the network's
        usual sides). In training the network takes pictures as they come: scaling is the loader's
        work there.
    """
    usual_short, usual_long = USUAL_SIDES_PX[name]
    short_side = short_side_px or usual_short
    sides: dict[str, Any] = {
        "min_size": short_side,
        "max_size": long_side_px or max(usual_long, 2 * short_side),
        "_skip_resize": True,  # torchvision's option: no scaling in training
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
    """Return how many classes a Faster R-CNN tells apart, the background included."""
    assert isinstance(network, FasterRCNN)
    return int(network.roi_heads.box_predictor.cls_score.out_features)
