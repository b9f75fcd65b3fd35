"""Scores of actors by layers that never saw their video."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detection.engine.probe import fit_linear, scores_out_of_fold


def make_rows(videos: int, each: int = 4, seed: int = 0):
    """Return features that tell the class, (R, 2) labels, (R,) videos; video v does class v % 2."""
    generator = torch.Generator().manual_seed(seed)
    video = np.repeat(np.arange(videos), each)
    labels = torch.eye(2)[torch.from_numpy(video % 2)]
    features = torch.cat([3 * labels, torch.randn(len(video), 4, generator=generator)], dim=1)
    return features, labels, video


def test_each_video_is_scored_by_a_layer_of_the_other_folds() -> None:
    features, labels, video = make_rows(6)
    scores = scores_out_of_fold(features, labels, video, (6,), 1e-2, 3)
    assert scores.shape == (24, 2)
    for number in range(6):
        mine = torch.from_numpy(video == number)
        # With three folds of two videos each, one other video is held out too: which one?
        fits = []
        for other in set(range(6)) - {number}:
            inside = torch.from_numpy((video != number) & (video != other))
            layer = fit_linear(features[inside], labels[inside], parts=(6,), l2=1e-2)
            fits.append(torch.sigmoid(features[mine] @ layer[0].T + layer[1]))
        assert any(torch.allclose(scores[mine], fit, atol=1e-4) for fit in fits)
    assert ((scores > 0.5) == (labels > 0.5)).float().mean() > 0.9


def test_a_video_s_own_labels_change_nothing_in_its_scores() -> None:
    features, labels, video = make_rows(5)
    before = scores_out_of_fold(features, labels, video, (6,), 1e-2)
    mine = torch.from_numpy(video == 4)
    changed = labels.clone()
    changed[mine] = changed[mine][:, [1, 0]] * 0 + 1  # both classes: still an example of each
    after = scores_out_of_fold(features, changed, video, (6,), 1e-2)
    torch.testing.assert_close(before[mine], after[mine], atol=1e-4, rtol=0)


def test_fewer_videos_than_folds_is_one_fold_a_video() -> None:
    features, labels, video = make_rows(4)
    four = scores_out_of_fold(features, labels, video, (6,), 1e-2, 4)
    torch.testing.assert_close(scores_out_of_fold(features, labels, video, (6,), 1e-2, 50), four)


@pytest.mark.parametrize("rows", [0, 4])
def test_without_two_videos_nothing_is_measured(rows: int) -> None:
    features, labels, video = make_rows(1)
    scores = scores_out_of_fold(features[:rows], labels[:rows], video[:rows], (6,), 1e-2)
    assert scores.shape == (rows, 2) and torch.isnan(scores).all()


def test_a_class_of_one_video_is_not_measured_the_others_are() -> None:
    features, labels, video = make_rows(6)
    labels = torch.cat(
        [labels, torch.from_numpy(video == 3).float()[:, None], 0 * labels[:, :1]], 1
    )
    scores = scores_out_of_fold(features, labels, video, (6,), 1e-2)
    assert torch.isnan(scores[:, 2:]).all() and torch.isfinite(scores[:, :2]).all()


def test_a_class_of_two_videos_always_leaves_one_to_learn_from() -> None:
    """Whatever the numbers of videos are, a rare class is never held out as a whole."""
    for videos in range(4, 16):
        features, labels, video = make_rows(videos, seed=videos)
        rare = torch.from_numpy((video == 0) | (video == videos - 1)).float()
        features = torch.cat([features, 5 * rare[:, None]], 1)
        labels = torch.cat([labels, rare[:, None]], 1)
        scores = scores_out_of_fold(features, labels, video, (7,), 1e-2)
        assert scores[:, 2][rare > 0].min() > scores[:, 2][rare == 0].max() + 0.2, videos


def test_what_is_not_learned_from_is_scored_all_the_same() -> None:
    features, labels, video = make_rows(6)
    learned = np.arange(24) % 4 == 0
    scores = scores_out_of_fold(features, labels, video, (6,), 1e-2, learned=learned)
    assert torch.isfinite(scores).all()
    spoilt = labels.clone()
    spoilt[torch.from_numpy(~learned)] = 1 - spoilt[torch.from_numpy(~learned)]
    again = scores_out_of_fold(features, spoilt, video, (6,), 1e-2, learned=learned)
    # The folds may differ with the labels; each class still has its three videos or more.
    assert torch.isfinite(again).all()
