"""The few-shot benchmark and the simulated annotator, on made-up features."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import few_shot  # noqa: E402
import teach_order  # noqa: E402

from ava_tools.cli import exit_code_of  # noqa: E402
from detection.config import load_config  # noqa: E402
from detection.engine.probe import fit_linear  # noqa: E402
from detection.errors import UserError  # noqa: E402
from tests.helpers.tiny_data import make_dataset  # noqa: E402


def make_clips(num_clips=24, num_classes=3, width=6, frames=2, seed=0) -> few_shot.Clips:
    """Clips whose class shows in their features, two of each film."""
    random = np.random.default_rng(seed)
    label = np.arange(num_clips) % num_classes
    centres = random.normal(size=(num_classes, 2 * width))
    features = np.repeat(centres[label], frames, axis=0)
    features += 0.1 * random.normal(size=features.shape)
    return few_shot.Clips(
        [f"v{i:02d}" for i in range(num_clips)],
        list(np.arange(num_clips * frames).reshape(num_clips, frames)),
        features.astype(np.float32),
        label,
        [f"film{i // 2}" for i in range(num_clips)],
    )


@pytest.mark.parametrize("learned", [[0], [3, 5], list(range(0, 40, 3))])
def test_the_fit_in_the_span_of_few_rows_is_the_fit_itself(learned):
    random = np.random.default_rng(0)
    features = random.random((40, 16)).astype(np.float32)
    features[:, 8:] *= 10  # kinds of other lengths
    labels = few_shot.one_hot(random.integers(0, 3, 40), 3)
    rows = np.array(learned)
    found = few_shot.logits_in_span(
        few_shot.grams_of(features, (8, 8)), rows, labels[rows], l2=1e-2
    )
    weights, biases = fit_linear(
        torch.from_numpy(features[rows]), torch.from_numpy(labels[rows]), parts=(8, 8), l2=1e-2
    )
    expected = (torch.from_numpy(features) @ weights.T + biases).sigmoid()
    np.testing.assert_allclose(torch.from_numpy(found).sigmoid(), expected, atol=1e-3)


def test_clips_are_drawn_of_each_class_among_those_allowed():
    label = np.array([0, 0, 0, 1, 1, 2])
    allowed = np.array([True, True, False, True, True, False])
    assert few_shot.draw_clips(label, allowed, 0, seed=1).tolist() == [0, 1, 3, 4]
    drawn = few_shot.draw_clips(label, allowed, 1, seed=1)
    assert label[drawn].tolist() == [0, 1]
    assert allowed[drawn].all()
    assert few_shot.draw_clips(label, np.zeros(6, bool), 2, seed=1).tolist() == []
    draws = {tuple(few_shot.draw_clips(label, allowed, 1, seed=s).tolist()) for s in range(20)}
    assert len(draws) == 4


def test_keyframes_of_a_clip_are_evenly_spaced():
    clips = make_clips(num_clips=2, frames=6)
    assert few_shot.rows_of(clips, np.array([1]), 3).tolist() == [7, 9, 11]
    assert few_shot.rows_of(clips, np.array([0]), 0).tolist() == list(range(6))
    assert few_shot.rows_of(clips, np.array([], np.int64), 3).tolist() == []


def test_kept_features_are_read_in_order_of_time_and_without_a_folder_there_are_none(tmp_path):
    for video, label in (("a_film_pick_f_cm_np1_fr_med_0", 1), ("b", 0)):
        np.savez(
            tmp_path / f"{video}.npz",
            time_us=np.array([5, 1]),
            features=np.array([[5.0, 5], [1, 1]], np.float32),
            labels=few_shot.one_hot(np.array([label, label]), 2),
        )
    clips = few_shot.read_clips(tmp_path)
    assert clips.features[:, 0].tolist() == [1, 5, 1, 5]
    assert clips.label.tolist() == [1, 0]
    assert few_shot.read_clips(tmp_path / "absent").videos == []


def test_a_file_that_is_cut_or_lacks_a_keyframe_is_computed_again(tmp_path):
    path = tmp_path / "v.npz"
    assert not few_shot.has_rows(path, np.array([1]))
    np.savez(path, time_us=np.array([1, 2]))
    assert few_shot.has_rows(path, np.array([1, 2]))
    assert not few_shot.has_rows(path, np.array([3]))
    path.write_bytes(path.read_bytes()[:40])
    assert not few_shot.has_rows(path, np.array([1]))


def test_the_curve_rises_and_says_what_it_was_fitted_to(tmp_path, capsys):
    place = tmp_path / "kept" / "train"
    place.mkdir(parents=True)
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 4096))
    for clip in range(30):
        np.savez(
            place / f"v{clip:02d}.npz",
            time_us=np.arange(3),
            features=(centres[clip % 3] + 6 * random.normal(size=(3, 4096))).astype(np.float32),
            labels=few_shot.one_hot(np.full(3, clip % 3), 3),
        )
    config = load_config("configs/mine_x3d_xs.yaml", ["data.train_split=train"])
    out = tmp_path / "curve.json"
    few_shot.write_curve(
        config, tmp_path / "kept", on_folds=True, draws=2, l2=1e-3, per_clip=2, out=out
    )
    rows = json.loads(out.read_text())["rows"]
    assert [row["clips"] for row in rows] == [1, 2, 5, 10, 20, "all"]
    assert [row["clips_a_class"] for row in rows[:3]] == [1, 2, 5]
    assert [row["keyframes"] for row in rows[:3]] == [6, 12, 30]
    assert [len(row["independent"]) for row in rows] == [2, 2, 2, 2, 2, 1]
    assert rows[-1]["independent"][0] > np.mean(rows[0]["independent"])
    few_shot.draw_plot([out], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_a_test_frame_without_kept_features_is_named(tmp_path):
    root = make_dataset(tmp_path / "data")
    config = load_config("configs/mine_x3d_xs.yaml", [f"data.root={root}"])
    with pytest.raises(UserError, match=r"\.npz: holds not all frames"):
        few_shot.read_test(config, tmp_path)


def write_three_rows(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    labels = few_shot.one_hot(np.zeros(3, np.int64), 3)
    features = np.zeros((3, 4), np.float32)
    np.savez(path, time_us=np.arange(3), features=features, labels=labels)


@pytest.mark.parametrize(
    ("work", "kept"),
    [("folds", 0), ("curve", 0), ("folds", 60), ("curve", 60), ("curve", None)],
)
def test_training_clips_that_are_missing_or_cut_short_are_one_line_and_no_figure(
    tmp_path, capsys, work, kept
):
    root = make_dataset(tmp_path / "data")
    path = tmp_path / "train" / "v.npz"
    write_three_rows(path)
    if kept:
        path.write_bytes(path.read_bytes()[:kept])
    elif kept == 0:
        path.unlink()
    arguments = [work, "--cfg", "configs/mine_x3d_xs.yaml", "--features", str(tmp_path)]
    overrides = [f"data.root={root}", "data.train_split=train"]
    assert exit_code_of(lambda _: few_shot.main([*arguments, *overrides])) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {path.parent}")
    assert printed.err.count("\n") == 1


def make_known(scores, counts, seed=0) -> teach_order.Known:
    random = np.random.default_rng(seed)
    features = random.random((len(scores) + 2, 4)).astype(np.float32)
    return teach_order.Known(
        np.asarray(scores, float), np.array(counts), features[2:], features[:2], random, num_none=1
    )


@pytest.mark.parametrize("name", teach_order.ORDERS)
def test_every_order_names_each_clip_once(name):
    for num in (0, 1, 15):
        scores = np.random.default_rng(1).random((num, 3))
        for counts in ([1, 0, 1], [0, 0, 0], [9, 12, 30]):
            order = teach_order.ORDERS[name](make_known(scores, counts))
            assert sorted(order.tolist()) == list(range(num)), name


def make_annotator(num_clips=60) -> teach_order.Annotator:
    return teach_order.Annotator.of(make_clips(num_clips=num_clips), l2=1e-4, keyframes=1)


@pytest.mark.parametrize("wanted", [None, 1])
@pytest.mark.parametrize("start", ["classes", "random"])
def test_an_annotator_who_labels_more_finds_more_on_films_held_out(start, wanted):
    found = make_annotator().label(
        teach_order.ORDERS["random"], start=start, seed=0, picks=[10, 20], wanted=wanted
    )
    assert len(found["map"]) == 2
    assert found["map"][-1] > 0.9


def test_clips_are_counted_until_each_class_has_enough():
    labels = few_shot.one_hot(np.arange(40) % 2, 2)
    assert teach_order.until(labels) == 20
    assert teach_order.until(labels[:19]) == 19  # not reached: all
    assert teach_order.until(np.concatenate([np.zeros((5, 2), np.float32), labels])) == 25


def test_one_wanted_action_is_enough_sooner_where_its_likeliest_are_asked():
    annotator = make_annotator()
    found = {
        name: annotator.label(
            teach_order.ORDERS[name], start="classes", seed=1, picks=[30], wanted=1
        )
        for name in ("random", "half in turns")
    }
    assert found["half in turns"]["until_enough"] < found["random"]["until_enough"]


@pytest.mark.parametrize("columns", [5, 2])
def test_nobody_begins_with_clips_that_are_held_out(columns):
    labels = few_shot.one_hot(np.arange(30) % 5, 5)[:, :columns]
    pool = np.arange(30) < 15
    first = teach_order.first_clips(labels, pool, "classes", np.random.default_rng(0))
    assert len(first) == min(columns, 3)
    assert labels[first].sum(0).max() == 1
    assert labels[first].sum() == len(first)
    assert pool[first].all()
    first = teach_order.first_clips(labels, pool, "random", np.random.default_rng(0))
    assert len(set(first)) == 10
    assert pool[first].all()


def test_an_order_is_compared_with_random_order_of_the_same_seeds(capsys):
    rows = [
        {"seed": seed, "start": "random", "order": order, "picks": [10], "map": [value + seed],
         "until_enough": 5}
        for seed in range(3)
        for order, value in (("random", 0.1), ("better", 0.2))
    ]  # fmt: skip
    teach_order.print_table(rows, "title")
    printed = capsys.readouterr().out
    assert "+0.1000 ± 0.0000" in printed.split("\n")[2]
    assert "+0.0000 ± 0.0000" in printed.split("\n")[1]
