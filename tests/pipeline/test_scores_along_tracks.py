"""The pipeline's scores are those of `score_along_tracks`; a slow twin of the person's."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection.checkpoints.file import write_thresholds
from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.annotated_video import TrackPlaces
from detection.pipeline.postprocess import ShownKeyframe
from detection.structures import ActorBoxes, ClassThresholds, Detections, Keyframe
from detection.tracking.events import TrackedKeyframe
from detection.tracking.scoring import TrackScoring, score_along_tracks


class Flickering(SquareDetector):
    """Misses the walker on a stretch of the way, and is as sure as they are far to the left."""

    def _find(self, frame):
        found = super()._find(frame)
        left = found.xyxy_01[:, 0] < 0.5  # the walker
        away = left & (found.xyxy_01[:, 0] > 0.17) & (found.xyxy_01[:, 0] < 0.23)
        score = np.where(left, 0.95 - found.xyxy_01[:, 0], 0.55).astype(np.float32)
        kept = ActorBoxes(found.xyxy_01, score).select(np.flatnonzero(~away))
        return kept.select(np.argsort(-kept.score, kind="stable"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("along")
    save_tiny_run(folder / "run")
    write_squares(folder / "walk.mp4", seconds=12)
    return folder


def detector_of(place, **options):
    options = {"threshold": 0.5, "person_score": 0.5, "batch_size": 6, "workers": 2, **options}
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=Flickering(), options=PipelineOptions(**options)
    )


def keyframes_of(place, **options):
    return list(detector_of(place, **options).keyframes(place / "walk.mp4"))


@pytest.fixture(scope="module")
def alone(place):
    """The keyframes as the networks gave them."""
    return keyframes_of(place, smoothing_s=0.0)


@pytest.mark.parametrize("fill", ["none", "between"])
@pytest.mark.parametrize("reach_s", [0.6, 1.0, 2.5])
def test_scores_are_those_of_the_evaluation(place, alone, reach_s, fill):
    found = [
        Detections(Keyframe("v", k.time_s), ActorBoxes(k.boxes_01, k.person_scores), k.scores)
        for k in alone
    ]
    tracks = {one.keyframe: k.tracks for one, k in zip(found, alone, strict=True)}
    scored = score_along_tracks(found, TrackScoring(reach_s, fill), tracks=tracks)
    shown = keyframes_of(place, smoothing_s=reach_s, fill_misses=fill)
    assert [k.time_s for k in shown] == [one.keyframe.time_s for one in scored]
    for keyframe, one in zip(shown, scored, strict=True):
        ours, theirs = (
            np.concatenate([boxes, person[:, None], scores], axis=1)
            for boxes, person, scores in (
                (keyframe.boxes_01, keyframe.person_scores, keyframe.scores),
                (one.boxes.xyxy_01, one.boxes.score, one.action_scores),
            )
        )
        assert ours.shape == theirs.shape
        in_order = np.lexsort(ours.T), np.lexsort(theirs.T)
        assert np.array_equal(ours[in_order[0]], theirs[in_order[1]])
    missed = sum(len(k) for k in shown) - sum(len(k) for k in alone)
    assert (missed > 0) == (fill == "between") and len(alone) == 24


def test_the_persons_score_is_the_mean_of_a_slow_twin(place, alone):
    raw = {
        (k.time_s, track): score
        for k in alone
        for track, score in zip(k.tracks.tolist(), k.person_scores.tolist(), strict=True)
    }
    shown = keyframes_of(place)
    assert len({score for (_, track), score in raw.items() if track == 1}) > 4
    for keyframe in shown:
        for track, score in zip(keyframe.tracks, keyframe.person_scores, strict=True):
            near = [
                (1 - abs(time_s - keyframe.time_s), theirs)
                for (time_s, number), theirs in raw.items()
                if number == track and abs(time_s - keyframe.time_s) < 1
            ]
            mean = math.fsum(w * s for w, s in near) / math.fsum(w for w, _ in near)
            assert score == pytest.approx(mean, abs=1e-6)
    seen = [tuple(track for track, was in zip(k.tracks, k.seen, strict=True) if was) for k in shown]
    assert seen == [tuple(k.tracks.tolist()) for k in alone]


def test_events_are_decided_by_the_product_of_both_means(place, alone):
    """Not by the mean of products: weak boxes of a track would count twice."""
    shown = keyframes_of(place, multiply_person_score=True)
    detector = detector_of(place, multiply_person_score=True, threshold=0.0)
    events = list(detector.run(place / "walk.mp4"))
    names = detector.networks.label_map.names
    for track in (1, 2):
        for column, name in enumerate(names):
            products = [
                float(k.scores[row, column] * k.person_scores[row])
                for k in shown
                for row in np.flatnonzero(k.tracks == track).tolist()
            ]
            peaks = [e.peak_score for e in events if (e.track, e.action) == (track, name)]
            assert not peaks or max(peaks) == pytest.approx(max(products), abs=1e-5)
    assert {event.track for event in events} == {1, 2}
    best = max(float((k.scores * k.person_scores[:, None]).max(initial=0)) for k in shown)
    assert detector.report.best.score == pytest.approx(best, abs=1e-6)


def learn(folder, times_person_score):
    learned = ClassThresholds(
        [0.3] * 3, [0.9] * 3, [0.8] * 3, [20] * 3, False, times_person_score, "val"
    )
    write_thresholds(folder / "run" / "checkpoints" / "last.pt", learned)


@pytest.mark.parametrize("learned", [False, True])
def test_thresholds_of_other_scores_are_refused(tmp_path, learned):
    save_tiny_run(tmp_path / "run")
    learn(tmp_path, learned)
    how = {"threshold": None, "multiply_person_score": not learned}
    with pytest.raises(UserError, match="its thresholds were learned on .* needs --threshold"):
        detector_of(tmp_path, **how)
    for asked in (None, learned):
        networks = detector_of(tmp_path, threshold=None, multiply_person_score=asked).networks
        assert networks.times_person_score is learned
    networks = detector_of(tmp_path, multiply_person_score=not learned).networks
    assert networks.times_person_score is not learned and networks.learned is None


def test_a_way_to_fill_that_needs_the_whole_video_is_refused():
    with pytest.raises(UserError, match="fill_misses must be none or between, not whole-video"):
        PipelineOptions(fill_misses="whole-video")


def test_results_say_how_scores_were_made_and_which_boxes_were_filled(place, tmp_path):
    detector = detector_of(place, multiply_person_score=True)
    results = detector.analyse(place / "walk.mp4", out=tmp_path / "out", film=False, page=False)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["scores"] == (
        "scores averaged along each person's track within 1 s, misses between two boxes of a track "
        "filled; events by the action's score times the person's"
    )
    filled = [k["time_s"] for line in lines(tmp_path / "out") for k in line["keyframes"]
              if not k.get("seen", True)]  # fmt: skip
    assert summary["people_filled"] == len(filled) > 0
    assert (
        summary["people_tracked"]
        == summary["people"]
        == sum(int(k.seen.sum()) for k in results.keyframes)
    )
    back = type(results).open(tmp_path / "out")
    assert [k.time_s for k in back.keyframes for was in k.seen if not was] == sorted(filled)
    back.save(tmp_path / "again")
    assert text_of(tmp_path / "again") == text_of(tmp_path / "out")
    lone = detector_of(place, smoothing_s=0.0)
    list(lone.run(place / "walk.mp4", out=tmp_path / "lone", film=False, page=False))
    summary = json.loads((tmp_path / "lone" / "summary.json").read_text())
    assert summary["scores"] == "scores of each keyframe alone; events by the action's score"
    assert summary["people_filled"] == 0 and '"seen"' not in text_of(tmp_path / "lone")


def text_of(folder):
    return (folder / "tracks.jsonl").read_text()


def lines(folder):
    return [json.loads(line) for line in text_of(folder).splitlines()]


def test_a_killed_run_fills_the_same_misses(place, tmp_path):
    film = write_squares(tmp_path / "long.mp4", seconds=24)

    class Killed(Flickering):
        def detect(self, images):
            if self.frames > 30:
                raise KeyboardInterrupt
            return super().detect(images)

    def run(out, people):
        options = PipelineOptions(threshold=0.5, person_score=0.5, batch_size=6, workers=2)
        detector = ActionDetectorPipeline.from_checkpoint(
            place / "run", people=people, options=options
        )
        return list(detector.run(film, out=tmp_path / out, film=False, page=False))

    with pytest.raises(KeyboardInterrupt):
        run("cut", Killed())
    run("cut", Flickering()), run("whole", Flickering())
    assert '"seen": false' in text_of(tmp_path / "whole")
    for name in ("events.jsonl", "tracks.jsonl", "detections.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_drawn_box_goes_on_where_a_person_was_missed(place):
    detector = detector_of(place)
    names = detector.networks.label_map.names
    for fill in ("none", "between"):
        shown = [
            ShownKeyframe(
                TrackedKeyframe(k.time_s, k.tracks, k.boxes_01, k.person_scores, k.scores),
                (frozenset(),) * len(k),
            )
            for k in keyframes_of(place, fill_misses=fill)
        ]
        places = TrackPlaces(shown, names, 0.5)
        drawn = [1 in [p.number for p in places.at(t)] for t in np.arange(0.25, 11, 0.25).tolist()]
        assert all(drawn) == (fill == "between")


def test_a_live_source_does_not_wait_for_who_may_come_back(place):
    def fill(live, **options):
        return PipelineOptions(**options).for_source(live=live).track_scoring.fill

    assert (fill(False), fill(True)) == ("between", "none")
    assert {fill(live, fill_misses=f) for live in (False, True) for f in ("none",)} == {"none"}
    assert {fill(live, fill_misses="between") for live in (False, True)} == {"between"}
    filled = [k for k in keyframes_of(place) if not k.seen.all()]
    assert filled
    live = detector_of(place).keyframes(place / "walk.mp4", live=True)
    assert all(k.seen is None or k.seen.all() for k in live)
