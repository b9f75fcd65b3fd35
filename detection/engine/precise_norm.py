"""BatchNorm's statistics computed anew over many batches, with the weights as they are.

Running averages mix statistics of weights that have moved on since (Wu and Johnson, "Rethinking
'Batch' in BatchNorm", 2021); X3D's Kinetics recipe scores with precise ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detection.engine.distributed import Processes
from detection.models.batch_norm import FrozenBatchNorm3d


@torch.no_grad()
def compute_norm_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], object],
    count: int,
    processes: Processes,
) -> None:
    """Replace running means and variances by averages over the first `count` batches.

    Averages over all processes, which must call this together. Frozen layers stay as they are; the
    model is left in eval mode.  forward: runs the network over a batch.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in norms if not isinstance(norm, FrozenBatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    tracked = [None if count is None else count.clone() for count in counts]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
        norm.train()
    seen = 0
    for batch in itertools.islice(batches, count):
        forward(model, batch)
        seen += 1
    assert seen, "an epoch has batches"
    model.eval()
    for norm, momentum, number in zip(norms, momenta, tracked, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked is not None and number is not None:
            norm.num_batches_tracked.copy_(number)
        for values in (norm.running_mean, norm.running_var):
            assert values is not None
            sums = processes.sum(values.double().tolist())
            values.copy_(torch.tensor(sums, dtype=torch.float64) / processes.count)
