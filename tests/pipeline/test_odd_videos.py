"""`detect_actions` from end to end on videos whose clock jumps or whose pixels are no squares."""

from __future__ import annotations

import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from tiny_pipeline import save_tiny_run, use_squares, write_squares

from ava_tools import detect_actions
from detection.datasets.ava_csv import read_detections
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.pipeline.annotated_video import _EncodedSegment
from detection.pipeline.timing import StageClock
from detection.video.reader import VideoReader
from detection.video.stream import VideoStream
from detection.video.writer import LONGEST_GAP_S, VideoWriter

REPOSITORY = Path(__file__).resolve().parent.parent.parent
WIDTH, HEIGHT = 384, 288


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    save_tiny_run(folder / "run")
    torch.manual_seed(0)
    network = build_people_network("small", num_classes=1, short_side_px=64)
    numbers = PeopleNetworkNumbers("small", 64, 128)
    save_people_file(folder / "run" / "people.pt", network, numbers=numbers, classes=["person"])
    return folder


@pytest.fixture
def detect(place, monkeypatch, capsys):
    """The command in this process with a detector that finds squares; returns what it says."""
    use_squares(monkeypatch)

    def run(video, out, *more):
        arguments = [str(video), "--checkpoint", str(place / "run"), "--quiet", "--out", str(out)]
        assert detect_actions.main([*arguments, *more]) == 0
        return capsys.readouterr().err

    return run


def square_frame():
    frame = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    frame[40:136, 40:104] = (230, 20, 20)
    frame[160:264, 240:320] = (20, 20, 230)
    return frame


