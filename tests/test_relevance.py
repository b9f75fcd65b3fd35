"""Relevance: what is looked at of a box, the probability, and for whose boxes it is."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.errors import UserError
from detection.relevance import (
    FEATURES,
    BoxOrigin,
    Relevance,
    are_labelled,
    relevance_features,
    stack_features,
)
from detection.structures import ActorBoxes

DIGEST = "0123456789abcdef" * 4


def relevance(**weights: float) -> Relevance:
    values = [weights.pop(name, 0.0) for name in FEATURES]
    assert set(weights) <= {"bias"}
    return Relevance(FEATURES, values, weights.get("bias", 0.0), BoxOrigin("small"), 0.05, 10, 4, 2)


@st.composite
def some_boxes(draw: st.DrawFn) -> ActorBoxes:
    """Boxes on a coarse grid, so that edges touch, areas are equal and boxes are empty at times."""
    number = draw(st.integers(0, 6))
    corners = st.integers(0, 16).map(lambda n: n / 16)
    boxes = [
        (*sorted((draw(corners), draw(corners))), *sorted((draw(corners), draw(corners))))
        for _ in range(number)
    ]
    scores = draw(
        st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=number, max_size=number)
    )
    return ActorBoxes([(x1, y1, x2, y2) for x1, x2, y1, y2 in boxes], scores)


def slowly(boxes: ActorBoxes) -> list[list[float]]:
    """The same features, box by box in plain numbers."""
    people = list(zip(boxes.xyxy_01.tolist(), boxes.score.tolist(), strict=True))
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box, _ in people]
    rows = []
    for number, (box, score) in enumerate(people):
        x1, y1, x2, y2 = box
        others = [n for n in range(len(people)) if n != number]
        overlaps = [0.0]
        for other in others:
            a1, b1, a2, b2 = people[other][0]
            common = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            union = sizes[number] + sizes[other] - common
            overlaps.append(common / union if union else 0.0)
        width, height, x, y = x2 - x1, y2 - y1, (x1 + x2) / 2, (y1 + y2) / 2
        sure = min(max(score, 1e-4), 1 - 1e-4)
        rows.append([
            width, height, math.log(max(sizes[number], 1e-4)),
            math.log(max(height, 1e-4) / max(width, 1e-4)), abs(x - 0.5), y,
            math.sqrt((x - 0.5) ** 2 + (y - 0.5) ** 2),
            (x1 <= 0.01) + (x2 >= 0.99), y1 <= 0.01, y2 >= 0.99, math.log(len(people)),
            sum(sizes[n] > sizes[number] for n in others) / max(1, len(others)),
            sum(people[n][1] > score for n in others) / max(1, len(others)),
            sizes[number] / max(*sizes, 1e-4), score / max(*(s for _, s in people), 1e-4),
            max(overlaps), score, math.log(sure / (1 - sure)),
        ])  # fmt: skip
    return rows


def test_features_are_those_worked_by_hand() -> None:
    boxes = ActorBoxes([(0.2, 0.1, 0.6, 0.9), (0.5, 0.5, 1.0, 1.0)], [0.8, 0.4])
    expected = {
        "width": (0.4, 0.5),
        "height": (0.8, 0.5),
        "log_area": (-1.13943, -1.38629),
        "log_aspect": (0.69315, 0),
        "off_middle": (0.1, 0.25),
        "centre_y": (0.5, 0.75),
        "off_centre": (0.1, 0.35355),
        "touches_side": (0, 1),
        "touches_top": (0, 0),
        "touches_bottom": (0, 1),
        "log_people": (0.69315, 0.69315),
        "larger_share": (0, 1),
        "surer_share": (0, 1),
        "of_largest": (1, 0.78125),
        "of_surest": (1, 0.5),
        "overlap": (0.0754717, 0.0754717),
        "score": (0.8, 0.4),
        "logit_score": (1.386294, -0.405465),
    }
    found = relevance_features(boxes)
    assert found.shape == (2, 18) and tuple(expected) == FEATURES
    np.testing.assert_allclose(found.T, list(expected.values()), atol=1e-5)


@given(some_boxes())
def test_features_are_those_of_plain_numbers(boxes: ActorBoxes) -> None:
    found = relevance_features(boxes)
    assert found.shape == (len(boxes), len(FEATURES)) and np.isfinite(found).all()
    if len(boxes):
        np.testing.assert_allclose(found, slowly(boxes), atol=1e-5)


@given(some_boxes())
def test_a_mirrored_frame_has_the_same_features(boxes: ActorBoxes) -> None:
    x1, y1, x2, y2 = boxes.xyxy_01.T
    mirrored = ActorBoxes(np.stack([1 - x2, y1, 1 - x1, y2], axis=1), boxes.score)
    found = relevance_features(mirrored)
    assert found.shape == relevance_features(boxes).shape
    np.testing.assert_allclose(found, relevance_features(boxes), atol=1e-6)


def test_a_frame_on_its_head_is_another() -> None:
    x1, y1, x2, y2 = 0.2, 0.0, 0.6, 0.7
    boxes, turned = ActorBoxes([(x1, y1, x2, y2)], [0.5]), ActorBoxes([(x1, 0.3, x2, 1)], [0.5])
    columns = [FEATURES.index(name) for name in ("centre_y", "touches_top", "touches_bottom")]
    np.testing.assert_allclose(relevance_features(boxes)[0, columns], [0.35, 1, 0], atol=1e-6)
    np.testing.assert_allclose(relevance_features(turned)[0, columns], [0.65, 0, 1], atol=1e-6)


@given(some_boxes(), st.randoms())
def test_the_order_of_boxes_does_not_count(boxes: ActorBoxes, random: object) -> None:
    order = np.arange(len(boxes))
    random.shuffle(order)  # type: ignore[attr-defined]
    found = relevance_features(boxes.select(order))
    assert found.shape == (len(boxes), len(FEATURES))
    np.testing.assert_array_equal(found, relevance_features(boxes)[order])


def test_nobody_and_one_person_are_legal() -> None:
    model = relevance(score=1.0)
    assert relevance_features(ActorBoxes.empty()).shape == (0, len(FEATURES))
    assert model.probabilities(ActorBoxes.empty()).shape == (0,)
    assert len(model.weigh(ActorBoxes.empty())) == 0
    assert stack_features([]).shape == (0, len(FEATURES))
    alone = ActorBoxes([(0.2, 0.2, 0.4, 0.8)], [0.5])
    found = dict(zip(FEATURES, relevance_features(alone)[0].tolist(), strict=True))
    company = ("log_people", "larger_share", "surer_share", "of_largest", "of_surest", "overlap")
    assert [found[name] for name in company] == [0, 0, 0, 1, 1, 0]
    assert model.probabilities(alone).shape == (1,)
    assert stack_features([alone, ActorBoxes.empty(), alone]).shape == (2, len(FEATURES))


def test_scores_are_multiplied_by_the_probability() -> None:
    boxes = ActorBoxes([(0.2, 0.1, 0.6, 0.9), (0.5, 0.5, 1.0, 1.0)], [0.8, 0.4])
    model = relevance(larger_share=-2.0, bias=1.0)
    np.testing.assert_allclose(model.probabilities(boxes), [0.7310586, 0.2689414], atol=1e-6)
    weighed = model.weigh(boxes)
    np.testing.assert_allclose(weighed.score, [0.5848469, 0.1075766], atol=1e-6)
    np.testing.assert_array_equal(weighed.xyxy_01, boxes.xyxy_01)
    far = relevance(score=1e6)
    assert np.isfinite(far.weigh(boxes).score).all()


def test_boxes_of_labelled_people_overlap_them_by_half() -> None:
    truth = ActorBoxes([(0, 0, 0.4, 0.4), (0.5, 0.5, 1, 1)], [1, 1])
    boxes = ActorBoxes(
        [(0, 0, 0.4, 0.2), (0, 0, 0.4, 0.19), (0.5, 0.5, 1, 1), (0.2, 0.2, 0.6, 0.6)], [1] * 4
    )
    assert are_labelled(boxes, truth).tolist() == [True, False, True, False]
    assert are_labelled(boxes, ActorBoxes.empty()).tolist() == [False] * 4
    assert are_labelled(ActorBoxes.empty(), truth).shape == (0,)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"features": FEATURES[1:]}, "are required"),
        ({"weights": [1.0]}, "1 weights for 18 features"),
        ({"weights": [math.nan] * 18}, "finite"),
        ({"bias": math.inf}, "finite"),
        ({"least_score": 1.1}, "from 0 to 1"),
        ({"num_labelled": 0}, "both kinds"),
        ({"num_labelled": 10}, "both kinds"),
        ({"num_videos": 0}, "both kinds"),
    ],
)
def test_values_that_make_no_relevance_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(relevance(), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fitted", "given", "by_name", "said"),
    [
        (BoxOrigin("a"), BoxOrigin("a"), True, None),
        (BoxOrigin("a"), BoxOrigin("b"), True, "cannot be compared"),
        (BoxOrigin("a"), BoxOrigin("a"), False, "cannot be compared"),
        (BoxOrigin("a", "weights 1"), BoxOrigin("b", "weights 1"), False, None),
        (BoxOrigin("a", "weights 1"), BoxOrigin("a", "weights 2"), True, "another detector"),
        (BoxOrigin("a", "weights 1"), BoxOrigin("a"), True, "cannot be compared"),
        (BoxOrigin("a"), BoxOrigin("a", "weights 1"), True, "cannot be compared"),
    ],
)
def test_another_detector_is_refused_by_name(
    fitted: BoxOrigin, given: BoxOrigin, by_name: bool, said: str | None
) -> None:
    model = dataclasses.replace(relevance(), origin=fitted)
    if said is None:
        model.check_detector(given, source="RUN", by_name=by_name)
        return
    with pytest.raises(UserError, match=said) as refused:
        model.check_detector(given, source="RUN", by_name=by_name)
    line = str(refused.value)
    assert line.startswith("RUN: ") and "\n" not in line
    assert str(fitted) in line and str(given) in line


def test_another_least_score_is_refused() -> None:
    relevance().check_least_score(0.05, source="RUN")
    with pytest.raises(UserError, match=r"RUN: .* from 0.05 on, and not from 0.3 on"):
        relevance().check_least_score(0.3, source="RUN")


def test_a_detector_is_named_by_the_start_of_its_digest() -> None:
    shown = str(BoxOrigin("yolox", f"weights {DIGEST}, classes pig"))
    assert shown == "boxes 'yolox' of weights 0123456789ab..., classes pig"
    assert "no file says" in str(BoxOrigin("yolox"))
    said = str(dataclasses.replace(relevance(), num_boxes=1234))
    assert "1,234 boxes of 2 videos, 4 of them of labelled people" in said
