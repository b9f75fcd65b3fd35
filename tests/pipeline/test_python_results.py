"""Keyframes as they come, all results at once, and finished folders read back."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import threading
import time

import numpy as np
import pytest
from tiny_pipeline import LABELS, SquareDetector, save_tiny_run, write_squares

from detection import KeyframeResult, UserError, VideoResults
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.postprocess import Postprocessed
from detection.pipeline.writers import write_tables
from detection.video.reader import VideoReader
from detection.video.stream import VideoStream


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    save_tiny_run(folder / "run")
    write_squares(folder / "walk.mp4", seconds=8, empty=(3, 6))
    detector_of(folder).analyse(folder / "walk.mp4", out=folder / "done", film=False, page=False)
    return folder


def detector_of(place, people=None, **options):
    usual = {"threshold": 0.68, "class_thresholds": {"be here": 0.5}}  # some are done now and then
    options = usual | {"smoothing_s": 0.0, "max_gap_s": 1.0} | options
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=people or SquareDetector(), options=PipelineOptions(**options)
    )


def frames_of(video):
    """Yield the frames of a file as a caller has them in memory."""
    with VideoReader(video) as reader:
        yield from reader.frames()


def assert_same(first, second, tolerance=0.0):
    assert [k.time_s for k in first] == [k.time_s for k in second]
    for one, other in zip(first, second, strict=True):
        assert one.tracks.tolist() == other.tracks.tolist()
        assert (one.doing, one.names, one.size_px) == (other.doing, other.names, other.size_px)
        for name in ("boxes_01", "person_scores", "scores"):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            assert ours == pytest.approx(theirs, abs=tolerance)


def test_keyframes_are_those_of_the_tables(place):
    keyframes = list(detector_of(place).keyframes(place / "walk.mp4"))
    assert [k.time_s for k in keyframes] == [n / 2 for n in range(16)], "also those without anybody"
    assert [len(k) for k in keyframes] == [2] * 6 + [0] * 6 + [2] * 4
    assert keyframes[7].scores.shape == (0, 3) and keyframes[7].boxes_px.shape == (0, 4)
    for line in (place / "done" / "tracks.jsonl").open():
        track = json.loads(line)
        for row in track["keyframes"]:
            keyframe = keyframes[round(row["time_s"] * 2)]
            (position,) = np.flatnonzero(keyframe.tracks == track["track"])
            assert keyframe.boxes_01[position] == pytest.approx(row["box_01"], abs=1e-6)
            assert keyframe.boxes_px[position] == pytest.approx(
                np.array(row["box_01"]) * (96, 72, 96, 72), abs=1e-4
            )
            assert keyframe.scores[position] == pytest.approx(row["scores"], abs=1e-6)
            assert list(keyframe.doing[position]) == row["doing"]
            above = np.array(LABELS.names)[np.array(row["scores"]) >= (0.68, 0.68, 0.5)].tolist()
            assert row["doing"] == above, "without smoothing there is one threshold"
    assert any(doing for keyframe in keyframes for doing in keyframe.doing)


def test_all_results_at_once_are_the_events_and_keyframes_of_the_walks(place):
    detector = detector_of(place)
    results = detector.analyse(place / "walk.mp4")
    assert results.events == list(detector.run(place / "walk.mp4")) and len(results.events) > 5
    assert_same(results.keyframes, list(detector.keyframes(place / "walk.mp4")))
    assert results.label_map.names == LABELS.names and results.video_id == "walk"
    with VideoStream(place / "walk.mp4") as stream:
        assert_same(results.keyframes, detector.analyse(stream).keyframes)


@pytest.mark.parametrize("smoothing_s", [0.0, 1.0])
def test_a_finished_folder_gives_its_results_again(place, tmp_path, smoothing_s):
    how = {"out": tmp_path / "out", "film": False, "page": False}
    video = place / "walk.mp4"
    detector = detector_of(place, smoothing_s=smoothing_s, threshold=0.55)
    first = detector.analyse(video, **how)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    people = SquareDetector()
    again = detector_of(place, people, smoothing_s=smoothing_s, threshold=0.55)
    assert list(again.run(video, **how)) == first.events != []
    assert again.report.already_complete and again.report.events == len(first.events)
    assert_same(list(again.keyframes(video, **how)), first.keyframes, 1e-6)
    assert again.report.already_complete
    stored = again.analyse(video, **how)
    assert stored.events == first.events and again.report.already_complete
    assert_same(stored.keyframes, first.keyframes, 1e-6)
    opened = VideoResults.open(tmp_path / "out")
    assert opened.events == first.events and opened.video_id == "walk"
    assert_same(opened.keyframes, stored.keyframes)
    assert people.frames == 0 and opened.label_map.names == LABELS.names
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_a_killed_run_goes_on_with_all_its_keyframes(place, tmp_path):
    class Killed(SquareDetector):
        def detect(self, images):
            if self.frames > 22:
                raise KeyboardInterrupt
            return super().detect(images)

    film = write_squares(tmp_path / "long.mp4", seconds=16)
    how = {"out": tmp_path / "out", "film": False, "page": False}
    with pytest.raises(KeyboardInterrupt):
        list(detector_of(place, Killed()).keyframes(film, **how))
    with pytest.raises(UserError, match=r"out: the run is not finished; run it to its end first"):
        VideoResults.open(tmp_path / "out")
    detector = detector_of(place)
    keyframes = list(detector.keyframes(film, **how))
    assert detector.report.resumed_s > 0 and len(keyframes) == 32
    assert_same(keyframes, list(detector_of(place).keyframes(film)))
    assert keyframes[0].size_px == (96, 72), "of a stretch that was not read this time"


def test_nobody_at_all(place, tmp_path):
    film = write_squares(tmp_path / "empty.mp4", seconds=2, empty=(0, 9))
    results = detector_of(place).analyse(film, out=tmp_path / "out", film=False, page=False)
    assert results.events == [] and [len(k) for k in results.keyframes] == [0] * 4
    assert_same(VideoResults.open(tmp_path / "out").keyframes, results.keyframes)
    results.save(tmp_path / "saved")
    assert_same(VideoResults.open(tmp_path / "saved").keyframes, results.keyframes)


# Frames from memory


def test_frames_from_memory_give_what_their_file_gives(place, tmp_path):
    """To the last bit where nothing is scaled: the networks' short side is the video's."""
    film = write_squares(tmp_path / "small.mp4", seconds=8, empty=(3, 6), size=(96, 64))
    detector = detector_of(place, threshold=0.5)
    of_file, of_memory = detector.analyse(film), detector.analyse(frames_of(film))
    assert (of_file.video_id, of_memory.video_id) == ("small", "frames")
    assert_same(of_memory.keyframes, of_file.keyframes)
    renamed = [dataclasses.replace(event, video_id="small") for event in of_memory.events]
    assert renamed == of_file.events != []


def test_frames_from_memory_are_recorded_where_results_are_written(place, tmp_path):
    detector = detector_of(place)
    out = tmp_path / "out"
    results = detector.analyse(frames_of(place / "walk.mp4"), out=out, video_id="mine")
    for name in ("annotated.mp4", "videos/video.mp4"):
        with VideoReader(out / name) as reader:
            assert reader.decoded_times_s() == pytest.approx(np.arange(80) / 10, abs=1e-4)
    assert (out / "review.html").is_file() and not (out / "parts").exists()
    opened = VideoResults.open(out)
    assert opened.events == results.events and opened.video_id == "mine"
    assert_same(opened.keyframes, results.keyframes, 1e-6)
    with pytest.raises(UserError, match="of a source that cannot be read again"):
        detector.analyse(frames_of(place / "walk.mp4"), out=out, video_id="mine")


def test_live_frames_from_memory_drop_late_keyframes(place, tmp_path):
    def camera():
        start_s = time.monotonic()
        for number, (_, frame) in enumerate(frames_of(place / "walk.mp4")):
            time.sleep(max(0.0, start_s + number / 40 - time.monotonic()))
            yield number / 10, frame

    detector = detector_of(place, SquareDetector(delay_s=0.3), workers=1)
    keyframes = list(detector.keyframes(camera(), live=True, out=tmp_path / "out"))
    assert detector.report.dropped > 0 and len(keyframes) + detector.report.dropped == 16
    assert_same(VideoResults.open(tmp_path / "out").keyframes, keyframes, 1e-6)


def test_late_times_and_frames_without_anybody(place, tmp_path):
    grey = np.full((72, 96, 3), 90, np.uint8)
    items = [(9.9e8 + n / 10, grey) for n in range(30)]
    keyframes = list(detector_of(place).keyframes(items, out=tmp_path / "out"))
    assert [k.time_s for k in keyframes] == [9.9e8 + n / 2 for n in range(6)]
    assert VideoResults.open(tmp_path / "out").keyframes[0].time_s == 9.9e8
    with VideoReader(tmp_path / "out" / "annotated.mp4") as reader:
        assert reader.decoded_times_s() == pytest.approx([time_s for time_s, _ in items], abs=1e-4)


def test_a_frame_that_is_wrong_ends_the_run_in_one_line(place, tmp_path):
    black = np.zeros((72, 96, 3), np.uint8)
    before = threading.active_count()
    for items, line in (
        ([(n / 10, black) for n in range(30)] + [(1.0, black)], "frame 31 at 1.000000 s: the fr"),
        ([(n / 10, black) for n in range(30)] + [(3.0, black[:8])], "96x8 found, 96x72 as in"),
    ):
        with pytest.raises(UserError, match=line):
            list(detector_of(place).run(iter(items), out=tmp_path / str(line[:8])))
    for wrong in (black, None, [black]):
        with pytest.raises(UserError, match=r"^(source|frames from memory): .*required"):
            list(detector_of(place).keyframes(wrong, out=tmp_path / "never"))
    assert not (tmp_path / "never").exists() and threading.active_count() <= before


def test_an_error_of_the_callers_own_iterator_is_theirs(place):
    def frames():
        yield from [(n / 10, np.zeros((72, 96, 3), np.uint8)) for n in range(12)]
        raise ConnectionError("the camera is gone")

    with pytest.raises(ConnectionError, match="the camera is gone"):
        list(detector_of(place).keyframes(frames()))


def test_few_frames_are_taken_ahead_and_stopping_early_ends_the_threads(place):
    """An endless source; whoever looks at one keyframe has not read far ahead of it."""
    taken = []

    def endless():
        picture = next(iter(frames_of(place / "walk.mp4")))[1]
        while True:
            taken.append(len(taken))
            yield len(taken) / 10, picture

    before = threading.active_count()
    detector = detector_of(place, batch_size=4, workers=1, threshold=0.0)
    walk = detector.keyframes(endless())
    for _ in range(20):
        keyframe = next(walk)
        time.sleep(0.01)
    time.sleep(0.3)
    assert keyframe.time_s >= 9.5 and len(taken) / 10 - keyframe.time_s < 12
    count = len(taken)
    time.sleep(0.2)
    assert len(taken) == count, "the reader waits"
    walk.close()
    assert threading.active_count() <= before and len(taken) <= count + 1
    walk = detector.keyframes(endless())
    next(walk)
    del walk
    assert threading.active_count() <= before


# Saving, opening, other packages


def test_results_without_a_folder_are_saved_and_opened(place, tmp_path):
    results = detector_of(place).analyse(place / "walk.mp4")
    assert results.save(tmp_path / "a" / "saved") == tmp_path / "a" / "saved"
    opened = VideoResults.open(tmp_path / "a" / "saved")
    assert opened.events == results.events and opened.video_id == "walk"
    assert_same(opened.keyframes, results.keyframes, 1e-6)
    done = place / "done"
    for name in ("events.jsonl", "detections.csv", "label_map.pbtxt"):
        assert (tmp_path / "a" / "saved" / name).read_bytes() == (done / name).read_bytes()
    with pytest.raises(UserError, match="contains other files; a new or empty folder"):
        results.save(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a folder"):
        results.save(tmp_path / "file")
    with pytest.raises(UserError, match="holds results of other"):
        list(detector_of(place).run(place / "walk.mp4", out=tmp_path / "a" / "saved"))


def test_a_folder_of_an_older_version_opens(place, tmp_path):
    """Without what run.json and tracks.jsonl say only now."""
    old = tmp_path / "old"
    shutil.copytree(place / "done", old)
    state = json.loads((old / "run.json").read_text())
    del state["video"]
    (old / "run.json").write_text(json.dumps(state))
    tracks = [json.loads(line) for line in (old / "tracks.jsonl").open()]
    for track in tracks:
        for row in track["keyframes"]:
            del row["doing"]
    (old / "tracks.jsonl").write_text("".join(json.dumps(track) + "\n" for track in tracks))
    now = VideoResults.open(place / "done")
    opened = VideoResults.open(old, size_px=(96, 72))
    assert opened.events == now.events and opened.video_id == "walk"
    assert_same(opened.keyframes, [k for k in now.keyframes if len(k)])
    with pytest.raises(UserError, match="size of the video's frames is not known"):
        VideoResults.open(old).keyframes[0].boxes_px  # noqa: B018


def test_classes_that_a_table_leaves_out_of_a_track_read_as_0(place, tmp_path):
    results = VideoResults.open(place / "done")
    shown = [results._shown(keyframe) for keyframe in results.keyframes]
    folder = tmp_path / "few"
    shutil.copytree(place / "done", folder)
    write_tables(folder, "walk", LABELS, [Postprocessed(shown, results.events)], 1.0, 0.48)
    for track in map(json.loads, (folder / "tracks.jsonl").open()):
        assert track["classes"] == ["be red", "be here"][: 1 + (track["track"] % 2 == 0)]
    for few, every in zip(VideoResults.open(folder).keyframes, results.keyframes, strict=True):
        assert few.doing == every.doing and (few.scores[:, 1] == 0).all()
        assert (few.scores[:, 0] == every.scores[:, 0]).all()


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("run.json", None, r"done: no results of detect_actions \(run.json is required\)"),
        ("run.json", lambda text: text.replace("true", "false", 1), "done: the run is not finis"),
        ("run.json", lambda text: text[:50], r"run.json:\d+: not JSON"),
        ("run.json", lambda text: text.replace('"size_px": [', '"size_px": [[],'), "run.json: da"),
        ("events.jsonl", None, "events.jsonl: not found"),
        ("events.jsonl", lambda text: text[:-9], r"events.jsonl:\d+: not JSON, or cut short"),
        ("events.jsonl", lambda text: text.replace('"track"', '"tracks"'), "jsonl:1: not an event"),
        ("events.jsonl", lambda text: "[]\n" + text, r"events.jsonl:1: an object \{...\} is req"),
        ("tracks.jsonl", None, "tracks.jsonl: not found"),
        ("tracks.jsonl", lambda text: text.replace('"box_01": [', '"box_01": [0, '), "5 numbers"),
        ("tracks.jsonl", lambda text: text.replace('"person_score": 0.9', '"person_score": 1e99'),
         "tracks.jsonl:1: not a track"),
        ("tracks.jsonl", lambda text: text.replace('be red"]', 'fly"]'), r"jsonl:\d: not a track"),
        ("tracks.jsonl", lambda text: text.replace("be here", "be there"), "not a track .KeyError"),
        ("label_map.pbtxt", None, "label map not found"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_one_line(place, tmp_path, name, change, line):
    folder = tmp_path / "done"
    shutil.copytree(place / "done", folder)
    if change is None:
        (folder / name).unlink()
    else:
        text = (folder / name).read_text()
        assert change(text) != text
        (folder / name).write_text(change(text))
    with pytest.raises(UserError, match=line) as caught:
        VideoResults.open(folder)
    assert "\n" not in str(caught.value)


def test_an_optional_package_that_is_absent_is_named_with_how_to_get_it(place, monkeypatch):
    results = VideoResults.open(place / "done")
    for package, convert in (
        ("pandas", results.to_pandas),
        ("supervision", results.to_supervision),
    ):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
        with pytest.raises(UserError, match=f"^the {package} package is required: pip install"):
            convert()


def test_pandas_has_a_row_for_each_person_at_each_keyframe(place):
    pandas = pytest.importorskip("pandas")
    results = VideoResults.open(place / "done")
    table = results.to_pandas()
    assert len(table) == sum(len(k) for k in results.keyframes) == 20
    assert list(table.columns) == [
        *("video_id", "time_s", "track", "x1_01", "y1_01", "x2_01", "y2_01", "person_score"),
        *("seen", "doing", "score:be red", "score:be <b>blue</b>", "score:be here"),
    ]
    rows = [(k, row) for k in results.keyframes for row in range(len(k))]
    for (keyframe, row), found in zip(rows, table.to_dict("records"), strict=True):
        assert (found["video_id"], found["time_s"]) == ("walk", keyframe.time_s)
        assert found["track"] == keyframe.tracks[row] and found["doing"] == keyframe.doing[row]
        assert found["y2_01"] == keyframe.boxes_01[row, 3]
        assert found["score:be here"] == keyframe.scores[row, 2]
    exploded = table.explode("doing").dropna(subset="doing")
    assert set(exploded["doing"]) == {event.action for event in results.events}
    events = pandas.DataFrame(results.events)
    assert events["peak_score"].tolist() == [event.peak_score for event in results.events]
    nothing = dataclasses.replace(results, keyframes=[], events=[]).to_pandas()
    assert len(nothing) == 0 and list(nothing.columns) == list(table.columns)
    nobody = dataclasses.replace(results, keyframes=results.keyframes[6:9]).to_pandas()
    assert len(nobody) == 0 and nobody.dtypes["track"] == np.int64


def test_supervision_has_detections_for_each_keyframe(place):
    supervision = pytest.importorskip("supervision")
    results = VideoResults.open(place / "done")
    detections = results.to_supervision()
    assert len(detections) == len(results.keyframes) == 16
    for keyframe, found in zip(results.keyframes, detections, strict=True):
        assert isinstance(found, supervision.Detections) and len(found) == len(keyframe)
        assert found.tracker_id.tolist() == keyframe.tracks.tolist()
        assert found.xyxy == pytest.approx(keyframe.boxes_01 * (96, 72, 96, 72), abs=1e-4)
        for row, doing in enumerate(keyframe.doing):
            best = max(doing, key=lambda n: keyframe.scores[row, LABELS.names.index(n)], default="")
            column = LABELS.names.index(best) if best else -1
            assert (found.class_id[row], found["class_name"][row]) == (column, best)
            score = keyframe.scores[row, column] if best else keyframe.person_scores[row]
            assert found.confidence[row] == score
    merged = supervision.Detections.merge(detections)
    assert len(merged) == 20 and set(merged.class_id.tolist()) == {-1, 0}
    frame = np.zeros((72, 96, 3), np.uint8)
    assert supervision.BoxAnnotator().annotate(frame.copy(), detections[0]).any()


def test_supervision_names_the_likeliest_of_several_actions():
    pytest.importorskip("supervision")
    keyframe = KeyframeResult(
        0.5,
        np.array([3, 7, 8]),
        np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([[0.6, 0.7, 0.95], [0.1, 0.2, 0.3], [0.9, 0.8, 0.1]], np.float32),
        (("sit", "stand"), (), ("sit", "stand")),
        ("sit", "stand", "left out"),
        (640, 360),
    )
    found = keyframe.to_supervision()
    assert found.class_id.tolist() == [1, -1, 0]
    assert found.confidence.tolist() == pytest.approx([0.7, 0.8, 0.9])
    assert found["class_name"].tolist() == ["stand", "", "sit"]
    assert found.xyxy.tolist() == [[0, 0, 320, 360], [320, 0, 640, 360], [0, 0, 640, 360]]


def test_a_result_of_nobody_is_legal():
    empty = KeyframeResult(
        0.5, np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32),
        np.zeros((0, 2), np.float32), (), ("sit", "stand"), (640, 360),
    )  # fmt: skip
    assert len(empty) == 0 and empty.boxes_px.shape == (0, 4)