def write_times(path, times_s, *, shape=None):
    """Write frames at any times, as long as the format can say them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        for time_s in times_s:
            frame = VideoFrame.from_ndarray(square_frame(), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


DAY = 26 * 3600.0


@pytest.mark.parametrize(
    ("name", "times_s", "closed"),
    [
        ("jump.mkv", [*np.arange(20) / 10, *(DAY + np.arange(20) / 10)], 1),
        # It lands just before a segment's end, so that the gap lies within one.
        ("inside.mkv", [*np.arange(20) / 10, *(DAY - 0.2 + np.arange(20) / 10)], 1),
        ("jump.ts", [*(5 + np.arange(20) / 10), *(24 * 3600 + np.arange(20) / 10)], 1),
        ("sparse.mkv", [*(1e6 * np.arange(6))], 5),
        ("hours.mkv", [*np.arange(20) / 10, *(3 * 3600 + np.arange(20) / 10)], 0),
    ],
)
def test_a_clock_that_jumps_is_followed_to_the_end(detect, tmp_path, name, times_s, closed):
    video = write_times(tmp_path / name, times_s)
    with VideoReader(video) as reader:
        times_s = reader.frame_times_s()
    said = detect(video, tmp_path / "out", "--threshold", "0.3")
    rows = read_detections(tmp_path / "out" / "detections.csv")
    assert rows.time_us.max() / 1e6 >= times_s[-1] - 0.5
    assert len(set(rows.time_us.tolist())) <= len(times_s), "nothing is judged between"
    with VideoReader(tmp_path / "out" / "annotated.mp4") as film:
        shown_s = film.frame_times_s()
    assert len(shown_s) == len(times_s), "every frame is drawn once"
    gaps_s, own_s = np.diff(shown_s), np.diff(times_s)
    plain = own_s <= LONGEST_GAP_S
    assert (~plain).sum() == closed
    if name == "inside.mkv":  # the gap is closed where it lies, and again behind its segment
        plain[np.flatnonzero(~plain) + 2] = False
    np.testing.assert_allclose(gaps_s[plain], own_s[plain], atol=1e-3)
    np.testing.assert_allclose(gaps_s[~plain], 1)
    assert not (tmp_path / "out" / "parts").exists()
    assert (tmp_path / "out" / "review.html").exists() == (closed == 0)
    assert (f"note: {video}: {closed} stretch(es) without frames" in said) == (closed > 0)
    assert len(said.splitlines()) <= 8


def red_box(image):
    """Left, top, right, bottom of what is red, in fractions."""
    red = (image[..., 0] > 150) & (image[..., 1] < 90) & (image[..., 2] < 90)
    rows, columns = np.flatnonzero(red.sum(1) > 4), np.flatnonzero(red.sum(0) > 4)
    height, width = image.shape[:2]
    return [
        columns[0] / width,
        rows[0] / height,
        (columns[-1] + 1) / width,
        (rows[-1] + 1) / height,
    ]


@pytest.mark.parametrize("shape", [Fraction(2), Fraction(3, 4)])
@pytest.mark.parametrize("source", ["file", "pipe"])
def test_an_anamorphic_video_is_drawn_as_players_show_it(
    detect, tmp_path, shape, source, monkeypatch
):
    video = write_times(tmp_path / "wide.mkv", np.arange(20) / 10, shape=shape)
    name = str(video)
    if source == "pipe":
        from detection.video.open import open_file

        monkeypatch.setattr("detection.video.stream.open_bytes", lambda *_, **__: open_file(video))
        name = "-"
    detect(name, tmp_path / "out", "--threshold", "0.3")
    with VideoReader(tmp_path / "out" / "annotated.mp4") as film:
        assert film.pixel_shape is None
        width, height = film.frame_size()
        assert width / height == pytest.approx(float(WIDTH * shape / HEIGHT), abs=0.04)
        image = film.read([1.0]).frames[0].permute(1, 2, 0).numpy()
    assert red_box(image) == pytest.approx([10 / 96, 10 / 72, 26 / 96, 34 / 72], abs=0.08)
    page = (tmp_path / "out" / "review.html").read_text(encoding="utf-8")
    assert f'"width":{round(WIDTH * shape)},"height":{HEIGHT}' in page
    with VideoReader(next((tmp_path / "out" / "videos").iterdir())) as placed:
        assert placed.pixel_shape == shape
    rows = read_detections(tmp_path / "out" / "detections.csv")
    assert rows.boxes_01[:, 2].max() <= 1 and rows.boxes_01[:, 0].min() == pytest.approx(
        10 / 96, abs=0.02
    )


def test_a_turned_stream_tells_the_shape_as_displayed(tmp_path):
    video = write_times(tmp_path / "wide.mp4", np.arange(3) / 10, shape=Fraction(2))
    with VideoStream(video) as stream:
        assert next(stream.frames()).pixel_shape == 2
    with VideoStream(write_squares(tmp_path / "plain.mp4", seconds=0.5)) as stream:
        assert next(stream.frames()).pixel_shape is None


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
from ava_tools.cli import run_command
from ava_tools.detect_actions import main
run_command(main)
"""


def test_a_disk_that_fills_under_the_annotated_video_is_one_line(place, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "noise.mp4", width=320, height=240, fps=10) as writer:
        for shift in range(40):
            writer.write(np.roll(noise, 31 * shift, 1))
    out = tmp_path / "out"
    arguments = [str(tmp_path / "noise.mp4"), "--checkpoint", str(place / "run"), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *arguments, "--out", str(out), "--no-page", "--every", "2"]
        + ["--runtime", "torch"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "too large" in line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and ".mp4: " in errors[0]
    assert "Traceback" not in done.stderr
    left = [path.name for path in out.rglob("*") if path.name.startswith((".", "annotated"))]
    assert left == []
    assert not list(out.rglob("*.mp4"))


def test_frames_that_wait_for_an_encoder_are_let_go_after_an_error(tmp_path):
    written, begun, release = [], threading.Event(), threading.Event()

    class Writer:
        def write_frame(self, picture, time_s):
            written.append(time_s)
            begun.set()
            release.wait(20)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    film = _EncodedSegment(tmp_path / "x.mp4", (WIDTH, HEIGHT), StageClock())
    film._writer = Writer()
    with pytest.raises(RuntimeError), film:
        for time_s in range(4):
            film.add(square_frame(), time_s)
        assert begun.wait(20)
        threading.Timer(0.3, release.set).start()  # once the block has been left
        raise RuntimeError("the reader failed")
    assert written == [0]
