"""A video computed in spans, in any order, has the results of one run over it."""

from __future__ import annotations

import itertools
import math
import random
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from damaged_videos import damage
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tiny_pipeline import SquareDetector, save_tiny_classifier, save_tiny_run, write_squares

from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.networks import Networks
from detection.pipeline.spans import WHOLE, NotInSpansError, VideoSpan

NAMES = ("events.jsonl", "tracks.jsonl", "detections.csv")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spans")
    save_tiny_run(folder / "run")
    save_tiny_run(folder / "inside", at_ends="inside")
    save_tiny_run(folder / "passes", step=3, at_ends="inside", stream=True)
    save_tiny_classifier(folder / "clips")
    save_tiny_run(folder / "tube", actor_input="tube", step=24)  # 1.6 s back, 0.8 s ahead
    save_tiny_run(folder / "squares", actor_input="tube+crop", at_ends="inside")
    write_squares(folder / "walk.mp4", seconds=33.3, empty=(14, 17), speed=25)
    write_squares(folder / "late.mp4", seconds=21, start_s=40.7)
    times_s = np.concatenate([np.arange(90) / 10, 24 + np.arange(130) / 10])
    write_squares(
        folder / "gap.mp4", times_s=times_s, speed=25
    )  # nothing is judged from 8.9 to 24 s
    steady_s = np.arange(60) / 10
    stills_s = np.concatenate([steady_s, [9, 13, 15.5, 17.9, 22.6, 28.2], 30 + steady_s])
    write_squares(folder / "stills.mp4", times_s=stills_s)
    write_squares(folder / "bad.mp4", seconds=33)
    damage(folder / "bad.mp4", 13.25, 14.6)
    write_squares(folder / "reset.mp4", seconds=33, size=(256, 192))
    damage(folder / "reset.mp4", 9.0, 12.5)
    return folder


