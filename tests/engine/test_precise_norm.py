"""Statistics of BatchNorm over many batches, against the mean of each batch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detection.engine.distributed import ALONE
from detection.engine.precise_norm import compute_norm_statistics
from detection.models.batch_norm import FrozenBatchNorm3d


def forward(model, batch):
    return model(batch)


def test_statistics_are_the_mean_over_batches_and_frozen_layers_stay():
    model = nn.Sequential(nn.BatchNorm3d(2), FrozenBatchNorm3d(2)).train()
    parts = [torch.randn(4, 2, 1, 3, 3) * scale + 5 for scale in (1, 2, 100)]
    model(parts[2])
    norm = model[0]
    compute_norm_statistics(model, parts, forward=forward, count=2, processes=ALONE)
    for values, statistic in ((norm.running_mean, torch.mean), (norm.running_var, torch.var)):
        expected = torch.stack([statistic(part, dim=(0, 2, 3, 4)) for part in parts[:2]]).mean(0)
        assert torch.allclose(values, expected, rtol=1e-5)
    assert norm.momentum == 0.1 and norm.num_batches_tracked == 1
    assert torch.equal(model[1].running_mean, torch.zeros(2))
    assert not model.training
    with pytest.raises(AssertionError):
        compute_norm_statistics(model, [], forward=forward, count=2, processes=ALONE)
