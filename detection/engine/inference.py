"""From batches of clips to detections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from detection.structures import Batch, Detections


@torch.inference_mode()
def detect(
    model: nn.Module, batches: Iterable[Batch], *, device: torch.device
) -> Iterator[Detections]:
    """Yield the detections of every clip, in the order of the batches.

    `model(frames, rois_px)` gives logits (R, A); scores are their sigmoids and nothing else. The
    model is put in evaluation mode and left so.
    """
    model.eval()
    for batch in batches:
        frames = batch.frames.to(device, non_blocking=True)
        logits = model(frames, batch.rois_px.to(device, non_blocking=True))
        scores = logits.float().sigmoid().cpu().numpy().astype(np.float32)
        first = 0
        for keyframe, boxes in zip(batch.keyframes, batch.boxes, strict=True):
            yield Detections(keyframe, boxes, scores[first : first + len(boxes)])
            first += len(boxes)
