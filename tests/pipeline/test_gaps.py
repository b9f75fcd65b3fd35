"""Stretches without frames: gaps that are named, without moments or segments of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection.datasets.ava_csv import read_detections
from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.clip_buffer import LONGEST_STILL_S, with_gaps
from detection.video.stream import StreamFrame


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gaps")
    save_tiny_run(folder / "run")
    return folder


def detector_of(place, people=None):
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=people or SquareDetector(), options=PipelineOptions(workers=1)
    )


def times_with_a_jump(gap_s):
    """Return the times of 6 s of frames, and of 12 s more from `gap_s` on."""
    return np.concatenate([np.arange(60) / 10, gap_s + np.arange(120) / 10])


@pytest.mark.parametrize("gap_s", [5 * 3600.0, 60.0])
def test_a_clock_that_jumps_is_a_gap_and_a_killed_run_goes_on_past_it(tmp_path, place, gap_s):
    film = write_squares(tmp_path / "jump.mp4", times_s=times_with_a_jump(gap_s))
    seen, people = [], SquareDetector()
    detector = detector_of(place, people)
    how = {"film": gap_s < 100, "page": False}
    list(detector.run(film, out=tmp_path / "whole", on_gap=seen.append, **how))
    assert [(gap.start_s, gap.end_s) for gap in seen] == [
        (pytest.approx(5.9), pytest.approx(gap_s))
    ]
    assert people.frames == 12 + 24, "nothing is judged inside the gap"

    class Killed(SquareDetector):
        def detect(self, images):
            if self.frames > 28:
                raise KeyboardInterrupt
            return super().detect(images)

    with pytest.raises(KeyboardInterrupt):
        list(detector_of(place, Killed()).run(film, out=tmp_path / "cut", **how))
    parts = list((tmp_path / "cut" / "parts").glob("*.npz"))
    assert 1 <= len(parts) <= 4, "an empty segment has no file"
    list(detector_of(place).run(film, out=tmp_path / "cut", **how))
    for name in ("events.jsonl", "tracks.jsonl", "detections.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rows = read_detections(tmp_path / "whole" / "detections.csv")
    assert rows.time_us.max() >= 1e6 * (gap_s + 11)


def test_a_still_is_no_gap():
    frames = [StreamFrame(t, 4, 4, 0.0, np.zeros((4, 4, 3), np.uint8), None) for t in (0.0, 10.0)]
    assert list(with_gaps(iter(frames))) == frames
    later = StreamFrame(20.0 + 2e-3, 4, 4, 0.0, np.zeros((4, 4, 3), np.uint8), None)
    assert len(list(with_gaps(iter([frames[1], later])))) == 3 and LONGEST_STILL_S == 10


def test_a_segment_that_is_gone_is_not_taken_for_a_gap(tmp_path, place):
    film = write_squares(tmp_path / "film.mp4", seconds=18)

    class Killed(SquareDetector):
        def detect(self, images):
            if self.frames > 30:
                raise KeyboardInterrupt
            return super().detect(images)

    how = {"out": tmp_path / "out", "film": False, "page": False}
    with pytest.raises(KeyboardInterrupt):
        list(detector_of(place, Killed()).run(film, **how))
    parts = sorted((tmp_path / "out" / "parts").glob("*.npz"))
    assert len(parts) >= 2
    parts[0].unlink()
    again = SquareDetector()
    list(detector_of(place, again).run(film, **how))
    assert again.frames == 36, "all of it"


@pytest.mark.parametrize("where", ["score", "box", "action"])
def test_what_is_no_number_is_one_line_and_writes_nothing(tmp_path, place, where):
    class Broken(SquareDetector):
        def _find(self, picture):
            found = super()._find(picture)
            if where != "action" and len(found):
                (found.score if where == "score" else found.xyxy_01[0])[0] = np.nan
            return found

    film = write_squares(tmp_path / "film.mp4", seconds=2)
    detector = detector_of(place, Broken())
    if where == "action":
        with torch.no_grad():
            detector.networks.actions.model.head.classes.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite") as caught:
        list(detector.run(film, out=tmp_path / "out", film=False, page=False))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "events.jsonl").exists()
