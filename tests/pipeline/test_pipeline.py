"""The same events whichever way a video is run, few frames kept, and runs that were killed."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import math
import weakref

import numpy as np
import pytest
import torch
from tiny_pipeline import LABELS, SquareDetector, save_tiny_run, write_squares

from detection.checkpoints.file import read_checkpoint
from detection.checkpoints.load import load_network
from detection.datasets.ava_csv import read_detections
from detection.datasets.transforms import EvalTransform
from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.detector import SEGMENT_S
from detection.structures import ClipSampling
from detection.video.reader import VideoReader
from detection.video.stream import StreamFrame
from detection.video.writer import VideoWriter


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    save_tiny_run(folder / "run")
    save_tiny_run(folder / "inside" / "run", at_ends="inside")
    write_squares(folder / "walk.mp4", seconds=12)
    return folder


def detector_of(place, people=None, **options):
    options = {"threshold": 0.7, "batch_size": 6, "workers": 2, **options}
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=people or SquareDetector(), options=PipelineOptions(**options)
    )


def as_rows(events):
    return sorted((e.action, e.track, e.start_s, e.end_s, round(e.peak_score, 9)) for e in events)


def assert_alike(first, second):
    first, second = as_rows(first), as_rows(second)
    assert [row[:2] for row in first] == [row[:2] for row in second]
    for a, b in zip(first, second, strict=True):
        assert a[2:] == pytest.approx(b[2:], abs=1e-4)


@pytest.mark.parametrize("at_ends", ["repeat", "inside"])
def test_scores_are_those_of_the_network_on_the_frames_nearest_in_time(tmp_path, place, at_ends):
    """Against the evaluation's own reading and transform, keyframe by keyframe."""
    run = place if at_ends == "repeat" else place / at_ends
    detector = detector_of(run, smoothing_s=0.0)
    list(detector.run(place / "walk.mp4", out=tmp_path / "exact", film=False, page=False))
    rows = read_detections(tmp_path / "exact" / "detections.csv")
    model = load_network(read_checkpoint(place / "run"))
    transform = EvalTransform(short_side=64)
    checked = 0
    with VideoReader(place / "walk.mp4") as reader, torch.inference_mode():
        for time_us in np.unique(rows.time_us).tolist():
            chosen = rows.select(rows.time_us == time_us)
            boxes = chosen.boxes_01[:: len(LABELS)].astype(np.float32)
            times_s = ClipSampling(4, 6, at_ends).times_s(time_us / 1e6, within_s=(0.0, 11.9))
            frames = reader.read(times_s, short_side=64).frames
            clip = transform.apply(frames, boxes, transform.make_params(np.random.default_rng(0)))
            rois = torch.nn.functional.pad(clip.boxes_px, (1, 0))
            wanted = model(clip.frames[None], rois).sigmoid().numpy()
            found = chosen.score.reshape(-1, len(LABELS))
            assert found == pytest.approx(wanted, abs=1e-5)
            checked += len(boxes)
    assert checked == 2 * 24  # two squares, every half second of 12 s


@pytest.mark.parametrize(("start_s", "seconds", "step"), [(0, 3, 6), (40, 3, 30), (0, 0.6, 90)])
def test_clips_kept_inside_do_not_depend_on_the_batch(tmp_path, start_s, seconds, step):
    """Steps of 1 and 3 s: clips longer than the film are spread over it."""
    save_tiny_run(tmp_path / "run", step=step, at_ends="inside")
    film = write_squares(tmp_path / "short.mp4", seconds=seconds, start_s=start_s)
    first = None
    for batch, interval_s in ((1, 0.25), (4, 0.25), (50, 0.25), (3, 0.1)):
        options = {"batch_size": batch, "keyframe_interval_s": interval_s, "smoothing_s": 0.0}
        detector = detector_of(tmp_path, **options)
        list(detector.run(film, out=tmp_path / "out", film=False, page=False, overwrite=True))
        rows = read_detections(tmp_path / "out" / "detections.csv")
        assert rows.time_us.min() == 1e6 * start_s
        rows = rows.select(rows.time_us % 500_000 == 0)
        first = rows if first is None else first
        assert len(rows) == len(first) > 0
        assert rows.score == pytest.approx(first.score, abs=1e-5)


