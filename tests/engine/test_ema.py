"""The moving average of weights, against the formula in plain numbers."""

from __future__ import annotations

import pytest
import torch

from detection.engine.ema import WeightAverage
from detection.models.action_detector import build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.x3d import X3DDescription

TINY = X3DDescription(1, 1, 32, (32, 32), 32, width_factor=0.5, depth_factor=0.5)


def test_the_average_is_the_formula_and_begins_by_forgetting_fast():
    model = build_detector(TINY, ActorHeadDescription(2, hidden=4))
    average = WeightAverage(model, decay=0.3)
    expected = None
    for number, value in enumerate([1.0, 5.0, -2.0, 7.0]):
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.fill_(value)
        average.update()
        decay = min(0.3, (1 + number) / (10 + number))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    state = average.model.state_dict()
    for name, tensor in state.items():
        required = 7 if name.endswith("num_batches_tracked") else expected
        assert torch.allclose(tensor.float(), torch.tensor(float(required))), name
    again = WeightAverage(model, decay=0.3)
    again.restore(state, updates=4)
    again.update()
    average.update()
    assert all(
        torch.equal(state[name], tensor) for name, tensor in again.model.state_dict().items()
    )


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(ValueError, match="within 0 and 1"):
        WeightAverage(build_detector(TINY, ActorHeadDescription(2, hidden=4)), decay=decay)
