"""Where the actor head looks: boxes that follow people, squares around them, stretches of time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import roi_align

from detection.datasets.person_crops import square_places
from detection.models.action_detector import SQUARES_AT_A_TIME, build_detector
from detection.models.actor_head import ActorHead, ActorHeadDescription
from detection.models.counting import count_stages
from detection.models.inference import prepare_for_inference
from detection.models.person_squares import cut_squares
from detection.models.x3d import X3DDescription

TRUNK = X3DDescription(
    4, 6, 64, (64, 72), 64, width_factor=0.5, depth_factor=0.2, bottleneck_factor=1.5
)


def head_of(**more):
    torch.manual_seed(0)
    head = ActorHead(6, ActorHeadDescription(3, hidden=8, dropout=0.0, **more)).eval()
    nn.init.normal_(head.classes.weight)
    return head


def same(found, expected, atol=1e-6):
    return found.shape == expected.shape and bool((found - expected).abs().max() <= atol)


boxes = st.tuples(*[st.floats(0, 150)] * 4).map(
    lambda e: [min(e[0], e[2]), min(e[1], e[3]), max(e[0], e[2]) + 5, max(e[1], e[3]) + 5]
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), boxes), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(0, 9),
    st.sampled_from(["max", "mean"]),
    st.sampled_from([1, 2]),
)
def test_a_tube_that_stands_still_is_the_roi(people, frames, seed, pool, parts):
    frames = max(frames, parts)
    more = {"roi_pool": pool, "time_parts": parts, "context": "frame"}
    roi, tube = head_of(**more), head_of(actor_input="tube", **more)
    maps = torch.rand(2, 6, frames, 5, 5, generator=torch.Generator().manual_seed(seed))
    rois = torch.tensor([[float(clip), *box] for clip, box in people])
    assert same(tube(maps, rois[:, None].repeat(1, frames, 1)), roi(maps, rois))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 3), st.sampled_from(["max", "mean"]))
def test_a_tube_is_the_mean_over_frames_of_each_frames_own_region(seed, people, parts, pool):
    """Against a slow twin: one person, one frame, one RoIAlign at a time."""
    random = torch.Generator().manual_seed(seed)
    head = head_of(actor_input="tube", time_parts=parts, roi_pool=pool)
    nn.init.eye_(head.hidden.weight)
    maps = torch.rand(2, 6, 5, 4, 6, generator=random)
    corner = torch.rand(people, 5, 2, generator=random) * 80
    rois = torch.cat(
        [
            torch.randint(0, 2, (people, 1, 1), generator=random).expand(-1, 5, -1).float(),
            corner,
            corner + 10 + torch.rand(people, 5, 2, generator=random) * 60,
        ],
        dim=2,
    )
    expected = []
    for person in rois:
        regions = []
        for frame, roi in enumerate(person):
            one = maps[int(roi[0])][None, :, frame]
            box = torch.cat([torch.zeros(1), roi[1:]])[None]
            regions.append(roi_align(one, box, 7, 1 / 32, 0, True)[0])
        kinds = []
        for part in np.array_split(np.arange(5), parts):
            mean = torch.stack([regions[frame] for frame in part]).mean(0)
            kinds.append(mean.amax((1, 2)) if pool == "max" else mean.mean((1, 2)))
        expected.append(torch.cat([torch.cat([kind, torch.zeros(2)]) for kind in kinds]))
    assert same(head.actor_features(maps, rois), torch.stack(expected), 1e-5)


def test_stretches_of_time_know_the_order_that_a_mean_does_not():
    maps = torch.rand(1, 6, 4, 3, 3)
    rois = torch.tensor([[0.0, 5, 5, 60, 80]])
    once, twice = head_of(), head_of(time_parts=2, context="frame")
    assert same(once(maps, rois), once(maps.flip(2), rois))
    forth, back = (twice.actor_features(m, rois) for m in (maps, maps.flip(2)))
    first, second, frame_first, frame_second = forth.chunk(4, 1)
    assert twice.feature_parts == (8, 8, 8, 8)
    assert same(back, torch.cat([second, first, frame_second, frame_first], 1))
    assert not same(forth, back, 1e-3)


def test_three_stretches_of_four_frames_take_each_frame_once():
    head = ActorHead(1, ActorHeadDescription(1, hidden=1, time_parts=3)).eval()
    nn.init.ones_(head.hidden.weight)
    maps = torch.arange(1.0, 5.0).view(1, 1, 4, 1, 1).expand(-1, -1, -1, 3, 3)
    found = head.actor_features(maps, torch.tensor([[0.0, 0, 0, 96, 96]]))
    assert same(found, torch.tensor([[1.5, 3, 4]]))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_squares_are_where_those_of_whole_clips_are_cut(scale):
    """A ramp tells the place: its values are the coordinates of the pixels."""
    height, width, frames = 60, 90, 3
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(90.0), indexing="ij")
    clip = torch.stack([x, y, torch.zeros(60, 90)])[None, :, None].repeat(2, 1, frames, 1, 1)
    clip[1, 2] = 7
    boxes_px = torch.tensor(
        [
            [[10.0, 20, 26, 40], [20, 20, 36, 40], [60, 22, 76, 42]],
            [[0, 0, 8, 10], [80, 50, 88, 60], [84, 50, 90, 60]],
        ]
    )
    rois = torch.cat([torch.tensor([0.0, 1]).view(2, 1, 1).expand(-1, frames, 1), boxes_px], 2)
    cut = cut_squares(clip, rois, side_px=12, scale=scale)
    assert cut.shape == (2, 3, frames, 12, 12)
    places = square_places(boxes_px.numpy() / [90, 60, 90, 60], width, height, scale)
    for person in range(2):
        assert same(cut[person, 2], torch.full((frames, 12, 12), 7.0 * person), 1e-4)
        for frame in range(frames):
            left, top, side = places[person, frame]
            middle = cut[person, :2, frame].mean((1, 2))
            expected = torch.tensor([left + side / 2 - 0.5, top + side / 2 - 0.5])
            assert bool((middle - expected).abs().max() < 0.6)  # these places are whole pixels
            spread = cut[person, 0, frame].max() - cut[person, 0, frame].min()
            assert float(spread) == pytest.approx(side * 11 / 12, abs=0.6)


def test_a_square_is_never_larger_than_the_frame():
    clip = torch.rand(1, 3, 2, 30, 50)
    rois = torch.tensor([[[0.0, -10, -5, 60, 40]] * 2])
    cut = cut_squares(clip, rois, side_px=30)
    assert same(cut, clip[..., 10:40].expand(1, 3, 2, 30, 30), 1e-5)
    upright = clip.transpose(3, 4)
    cut = cut_squares(upright, rois[..., [0, 2, 1, 4, 3]], side_px=30)
    assert same(cut, upright[..., 10:40, :].expand(1, 3, 2, 30, 30), 1e-5)


def detector(**more):
    torch.manual_seed(2)
    head = ActorHeadDescription(3, hidden=16, dropout=0.0, crop_px=32, context="frame", **more)
    model = build_detector(TRUNK, head)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    nn.init.normal_(model.head.classes.weight)
    return model.eval()


def inputs(people):
    random = torch.Generator().manual_seed(people)
    frames = torch.randint(0, 256, (2, 3, 4, 64, 96), generator=random).byte()
    corner = torch.rand(people, 4, 2, generator=random) * 40
    index = torch.arange(people).view(-1, 1, 1) % 2
    return frames, torch.cat([index.expand(-1, 4, 1), corner, corner + 20], 2).float()


@pytest.mark.parametrize("actor_input", ["tube", "tube+crop"])
@pytest.mark.parametrize("people", [0, 1, 2 * SQUARES_AT_A_TIME + 3])
def test_people_are_scored_alike_alone_together_and_by_the_copy_for_inference(actor_input, people):
    model = detector(actor_input=actor_input, time_parts=2)
    frames, rois = inputs(people)
    with torch.no_grad():
        found = model(frames, rois)
        assert found.shape == (people, 3)
        assert found.shape == prepare_for_inference(model)(frames, rois).shape
        if not people:
            return
        assert same(prepare_for_inference(model)(frames, rois), found, 1e-4)
        alone = torch.cat([model(frames, rois[i : i + 1]) for i in range(people)])
    assert same(alone, found, 1e-4)
    assert float(found.std(0).min() if people > 1 else 1) > 1e-3


def test_a_square_changes_the_scores_and_gradients_reach_the_trunk():
    model = detector(actor_input="tube+crop").train()
    frames, rois = inputs(3)
    model(frames, rois).sum().backward()
    assert model.trunk.stem.spatial.weight.grad.abs().sum() > 0
    with torch.no_grad():
        model.eval().head.classes.weight[:, :32] = 0  # all but the squares
        before, moved = model(frames, rois), model(frames, rois + torch.tensor([0, 9, 0, 9, 0]))
    assert not same(before, moved, 1e-3)


@pytest.mark.parametrize(
    ("more", "shape", "message"),
    [
        ({}, (2, 4, 5), r"rois_px must be \(R, 5\) here, got \(2, 4, 5\)"),
        ({"actor_input": "tube"}, (2, 5), r"rois_px must be \(R, T, 5\) here, got \(2, 5\)"),
        ({"actor_input": "tube+crop"}, (2, 4, 5), "'tube\\+crop' and crops do not go together"),
        ({"time_parts": 5}, (2, 5), "5 time_parts need as many frames, got 4"),
    ],
)
def test_boxes_of_another_form_are_refused(more, shape, message):
    with pytest.raises(ValueError, match=message):
        head_of(**more)(torch.rand(1, 6, 4, 3, 3), torch.zeros(shape))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"actor_input": "tubes"}, "actor_input must be 'roi', 'tube' or 'tube\\+crop'"),
        ({"time_parts": 0}, "time_parts and crop_px must be at least 1"),
    ],
)
def test_a_head_of_unknown_inputs_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        ActorHeadDescription(3, **more)


def test_multiply_adds_of_a_square_count_a_pass_more():
    def total(**more):
        model = detector(**more).to("meta")
        return sum(row.macs for row in count_stages(model, num_frames=4, size_px=32, actors=3))

    once = total(actor_input="tube")
    assert once > total() - 1  # a still box: the same layers
    trunk = once - 3 * 16 * 32 - 32 * 16
    assert total(actor_input="tube+crop") > once + 2.5 * trunk
