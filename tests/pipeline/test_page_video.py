"""The video beside a review page: linked, copied, or recorded beside the networks; only what was
judged, whichever way the run went."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.pipeline.recording import write_recording
from detection.review import media
from detection.video.reader import VideoReader
from detection.video.stream import Gap, VideoStream
from detection.video.writer import VideoWriter

SEGMENT_S = 5.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    save_tiny_run(folder / "run")
    write_squares(folder / "walk.mp4", seconds=14)
    return folder


@pytest.fixture
def seeks_badly(monkeypatch):
    """Every video's key frames are too far apart."""
    monkeypatch.setattr(media, "MOST_MEGAPIXELS_TO_SEEK", 0.0)


def detector_of(place, people=None):
    options = PipelineOptions(threshold=0.7, batch_size=2, workers=1)
    return ActionDetectorPipeline.from_checkpoint(
        place / "run", people=people or SquareDetector(), options=options
    )


def shown_s(out: Path) -> np.ndarray:
    with VideoReader(out / "videos" / "video.mp4") as reader:
        return reader.decoded_times_s()


def summary_of(out: Path) -> dict:
    head = re.search(r'id="review-data">(.*?)</script>', (out / "review.html").read_text("utf-8"))
    (video,) = json.loads(head[1])["videos"]
    return video


def remuxed(source: Path, path: Path) -> Path:
    with av.open(str(source)) as opened, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(opened.streams.video[0])
        for packet in opened.demux(opened.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return path


def test_what_seeks_well_is_linked_and_the_part_that_was_judged_decides(tmp_path, place):
    film = place / "walk.mp4"
    list(detector_of(place).run(film, out=tmp_path / "out", film=False, end_s=2.0))
    assert (tmp_path / "out" / "videos" / "video.mp4").samefile(film)
    with VideoReader(film) as reader:
        assert media.why_encoded_anew(reader) is None


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, np.inf), (0.0, 2.0), (3.3, 11.0), (6, 7)])
@pytest.mark.parametrize("film", [False, True])
def test_only_what_was_judged_is_recorded(tmp_path, place, seeks_badly, start_s, end_s, film):
    how = {"start_s": start_s, "end_s": end_s, "film": film}
    list(detector_of(place).run(place / "walk.mp4", out=tmp_path / "out", **how))
    wanted_s = np.arange(140) / 10
    wanted_s = wanted_s[(wanted_s >= start_s) & (wanted_s < end_s)]
    assert shown_s(tmp_path / "out") == pytest.approx(wanted_s, abs=1e-4)
    video = summary_of(tmp_path / "out")
    assert video["start"] == pytest.approx(wanted_s[0], abs=1e-4)
    assert video["duration"] == pytest.approx(len(wanted_s) / 10, abs=0.11)
    assert not (tmp_path / "out" / "parts").exists()


def test_the_networks_and_the_page_share_one_pass(tmp_path, place, seeks_badly, monkeypatch):
    walks = []
    frames = VideoStream.frames

    def counted(stream, **how):
        walks.append(stream)
        return frames(stream, **how)

    monkeypatch.setattr(VideoStream, "frames", counted)
    film = write_squares(tmp_path / "film.mp4", seconds=6)
    list(detector_of(place).run(film, out=tmp_path / "out", film=False))
    full = [stream for stream in walks if stream.size_px is not None]
    assert len(shown_s(tmp_path / "out")) == 60
    assert len(full) - 1 <= 1, "one to learn the size of a frame, one for all"


