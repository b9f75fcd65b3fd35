"""What a Faster R-CNN of torchvision's parts learns from one batch of frames.

Legend: B frames, N people of a frame, P sampled proposals of a batch, K classes + background.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import fastrcnn_loss

BACKGROUND = 0
NOT_TAUGHT = -100  # the label that cross entropy leaves out


def detection_losses(
    network: FasterRCNN,
    images: Sequence[Tensor],
    boxes_px: Sequence[Tensor],
    *,
    ignore_above: float | None = None,
    precision: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Return the four losses of Faster R-CNN; their sum is what is minimised.

    images: (3, H, W) float in 0 to 1.  boxes_px: (N, 4), all of the network's first class; none is
    legal.  ignore_above: proposals without a label to which the network gives more than this
    probability of being an actor are not taught as background.  precision: of the layers that take
    the time; boxes and losses are in float32.
    """
    targets: list[dict[str, Tensor]] | None = [
        {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64, device=boxes.device)}
        for boxes in boxes_px
    ]
    batch, targets = network.transform(list(images), targets)
    mixed = functools.partial(
        torch.autocast, batch.tensors.device.type, precision, enabled=precision != torch.float32
    )
    with mixed():
        features = network.backbone(batch.tensors)
    if isinstance(features, Tensor):
        features = {"0": features}
    features = {name: maps.float() for name, maps in features.items()}
    proposals, losses = network.rpn(batch, features, targets)
    heads = network.roi_heads
    proposals, _, labels, corrections = heads.select_training_samples(proposals, targets)
    pooled = heads.box_roi_pool(features, proposals, batch.image_sizes)
    with mixed():
        pooled = heads.box_head(pooled)
    logits, predicted = heads.box_predictor(pooled.float())  # (P, K), (P, 4 K)
    if ignore_above is not None:
        labels = _without_likely_actors(labels, logits, ignore_above)
    class_loss, box_loss = fastrcnn_loss(logits, predicted, labels, corrections)
    return {**losses, "loss_classifier": class_loss, "loss_box_reg": box_loss}


class DetectionLosses(nn.Module):
    """A network in training: called with a batch, it returns its losses.

    freeze_norms: BatchNorm stays as it is.  precision: see `detection_losses`.
    """

    def __init__(
        self, network: FasterRCNN, *, freeze_norms: bool, precision: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = network
        self._freeze_norms = freeze_norms
        self._precision = precision

    def train(self, mode: bool = True) -> DetectionLosses:
        """Set the network's mode; frozen layers of BatchNorm stay in theirs."""
        super().train(mode)
        if self._freeze_norms:
            freeze_batch_norm(self.network)
        return self

    def forward(
        self, images: Sequence[Tensor], boxes_px: Sequence[Tensor], ignore_above: float | None
    ) -> dict[str, Tensor]:
        """Return the losses, as `detection_losses` does."""
        return detection_losses(
            self.network, images, boxes_px, ignore_above=ignore_above, precision=self._precision
        )


def freeze_batch_norm(network: nn.Module) -> int:
    """Keep BatchNorm's statistics and parameters in training; return how many layers there are.

    Call it after every `network.train()`, which undoes it.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.eval()
        layer.requires_grad_(False)
    return len(layers)


def _without_likely_actors(labels: list[Tensor], logits: Tensor, above: float) -> list[Tensor]:
    actor = 1 - logits.detach().float().softmax(-1)[:, BACKGROUND]
    changed = []
    sizes = [len(label) for label in labels]
    for label, likely in zip(labels, torch.split(actor > above, sizes), strict=True):
        changed.append(label.masked_fill((label == BACKGROUND) & likely, NOT_TAUGHT))
    return changed
