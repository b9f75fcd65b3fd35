"""Streams: keyframes share passes that follow each other, however a film is run."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from tiny_pipeline import LABELS, SquareDetector, save_tiny_run, write_squares

from detection.checkpoints.file import read_checkpoint
from detection.checkpoints.load import load_network
from detection.datasets.ava_csv import read_detections
from detection.datasets.transforms import EvalTransform
from detection.errors import UserError
from detection.export.make import export_network
from detection.models.inference import FoldedTrunk
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.shared_clips import SharedMaps
from detection.structures import ClipSampling
from detection.video.reader import VideoReader

SAMPLING = ClipSampling(4, 6, "inside", stream=True)  # a pass holds 0.8 s


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    save_tiny_run(folder / "run", at_ends="inside", stream=True)
    write_squares(folder / "walk.mp4", seconds=9)
    return folder


@pytest.fixture
def passes(monkeypatch):
    """Clips that went through the trunk."""
    sizes = []
    forward = FoldedTrunk.forward

    def counted(self, clips):
        sizes.append(len(clips))
        return forward(self, clips)

    monkeypatch.setattr(FoldedTrunk, "forward", counted)
    return sizes


def rows_of(place, film, out, *, people=None, runtime=None, notes=None, run=(), **options):
    """Run a film; its rows of scores."""
    chosen = {"threshold": 0.7, "batch_size": 6, "workers": 2, "keyframe_interval_s": 0.25}
    detector = ActionDetectorPipeline.from_checkpoint(
        place / "run",
        people=people or SquareDetector(),
        options=PipelineOptions(**{**chosen, "smoothing_s": 0.0, **options}),
        runtime=runtime,
        on_note=(notes if notes is not None else []).append,
    )
    list(detector.run(film, out=out, film=False, page=False, **dict(run)))
    return read_detections(out / "detections.csv")


def assert_same(rows, others):
    assert rows.time_us.tolist() == others.time_us.tolist() and len(rows)
    np.testing.assert_array_equal(rows.score, others.score)


@pytest.mark.parametrize(("seconds", "size"), [(9, (96, 72)), (0.5, (96, 72)), (2, (120, 72))])
def test_scores_are_those_of_the_long_way_keyframe_by_keyframe(tmp_path, place, seconds, size):
    """The slow twin reads each keyframe's clip by itself; of half a second: spread over it."""
    film = write_squares(tmp_path / "film.mp4", seconds=seconds, size=size)
    rows = rows_of(place, film, tmp_path / "out")
    model = load_network(read_checkpoint(place / "run"))
    transform = EvalTransform(short_side=64)
    params = transform.make_params(np.random.default_rng(0))
    times_us = np.unique(rows.time_us).tolist()
    assert len(times_us) == seconds * 4
    with VideoReader(film) as reader, torch.inference_mode():
        for time_us in times_us:
            chosen = rows.select(rows.time_us == time_us)
            within = {"within_s": reader.ends_s()}
            times_s = SAMPLING.times_s(time_us / 1e6, **within)
            weights = torch.from_numpy(SAMPLING.weights(time_us / 1e6, **within))
            frames = reader.read(times_s, short_side=64).frames
            boxes = chosen.boxes_01[:: len(LABELS)].astype(np.float32)
            clip = transform.apply(frames, boxes, params)
            rois = torch.nn.functional.pad(clip.boxes_px, (1, 0))
            wanted = model(clip.frames[None], rois, weights[None]).sigmoid().numpy()
            assert chosen.score.reshape(-1, len(LABELS)) == pytest.approx(wanted, abs=1e-5)


def test_every_pass_goes_through_the_trunk_once(tmp_path, place, passes):
    rows = rows_of(place, place / "walk.mp4", tmp_path / "out", workers=1)
    keyframes = len(np.unique(rows.time_us))
    assert keyframes == 36 and passes == [1] * 12  # 0 to 8.9 s: the last one is moved inside