@pytest.mark.parametrize("after", [8, 11, 19, 21])
def test_a_killed_run_goes_on_to_the_same_page(tmp_path, place, seeks_badly, after):
    class Killed(SquareDetector):
        def detect(self, images):
            if self.frames > after:
                raise KeyboardInterrupt
            return super().detect(images)

    film = place / "walk.mp4"
    list(detector_of(place).run(film, out=tmp_path / "whole", film=False))
    with pytest.raises(KeyboardInterrupt):
        list(detector_of(place, Killed()).run(film, out=tmp_path / "cut", film=False))
    parts = (tmp_path / "cut" / "parts").glob("0*.clean.mp4")
    recorded = {path: path.stat().st_ino for path in parts}

    def look(time_s):
        assert {path: path.stat().st_ino for path in recorded} == recorded, "recorded again"

    list(detector_of(place).run(film, out=tmp_path / "cut", film=False, on_progress=look))
    assert np.array_equal(shown_s(tmp_path / "cut"), shown_s(tmp_path / "whole"))
    for name in ("review.html", "detections.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("lost", [(0,), (1,), (0, 1), ()])
def test_recordings_that_are_missing_are_made_and_others_kept(tmp_path, place, seeks_badly, lost):
    film = place / "walk.mp4"
    reached = []
    how = {"film": False, "should_stop": lambda: bool(reached) and reached[-1] >= 11}
    list(detector_of(place).run(film, out=tmp_path / "out", on_progress=reached.append, **how))
    parts = tmp_path / "out" / "parts"
    assert {path.name for path in parts.glob("*.npz")} >= {"000000.npz", "000001.npz"}
    assert (parts / "tail.clean.mp4").is_file(), "the last segment was cut"
    for number in lost:
        (parts / f"{number:06d}.clean.mp4").unlink()
    kept = {path: path.stat().st_ino for path in parts.glob("0*.clean.mp4")}
    seen = []

    def look(time_s):
        seen.append({path: path.stat().st_ino for path in kept if path.is_file()})

    list(detector_of(place).run(film, out=tmp_path / "out", film=False, on_progress=look))
    assert all(now == kept for now in seen) and seen
    assert shown_s(tmp_path / "out") == pytest.approx(np.arange(140) / 10, abs=1e-4)


def test_a_stopped_run_has_a_page_of_what_was_judged(tmp_path, place, seeks_badly):
    film = place / "walk.mp4"
    reached = []
    detector = detector_of(place)
    stop = {"should_stop": lambda: bool(reached) and reached[-1] >= 7}
    list(detector.run(film, out=tmp_path / "out", on_progress=reached.append, **stop))
    assert detector.report.stopped
    last_s = shown_s(tmp_path / "out")[-1]
    assert detector.report.end_s <= last_s < 13.9
    list(detector_of(place).run(film, out=tmp_path / "out"))
    assert shown_s(tmp_path / "out") == pytest.approx(np.arange(140) / 10, abs=1e-4)


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".ts", ".flv"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, np.inf), (3.0, 5.0)])
def test_encoded_frames_of_other_containers_are_copied(
    tmp_path, place, suffix, start_s, end_s, monkeypatch
):
    """Nothing is encoded."""
    with VideoWriter(tmp_path / "a.mp4", width=96, height=72, fps=10, b_frames=False) as writer:
        for number in range(80):
            writer.write(np.full((72, 96, 3), 3 * number, np.uint8), number / 10)
    film = remuxed(tmp_path / "a.mp4", tmp_path / f"film{suffix}")

    def refuse(*_, **__):
        raise AssertionError("a frame is encoded")

    monkeypatch.setattr(VideoWriter, "write_frame", refuse)
    how = {"film": False, "start_s": start_s, "end_s": end_s}
    list(detector_of(place).run(film, out=tmp_path / "out", **how))
    with VideoReader(film) as reader:
        times_s = reader.frame_times_s()
    found_s = shown_s(tmp_path / "out")
    inside = times_s[(times_s >= start_s) & (times_s < end_s)]
    assert np.isin(np.round(inside, 2), np.round(found_s, 2)).all()
    assert len(found_s) <= len(inside) + 12, "from the key frame before to the end, and no further"
    if end_s == np.inf:
        assert found_s == pytest.approx(times_s, abs=1e-3)


def test_b_frames_and_a_late_start_are_copied_and_a_wrong_copy_is_not_kept(
    tmp_path, place, monkeypatch
):
    film = write_squares(tmp_path / "a.mp4", seconds=4, start_s=7.0)
    film = remuxed(film, tmp_path / "film.mkv")
    encoded_s = []
    write = VideoWriter.write_frame

    def noting(writer, frame, time_s):
        encoded_s.append(time_s)
        return write(writer, frame, time_s)

    monkeypatch.setattr(VideoWriter, "write_frame", noting)
    list(detector_of(place).run(film, out=tmp_path / "out", film=False))
    wanted_s = 7 + np.arange(40) / 10
    assert shown_s(tmp_path / "out") == pytest.approx(wanted_s, abs=1e-3) and not encoded_s
    times_s = VideoReader.frame_times_s
    monkeypatch.setattr(
        VideoReader,
        "frame_times_s",
        lambda reader: times_s(reader) + 0.2 * (reader.path.suffix != ".mkv"),
    )
    list(detector_of(place).run(film, out=tmp_path / "other", film=False))
    assert shown_s(tmp_path / "other") == pytest.approx(wanted_s, abs=1e-3)
    assert encoded_s == pytest.approx(wanted_s, abs=1e-3)


def test_variable_rate_and_turned_frames(tmp_path, place, seeks_badly):
    times_s = np.cumsum(np.random.default_rng(0).choice([0.04, 0.1, 0.3], 60))
    film = write_squares(tmp_path / "odd.mp4", times_s=times_s, start_s=100.0)
    list(detector_of(place).run(film, out=tmp_path / "out", film=False))
    with VideoReader(film) as reader:
        wanted_s = reader.decoded_times_s()
    assert shown_s(tmp_path / "out") == pytest.approx(wanted_s, abs=1e-4)
    assert summary_of(tmp_path / "out")["start"] == pytest.approx(wanted_s[0], abs=1e-4)


def test_a_disk_that_fills_while_recording_is_one_line(tmp_path, place, seeks_badly, monkeypatch):
    def full(*_, **__):
        raise UserError("no space")

    monkeypatch.setattr(VideoWriter, "write_frame", full)
    with pytest.raises(UserError, match="no space"):
        list(detector_of(place).run(place / "walk.mp4", out=tmp_path / "out", film=False))
    assert not (tmp_path / "out" / "review.html").exists()


def test_a_stretch_without_a_readable_frame_has_no_video(tmp_path):
    lost = [Gap(0.0, 3.0, "invalid data")]
    for items in ([], lost):
        assert not write_recording(tmp_path / "page.mp4", items, start_s=0.0, end_s=9.0)
    assert list(tmp_path.iterdir()) == []
