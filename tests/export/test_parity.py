"""An exported network gives the scores of the network, for any clips and people."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_exports import exported, need

from detection.export.networks import open_exported
from detection.export.openvino_runtime import processor_has_bfloat16
from detection.export.session import Threads

FORMS = ("onnx", "openvino", "torch")
CASES = [("openvino", "plain"), ("openvino", "context"), ("onnx", "context"), ("torch", "context")]
CASES += [(form, kind) for kind in ("tube", "squares") for form in ("openvino", "onnx", "torch")]


@pytest.fixture(scope="module")
def opened():
    """Return a network and its export, opened once."""
    known = {}

    def open_one(form, kind):
        if (form, kind) not in known:
            network, artefact = exported(form, kind)
            known[form, kind] = network, open_exported(artefact, threads=Threads(1))
        return known[form, kind]

    return open_one


def make_inputs(seed, clips, people, height, width, frames=4):
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (clips, 3, frames, height, width), generator=random).byte()
    corner = torch.rand(people, 2, generator=random) * 0.7
    size = torch.rand(people, 2, generator=random) * 0.5  # beyond the frame too
    boxes_px = torch.cat([corner, corner + size], 1) * torch.tensor([width, height] * 2)
    index = torch.randint(0, clips, (people, 1), generator=random).float()
    return pixels, torch.cat([index, boxes_px], 1)


def make_tubes(seed, rois_px, frames=4):
    """Boxes that walk, and grow: (R, 5) -> (R, T, 5)."""
    random = torch.Generator().manual_seed(seed)
    moved = torch.rand(len(rois_px), frames, 4, generator=random) * 9
    moved[..., :2] *= -1
    return rois_px[:, None] + torch.nn.functional.pad(moved, (1, 0))


def plain_logits(network, *inputs):
    with torch.inference_mode():
        return network(*inputs)


@pytest.mark.parametrize(("form", "kind"), CASES)
def test_logits_are_the_networks_for_any_clips_sizes_and_people(opened, form, kind):
    network, program = opened(form, kind)

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(
        st.integers(0, 99),
        st.integers(1, 3),
        st.integers(0, 5),
        st.integers(9, 97),
        st.integers(9, 97),
    )
    def check(seed, clips, people, height, width):
        frames, rois_px = make_inputs(seed, clips, people, height, width)
        if kind in ("tube", "squares"):
            rois_px = make_tubes(seed, rois_px)
        expected = plain_logits(network, frames, rois_px)
        found = program(frames, rois_px)
        assert found.shape == expected.shape == (people, 3)
        assert torch.allclose(found, expected, atol=2e-4, rtol=1e-4)

    check()


@pytest.mark.parametrize("form", FORMS)
def test_a_shape_that_comes_again_takes_any_people_from_several_threads(form):
    """Also one more shape than have a program of their own."""
    network, artefact = exported(form, "context")
    program = open_exported(artefact, threads=Threads(2, 2))
    jobs = [
        make_inputs(seed, 1 + seed % 2, people, 64, 64 + 8 * (seed % 6))
        for seed, people in enumerate([3, 0, 1, 5, 2, 4] * 3)
    ]
    expected = [plain_logits(network, *job) for job in jobs]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda job: program(*job), jobs))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_nobody_in_one_clip_gives_no_rows(opened, form):
    _, program = opened(form, "context")
    found = program(*make_inputs(1, 1, 0, 64, 85))
    assert found.shape == (0, 3) and found.dtype == torch.float32


@pytest.mark.parametrize("form", FORMS)
def test_a_box_of_no_size_and_one_outside_are_the_networks(opened, form):
    network, program = opened(form, "context")
    frames, _ = make_inputs(5, 2, 0, 64, 90)
    rois_px = torch.tensor([[1, 30, 30, 30, 30], [0, 88, 60, 140, 99], [1, 0, 0, 90, 64.0]])
    assert torch.allclose(
        program(frames, rois_px), plain_logits(network, frames, rois_px), atol=2e-4, rtol=1e-4
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_classifiers_window_slides_over_longer_and_larger_clips(opened, form):
    network, program = opened(form, "classifier")
    for clips, frames, height, width in ((1, 4, 64, 64), (2, 6, 97, 64), (1, 4, 33, 130)):
        pixels, _ = make_inputs(3, clips, 0, height, width, frames)
        with torch.inference_mode():
            expected = network.position_logits(pixels)
            probable = network.probabilities(pixels, independent=True)
        assert torch.allclose(program.position_logits(pixels), expected, atol=2e-4, rtol=1e-4)
        assert torch.allclose(program.probabilities(pixels, independent=True), probable, atol=1e-4)


def test_bfloat16_is_near_and_is_not_float32(opened):
    need("openvino")
    if not processor_has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    network, artefact = exported("openvino", "context")
    program = open_exported(artefact, threads=Threads(1), precision="bf16")
    inputs = make_inputs(1, 2, 5, 64, 85)
    apart = (program(*inputs).sigmoid() - plain_logits(network, *inputs).sigmoid()).abs().max()
    assert 1e-5 < apart < 0.1


def test_several_threads_of_one_program_get_their_own_results(opened):
    from concurrent.futures import ThreadPoolExecutor

    network, artefact = exported("openvino", "context")
    program = open_exported(artefact, threads=Threads(2, callers=2))
    cases = [make_inputs(seed, 1, 2, 64, 64 + seed) for seed in range(12)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda inputs: program(*inputs), cases))
    for inputs, logits in zip(cases, found, strict=True):
        assert torch.allclose(logits, plain_logits(network, *inputs), atol=2e-4, rtol=1e-4)
