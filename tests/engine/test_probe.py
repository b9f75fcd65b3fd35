"""The last layer is the best one for the features that are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detection.datasets.loader import EvalBatches
from detection.engine.probe import collect_features, fit_linear, set_last_layer
from detection.errors import UserError
from detection.models.action_detector import build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.x3d import X3DDescription
from detection.structures import ActorBoxes, Batch, Keyframe

TINY = X3DDescription(2, 1, 32, (32, 40), 32, width_factor=1.0, depth_factor=0.5)


def test_it_is_the_minimum_of_the_regularised_loss() -> None:
    """The gradient at what is returned, written out by hand in double precision, is zero."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 7, generator=generator) * torch.tensor([1.0] * 3 + [0.01] * 4) + 2
    labels = (torch.rand(60, 3, generator=generator) < 0.3).float()
    weights, biases = fit_linear(features, labels, parts=(3, 4), l2=1e-2)
    x, y = features.double().numpy(), labels.double().numpy()
    centred = x - x.mean(0)
    first = np.sqrt((centred[:, :3] ** 2).sum(1).mean())
    second = np.sqrt((centred[:, 3:] ** 2).sum(1).mean())
    scale = np.array([first] * 3 + [second] * 4)
    scaled_weights = weights.double().numpy() * scale
    logits = x @ weights.double().numpy().T + biases.double().numpy()
    error = (1 / (1 + np.exp(-logits)) - y) / len(x)
    assert np.abs(error.T @ (centred / scale) + 1e-2 * scaled_weights).max() < 1e-4
    assert np.abs(error.sum(0)).max() < 1e-4


def test_a_kind_of_features_with_small_numbers_counts_as_much() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(40, 6, generator=generator)
    labels = (torch.rand(40, 2, generator=generator) < 0.5).float()
    smaller = features * torch.tensor([1.0] * 2 + [1e-3] * 4)
    one = fit_linear(features, labels, parts=(2, 4), l2=1e-2)
    other = fit_linear(smaller, labels, parts=(2, 4), l2=1e-2)
    torch.testing.assert_close(
        features @ one[0].T + one[1], smaller @ other[0].T + other[1], atol=1e-3, rtol=1e-3
    )


def test_classes_that_none_or_all_do_and_constant_features_stay_finite() -> None:
    features = torch.ones(5, 4)
    labels = torch.tensor([[0.0, 1.0]]).repeat(5, 1)
    weights, biases = fit_linear(features, labels, parts=(4,), l2=1e-4)
    assert torch.isfinite(weights).all() and torch.isfinite(biases).all()
    logits = features @ weights.T + biases
    assert (logits[:, 0] < 0).all() and (logits[:, 1] > 0).all()


def test_no_actor_to_learn_from_and_parts_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="needs actors"):
        fit_linear(torch.zeros(0, 4), torch.zeros(0, 2), parts=(4,), l2=1.0)
    with pytest.raises(ValueError, match="do not fit"):
        fit_linear(torch.zeros(3, 4), torch.zeros(3, 2), parts=(3,), l2=1.0)


def test_features_are_those_that_the_last_layer_takes_when_scoring() -> None:
    torch.manual_seed(0)
    model = build_detector(TINY, ActorHeadDescription(3, hidden=16, context="frame")).train()
    batch = Batch(
        frames=torch.randint(0, 256, (2, 3, 2, 32, 40), dtype=torch.uint8),
        rois_px=torch.tensor([[0, 1.0, 2, 20, 30], [1, 0, 0, 40, 32], [1, 5, 5, 30, 30]]),
        labels=torch.eye(3),
        boxes=[ActorBoxes(np.ones((1, 4)), np.ones(1)), ActorBoxes(np.ones((2, 4)), np.ones(2))],
        keyframes=[Keyframe("a", 0.0), Keyframe("b", 0.0)],
    )
    no_person = Batch(
        batch.frames[:1],
        torch.zeros(0, 5),
        torch.zeros(0, 3),
        [ActorBoxes.empty()],
        [Keyframe("c", 0.0)],
    )
    cpu = torch.device("cpu")
    features, labels = collect_features(model, [batch, no_person], device=cpu)
    assert features.shape == (3, 32) and torch.equal(labels, torch.eye(3))
    set_last_layer(model, torch.full((3, 32), 0.5), torch.arange(3.0))
    with torch.no_grad():
        logits = model.eval()(*batch.inputs)
    expected = 0.5 * features.sum(1, keepdim=True) + torch.arange(3.0)
    torch.testing.assert_close(logits, expected)
    assert collect_features(model, [], device=cpu)[0].shape == (0, 32)


def test_some_keyframes_of_each_video() -> None:
    class Table:
        def keyframes(self) -> list[Keyframe]:
            return [Keyframe(video, float(time)) for video in "ab" for time in range(5)]

    class Dataset:
        table = Table()

        def output_size(self, position: int) -> tuple[int, int]:
            return 32, 40

    def chosen(seed: int) -> list[int]:
        order = EvalBatches(Dataset(), batch_size=3, per_video=2, seed=seed)  # type: ignore[arg-type]
        return [position for batch in order for _, position in batch]

    assert len(chosen(0)) == 4 and sum(position < 5 for position in chosen(0)) == 2
    assert chosen(0) == chosen(0)
    assert len({tuple(chosen(seed)) for seed in range(5)}) > 1
