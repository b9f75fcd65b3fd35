"""From batches of clips to detections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from detection.errors import UserError
from detection.structures import Batch, Detections


@torch.inference_mode()
def detect(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    on_logits: Callable[[Tensor], object] = lambda logits: None,
) -> Iterator[Detections]:
    """Yield the detections of every clip, in the order of the batches.

    `model(*batch.inputs)` gives logits (R, A); scores are their sigmoids and nothing else. The
    model is put in evaluation mode and left so. `on_logits` is told those of each batch. Raises
    `UserError` for logits that are not finite.
    """
    model.eval()
    for batch in batches:
        logits = model(*(part.to(device, non_blocking=True) for part in batch.inputs))
        counts = zip(batch.keyframes, batch.boxes, strict=True)
        check_logits_finite(logits, [str(key) for key, boxes in counts for _ in range(len(boxes))])
        on_logits(logits)
        scores = logits.float().sigmoid().cpu().numpy().astype(np.float32)
        first = 0
        for keyframe, boxes in zip(batch.keyframes, batch.boxes, strict=True):
            yield Detections(keyframe, boxes, scores[first : first + len(boxes)])
            first += len(boxes)


def check_logits_finite(values: Tensor, keys: Sequence[str]) -> None:
    """Raise `UserError` where a row of (R, A) values holds NaN or infinity; keys: of the rows.

    Sorted and compared, such values would be scores like any other.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        row, column = (int(place) for place in (~finite).nonzero()[0])
        raise UserError(
            f"{keys[row]}: the network's score is {float(values[row, column])}, a finite number is "
            "required: its weights are damaged, or training diverged"
        )
