"""A network prepared for inference gives the outputs of the network it was made of."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detection.models import inference
from detection.models.action_detector import ActionDetector, build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.batch_norm import freeze_batch_norm_3d
from detection.models.classifier import HeadDescription, build_classifier
from detection.models.inference import prepare_for_inference
from detection.models.x3d import X3DDescription

TINY = X3DDescription(2, 5, 64, (64, 80), 64, width_factor=1.0, depth_factor=1.0)


def fill(network: nn.Module) -> nn.Module:
    """Give BatchNorm numbers that do something; blocks start as their shortcuts."""
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm3d):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(std=0.3)
                norm.running_mean.normal_(std=0.3)
                norm.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def detector() -> ActionDetector:
    torch.manual_seed(0)
    return fill(build_detector(TINY, ActorHeadDescription(5, context="frame")))


def clips(count=2, frames=2, height=64, width=80, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, frames, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


ROIS = torch.tensor([[1.0, 2, 3, 40, 50], [0, 0, 0, 60, 60], [1, 5, 5, 30, 31]])


def assert_equal(network, clips, rois, tolerance=1e-5):
    with torch.no_grad():
        expected = network.eval()(clips, rois)
    found = prepare_for_inference(network)(clips, rois)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    atol = tolerance * float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 75), st.integers(1, 75),
    st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_any_shape_and_number_of_people(detector, count, frames, height, width, people, onednn):
    rois = ROIS[:people].clone()
    rois[:, 0].clamp_(max=count - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", onednn)
        assert_equal(detector, clips(count, frames, height, width), rois)


@pytest.fixture
def onednn_calls(monkeypatch):
    """Return a list that grows with each linear layer that oneDNN computes."""
    if not inference._ONEDNN:
        pytest.skip("this PyTorch was built without oneDNN")
    calls, kernel = [], inference._onednn_linear
    monkeypatch.setattr(
        inference, "_onednn_linear", lambda *given: calls.append(1) or kernel(*given)
    )
    return calls


def test_onednn_is_given_the_numbers_that_it_takes(detector, onednn_calls, monkeypatch):
    trunk = prepare_for_inference(detector).trunk
    given = torch.randn(1, 3, 2, 32, 32)
    trunk(given)
    assert len(onednn_calls) == sum(2 + (b.shortcut is not None) for b in trunk.blocks) + 1
    onednn_calls.clear()
    with torch.autocast("cpu", torch.bfloat16):
        trunk(given)
    copy.deepcopy(trunk).double()(given.double())
    copy.deepcopy(trunk).bfloat16()(given.bfloat16())
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    trunk(given)
    assert not onednn_calls


def test_clips_of_a_batch_do_not_reach_each_other(detector):
    trunk = prepare_for_inference(detector).trunk
    given = torch.randn(3, 3, 2, 40, 36) * torch.tensor([0.1, 1, 10]).view(3, 1, 1, 1, 1)
    alone = torch.cat([trunk(clip[None]) for clip in given])
    torch.testing.assert_close(trunk(given), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_first_call_may_be_in_any_mode(detector, mode):
    trunk = prepare_for_inference(detector).trunk
    given = torch.randn(2, 3, 2, 40, 36)
    with mode():
        first = trunk(given)
    assert torch.equal(trunk(given), first)
    other = given.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(trunk(other), first, rtol=1e-5, atol=1e-5)


def test_a_copy_that_was_called_before_can_be_moved_copied_and_pickled(detector, monkeypatch):
    trunk = prepare_for_inference(detector).trunk
    given = torch.randn(1, 3, 2, 32, 32)
    before = trunk(given)
    assert torch.equal(copy.deepcopy(trunk)(given), before)
    assert torch.equal(pickle.loads(pickle.dumps(trunk))(given), before)
    rounded = trunk.bfloat16().float()
    found = rounded(given)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    expected = rounded(given)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, before, rtol=1e-4, atol=1e-4)


def test_weights_are_not_held_twice(detector):
    trunk = prepare_for_inference(detector).trunk
    trunk(torch.randn(1, 3, 2, 32, 32))
    for held, layers in zip(trunk._pack(), trunk.blocks, strict=True):
        assert held.expand[0].data_ptr() == layers.expand.weight.data_ptr()
        assert held.project[0].data_ptr() == layers.project.weight.data_ptr()
        assert layers.expand.weight.stride() == (1, layers.expand.out_features)


def test_double_precision_is_equal_to_its_own_rounding(detector):
    trunk = copy.deepcopy(detector.trunk).double()
    given = torch.randn(2, 3, 3, 45, 33, dtype=torch.float64)
    found = inference.FoldedTrunk(copy.deepcopy(trunk))(given)
    torch.testing.assert_close(found, trunk(given), rtol=1e-12, atol=1e-12)


def test_classifiers_too():
    torch.manual_seed(0)
    network = fill(build_classifier(TINY, HeadDescription(7)))
    prepared = prepare_for_inference(network)
    for shape in ((2, 2, 64, 64), (1, 3, 100, 97)):
        frames = clips(*shape)
        with torch.no_grad():
            expected = network.probabilities(frames)
        torch.testing.assert_close(prepared.probabilities(frames), expected, rtol=1e-5, atol=1e-6)


def test_what_the_network_is_afterwards_does_not_reach_the_copy_and_a_new_one_has_it(detector):
    network = copy.deepcopy(detector)
    prepared = prepare_for_inference(network)
    before = prepared(clips(), ROIS)
    changes = [
        lambda: network.trunk.stem.norm.bias.data.add_(1),
        lambda: network.load_state_dict(fill(copy.deepcopy(network)).state_dict()),
        lambda: network.train()(clips(), ROIS),  # moves BatchNorm's statistics
        lambda: freeze_batch_norm_3d(network),
    ]
    for change in changes:
        change()
        assert torch.equal(prepared(clips(), ROIS), before)
        assert_equal(network, clips(), ROIS)
    assert not torch.allclose(prepare_for_inference(network)(clips(), ROIS), before)


def test_the_network_itself_stays_as_it_was(detector):
    network = copy.deepcopy(detector).train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    prepare_for_inference(network)(clips(), ROIS)
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_it_is_not_trained_and_takes_no_weights(detector):
    prepared = prepare_for_inference(detector)
    assert not prepared.training and not any(p.requires_grad for p in prepared.parameters())
    assert not prepared(clips(), ROIS).requires_grad
    with pytest.raises(RuntimeError, match="cannot be trained"):
        prepared.train()
    before = prepared(clips(), ROIS)
    for strict in (True, False):
        with pytest.raises(RuntimeError, match="takes no other weights"):
            prepared.load_state_dict(fill(copy.deepcopy(detector)).state_dict(), strict=strict)
    assert torch.equal(prepared(clips(), ROIS), before)
    assert torch.equal(copy.deepcopy(prepared).eval()(clips(), ROIS), before)


def test_batch_norm_without_statistics_is_refused(detector):
    network = copy.deepcopy(detector)
    network.trunk.stem.norm.running_mean = None
    with pytest.raises(ValueError, match="without stored statistics"):
        prepare_for_inference(network)


def test_inputs_are_not_changed_and_gradients_stop(detector):
    given = torch.randn(1, 3, 2, 64, 64, requires_grad=True)
    kept = given.detach().clone()
    out = prepare_for_inference(detector).trunk(given)
    assert torch.equal(given, kept) and not out.requires_grad


@pytest.mark.parametrize("where", ["autocast", "moved"])
def test_half_precision_follows(detector, where):
    with torch.no_grad():
        expected = detector(clips(), ROIS)
    prepared = prepare_for_inference(detector)
    if where == "moved":
        prepared.trunk.bfloat16()
        given = prepared.pixels(clips()).bfloat16()
        found = prepared.head(prepared.trunk(given).float(), ROIS)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            found = prepared(clips(), ROIS).float()
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_it_can_be_exported_with_free_sizes(detector):
    free = torch.export.Dim.DYNAMIC
    for network in (detector, prepare_for_inference(detector)):
        with torch.no_grad():
            program = torch.export.export(
                network, (clips(), ROIS), dynamic_shapes=({0: free, 3: free, 4: free}, {0: free})
            )
            assert "mkldnn" not in str(program.graph)  # it is for other runtimes
            for given, rois in ((clips(3, 2, 97, 70), ROIS[:2]), (clips(), ROIS[:0])):
                expected = network(given, rois)
                torch.testing.assert_close(
                    program.module()(given, rois), expected, rtol=1e-4, atol=1e-5
                )
