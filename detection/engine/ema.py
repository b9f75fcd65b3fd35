"""An exponential moving average of a network's weights (EMA): what is scored where one is kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """Follows a network: average <- d * average + (1 - d) * weights, after every update.

    decay: of an update, below 1. Early in a run d = (1 + n) / (10 + n) for the n-th update where
    that is less, so that the first weights are soon forgotten (as TensorFlow's and timm's averages
    have it). BatchNorm's statistics are averaged like weights. `model` is the averaged network.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of averaged weights must be within 0 and 1, got {decay}")
        self._decay = decay
        self._source = model
        self._averaged = AveragedModel(model, multi_avg_fn=self._mix, use_buffers=True)
        self._averaged.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        """The network whose weights are averages."""
        return self._averaged.module

    def update(self) -> None:
        """Take the weights after an update into account."""
        self._averaged.update_parameters(self._source)

    def restore(self, state: Mapping[str, Tensor], *, updates: int) -> None:
        """Go on from a saved average of so many updates."""
        self.model.load_state_dict(state)
        self._averaged.n_averaged.fill_(updates)

    def _mix(
        self,
        averages: tuple[Tensor, ...] | list[Tensor],
        weights: tuple[Tensor, ...] | list[Tensor],
        updates: Tensor | int,
    ) -> None:
        number = int(updates)
        decay = min(self._decay, (1 + number) / (10 + number))
        if averages[0].is_floating_point():
            mix = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            mix(averages, weights, updates)
        else:  # BatchNorm's counts of batches
            for average, weight in zip(averages, weights, strict=True):
                with torch.no_grad():
                    average.copy_(weight)
