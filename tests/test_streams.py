"""The benchmark of streams: passes along a video against one long clip of all its frames."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import stream_maps  # noqa: E402
import streams  # noqa: E402
from stream_maps import Frames, Way, parse_way  # noqa: E402

from ava_tools.cli import exit_code_of  # noqa: E402
from detection.errors import UserError  # noqa: E402
from detection.models.inference import FoldedTrunk  # noqa: E402
from detection.models.x3d import VARIANTS, Block, X3DTrunk  # noqa: E402
from tests.helpers.tiny_data import make_dataset  # noqa: E402


@pytest.fixture(scope="module")
def trunk() -> FoldedTrunk:
    torch.manual_seed(0)
    trunk = X3DTrunk(VARIANTS["xs"]).eval()
    for module in trunk.modules():
        if isinstance(module, Block):  # a fresh block is its shortcut, and its gate half open
            torch.nn.init.ones_(module.project_norm.weight)
            if module.squeeze is not None:
                torch.nn.init.normal_(module.squeeze.restore.weight)
    return FoldedTrunk(trunk)


def make_frames(count: int, *, start_s: float = 0.0, offset: int = 0) -> Frames:
    """Frames of 30 a second, of an odd size."""
    pixels = torch.randn(count, 3, 37, 49, generator=torch.Generator().manual_seed(1))
    return Frames(pixels, start_s + np.arange(count) / 30, offset)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())


@torch.inference_mode()
@pytest.mark.parametrize("start_s", [0.0, 12.3])
def test_a_video_in_one_pass_is_a_long_clip_of_which_windows_are_averaged(trunk, start_s):
    frames = make_frames(40, start_s=start_s)
    clip = trunk(frames.pixels[::4].transpose(0, 1)[None])[0]  # the slow twin: 10 frames
    ways = [parse_way("stream:4:16:0:5"), parse_way("stream:4:16:0:30")]
    times_s = [start_s + second for second in (0.0, 0.8, 39 / 30)]
    few, all_frames = stream_maps.maps_of(trunk, frames, ways, times_s)
    for maps, first in zip(few, (0, 4, 5), strict=True):  # windows stay inside
        assert close(maps, clip[:, first : first + 5])
        assert close(streams.three_means(maps)[0, :, 0], clip[:, first : first + 5].mean(1))
    assert all(close(maps, clip) for maps in all_frames)


@torch.inference_mode()
@pytest.mark.parametrize("margin", [0, 2])
def test_a_map_does_not_depend_on_which_part_of_the_video_is_asked_for(trunk, margin):
    frames, way = make_frames(61), Way(4, 5, 6, margin)  # 16 sampled frames
    whole = stream_maps.stream_maps(trunk, frames, way, (0, 16))
    assert sorted(whole) == list(range(16))
    for needed in ((0, 1), (3, 9), (15, 16)):
        part = stream_maps.stream_maps(trunk, frames, way, needed)
        assert sorted(part) == list(range(*needed))
        assert all(torch.equal(part[k], whole[k]) for k in part)
    pixels = frames.pixels[::4].transpose(0, 1)[None]
    second = range(6 - margin, 12 + margin)
    twin = trunk(pixels[:, :, second.start : second.stop])[0]
    assert close(torch.stack([whole[k] for k in second[margin : margin + 6]], 1),
                 twin[:, margin : margin + 6])  # fmt: skip


@pytest.mark.parametrize("margin", [0, 3])
@pytest.mark.parametrize("count", [1, 5, 8, 9, 23])
def test_passes_give_every_frame_once_and_stay_inside_at_their_full_length(count, margin):
    way = Way(4, 4, 8, margin)
    plans = list(stream_maps.plan_passes((0, count), way, inside=(0, count)))
    assert [k for gives, _ in plans for k in gives] == list(range(count))
    for gives, computes in plans:
        assert 0 <= computes.start <= gives.start < gives.stop <= computes.stop <= count
        assert len(computes) == min(8 + 2 * margin, count)


def test_passes_of_a_video_that_goes_on_begin_anywhere():
    plans = list(stream_maps.plan_passes((-3, 9), Way(4, 4, 4, 1), inside=None, offset=2))
    assert [list(gives) for gives, _ in plans] == [[-3], [-2, -1, 0, 1], [2, 3, 4, 5], [6, 7, 8]]
    assert [(one.start, one.stop) for _, one in plans] == [(-7, -1), (-3, 3), (1, 7), (5, 11)]


def test_beyond_its_ends_a_long_video_runs_backwards_and_forwards_again():
    frames = Frames(torch.arange(4.0)[:, None, None, None].expand(4, 3, 1, 1), np.arange(4) / 30)
    found = frames.at(np.arange(-4, 9) / 30)[0, 0, :, 0, 0]
    assert found.tolist() == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    one = Frames(torch.ones(1, 3, 1, 1), np.array([5.0]))
    assert one.at(np.array([4.0, 5.0, 9.0])).shape == (1, 3, 3, 1, 1)


@torch.inference_mode()
def test_a_window_of_no_frames_is_the_pass_that_holds_the_keyframe(trunk):
    frames = make_frames(77)  # 20 sampled frames: passes 0 to 7, 8 to 15, 12 to 19
    clips = [
        frames.pixels[4 * first : 4 * first + 32 : 4].transpose(0, 1)[None] for first in (0, 8, 12)
    ]
    times_s = [0.0, 7.4 * 4 / 30, 7.6 * 4 / 30, 2.0, 76 / 30]
    found = stream_maps.maps_of(trunk, frames, [parse_way("stream:4:8:0:0")], times_s)[0]
    for maps, place in zip(found[:4], (0, 0, 1, 1), strict=True):
        assert close(maps, trunk(clips[place])[0])
    assert close(found[4][:, 4:], trunk(clips[2])[0][:, 4:])  # the first half: of the second pass
    assert close(found[4][:, :4], trunk(clips[1])[0][:, 4:])


@pytest.mark.parametrize("name", ["", "clip", "clip:8", "stream:4:8:0", "stream:4:0:0:8",
                                  "stream:0:8:0:8"])  # fmt: skip
def test_another_name_is_one_line(name):
    with pytest.raises(UserError, match="neither clip:TxS nor stream"):
        parse_way(name)


def test_from_a_data_set_to_a_figure_of_each_way(tmp_path, capsys):
    root = make_dataset(tmp_path / "data")
    common = ["--cfg", "configs/demo_x3d_xs.yaml", "--features", str(tmp_path / "kept")]
    ways = ["--ways", "clip:4x4", "stream:4:4:0:4", "stream:4:8:2:4:long"]
    chosen = ["--set", f"data.root={root}", "clip.test_short_side_px=40"]
    assert exit_code_of(lambda _: streams.main(["split", *common, *ways, *chosen])) == 2
    assert "no train video of every way" in capsys.readouterr().err
    for split in ("train", "val"):
        streams.main(["features", *common, *ways, *chosen, "--split", split])
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.npz")}
    assert len(kept) == 3 * 7
    streams.main(["features", *common, *ways, *chosen])
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.npz")}
    streams.main(["split", *common, *ways, *chosen])
    printed = capsys.readouterr().out
    assert all(printed.count(f"{way} ") == 9 for way in ways[1:])
    streams.main(["folds", *common, *ways, *chosen])
    assert "5 videos of 5 films, 10 people" in capsys.readouterr().out
