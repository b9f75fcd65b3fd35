"""Statistics of BatchNorm over many batches, against the mean of each batch's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detection.engine.distributed import ALONE
from detection.engine.precise_norm import compute_norm_statistics
from detection.models.batch_norm import FrozenBatchNorm3d


def test_statistics_are_the_mean_over_batches_and_frozen_layers_stay():
    model = nn.Sequential(nn.BatchNorm3d(2), FrozenBatchNorm3d(2)).train()
    parts = [torch.randn(4, 2, 1, 3, 3) * scale + 5 for scale in (1, 2, 100)]
    batches = [SimpleNamespace(inputs=(part,)) for part in parts]
    model(parts[2])
    norm = model[0]
    compute_norm_statistics(model, batches, count=2, device=torch.device("cpu"), processes=ALONE)
    for values, statistic in ((norm.running_mean, torch.mean), (norm.running_var, torch.var)):
        wanted = torch.stack([statistic(part, dim=(0, 2, 3, 4)) for part in parts[:2]]).mean(0)
        assert torch.allclose(values, wanted, rtol=1e-5)
    assert norm.momentum == 0.1 and norm.num_batches_tracked == 1
    assert torch.equal(model[1].running_mean, torch.zeros(2))
    assert not model.training
    with pytest.raises(AssertionError):
        compute_norm_statistics(model, [], count=2, device=torch.device("cpu"), processes=ALONE)