@pytest.mark.parametrize(("batch", "workers", "looks"), [(1, 1, 1), (3, 2, 2), (24, 1, 3)])
def test_events_do_not_depend_on_the_batch(place, batch, workers, looks):
    people = SquareDetector()
    usual = list(detector_of(place, people_per_keyframe=looks).run(place / "walk.mp4"))
    assert usual, "there are events to compare"
    other = detector_of(place, people, batch_size=batch, workers=workers, people_per_keyframe=looks)
    assert_alike(usual, other.run(place / "walk.mp4"))
    assert people.frames == 24 * looks  # all times from 0 to 11.9 s, and none twice


def test_whole_or_in_two_halves(tmp_path, place):
    """Each half is a file of its own; events more than the reach of everything from the cut."""
    write_squares(tmp_path / "wgap.mp4", seconds=24, empty=(5, 8))
    times_s = np.arange(240) / 10
    halves = [times_s[times_s < 14], times_s[times_s >= 14]]
    paths = [
        write_squares(tmp_path / f"half{i}.mp4", times_s=half, empty=(5, 8))
        for i, half in enumerate(halves)
    ]
    detector = detector_of(place, smoothing_s=0.6, threshold=0.75, max_gap_s=1.0)
    whole = list(detector.run(tmp_path / "wgap.mp4"))
    parts = [event for path in paths for event in detector.run(path)]

    def away(events):
        rows = [row for row in as_rows(events) if row[3] < 12.5 or row[2] > 15.5]
        return [(row[0], *row[2:]) for row in rows]

    assert away(whole) and len(away(whole)) == len(away(parts))
    for a, b in zip(sorted(away(whole)), sorted(away(parts)), strict=True):
        assert a[0] == b[0] and a[1:] == pytest.approx(b[1:], abs=1e-4)


def test_part_of_a_video_is_judged_as_within_the_whole(place):
    detector = detector_of(place, smoothing_s=0.0)
    list(detector.run(place / "walk.mp4", out=place / "all", film=False, page=False))
    part = detector.run(
        place / "walk.mp4", out=place / "part", start_s=4.2, end_s=8, film=False, page=False
    )
    list(part)
    rows, some = (read_detections(place / name / "detections.csv") for name in ("all", "part"))
    inside = rows.select((rows.time_us >= 4_200_000) & (rows.time_us < 8_000_000))
    assert some.time_us.tolist() == inside.time_us.tolist() and len(some) == 7 * 2 * 3
    assert some.score == pytest.approx(inside.score, abs=1e-5)


@pytest.mark.parametrize(
    ("batch", "workers", "interval_s", "step"), [(1, 1, 0.2, 24), (6, 2, 0.5, 6), (8, 2, 0.1, 15)]
)
def test_few_frames_are_kept(tmp_path, monkeypatch, batch, workers, interval_s, step):
    """Counted where frames are made, by when Python lets go of them; and the span they cover."""
    save_tiny_run(tmp_path / "run", step=step)
    write_squares(tmp_path / "walk.mp4", seconds=8, fps=20)
    kept: dict[int, float] = {}
    most, longest = [0], [0.0]
    convert = StreamFrame.rgb

    def counted(self, short_side=None):
        picture = convert(self, short_side)
        if short_side == 64:
            key = id(picture)
            kept[key] = self.time_s
            weakref.finalize(picture, kept.pop, key, None)
            alive = list(kept.values())
            most[0] = max(most[0], len(alive))
            longest[0] = max(longest[0], max(alive) - min(alive))
        return picture

    monkeypatch.setattr(StreamFrame, "rgb", counted)
    people = SquareDetector()
    people.sides_px = (48, 96)  # so that pictures for people are told apart
    gc.collect()
    detector = detector_of(
        tmp_path, people, batch_size=batch, workers=workers, keyframe_interval_s=interval_s
    )
    list(detector.run(tmp_path / "walk.mp4"))
    span_s = 3 * step / 30
    bound = detector.describe_bound()
    length_s = span_s + (batch - 1) * interval_s
    assert f"{length_s:.2f} s" in bound
    assert f"at most {4 * (math.floor(span_s / interval_s + 1e-9) + batch)} frames" in bound
    frame_s = 1 / 20
    assert 0 < longest[0] <= length_s + frame_s + 1e-6
    assert 4 <= most[0] <= int(bound.split()[2])
    # Whatever the clips share: no more than the frames of such a stretch of video.
    assert most[0] <= length_s / frame_s + 2