@pytest.mark.parametrize(("batch", "workers", "looks"), [(1, 1, 1), (3, 2, 2), (24, 1, 3)])
def test_scores_are_the_same_whatever_the_batch(tmp_path, place, batch, workers, looks):
    usual = rows_of(place, place / "walk.mp4", tmp_path / "usual")
    options = {"batch_size": batch, "workers": workers, "people_per_keyframe": looks}
    assert_same(usual, rows_of(place, place / "walk.mp4", tmp_path / "other", **options))


def test_a_part_and_a_run_that_was_stopped_have_the_scores_of_the_whole(tmp_path, place):
    film = write_squares(tmp_path / "long.mp4", seconds=14)
    whole = rows_of(place, film, tmp_path / "whole")
    part = rows_of(place, film, tmp_path / "part", run={"start_s": 3.4, "end_s": 7.0})
    inside = (whole.time_us >= 3_400_000) & (whole.time_us < 7_000_000)
    assert_same(part, whole.select(inside))
    seen = []
    stop = {"on_progress": seen.append, "should_stop": lambda: bool(seen) and seen[-1] > 7}
    stopped = rows_of(place, film, tmp_path / "parts", run=stop)
    assert 0 < len(stopped) < len(whole)
    assert_same(whole, rows_of(place, film, tmp_path / "parts"))


class Nobody(SquareDetector):
    def _find(self, frame):
        found = super()._find(frame)
        return found.select(np.zeros(0, np.int64))


def test_where_nobody_is_the_trunk_rests(tmp_path, place, passes):
    with pytest.raises(UserError, match="no rows"):
        rows_of(place, place / "walk.mp4", tmp_path / "out", people=Nobody())
    assert passes == []


def test_a_film_whose_clock_starts_late_and_a_frame_alone(tmp_path, place):
    late = write_squares(tmp_path / "late.mp4", seconds=3, start_s=40.3)
    rows = rows_of(place, late, tmp_path / "late")
    assert rows.time_us.min() == 40_500_000
    one = write_squares(tmp_path / "one.mp4", times_s=[0.0])
    assert np.unique(rows_of(place, one, tmp_path / "one").time_us).tolist() == [0]


def test_streams_are_run_by_torch(tmp_path, place):
    file = read_checkpoint(place / "run")
    with pytest.raises(UserError, match=r"share clips \(clip.stream\), which torch alone runs"):
        export_network(file, tmp_path / "exported", "torch")
    with pytest.raises(UserError, match="which torch alone runs"):
        rows_of(place, place / "walk.mp4", tmp_path / "asked", runtime="openvino")
    plain = rows_of(place, place / "walk.mp4", tmp_path / "torch", runtime="torch")
    auto = rows_of(place, place / "walk.mp4", tmp_path / "auto", runtime="auto")
    assert len(auto) and np.array_equal(auto.score, plain.score)


def frames_of(*numbers):
    return [np.full((2, 2, 3), number, np.uint8) for number in numbers]


def test_a_map_is_computed_once_by_whoever_comes_first_and_forgotten_in_time():
    maps, computed = SharedMaps(kept=2), []
    clips = [frames_of(i, i) for i in range(3)]

    def slowly(number):
        time.sleep(0.05)
        computed.append(number)
        return torch.tensor(number)

    found = []
    threads = [
        threading.Thread(target=lambda: found.append(maps.of(clips[0], lambda: slowly(0))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert computed == [0] and [int(one) for one in found] == [0] * 4
    assert int(maps.of(list(clips[0]), lambda: slowly(7))) == 0  # another list of the same frames
    assert int(maps.of(frames_of(0, 0), lambda: slowly(8))) == 8  # equal, not the same
    maps.of(clips[1], lambda: slowly(1))
    assert int(maps.of(clips[0], lambda: slowly(9))) == 9


def test_a_map_that_fails_is_tried_again_by_the_next():
    maps, clip = SharedMaps(), frames_of(1)

    def fail():
        raise UserError("damaged")

    with pytest.raises(UserError, match="damaged"):
        maps.of(clip, fail)
    assert int(maps.of(clip, lambda: torch.tensor(3))) == 3
