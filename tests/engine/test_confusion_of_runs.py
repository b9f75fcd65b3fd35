"""Which numbers of a run its confusion figure is drawn from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from detection.datasets.ava_csv import AvaRows
from detection.engine.tasks import confusion_figure
from detection.engine.tasks.confusion_figure import write_action_confusion, write_clip_confusion
from detection.structures import ActorBoxes, ClassThresholds, Detections, Keyframe, LabelMap

LABEL_MAP = LabelMap(("sit", "wave"), (3, 7))
BOX, KEYFRAME = (0.1, 0.1, 0.5, 0.5), Keyframe("v", 1)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn."""
    found = []
    real = confusion_figure.draw_confusion

    def draw(table, words):
        found.append((table, words))
        return real(table, words)

    monkeypatch.setattr(confusion_figure, "draw_confusion", draw)
    return found


def write(folder, *, ids=(3,), scores=(0.6, 0.4), learned=None, **facts):
    rows = AvaRows.from_rows(
        [KEYFRAME] * len(ids), boxes_01=np.reshape([BOX] * len(ids), (-1, 4)), action_id=ids
    )
    data = SimpleNamespace(data=SimpleNamespace(val_split="val"))
    usual = {"exclusions": frozenset(), "multiplied": False}
    scorer = SimpleNamespace(
        ground_truth=rows, label_map=LABEL_MAP, config=data, **{**usual, **facts}
    )
    found = [Detections(KEYFRAME, ActorBoxes([BOX], [0.5]), np.array([scores], np.float32))]
    score = SimpleNamespace(found=found, thresholds=learned, boxes="ground-truth boxes")
    write_action_confusion(folder, scorer, score)


def thresholds(*score, products=False):
    return ClassThresholds(score, (1, 1), (1, 1), (1, 1), False, products, "val, other boxes")


@pytest.mark.parametrize(
    ("learned", "multiplied", "expected"),
    [
        (None, False, [1, 0]),  # 0.5
        (thresholds(0.7, 0.3), False, [0, 1]),
        (thresholds(0.5, 0.1, products=True), False, [0, 1]),  # 0.3 and 0.2
        (thresholds(0.5, 0.5, products=True), True, [1, 0]),  # scores are products already
    ],
)
def test_thresholds_are_those_that_were_learned_from_the_same_scores(
    tmp_path, drawn, learned, multiplied, expected
):
    write(tmp_path, learned=learned, multiplied=multiplied)
    ((table, words),) = drawn
    assert table.share[0, :2].tolist() == expected
    said = "of 0.5." if learned is None else "learned on val, other boxes."
    assert words.source == f"val, ground-truth boxes; thresholds {said}"
    assert (tmp_path / "confusion.png").is_file()


def test_without_ground_truth_no_older_figure_stays(tmp_path, drawn):
    write(tmp_path)
    assert (tmp_path / "confusion.png").is_file()
    write(tmp_path, exclusions=frozenset({KEYFRAME}))
    write(tmp_path, exclusions=frozenset({KEYFRAME}))
    assert list(tmp_path.iterdir()) == [] and not drawn[-1][0].examples.any()


@pytest.mark.parametrize("several", [False, True])
def test_videos_that_cannot_be_read_count_as_such(tmp_path, drawn, several):
    labels = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    score = SimpleNamespace(
        scored=np.array([0, 2]),
        scores=np.array([[0.9, 0.1], [0.2, 0.8]]),
        views=SimpleNamespace(clips=10, crops=3),
    )
    clips = SimpleNamespace(labels=labels)
    write_clip_confusion(tmp_path, score, clips, LABEL_MAP, several=several)
    ((table, words),) = drawn
    assert table.columns[-1] == "(not read)" and table.several is several
    assert table.share.tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert words.source == "10 x 3 views a video."