def test_a_killed_run_goes_on_to_the_same_results(tmp_path, place, drawn):
    film = write_squares(tmp_path / "long.mp4", seconds=24)
    drawn.clear()
    names = ("events.jsonl", "tracks.jsonl", "detections.csv")

    class Killed(SquareDetector):
        def detect(self, images):
            if self.frames > 30:
                raise KeyboardInterrupt
            return super().detect(images)

    list(detector_of(place).run(film, out=tmp_path / "whole"))
    whole = dict(drawn)
    drawn.clear()
    with pytest.raises(KeyboardInterrupt):
        list(detector_of(place, Killed()).run(film, out=tmp_path / "cut"))
    assert not (tmp_path / "cut" / "events.jsonl").exists()
    whole_s = SEGMENT_S * len(list((tmp_path / "cut" / "parts").glob("*.npz")))
    assert 5 <= whole_s <= 15
    again = SquareDetector()
    detector = detector_of(place, again)
    events = list(detector.run(film, out=tmp_path / "cut"))
    assert len(whole) == 240 and drawn == whole, "other frames were drawn"
    assert detector.report.resumed_s == whole_s - 0.5
    assert again.frames == (24 - whole_s) * 2
    assert_alike(events, detector_of(place).run(film))
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert_same_film(tmp_path / "cut", tmp_path / "whole")
    assert not (tmp_path / "cut" / "parts").exists()


@pytest.fixture
def drawn(monkeypatch):
    """Frames given to the encoder of annotated videos, by time: drawn before a kill, or again.

    Their hashes: the frames themselves are gigabytes.
    """
    frames = {}
    write = VideoWriter.write_frame

    def noting(writer, frame, time_s):
        frames[time_s] = hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()
        return write(writer, frame, time_s)

    monkeypatch.setattr(VideoWriter, "write_frame", noting)
    return frames


def assert_same_film(*folders):
    """Alike to the eye: where all cores are busy x264 codes a block in thousands otherwise."""
    films = []
    for folder in folders:
        with VideoReader(folder / "annotated.mp4") as reader:
            films.append(list(reader.frames()))
    assert [time_s for time_s, _ in films[0]] == [time_s for time_s, _ in films[1]]
    for (_, one), (_, other) in zip(*films, strict=True):
        apart = np.abs(one.astype(int) - other.astype(int))
        assert apart.max() <= 24 and apart.mean() < 0.25


