"""Sources that are damaged, silent, rotated, gone and back, or pass only once."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import SimpleNamespace

import av
import numpy as np
import pytest
from damaged_videos import damage
from rtsp_camera import RtspCamera
from tiny_data import turn
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection.datasets.ava_csv import read_detections
from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.video.reader import VideoReader
from detection.video.stream import Gap, StreamFrame, VideoStream, join_videos
from detection.video.writer import VideoWriter


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return save_tiny_run(tmp_path_factory.mktemp("sources") / "run")


def detector_of(run_folder, **options):
    options = {"threshold": 0.0, **options}
    return ActionDetectorPipeline.from_checkpoint(
        run_folder, people=SquareDetector(), options=PipelineOptions(**options)
    )


def test_damage_in_the_middle_is_skipped_and_named(tmp_path, run_folder):
    film = write_squares(tmp_path / "film.mp4", seconds=9)
    damage(film, 3.25, 4.6)
    with VideoStream(film) as stream:
        items = list(stream.frames())
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert gap.start_s == pytest.approx(3.2) and gap.end_s == pytest.approx(5.0)
    detector = detector_of(run_folder)
    named = []
    list(detector.run(film, out=tmp_path / "out", on_gap=named.append))
    assert named == [gap] and detector.report.gaps == [gap]
    times = set((read_detections(tmp_path / "out" / "detections.csv").time_us / 1e6).tolist())
    assert times == {t / 2 for t in range(18)} - {3.5, 4.0, 4.5}
    with VideoReader(tmp_path / "out" / "annotated.mp4") as reader:
        shown_s = reader.decoded_times_s()
    assert len(shown_s) == 90 - 17 and not ((shown_s > 3.21) & (shown_s < 4.99)).any()


def test_a_file_that_was_cut_short_is_judged_as_far_as_it_goes(tmp_path, run_folder):
    """Its header, in front, promises more than there is: the rest is a hole, the results wgap."""
    film = write_squares(tmp_path / "film.mp4", seconds=6)
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 6 // 10])
    detector = detector_of(run_folder)
    assert list(detector.run(film, out=tmp_path / "out"))
    (gap,) = detector.report.gaps
    assert 2 < gap.start_s < 5 and gap.end_s == pytest.approx(6)
    for name in ("annotated.mp4", "videos/video.mp4"):
        with VideoReader(tmp_path / "out" / name) as reader:
            assert reader.decoded_times_s()[-1] == pytest.approx(gap.start_s, abs=1e-4)
    assert (tmp_path / "out" / "review.html").is_file()
    assert not (tmp_path / "out" / "parts").exists()


def test_nobody_at_all(tmp_path, run_folder):
    film = write_squares(tmp_path / "empty.mp4", seconds=3, empty=(0, 9))
    detector = detector_of(run_folder)
    assert list(detector.run(film, out=tmp_path / "out")) == []
    assert detector.report.people == 0 and detector.report.keyframes == 6
    for name in ("detections.csv", "tracks.jsonl", "events.jsonl"):
        assert (tmp_path / "out" / name).read_text() == ""
    with VideoReader(tmp_path / "out" / "annotated.mp4") as reader:
        assert len(reader.decoded_times_s()) == 30
    assert (tmp_path / "out" / "review.html").is_file()


def test_sound_only_text_and_nothing(tmp_path, run_folder):
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "text.mp4").write_text("no film")
    detector = detector_of(run_folder)
    for name, words in (
        ("sound.mp4", "contains no video stream"),
        ("text.mp4", "not a video"),
        ("none.mp4", "not found"),
    ):
        with pytest.raises(UserError, match=words):
            list(detector.run(tmp_path / name, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def upright(tmp_path_factory, run_folder):
    """A film's frames, the boxes of who is found in it, and a frame of the film that is drawn."""
    folder = tmp_path_factory.mktemp("upright")
    film = write_squares(folder / "film.mp4", seconds=2)
    list(detector_of(run_folder).run(film, out=folder / "out", page=False))
    with VideoReader(film) as reader:
        frames = list(reader.frames())
    return frames, read_detections(folder / "out" / "detections.csv").boxes_01, drawn(folder)


