"""Blocks whose inner results are computed again on the way back instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, features: Tensor) -> Tensor:
    """Return block(features), keeping nothing but `features` for the way back.

    The block must hold nothing random. Outputs, gradients and BatchNorm's statistics are those of
    the plain call: the second forward pass leaves statistics alone.
    """
    result: Tensor = checkpoint(
        block,
        features,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _kept_statistics(block)),
    )
    return result


@contextmanager
def _kept_statistics(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    kept = [None if count is None else count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0  # running <- 1 * running + 0 * batch
    try:
        yield
    finally:
        for norm, momentum, count, value in zip(norms, momenta, counts, kept, strict=True):
            norm.momentum = momentum
            if count is not None and value is not None:
                count.copy_(value)