class MissingDetector(SquareDetector):
    """Misses a person now and then, by the frame alone: tracks have gaps, end and begin."""

    def _find(self, frame):
        found = super()._find(frame)
        rows = [row for row in range(len(found)) if (int(frame.sum()) // 7 + row) % 3]
        return found.select(np.array(rows, np.int64))


def detector_of(place, run="run", people=None, **options):
    options = {"threshold": 0.7, "batch_size": 6, "workers": 2, **options}
    return ActionDetectorPipeline.from_checkpoint(
        place / run, people=people or SquareDetector(), options=PipelineOptions(**options)
    )


def run_in_spans(detector, video, folder, span_s, **part):
    """Compute the spans in a random order, then the results; returns how many spans there were."""
    plan = detector.spans(video, span_s=span_s, **part)
    compute(detector, video, folder, plan.spans, people_first=plan.people_first, **part)
    return len(plan.spans)


def compute(detector, video, folder, spans, *, people_first=False, **part):
    paths = [folder / "spans" / f"{span.name}.npz" for span in spans]
    people = [folder / "people" / f"{span.name}.npz" for span in spans] if people_first else []
    order = list(range(len(spans)))
    random.Random(0).shuffle(order)
    for at in order if people else ():
        assert detector.compute_people(video, spans[at], people[at], **part)
    random.Random(1).shuffle(order)
    for at in order:
        assert detector.compute_span(video, spans[at], paths[at], people=people, **part)
    files = {"out": folder / "out", "film": False, "page": False}
    list(detector.run(video, computed=sorted(paths), **files, **part))


@pytest.mark.parametrize("video", ["walk", "late", "gap", "bad", "stills"])
@pytest.mark.parametrize("span_s", [5, 11])
def test_the_results_are_those_of_one_run(place, tmp_path, video, span_s):
    path = place / f"{video}.mp4"
    whole = detector_of(place)
    list(whole.run(path, out=tmp_path / "whole", film=False, page=False))
    people = SquareDetector()
    detector = detector_of(place, people=people)
    assert run_in_spans(detector, path, tmp_path, span_s) > 1
    assert detector.report.gaps == whole.report.gaps
    assert detector.report.keyframes == whole.report.keyframes == people.frames > 20
    for name in NAMES:
        ours, theirs = tmp_path / "out" / name, tmp_path / "whole" / name
        assert ours.read_bytes() == theirs.read_bytes()
        assert ours.stat().st_size > 100


@pytest.mark.parametrize(
    ("run", "options", "part"),
    [
        ("inside", {}, {}),
        ("passes", {"keyframe_interval_s": 0.25}, {}),
        ("run", {"people_per_keyframe": 3, "batch_size": 9}, {}),
        ("run", {"workers": 1, "batch_size": 1}, {"start_s": 7.2, "end_s": 29.0}),
        ("run", {}, {"start_s": 12.0}),
    ],
)
def test_other_networks_and_parts_of_a_video(place, tmp_path, run, options, part):
    path = place / "walk.mp4"
    whole = detector_of(place, run, **options)
    list(whole.run(path, out=tmp_path / "whole", film=False, page=False, **part))
    detector = detector_of(place, run, **options)
    assert run_in_spans(detector, path, tmp_path, 6, **part) > 2
    for name in NAMES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("video", ["walk", "late", "gap", "bad", "stills"])
@pytest.mark.parametrize("run", ["clips", "tube", "squares"])
def test_followed_people_are_those_of_one_run(place, tmp_path, run, video):
    path = place / f"{video}.mp4"
    whole = detector_of(place, run, MissingDetector(), threshold=0.34)
    list(whole.run(path, out=tmp_path / "whole", film=False, page=False))
    people = MissingDetector()
    detector = detector_of(place, run, people, threshold=0.34)
    assert run_in_spans(detector, path, tmp_path, 5) > 3
    assert detector.report.gaps == whole.report.gaps
    assert detector.report.keyframes == whole.report.keyframes == people.frames > 20
    assert_same(tmp_path)


@contextmanager
def noting_what_is_shown():
    """Yield what the action network is shown of each keyframe, by its index: tracks and pixels."""
    shown, score = {}, Networks.score

    def noting(networks, frames, clock):
        for each in frames:
            if each.frame.clip is not None:
                pixels = zlib.crc32(b"".join(rgb.tobytes() for rgb in each.frame.clip))
                paths = each.paths_01.round(9).tolist()
                assert each.frame.index not in shown, "scored twice"
                shown[each.frame.index] = each.track.tolist(), paths, pixels
        return score(networks, frames, clock)

    with mock.patch.object(Networks, "score", noting):
        yield shown


def assert_same(folder):
    for name in NAMES:
        ours, theirs = folder / "out" / name, folder / "whole" / name
        assert ours.read_bytes() == theirs.read_bytes()
        assert ours.stat().st_size > 100


@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_followed_people_do_not_depend_on_where_a_video_is_cut(place, data):
    run = data.draw(st.sampled_from(["clips", "tube"]), "run")
    path = place / (data.draw(st.sampled_from(["walk", "gap", "bad", "stills"]), "video") + ".mp4")
    how = {
        "keyframe_interval_s": data.draw(st.sampled_from([0.5, 0.75, 2.0]), "every"),
        "people_per_keyframe": data.draw(st.integers(1, 3), "per keyframe"),
        "batch_size": data.draw(st.integers(1, 6), "batch"),
        "workers": data.draw(st.integers(1, 2), "workers"),
        "max_gap_s": data.draw(st.sampled_from([0.6, 2.0]), "longest gap"),
        "threshold": 0.34,
    }
    part = {
        "start_s": data.draw(st.sampled_from([0.0, 7.3]), "start"),
        "end_s": data.draw(st.sampled_from([math.inf, 26.1]), "end"),
    }
    cuts = sorted(data.draw(st.sets(st.integers(1, 60), min_size=1, max_size=6), "cuts"))
    spans = [VideoSpan(a or 0, b) for a, b in itertools.pairwise([0, *cuts, None])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = detector_of(place, run, MissingDetector(), **how)
        with noting_what_is_shown() as theirs:
            list(whole.run(path, out=folder / "whole", film=False, page=False, **part))
        detector = detector_of(place, run, MissingDetector(), **how)
        with noting_what_is_shown() as ours:
            compute(detector, path, folder, spans, people_first=True, **part)
        assert ours == theirs
        assert_same(folder)


@pytest.mark.parametrize("cuts", [[14, 16], [15, 17], [16, 18]])
def test_the_last_clips_of_a_span_end_in_a_gap_of_the_next_one(place, tmp_path, cuts):
    """Whoever is missed before the gap stands still in it, as in one run."""
    how = {"threshold": 0.34, "batch_size": 1, "workers": 1, "max_gap_s": 20.0}
    whole, path = detector_of(place, "tube", MissingDetector(), **how), place / "gap.mp4"
    with noting_what_is_shown() as theirs:
        list(whole.run(path, out=tmp_path / "whole", film=False, page=False))
    detector = detector_of(place, "tube", MissingDetector(), **how)
    spans = [VideoSpan(a or 0, b) for a, b in itertools.pairwise([0, *cuts, None])]
    with noting_what_is_shown() as ours:
        compute(detector, path, tmp_path, spans, people_first=True)
    assert ours == theirs
    assert_same(tmp_path)


def test_people_of_other_frames_are_refused(place, tmp_path):
    detector, path = detector_of(place, "clips"), place / "walk.mp4"
    spans = [VideoSpan(0, 8), VideoSpan(8, None)]
    files = [tmp_path / f"{span.name}.npz" for span in spans]
    for span, file in zip(spans, files, strict=True):
        detector.compute_people(place / "late.mp4", span, file)
    with pytest.raises(UserError, match=r"walk\.mp4: people at detection frames \[0, 1\] are req"):
        detector.compute_span(path, spans[0], tmp_path / "span.npz", people=files)
    with pytest.raises(UserError, match="people= of all spans is required"):
        detector.compute_span(path, spans[0], tmp_path / "span.npz")
    with pytest.raises(UserError, match="no files of people are required"):
        detector_of(place).compute_span(path, spans[0], tmp_path / "span.npz", people=files)
    files[1].unlink()
    for span, file in zip(spans[:1], files, strict=False):
        detector.compute_people(path, span, file)
    with pytest.raises(UserError, match=r"00000008-end\.npz: damaged .* makes it again"):
        detector.compute_span(path, spans[0], tmp_path / "span.npz", people=files)
    assert not (tmp_path / "span.npz").exists()


def test_video_and_page_are_those_of_one_run(place, tmp_path):
    detector = detector_of(place)
    list(detector.run(place / "walk.mp4", out=tmp_path / "whole"))
    run_in_spans(detector, place / "walk.mp4", tmp_path, 10)
    spans = sorted((tmp_path / "spans").iterdir())
    list(detector.run(place / "walk.mp4", out=tmp_path / "all", computed=spans))
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name for path in (tmp_path / "all").iterdir()} > {"annotated.mp4"}
    one, other = ((tmp_path / name / "review.html").read_text() for name in ("whole", "all"))
    assert one == other


def test_joining_goes_on_where_it_was_stopped(place, tmp_path):
    detector, path = detector_of(place), place / "walk.mp4"
    run_in_spans(detector, path, tmp_path, 10)
    spans = sorted((tmp_path / "spans").iterdir())
    asked = iter(range(1000))
    files = {"out": tmp_path / "cut", "film": False, "page": False, "computed": spans}
    list(detector.run(path, should_stop=lambda: next(asked) > 5, **files))
    assert detector.report.stopped and list((tmp_path / "cut" / "parts").glob("0*.npz"))
    list(detector.run(path, **files))
    assert detector.report.resumed_s > 0
    for name in NAMES:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_short_video_and_one_that_cannot_be_cut_are_one_span(place, tmp_path):
    detector = detector_of(place)
    short = write_squares(tmp_path / "short.mp4", seconds=0.4)
    assert detector.spans(short, span_s=5).spans == (WHOLE,)
    assert run_in_spans(detector, short, tmp_path, 5) == 1
    frames = ((time_s, np.zeros((72, 96, 3), np.uint8)) for time_s in (0.0, 0.1))
    assert detector.spans(frames, span_s=5).spans == (WHOLE,)
    with pytest.raises(UserError, match="span_s must be above 0"):
        detector.spans(short, span_s=0)


@pytest.mark.parametrize("run", ["run", "clips"])
def test_a_video_whose_clock_falls_back_is_not_cut(place, tmp_path, run):
    """The frames after the fall have times that follow from it; people alone tell it, too."""
    detector, path = detector_of(place, run), place / "reset.mp4"
    assert len(detector.spans(path, span_s=5).spans) > 4
    with pytest.raises(NotInSpansError, match=r"reset\.mp4: its clock falls back"):
        run_in_spans(detector, path, tmp_path, 5)
    assert not (tmp_path / "spans").exists() or run == "run"


def test_a_stopped_span_is_not_written_and_a_damaged_one_is_named(place, tmp_path):
    detector = detector_of(place)
    path = tmp_path / "span.npz"
    assert not detector.compute_span(
        place / "walk.mp4", VideoSpan(0, 4), path, should_stop=lambda: True
    )
    assert not path.exists()
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"span\.npz: damaged .* makes it again"):
        list(detector.run(place / "walk.mp4", computed=[path]))