def drawn(folder):
    with VideoReader(folder / "out" / "annotated.mp4") as reader:
        assert reader.info.rotation == 0
        return reader.read([1.0]).frames[0].numpy().astype(int)


def squares(frame):
    """Return where the middle of the red and of the blue square is, in fractions of the frame."""
    places = []
    for strong, weak in ((frame[0], frame[2]), (frame[2], frame[0])):
        rows, columns = np.nonzero((strong - weak > 120) & (frame[1] < 90))
        places += [rows.mean() / len(frame[1]), columns.mean() / frame.shape[2]]
    return places


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_film_comes_out_upright_and_its_boxes_with_it(
    tmp_path, run_folder, upright, degrees
):
    """The file holds the pictures turned back; its header asks players to turn them."""
    frames, wanted_01, wanted = upright
    height, width = np.rot90(frames[0][1], degrees // 90).shape[:2]
    side = tmp_path / "phone.mp4"
    with VideoWriter(side, width=width, height=height, fps=10, crf=10) as writer:
        for time_s, frame in frames:
            writer.write(np.ascontiguousarray(np.rot90(frame, degrees // 90)), time_s)
    turn(side, degrees)
    with VideoStream(side) as stream:
        for item, (_, frame) in zip(stream.frames(), frames, strict=True):
            assert np.abs(item.rgb().astype(int) - frame).mean() < 4
    list(detector_of(run_folder).run(side, out=tmp_path / "out"))
    found = read_detections(tmp_path / "out" / "detections.csv")
    assert len(wanted_01) and found.boxes_01 == pytest.approx(wanted_01, abs=0.05)
    shown = drawn(tmp_path)
    # Labels move with their boxes by some pixels: most of the frame, and the squares, do not.
    assert shown.shape == wanted.shape and np.median(np.abs(shown - wanted)) < 6
    assert squares(shown) == pytest.approx(squares(wanted), abs=0.02)
    page = (tmp_path / "out" / "review.html").read_text(encoding="utf-8")
    assert '"width":96,"height":72' in page


def transport_stream(path, film):
    """Return a film as MPEG-TS packets with times: what some cameras send."""
    with av.open(str(film)) as given, av.open(str(path), "w", format="mpegts") as container:
        source = given.streams.video[0]
        stream = container.add_stream_from_template(source)
        for packet in given.demux(source):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path.read_bytes()


class StreamServer:
    """Sends a transport stream to two clients one after the other, four times as fast."""

    def __init__(self, film, tmp_path):
        self._data = transport_stream(tmp_path / "live.ts", film)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        step = len(self._data) // 20
        for _ in range(2):
            connection, _ = self._server.accept()
            with connection:
                for first in range(0, len(self._data), step):
                    connection.sendall(self._data[first : first + step])
                    time.sleep(0.05)
        self._server.close()

    def join(self):
        self._thread.join()


@pytest.mark.parametrize("kind", ["rtsp", "transport stream"])
def test_a_live_source_that_drops_and_returns(tmp_path, run_folder, kind):
    film = write_squares(tmp_path / "film.mp4", seconds=4)
    if kind == "rtsp":
        server = RtspCamera(film, speed=4, clients=2)
    else:
        server = StreamServer(film, tmp_path)
    detector = detector_of(run_folder)
    with_events = list(detector.run(server.address, out=tmp_path / "out", reconnect_s=3))
    server.join()
    report = detector.report
    (gap,) = report.gaps
    assert "disconnected" in gap.reason and gap.end_s > gap.start_s >= 3
    assert with_events and report.keyframes >= 2 and gap.end_s < report.end_s < gap.end_s + 4
    assert "latency" in str(report.latency) and "95th" in str(report.latency)
    for name in ("annotated.mp4", "videos/video.mp4"):
        with VideoReader(tmp_path / "out" / name) as reader:
            times_s = reader.decoded_times_s()
        assert times_s[0] < 0.5 and times_s[-1] > gap.end_s + 1
    assert (tmp_path / "out" / "review.html").is_file()


@pytest.mark.parametrize(
    ("times_s", "wanted_s", "holes"),
    [
        ([None, 7.0, 7.1, 7.2], [0.0, 0.1, 0.2], 0),  # a connection may begin without a time
        ([5.0, 5.1, 5.1, 5.0, 5.2], [0.0, 0.1, 0.2], 0),
        ([5.0, 5.1, 90.0, 90.1], [0.0, 0.1, 0.1, 0.2], 1),  # a clock that is set while it runs
        ([90.0, 90.1, 5.0, 5.1], [0.0, 0.1, 0.1, 0.2], 1),
        ([-3.0, -2.9], [0.0, 0.1], 0),
    ],
)
def test_whatever_a_live_source_tells_of_time_ours_ascends(tmp_path, times_s, wanted_s, holes):
    class Told:
        is_corrupt, rotation, width, height = False, 0, 32, 24

        def __init__(self, time_s):
            self.time = time_s

    class Camera:
        streams = SimpleNamespace(video=[SimpleNamespace(sample_aspect_ratio=None)])

        def demux(self, stream):
            return [self]

        def decode(self):
            return [Told(time_s) for time_s in times_s]

        def close(self):
            pass

    film = write_squares(tmp_path / "any.mp4", times_s=[0.0])
    with VideoStream(film, live=True, reconnect_s=0.0) as stream:
        stream._opened = Camera()
        items = list(stream.frames())
    found = [item for item in items if isinstance(item, Gap)]
    assert [gap.reason for gap in found] == ["the source's clock jumped"] * holes
    shown = [item.time_s for item in items if isinstance(item, StreamFrame)]
    assert shown == pytest.approx(wanted_s, abs=0.05) and (np.diff(shown) > 0).all()


def test_a_file_read_as_a_live_source_ends_where_it_ends(tmp_path):
    film = write_squares(tmp_path / "film.mp4", seconds=1)
    with VideoStream(film, live=True) as stream:
        items = list(islice(stream.frames(), 30))
    assert len(items) == 10 and all(isinstance(item, StreamFrame) for item in items)


def test_slow_networks_see_the_newest_keyframes(tmp_path, run_folder):
    """Keyframes are left out, none is late by more than a few of the networks' own steps."""
    film = write_squares(tmp_path / "film.mp4", seconds=3)

    class Paced(VideoStream):
        def _connected_frames(self):
            begun_s = time.monotonic()
            for item in self._decoded():
                time.sleep(max(0.0, begun_s + item.time_s - time.monotonic()))
                yield StreamFrame(
                    item.time_s,
                    item.width,
                    item.height,
                    time.monotonic(),
                    item._frame,
                    item._convert,
                )
            yield "ended"

    detector = ActionDetectorPipeline.from_checkpoint(
        run_folder,
        people=SquareDetector(delay_s=0.4),
        options=PipelineOptions(threshold=0.0, keyframe_interval_s=0.1, workers=1),
    )
    list(detector.run(Paced(film, live=True, reconnect_s=0.0)))
    assert detector.report.dropped >= 10
    assert 2 <= detector.report.keyframes <= 9


class Standard:
    """Standard input that is a pipe: bytes that pass once."""

    def __init__(self, content: bytes) -> None:
        self.buffer = self.Pipe(content)

    class Pipe(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self._file = io.BytesIO(content)

        def readable(self):
            return True

        def read(self, size=-1):
            return self._file.read(size)


def test_standard_input_is_run_like_the_file(tmp_path, run_folder, monkeypatch):
    film = write_squares(tmp_path / "film.mp4", seconds=8)
    list(detector_of(run_folder).run(film, out=tmp_path / "file", video_id="film"))
    remuxed = tmp_path / "film.mkv"
    join_videos([film], remuxed)
    monkeypatch.setattr("sys.stdin", Standard(remuxed.read_bytes()))
    detector = detector_of(run_folder)
    list(detector.run("-", out=tmp_path / "pipe", video_id="film"))
    for name in ("events.jsonl", "tracks.jsonl", "detections.csv"):
        assert (tmp_path / "pipe" / name).read_bytes() == (tmp_path / "file" / name).read_bytes()
    with VideoReader(tmp_path / "pipe" / "annotated.mp4") as reader:
        assert len(reader.decoded_times_s()) == 80


@pytest.mark.parametrize("live", [False, True])
def test_an_mp4_in_a_pipe_has_its_index_first_or_is_named(tmp_path, monkeypatch, live):
    """Most MP4 files have it at their end: what is before it is gone when it comes."""
    first = tmp_path / "first.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (20, 120, 160, 3), np.uint8)
    with VideoWriter(first, width=160, height=120, fps=10) as writer:  # larger than any buffer
        for number, frame in enumerate(noise):
            writer.write(frame, number / 10)
    last = tmp_path / "last.mp4"
    with av.open(str(first)) as source, av.open(str(last), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    assert last.read_bytes().index(b"mdat") < last.read_bytes().index(b"moov")
    times_s = []
    for path in (first, last):
        with VideoStream(path, live=live) as stream:
            times_s.append([frame.time_s for frame in stream.frames()])
    assert times_s[0] == times_s[1] and len(times_s[0]) == 20, "as files they are the same"

    def piped(content):
        monkeypatch.setattr("sys.stdin", Standard(content))
        with VideoStream("-", live=live, reconnect_s=0.0) as stream:
            return [item.time_s for item in stream.frames()]

    assert piped(first.read_bytes()) == times_s[0]
    with pytest.raises(UserError, match=r"^standard input: an MP4 .* index first .*faststart"):
        piped(last.read_bytes())


def test_frames_may_be_converted_by_several_threads_at_a_time(tmp_path):
    """As the clips' and the recording's are; swscale's tables are no two threads' at a time."""
    film = write_squares(tmp_path / "film.mp4", seconds=1, size=(640, 360))
    sides = (182, 192, 360)
    with VideoStream(film) as stream:
        frames = list(stream.frames())
        wanted = {side: [frame.rgb(side) for frame in frames] for side in sides}

        def convert(side):
            alike = [
                np.array_equal(frame.rgb(side), picture)
                for _ in range(8)
                for frame, picture in zip(frames, wanted[side], strict=True)
            ]
            return all(alike)

        with ThreadPoolExecutor(len(sides)) as pool:
            assert all(pool.map(convert, sides))


def test_a_password_is_shown_nowhere():
    with pytest.raises(UserError) as caught:
        VideoStream("tcp://me:secret@127.0.0.1:9/door.ts")
    assert "secret" not in str(caught.value) and "127.0.0.1:9/door.ts" in str(caught.value)


def test_one_frame_is_a_video(tmp_path, run_folder):
    film = write_squares(tmp_path / "one.mp4", times_s=[0.0])
    events = list(detector_of(run_folder).run(film, out=tmp_path / "out"))
    assert {(event.start_s, event.end_s) for event in events} == {(0.0, 0.25)}
    with VideoReader(tmp_path / "out" / "annotated.mp4") as reader:
        assert len(reader.decoded_times_s()) == 1


def test_html_in_names_is_text(tmp_path, run_folder):
    name = "<img src=x onerror=alert(1)>"
    film = write_squares(tmp_path / f"{name}.mp4", seconds=2)
    list(detector_of(run_folder).run(film, out=tmp_path / "out"))
    page = (tmp_path / "out" / "review.html").read_text(encoding="utf-8")
    assert "<img" not in page and "<b>blue" not in page
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").open()]
    assert {event["video"] for event in events} == {name}
    assert {event["action"] for event in events} >= {"be here"}
