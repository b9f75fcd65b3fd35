"""Events by the thresholds that a run learned: used, replaced, and said where they come from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_pipeline import LABELS, SquareDetector, save_tiny_run, write_squares

from detection.checkpoints.file import write_thresholds
from detection.datasets.ava_csv import read_detections
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.structures import ClassThresholds


def learned(*score, times_person_score=False, common=False):
    return ClassThresholds(
        score, [0.9] * 3, [0.8] * 3, [20] * 3, common, times_person_score, "val, ground-truth boxes"
    )


@pytest.fixture
def place(tmp_path):
    save_tiny_run(tmp_path / "run")
    write_squares(tmp_path / "walk.mp4", seconds=4)
    return tmp_path


def store(place, thresholds):
    write_thresholds(place / "run" / "checkpoints" / "last.pt", thresholds)


def detector_of(place, **options):
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=SquareDetector(), options=PipelineOptions(**options)
    )


def test_without_any_the_usual_threshold_counts(place):
    networks = detector_of(place).networks
    assert networks.thresholds.tolist() == [0.5] * 3 and networks.learned is None
    assert not any("learned" in note for note in networks.notes)


def test_learned_ones_count_and_options_replace_them(place):
    store(place, learned(0.31, 0.44, 0.2))
    networks = detector_of(place).networks
    assert networks.thresholds.tolist() == [0.31, 0.44, 0.2]
    assert networks.threshold == 0.31  # in the middle, where the page's slider stands
    assert networks.notes[-1] == (
        "thresholds learned on val, ground-truth boxes: be red 0.31, be <b>blue</b> 0.44, "
        "be here 0.20"
    )
    networks = detector_of(place, class_thresholds={"be here": 0.9}).networks
    assert networks.thresholds.tolist() == [0.31, 0.44, 0.9]
    assert networks.notes[-1].endswith("be here 0.90; 1 of them as asked for")
    networks = detector_of(place, threshold=0.6).networks
    assert networks.thresholds.tolist() == [0.6] * 3 and networks.learned is None
    networks = detector_of(place, classes=("be here", "be red")).networks
    assert networks.thresholds.tolist() == [0.31, 0.2]
    assert "blue" not in networks.notes[-1]


def test_one_for_all_classes_is_said_to_be_so(place):
    store(place, learned(0.3, 0.3, 0.3, common=True))
    (note,) = detector_of(place).networks.notes
    assert note == (
        "thresholds learned on val, ground-truth boxes, one for all classes (too few examples for "
        "one each): 0.30 for every class"
    )


def test_events_and_page_and_summary_go_by_them(place):
    store(place, learned(0.0, 1.0, 1.0))
    detector = detector_of(place)
    events = list(detector.run(place / "walk.mp4", out=place / "out"))
    assert {event.action for event in events} == {"be red"}
    summary = json.loads((place / "out" / "summary.json").read_text())
    assert summary["thresholds"] == dict(zip(LABELS.names, [0.0, 1.0, 1.0], strict=True))
    assert summary["thresholds_learned_on"] == "val, ground-truth boxes"
    page = (place / "out" / "review.html").read_text()
    assert '"threshold":1.0' in page.replace(" ", "") or '"threshold":1' in page.replace(" ", "")
    assert '"classThresholds":{"0":0.0}' in page.replace(" ", "")
    assert "thresholds learned on val, ground-truth boxes" in page


class Unsure(SquareDetector):
    """The same people, half as sure of the second."""

    def _find(self, frame):
        found = super()._find(frame)
        return type(found)(found.xyxy_01, np.linspace(0.9, 0.45, max(len(found), 1))[: len(found)])


def run_with(place, out, times_person_score, **options):
    store(place, learned(0.3, 0.3, 0.3, times_person_score=times_person_score))
    detector = ActionDetectorPipeline.from_checkpoint(
        place / "run", people=Unsure(), options=PipelineOptions(person_score=0.3, **options)
    )
    events = list(detector.run(place / "walk.mp4", out=place / out, film=False))
    return detector, events


@pytest.mark.parametrize("smoothing_s", [0.0, 1.0])
def test_confidence_in_the_person_weighs_in_events_and_leaves_detections_alone(place, smoothing_s):
    plain, by_scores = run_with(place, "plain", False, smoothing_s=smoothing_s)
    weighted, by_products = run_with(place, "weighted", True, smoothing_s=smoothing_s)
    assert not plain.networks.times_person_score and weighted.networks.times_person_score
    first, second = (
        read_detections(place / out / "detections.csv") for out in ("plain", "weighted")
    )
    np.testing.assert_allclose(first.score, second.score, atol=1e-6)
    best = {(e.action, e.track): e.peak_score for e in by_scores}
    assert by_products
    for event in by_products:  # the walker is 0.9 sure, the other 0.45
        sure = event.peak_score / best[event.action, event.track]
        assert sure == pytest.approx(0.9, abs=1e-3) or sure == pytest.approx(0.45, abs=1e-3)
    assert weighted.report.best.score == pytest.approx(max(e.peak_score for e in by_products))
    stored = json.loads((place / "weighted" / "summary.json").read_text())
    assert stored["times_person_score"] is True
    assert "multiplied by the confidence in the person" in weighted.networks.notes[-1]


def test_results_of_other_thresholds_are_other_results(place):
    run_with(place, "out", False)
    with pytest.raises(Exception, match="other|changed|differ"):
        run_with(place, "out", True)


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.3])
@pytest.mark.parametrize("smoothing_s", [0.0, 1.0])
def test_a_short_clip_can_have_an_event(tmp_path, seconds, smoothing_s):
    save_tiny_run(tmp_path / "run")
    write_squares(tmp_path / "short.mp4", seconds=seconds)
    store(tmp_path, learned(0.05, 0.05, 0.05))
    detector = detector_of(tmp_path, smoothing_s=smoothing_s)
    events = list(detector.run(tmp_path / "short.mp4"))
    assert events and all(event.end_s - event.start_s > 0 for event in events)


def test_a_broken_network_is_named(place):
    detector = detector_of(place)
    list(detector.run(place / "walk.mp4"))
    sound = detector.networks.signs_of_damage()
    path = place / "run" / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    content["model_state"]["head.classes.bias"][2] = 500
    name = next(key for key in content["model_state"] if key.endswith("running_var"))
    content["model_state"][name][0] = 0
    torch.save(content, path)
    detector = detector_of(place)
    assert len(detector.networks.signs_of_damage()) == 1  # of its weights, before any score
    list(detector.run(place / "walk.mp4"))
    norm, logits = detector.networks.signs_of_damage()
    assert name.removesuffix(".running_var") in norm and "a logit of" in logits
    assert len(sound) <= 1


@pytest.mark.parametrize(
    ("options", "share"), [({}, 0.7), ({"off_share": 0.5}, 0.5), ({"smoothing_s": 0.0}, 1.0)]
)
def test_the_page_lets_labels_go_on_as_far_as_events_last(place, options, share):
    list(detector_of(place, **options).run(place / "walk.mp4", out=place / "out", film=False))
    text = (place / "out" / "review.html").read_text(encoding="utf-8").partition('"goesOn":')[2]
    assert float(text.partition(",")[0]) == share