def test_a_stopped_run_leaves_valid_files_and_goes_on(tmp_path, place, drawn):
    film = write_squares(tmp_path / "long.mp4", seconds=26)
    drawn.clear()
    list(detector_of(place).run(film, out=tmp_path / "whole"))
    whole = dict(drawn)
    drawn.clear()
    reached = []
    detector = detector_of(place)
    list(
        detector.run(
            film,
            out=tmp_path / "cut",
            on_progress=reached.append,
            should_stop=lambda: bool(reached) and reached[-1] > 13,
        )
    )
    assert detector.report.stopped and 13 < detector.report.end_s < 24
    with VideoReader(tmp_path / "cut" / "annotated.mp4") as reader:
        last_s = reader.decoded_times_s()[-1]
    assert last_s == pytest.approx(detector.report.end_s + 0.25, abs=0.11)
    lines = (tmp_path / "cut" / "tracks.jsonl").read_text().splitlines()
    assert [json.loads(line)["track"] for line in lines] == [1, 2]
    assert (tmp_path / "cut" / "review.html").is_file()
    list(detector_of(place).run(film, out=tmp_path / "cut"))
    assert len(whole) == 260 and drawn == whole, "other frames were drawn"
    for name in ("events.jsonl", "tracks.jsonl", "detections.csv", "review.html"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert_same_film(tmp_path / "cut", tmp_path / "whole")


def test_finished_work_is_kept_and_other_options_are_refused(tmp_path, place):
    film = place / "walk.mp4"
    first = list(detector_of(place).run(film, out=tmp_path / "out", film=False, page=False))
    again = detector_of(place)
    stored = list(again.run(film, out=tmp_path / "out", film=False, page=False))
    assert stored == first != [] and again.report.events == len(first)
    assert again.report.already_complete
    other = detector_of(place, threshold=0.9)
    with pytest.raises(UserError, match="other options.*--overwrite"):
        list(other.run(film, out=tmp_path / "out", film=False, page=False))
    list(other.run(film, out=tmp_path / "out", film=False, page=False, overwrite=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="contains other files"):
        list(other.run(film, out=tmp_path / "mine"))
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_variable_rate_and_late_start_keep_their_times(tmp_path, place):
    times_s = np.cumsum(np.random.default_rng(0).choice([0.04, 0.1, 0.3], 60))
    film = write_squares(tmp_path / "odd.mp4", times_s=times_s, start_s=100.0)
    list(detector_of(place, threshold=0.0).run(film, out=tmp_path / "out"))
    with VideoReader(film) as reader:
        wanted_s = reader.decoded_times_s()
    with VideoReader(tmp_path / "out" / "annotated.mp4") as reader:
        assert reader.decoded_times_s() == pytest.approx(wanted_s, abs=1e-4)
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").open()]
    assert events and all(100 <= event["start_s"] <= 101 for event in events)


def test_leaving_early_ends_the_threads(place):
    import threading

    before = threading.active_count()
    run = detector_of(place, threshold=0.0, max_gap_s=0.4).run(place / "walk.mp4")
    next(run, None)
    run.close()
    assert threading.active_count() <= before


def test_class_subset_thresholds_and_top_k(place):
    film = place / "walk.mp4"
    every = detector_of(place, threshold=0.0)
    found = list(every.run(film))
    assert every.networks.label_map.exclusive == {"colour": (0, 1)}
    for track in (1, 2):  # all scores reach 0: here all the time, and of one colour at a time
        spans = {n: [(e.start_s, e.end_s) for e in found if e.track == track and e.action == n]
                 for n in LABELS.names}  # fmt: skip
        colours = sorted(spans[LABELS.names[0]] + spans[LABELS.names[1]])
        (here,) = spans["be here"]
        assert (colours[0][0], colours[-1][1]) == here
        assert all(one[1] == two[0] for one, two in itertools.pairwise(colours))
    some = detector_of(place, threshold=0.0, classes=("9", "be red"))
    assert {(e.action, e.action_id) for e in some.run(film)} == {("be red", 3), ("be here", 9)}
    assert some.networks.label_map.exclusive == {}, "one colour alone excludes nothing"
    one = detector_of(place, threshold=0.0, class_thresholds={"be red": 1.0})
    assert {e.action for e in one.run(film)} == {"be <b>blue</b>", "be here"}
    top = detector_of(place, threshold=0.0, top_k=1)
    assert len({e.action for e in top.run(film) if e.track == 1}) == 1
    with pytest.raises(UserError, match="'fly' is not in .*'be red'"):
        detector_of(place, classes=("fly",))
