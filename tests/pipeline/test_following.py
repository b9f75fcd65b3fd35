"""Networks that classify whole clips, shown one followed person at a time.

What the pipeline finds is compared with a slow twin that reads the whole video at once.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_gaps import times_with_a_jump
from tiny_pipeline import LABELS, SquareDetector, save_tiny_classifier, write_squares

from detection.checkpoints.file import read_checkpoint
from detection.checkpoints.load import load_network
from detection.datasets.person_crops import crop_people
from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.clip_buffer import DetectionFrame, Group, PipelineSampling
from detection.pipeline.following import PeopleFollower, PersonPaths
from detection.pipeline.networks import find_people
from detection.pipeline.scorers import SquareScorer
from detection.structures import ActorBoxes, ClipSampling
from detection.tracking.tracker import Tracker
from detection.video.reader import VideoReader
from detection.video.stream import Gap, VideoStream

TABLES = ("events.jsonl", "tracks.jsonl", "detections.csv")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    save_tiny_classifier(folder / "run")
    write_squares(folder / "walk.mp4", seconds=12)
    return folder


def detector_of(place, people=None, **options):
    return ActionDetectorPipeline.from_checkpoint(
        place / "run",
        people=people or SquareDetector(),
        options=PipelineOptions(**{"workers": 1, "threshold": 0.34, **options}),
    )


def tracks_of(folder):
    """Return by track, red (above) first: times (K,), boxes (K, 4), scores {class: (K,)}."""
    found = []
    for line in (folder / "tracks.jsonl").read_text().splitlines():
        track = json.loads(line)
        rows = track["keyframes"]
        scores = np.array([row["scores"] for row in rows])
        boxes = np.array([row["box_01"] for row in rows])
        times_s = np.array([row["time_s"] for row in rows])
        found.append((times_s, boxes, dict(zip(track["classes"], scores.T, strict=True))))
    return sorted(found, key=lambda each: each[1][0, 1])


def test_scores_are_those_of_people_followed_over_the_whole_video(place, tmp_path):
    detector = detector_of(place, smoothing_s=0.0)
    list(detector.run(place / "walk.mp4", out=tmp_path / "out", film=False, page=False))
    model = load_network(read_checkpoint(place / "run"))
    tracks = tracks_of(tmp_path / "out")
    assert len(tracks) == 2
    with VideoReader(place / "walk.mp4") as reader, torch.inference_mode():
        ends_s = reader.ends_s()
        keyframes_s = np.arange(24) / 2
        detected = SquareDetector().detect(list(reader.read(keyframes_s, short_side=64).frames))
        above_first = [each.xyxy_01[np.argsort(each.xyxy_01[:, 1])] for each in detected]
        for person, (times_s, boxes, scores) in enumerate(tracks):
            known = np.stack([each[person] for each in above_first])
            assert times_s == pytest.approx(keyframes_s) and boxes == pytest.approx(known, abs=1e-5)
            for index, time_s in enumerate(keyframes_s.tolist()):
                clip_s = ClipSampling(4, 6, "inside").times_s(time_s, within_s=ends_s)
                path = [np.interp(clip_s, keyframes_s, known[:, side]) for side in range(4)]
                clip = reader.read(clip_s).frames.permute(0, 2, 3, 1).numpy()
                expected = model.probabilities(crop_people(clip, np.stack(path, -1)[None], 48))
                for name, value in zip(LABELS.names, expected[0].tolist(), strict=True):
                    found = scores[name][index] if name in scores else 0.0
                    assert found == pytest.approx(value, abs=2e-5 if name in scores else 0.01)


@pytest.mark.parametrize(("batch", "workers", "per"), [(1, 1, 1), (3, 2, 2), (24, 1, 1)])
def test_events_do_not_depend_on_the_batch(place, batch, workers, per):
    usual = list(detector_of(place, people_per_keyframe=per).run(place / "walk.mp4"))
    assert usual, "there are events to compare"
    people = SquareDetector()
    other = detector_of(place, people, batch_size=batch, workers=workers, people_per_keyframe=per)
    for a, b in zip(usual, other.run(place / "walk.mp4"), strict=True):
        assert (a.track, a.action, a.start_s, a.end_s) == (b.track, b.action, b.start_s, b.end_s)
        assert a.peak_score == pytest.approx(b.peak_score, abs=1e-5)
    assert people.frames == 24 * per


def test_a_killed_run_goes_on_to_the_same_results(place, tmp_path):
    film = write_squares(tmp_path / "long.mp4", seconds=24)

    class Killed(SquareDetector):
        def detect(self, images):
            if self.frames > 34:
                raise KeyboardInterrupt
            return super().detect(images)

    list(detector_of(place).run(film, out=tmp_path / "whole", film=False, page=False))
    with pytest.raises(KeyboardInterrupt):
        list(detector_of(place, Killed()).run(film, out=tmp_path / "cut", film=False, page=False))
    assert list((tmp_path / "cut" / "parts").glob("*.npz")), "there is something to go on from"
    detector = detector_of(place)
    list(detector.run(film, out=tmp_path / "cut", film=False, page=False))
    assert detector.report.resumed_s > 0
    for name in TABLES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("batch", [1, 8])
def test_nobody_is_waited_for_inside_a_gap(place, tmp_path, batch):
    """The reader blocks until the keyframes before the gap are done: they must not wait for it."""
    film = write_squares(tmp_path / "jump.mp4", times_s=times_with_a_jump(60.0))
    people, seen = SquareDetector(), []
    detector = detector_of(place, people, batch_size=batch)
    list(detector.run(film, on_gap=seen.append))
    assert len(seen) == 1 and people.frames == 12 + 24
    assert detector.report.keyframes == 36


def test_a_live_source_does_not_wait_for_people_to_come(place):
    with VideoStream(place / "walk.mp4", live=True, reconnect_s=0.0) as stream:
        detector = detector_of(place)
        list(detector.run(stream))
    assert detector.report.keyframes + detector.report.dropped == 24
    assert detector.report.keyframes


def test_without_people_there_is_nothing(place, tmp_path):
    film = write_squares(tmp_path / "empty.mp4", seconds=3, empty=(0, 9))
    detector = detector_of(place)
    assert list(detector.run(film, out=tmp_path / "out", film=False, page=False)) == []
    assert detector.report.keyframes == 6 and detector.report.people == 0


@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (6, 2)])
def test_kept_frames_span_no_more_than_is_said(place, monkeypatch, batch, workers):
    from detection.pipeline.clip_buffer import FrameWindow

    longest = [0.0]
    wait_for = FrameWindow.wait_for

    def noting(window, time_s):
        kept = wait_for(window, time_s)
        starts = list(window._starts.values())
        longest[0] = max([longest[0], *(time_s - start for start in starts)])
        return kept

    monkeypatch.setattr(FrameWindow, "wait_for", noting)
    detector = detector_of(place, batch_size=batch, workers=workers)
    list(detector.run(place / "walk.mp4"))
    group_s = max(1, batch // (workers + 1)) * 0.5
    assert 0 < longest[0] <= 0.6 + (batch - 1) * 0.5 + 0.2 + group_s + 0.1 + 1e-6


# Paths


def box(left, top=0.2, size=0.2):
    return np.array([[left, top, left + size, top + size]], np.float32)


def test_paths_are_linear_between_detections_and_still_outside():
    paths = PersonPaths(Tracker())
    for time_s, left in ((1.0, 0.1), (2.0, 0.2), (4.0, 0.4)):
        numbers = paths.add(time_s, ActorBoxes(box(left), np.array([0.9], np.float32)))
    assert numbers.tolist() == [1]
    found = paths.boxes_at(1, np.array([0.0, 1.0, 1.5, 3.0, 4.0, 9.0]))
    assert found[:, 0] == pytest.approx([0.1, 0.1, 0.15, 0.3, 0.4, 0.4])
    assert found[:, 1] == pytest.approx([0.2] * 6)
    paths.forget_before(2.5)
    assert paths.boxes_at(1, np.array([2.5]))[0, 0] == pytest.approx(0.25)
    assert paths.boxes_at(1, np.array([1.0]))[0, 0] == pytest.approx(0.2), "1 s is forgotten"


def test_a_track_that_ended_is_forgotten():
    paths = PersonPaths(Tracker(max_gap_s=2.0))
    paths.add(0.0, ActorBoxes(box(0.1), np.array([0.9], np.float32)))
    for time_s in (1.0, 2.0, 3.0):
        paths.add(time_s, ActorBoxes.empty())
        paths.forget_before(time_s)
    with pytest.raises(KeyError):
        paths.boxes_at(1, np.array([0.0]))


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.integers(1, 3),
    st.booleans(),
    st.floats(0, 3),
)
def test_groups_come_back_whole_and_in_order(sizes, per, look_ahead, step_s):
    """Whatever their sizes; with look-ahead not before people are known to the end of the clip."""
    sampling = PipelineSampling(ClipSampling(3, step_s * 30), 64, 64, 1.0, per, 1)
    follower = PeopleFollower(Tracker(), sampling, look_ahead=look_ahead)
    index, back = 0, []
    for number, size in enumerate(sizes):
        frames = []
        for _ in range(size):
            clip = [np.zeros((1, 1, 3), np.uint8)] * 3 if index % per == 0 else None
            frames.append(DetectionFrame(index, sampling.time_s(index), None, clip))
            index += 1
        follower.add(Group(number, frames), [ActorBoxes.empty()] * size)
        newest_s = sampling.time_s(index - 1)
        for group, followed in follower.ready():
            back.append((group.number, len(followed)))
            ends = [each.frame.time_s + step_s for each in followed if each.frame.clip]
            assert not look_ahead or max(ends, default=-math.inf) <= newest_s + 1e-5
    back += [(group.number, len(followed)) for group, followed in follower.ready(at_end=True)]
    assert back == list(enumerate(sizes))


def test_gaps_cover_the_ends_of_clips():
    sampling = PipelineSampling(ClipSampling(3, 30), 64, 64, 1.0, 1, 1)
    follower = PeopleFollower(Tracker(), sampling)
    clip = [np.zeros((1, 1, 3), np.uint8)] * 3
    follower.add(Group(0, [DetectionFrame(4, 4.0, None, clip)]), [ActorBoxes.empty()])
    follower.skip(Gap(5.5, 9.0, "later than the next detection"))
    assert not list(follower.ready()), "people at 5 s are still to come"
    follower.skip(Gap(4.5, 5.2, "over the next detection"))
    assert [group.number for group, _ in follower.ready()] == [0]


# Classes


def test_classes_are_gathered_under_ones_own_names(place, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("classes:\n  coloured: [be red, be <b>blue</b>]\nothers: true\n")
    usual = detector_of(place, smoothing_s=0.0)
    list(usual.run(place / "walk.mp4", out=tmp_path / "usual", film=False, page=False))
    detector = detector_of(place, smoothing_s=0.0, gathered_classes=file)
    assert detector.networks.label_map.names == ("coloured", "be here")
    list(detector.run(place / "walk.mp4", out=tmp_path / "mine", film=False, page=False))
    for ours, theirs in zip(
        tracks_of(tmp_path / "mine"), tracks_of(tmp_path / "usual"), strict=True
    ):
        parts = [theirs[2].get(name, 0.0) for name in LABELS.names]
        assert ours[2]["coloured"] == pytest.approx(parts[0] + parts[1], abs=0.01)
        assert ours[2]["be here"] == pytest.approx(parts[2], abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {mine: [be green]}", "mine.yaml:1: 'mine': the network has no class 'be green'"),
        ("classes: {mine: []}", "mine.yaml:1: 'mine': a list of the network's class names"),
        ("classes: {a: [be red], b: [be red]}", "'b': 'be red' is already part of 'a'"),
        ("classes: [be red]", "'classes': names with lists"),
        ("leave_out: [be red, be <b>blue</b>, be here]", "no class remains"),
        ("leave_out: [be redd]", "did you mean 'be red'"),
        ("clases: {}", "'clases': one of classes, leave_out, others is required"),
        ('classes: {"a\\nb": [be red]}', "a name that can be printed is required"),
        ('classes: {" ": [be red]}', "a name that can be printed is required"),
        ("others: maybe", "'others': true or false is required"),
        ("classes: {be here: [be red]}\nothers: true", "is also the name of another class"),
    ],
)
def test_a_file_of_gathered_classes_is_checked(place, tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        detector_of(place, gathered_classes=file)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "short_side"), [((96, 72), 72), ((1280, 960), 720)])
def test_a_large_video_is_scaled_down_and_a_small_one_is_not(
    place, tmp_path, monkeypatch, size, short_side
):
    seen = set()
    score = SquareScorer.score

    def noting(scorer, keyframes):
        seen.update(min(each.frames[0].shape[:2]) for each in keyframes)
        return score(scorer, keyframes)

    monkeypatch.setattr(SquareScorer, "score", noting)
    film = write_squares(tmp_path / "film.mp4", seconds=1.5, size=size)
    people = SquareDetector()
    people.sides_px = (480, 960)  # at which it sees the squares of the large one
    list(detector_of(place, people).run(film))
    assert seen == {short_side}


def test_people_beside_another_projects_file_are_not_its_own(place, tmp_path):
    (tmp_path / "people").mkdir()
    foreign = tmp_path / "x3d.pyth"
    foreign.write_bytes(b"whatever")
    assert find_people(foreign, needed=False) == "coco"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "people.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match="people.pt"):
        find_people(tmp_path / "run", needed=False)
