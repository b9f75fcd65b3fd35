"""X3D's shapes, counts and promises; no reference data."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from detection.models.action_detector import ActionDetector, build_detector
from detection.models.actor_head import ActorHead, ActorHeadDescription, exclusive_logits
from detection.models.batch_norm import freeze_batch_norm_3d
from detection.models.classifier import build_classifier
from detection.models.counting import count_macs, count_parameters, count_stages
from detection.models.losses import action_loss, summed_action_loss
from detection.models.x3d import VARIANTS, X3DDescription, X3DTrunk, round_channels

# shared/reference: computed there by running the reference code; ours has BatchNorm on the res2
# shortcut. parameters, without BN affine (M, 3 decimals), GMAC at train crop, GMAC at 3-crop size.
FAMILY = {
    "xs": (3_794_322, "3.763", "0.605", "0.839"),
    "s": (3_794_322, "3.763", "1.963", "2.722"),
    "m": (3_794_322, "3.763", "4.732", "6.181"),
    "l": (6_153_432, "6.087", "18.368", "24.764"),
    "xl": (11_095_904, "11.000", "35.838", "48.407"),
}


def total_macs(network: nn.Module, frames: int, side: int) -> tuple[int, int]:
    """Multiply-adds up to conv5, and of a clip head at one position."""
    rows = count_stages(network, num_frames=frames, size_px=side)
    head = network.head.hidden.weight.numel() + network.head.classes.weight.numel()
    return sum(row.macs for row in rows[:-1]), head


@pytest.mark.parametrize("name", FAMILY)
def test_parameters_and_macs_equal_the_reference(name: str) -> None:
    description = VARIANTS[name]
    parameters, without_norm, at_crop, at_three_crop = FAMILY[name]
    with torch.device("meta"):
        network = build_classifier(description)
    counted = count_parameters(network)
    assert counted.all == parameters
    assert f"{counted.without_norm / 1e6:.3f}" == without_norm
    for side, required in (
        (description.train_crop, at_crop),
        (description.test_crop, at_three_crop),
    ):
        trunk, head = total_macs(network, description.num_frames, side)
        assert f"{(trunk + head) / 1e9:.3f}" == required


def test_x2d_is_where_the_expansion_starts() -> None:
    with torch.device("meta"):
        network = build_classifier(VARIANTS["x2d"])
    assert count_parameters(network).all == 1_633_560
    trunk, head = total_macs(network, 1, 112)
    assert f"{(trunk + head) / 1e6:.2f}" == "20.66"


@pytest.mark.parametrize(
    ("frames", "side", "depth", "mmac"),
    [
        (1, 112, 1.0, "41.0"),
        (2, 112, 1.0, "80.2"),
        (2, 160, 1.0, "153.4"),
        (2, 160, 2.2, "303.6"),
        (8, 160, 2.2, "1209"),
        (16, 160, 2.2, "2415"),
        (16, 312, 2.2, "9452"),
    ],
)
def test_expansion_steps_cost_what_the_reference_says(
    frames: int, side: int, depth: float, mmac: str
) -> None:
    description = X3DDescription(frames, 5, side, (side, side), side, depth_factor=depth)
    with torch.device("meta"):
        network = build_classifier(description)
    trunk, head = total_macs(network, frames, side)
    digits = len(mmac.partition(".")[2])
    assert f"{(trunk + head) / 1e6:.{digits}f}" == mmac


def test_actor_network_of_x3d_m_is_the_papers_size() -> None:
    with torch.device("meta"):
        network = build_detector(VARIANTS["m"], ActorHeadDescription(80))
    assert f"{count_parameters(network).without_norm / 1e6:.3f}" == "3.107"
    rows = count_stages(network, num_frames=16, size_px=256, actors=1)
    assert f"{sum(row.macs for row in rows) / 1e9:.1f}" == "6.2"
    assert sum(row.parameters.all for row in rows) == count_parameters(network).all


def test_macs_agree_with_torchs_own_counter() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = build_classifier(VARIANTS["xs"]).eval()
        clip = torch.zeros((1, 3, 4, 97, 131), dtype=torch.uint8)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network(clip)
    ours = sum(count_macs(network, lambda: network(clip)).values())
    assert 2 * ours == flops.get_total_flops()


def test_widths_and_depths_of_the_description() -> None:
    xl = VARIANTS["xl"]
    assert (xl.stem_channels, xl.stage_channels) == (32, (32, 72, 136, 280))
    assert xl.inner_channels == (72, 162, 306, 630)
    assert xl.stage_depths == (5, 10, 25, 15)
    slowfast = dataclasses.replace(xl, width_divisor=1)
    assert (slowfast.stem_channels, slowfast.stage_channels) == (35, (35, 70, 139, 278))
    assert VARIANTS["m"].stage_depths == (3, 5, 11, 7)


def test_squeeze_widths_and_places() -> None:
    with torch.device("meta"):
        medium, large = X3DTrunk(VARIANTS["m"]), X3DTrunk(VARIANTS["xl"])
    for trunk, required in ((medium, (8, 8, 16, 32)), (large, (8, 16, 24, 40))):
        for stage, width in zip(trunk.stages, required, strict=True):
            assert stage[0].squeeze.reduce.out_channels == width
            assert [block.squeeze is None for block in stage] == [
                index % 2 == 1 for index in range(len(stage))
            ]


def test_no_rounding_goes_more_than_ten_percent_down() -> None:
    assert round_channels(27, 8) == 32
    assert round_channels(34.8, 8) == 32
    assert all(round_channels(n, 8) >= 0.9 * n for n in range(8, 700))


def test_description_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        X3DDescription(0, 5, 224, (256, 320), 256)
    with pytest.raises(ValueError, match="above 0"):
        X3DDescription(4, 5, 224, (256, 320), 256, width_factor=0.0)


@pytest.fixture(scope="module")
def tiny() -> X3DDescription:
    return X3DDescription(2, 5, 64, (64, 80), 64, width_factor=1.0, depth_factor=1.0)


@pytest.mark.parametrize("size", [(1, 32, 32), (2, 33, 65), (3, 97, 40)])
def test_map_size_is_rounded_up_and_time_is_kept(
    tiny: X3DDescription, size: tuple[int, int, int]
) -> None:
    frames, height, width = size
    clip = torch.zeros(1, 3, *size)
    for stride in (1, 2):
        trunk = X3DTrunk(tiny, res5_stride=stride).eval()
        cell = 16 * stride
        assert trunk.spatial_stride == cell
        assert trunk(clip).shape[2:] == (frames, -(-height // cell), -(-width // cell))


def test_finer_res5_has_the_same_weights(tiny: X3DDescription) -> None:
    coarse, fine = X3DTrunk(tiny), X3DTrunk(tiny, res5_stride=1)
    fine.load_state_dict(coarse.state_dict())
    with pytest.raises(ValueError, match="res5_stride"):
        X3DTrunk(tiny, res5_stride=4)


def test_every_block_starts_as_its_shortcut(tiny: X3DDescription) -> None:
    trunk = X3DTrunk(tiny)
    gammas = [norm for name, norm in trunk.named_parameters() if "project_norm.weight" in name]
    assert len(gammas) == sum(tiny.stage_depths)
    assert all(bool((gamma == 0).all()) for gamma in gammas)
    stage = trunk.stages[1].eval()
    features = torch.rand(1, trunk.stages[0][0].project.out_channels, 2, 8, 8)
    first = stage[0]
    shortcut = torch.relu(first.shortcut_norm(first.shortcut(features)))
    torch.testing.assert_close(first(features), shortcut, rtol=1e-5, atol=1e-6)


def test_the_result_of_a_clip_does_not_depend_on_its_batch(tiny: X3DDescription) -> None:
    torch.manual_seed(0)
    network = build_detector(tiny, ActorHeadDescription(5)).eval()
    frames = torch.randint(0, 256, (3, 3, 2, 64, 80), dtype=torch.uint8)
    rois = torch.tensor([[2, 1.0, 2, 40, 60], [0, 0, 0, 80, 64], [2, 30, 5, 75, 50]])
    with torch.no_grad():
        together = network(frames, rois)
        alone = network(frames[2:], rois[[0, 2]] * torch.tensor([0.0, 1, 1, 1, 1]))
    torch.testing.assert_close(together[[0, 2]], alone, rtol=1e-5, atol=1e-6)


def test_no_person_in_the_clips_is_legal(tiny: X3DDescription) -> None:
    network = build_detector(tiny, ActorHeadDescription(5))
    frames = torch.zeros((2, 3, 2, 64, 64), dtype=torch.uint8)
    logits = network(frames, torch.zeros(0, 5))
    assert logits.shape == (0, 5)
    loss = action_loss(logits, torch.zeros(0, 5))
    loss.backward()
    assert loss.item() == 0.0
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(g is None or bool((g == 0).all()) for g in gradients)
    assert network.head.classes.weight.grad is not None


@pytest.mark.parametrize("stages", [0, 1, 3, 4, 5])
def test_frozen_stages_get_no_gradient_and_the_rest_the_same(
    tiny: X3DDescription, stages: int
) -> None:
    torch.manual_seed(0)
    network = build_detector(tiny, ActorHeadDescription(5, dropout=0.0))
    freeze_batch_norm_3d(network)
    frames = torch.randint(0, 256, (2, 3, 2, 64, 64), dtype=torch.uint8)
    rois = torch.tensor([[0, 1.0, 2, 40, 60], [1, 0, 0, 64, 64]])
    labels = torch.eye(5)[:2]
    action_loss(network(frames, rois), labels).backward()
    whole = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    network.trunk.freeze(stages)
    action_loss(network(frames, rois), labels).backward()
    first = ("stem", *(f"stages.{i}." for i in range(stages)), *(["final"] if stages == 5 else []))
    frozen = tuple(f"trunk.{name}" for name in first) if stages else ()
    for name, parameter in network.named_parameters():
        if name.startswith(frozen):
            assert parameter.grad is None
        elif name in whole:
            torch.testing.assert_close(parameter.grad, whole[name])


def test_only_stages_that_exist_can_be_frozen(tiny: X3DDescription) -> None:
    with pytest.raises(ValueError, match="between 0 and 5"):
        X3DTrunk(tiny).freeze(6)


def test_detector_takes_bytes_and_matching_parts_only(tiny: X3DDescription) -> None:
    network = build_detector(tiny, ActorHeadDescription(5))
    with pytest.raises(TypeError, match="uint8"):
        network(torch.zeros(1, 3, 2, 64, 64), torch.zeros(0, 5))
    trunk = X3DTrunk(tiny)
    with pytest.raises(ValueError, match="stride"):
        ActionDetector(trunk, ActorHead(trunk.out_channels, spatial_stride=16))
    with pytest.raises(ValueError, match="channels"):
        ActionDetector(trunk, ActorHead(7))


def test_pixels_are_normalised_as_the_weights_expect(tiny: X3DDescription) -> None:
    network = build_detector(tiny)
    frames = torch.tensor([0, 128, 255], dtype=torch.uint8)
    required = [(0 - 0.45) / 0.225, (128 / 255 - 0.45) / 0.225, (1 - 0.45) / 0.225]
    torch.testing.assert_close(network.pixels(frames), torch.tensor(required))


def test_the_head_reads_the_cells_under_the_box() -> None:
    """A feature that is one in a single cell is seen by the box over it, by no box elsewhere."""
    head = ActorHead(1, ActorHeadDescription(1, hidden=1, dropout=0.0)).eval()
    nn.init.ones_(head.hidden.weight)
    features = torch.zeros(2, 1, 3, 8, 8)
    features[1, 0, :, 2, 5] = 1.0  # pixels x 160..192, y 64..96
    rois = torch.tensor(
        [[1.0, 160, 64, 192, 96], [0, 160, 64, 192, 96], [1, 0, 160, 96, 256], [1, 0, 0, 256, 256]]
    )
    seen = head.actor_features(features, rois)[:, 0]
    assert seen[0] > 0.9
    assert seen[1] == 0
    assert seen[2] == 0
    assert 0.3 < seen[3] <= 1  # bins are wider than the cell


def test_head_averages_time_before_it_looks() -> None:
    head = ActorHead(1, ActorHeadDescription(1, hidden=1)).eval()
    nn.init.ones_(head.hidden.weight)
    features = torch.zeros(1, 1, 4, 2, 2)
    features[:, :, 0] = 1.0
    assert head.actor_features(features, torch.tensor([[0.0, 0, 0, 64, 64]])).item() == 0.25


def test_mean_pooling_reads_the_whole_box() -> None:
    head = ActorHead(1, ActorHeadDescription(1, hidden=1, roi_pool="mean")).eval()
    nn.init.ones_(head.hidden.weight)
    features = torch.zeros(1, 1, 1, 4, 4)
    features[..., :2] = 1.0
    box = torch.tensor([[0.0, 0, 32, 128, 96]])  # half of it on ones; RoIAlign smooths the edge
    assert head.actor_features(features, box).item() == pytest.approx(0.5, abs=0.01)


def test_context_adds_the_frame_of_the_actors_own_clip() -> None:
    head = ActorHead(1, ActorHeadDescription(2, hidden=1, context="frame")).eval()
    nn.init.ones_(head.hidden.weight)
    features = torch.zeros(2, 1, 2, 4, 4)
    features[1, ..., :2] = 1.0
    rois = torch.tensor([[1.0, 64, 0, 128, 128], [0, 64, 0, 128, 128], [1, 0, 0, 32, 128]])
    seen = head.actor_features(features, rois)
    torch.testing.assert_close(seen[:, 1], torch.tensor([0.5, 0.0, 0.5]))
    assert seen[2, 0] > seen[0, 0]  # what the person's own region shows stays the person's own
    assert head(features, rois).shape == (3, 2)
    assert head(features, rois[:0]).shape == (0, 2)


def test_unit_features_have_length_one_each_and_nothing_stays_nothing() -> None:
    torch.manual_seed(0)
    head = ActorHead(
        6, ActorHeadDescription(2, hidden=8, context="frame", unit_features=True)
    ).eval()
    features = torch.rand(2, 6, 2, 4, 4)
    features[1] = 0.0
    seen = head.actor_features(features, torch.tensor([[0.0, 0, 0, 64, 64], [1, 0, 0, 64, 64]]))
    lengths = seen.view(2, 2, 8).norm(dim=2)
    torch.testing.assert_close(lengths, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


def test_exclusive_actions_have_the_softmax_as_sigmoids_and_gradients_however_sure() -> None:
    torch.manual_seed(0)
    head = ActorHead(6, ActorHeadDescription(4, hidden=8, exclusive=True)).eval()
    nn.init.normal_(head.classes.weight, std=3.0)
    plain = ActorHead(6, ActorHeadDescription(4, hidden=8)).eval()
    plain.load_state_dict(head.state_dict())
    features, rois = (
        torch.rand(1, 6, 2, 4, 4),
        torch.tensor([[0.0, 0, 0, 64, 64], [0, 9, 9, 90, 90]]),
    )
    expected = plain(features, rois).softmax(1)
    torch.testing.assert_close(head(features, rois).sigmoid(), expected)
    assert head(features, rois[:0]).shape == (0, 4)
    sure = torch.tensor([[90.0, 0.0, -90.0]], requires_grad=True)
    logits = exclusive_logits(sure)
    assert logits[0].tolist() == pytest.approx([90.0, -90.0, -180.0])
    logits.sum().backward()
    assert sure.grad is not None and torch.isfinite(sure.grad).all()
    with pytest.raises(ValueError, match="two classes"):
        ActorHead(1, ActorHeadDescription(1, exclusive=True))


@pytest.mark.parametrize("wrong", [{"roi_pool": "sum"}, {"context": "film"}])
def test_a_head_of_unknown_parts_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ActorHead(1, ActorHeadDescription(1, **wrong))


def test_loss_is_the_mean_over_actors_and_classes() -> None:
    logits, labels = torch.zeros(3, 4), torch.zeros(3, 4)
    assert action_loss(logits, labels).item() == pytest.approx(0.693147, abs=1e-6)
    logits = torch.tensor([[2.0, -1.0]])
    by_hand = (0.126928 + 0.313262) / 2  # log(1 + e^-2), log(1 + e^-1)
    assert action_loss(logits, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(
        by_hand, abs=1e-5
    )
    # Parts of 1 and 3 actors: their sums, divided by all terms, weigh every actor alike.
    several = torch.randn(4, 2)
    required = action_loss(several, torch.ones(4, 2))
    parts = [summed_action_loss(part, torch.ones_like(part)) for part in several.split([1, 3])]
    assert torch.stack(parts).sum().item() / 8 == pytest.approx(required.item(), rel=1e-5)
    with pytest.raises(ValueError, match="differ"):
        action_loss(logits, torch.zeros(2, 2))


def test_frozen_batch_norm_stays_frozen(tiny: X3DDescription) -> None:
    torch.manual_seed(0)
    network = build_detector(tiny, ActorHeadDescription(3))
    names = list(network.state_dict())
    parameters = [id(parameter) for parameter in network.parameters()]
    count = freeze_batch_norm_3d(network.trunk)
    assert count == sum(isinstance(module, nn.BatchNorm3d) for module in network.modules())
    assert list(network.state_dict()) == names
    assert [id(parameter) for parameter in network.parameters()] == parameters
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    assert network.training and not network.trunk.stem.norm.training
    frames = torch.randint(0, 256, (2, 3, 2, 64, 64), dtype=torch.uint8)
    network(frames, torch.tensor([[0.0, 0, 0, 64, 64]])).sum().backward()
    after = network.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in names if "running" in n)
    assert network.trunk.stem.norm.weight.grad is not None
    freeze_batch_norm_3d(network, freeze_affine=True)
    assert not network.trunk.stem.norm.weight.requires_grad
    assert network.trunk.stem.spatial.weight.requires_grad


def test_a_detector_overfits_ten_clips() -> None:
    """Two people a clip, told apart by place and brightness: the whole path can learn."""
    torch.manual_seed(0)
    description = X3DDescription(
        2, 5, 64, (64, 64), 64, width_factor=1.0, depth_factor=1.0, bottleneck_factor=1.0
    )
    network = build_detector(description, ActorHeadDescription(3, hidden=128, dropout=0.0))
    frames = torch.randint(0, 256, (10, 3, 2, 64, 64), dtype=torch.uint8)
    rois, labels = [], []
    for clip in range(10):
        for box in ([0.0, 0, 31, 63], [32.0, 0, 63, 63]):
            rois.append([clip, *box])
            labels.append((torch.rand(3) < 0.4).float())
    rois_px, required = torch.tensor(rois), torch.stack(labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        loss = action_loss(network(frames, rois_px), required)
        loss.backward()
        optimiser.step()
        if loss.item() < 0.005:
            break
    assert loss.item() < 0.02
    assert torch.equal(network(frames, rois_px) > 0, required > 0.5)
