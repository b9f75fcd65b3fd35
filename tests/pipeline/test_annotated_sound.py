"""The sound of a source in its annotated video: in step, however the run went; else a note."""

from __future__ import annotations

import io

import av
import pytest
from sounding_video import heard_s, seen_s, write_sounding
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection.pipeline import ActionDetectorPipeline, PipelineOptions


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    save_tiny_run(folder / "run")
    return folder / "run"


def detector_of(run_folder):
    options = PipelineOptions(threshold=0.7, batch_size=6, workers=2)
    return ActionDetectorPipeline.from_checkpoint(
        run_folder, people=SquareDetector(), options=options
    )


def in_step(path, count):
    heard, seen = heard_s(path), seen_s(path)
    assert len(heard) == len(seen) == count
    assert heard == pytest.approx(seen, abs=0.03)


def test_the_whole_video_sounds(tmp_path, run_folder):
    video = write_sounding(tmp_path / "a.mp4")
    detector = detector_of(run_folder)
    list(detector.run(video, out=tmp_path / "out"))
    in_step(tmp_path / "out" / "annotated.mp4", 4)
    assert detector.report.notes == []


def test_a_part_of_a_late_starting_video_has_its_part_of_the_sound(tmp_path, run_folder):
    video = write_sounding(tmp_path / "a.mp4", start_s=10.0)
    list(detector_of(run_folder).run(video, out=tmp_path / "out", start_s=12.5, end_s=16))
    in_step(tmp_path / "out" / "annotated.mp4", 2)
    assert heard_s(tmp_path / "out" / "annotated.mp4") == pytest.approx([13.0, 15.5], abs=0.03)


def test_a_damaged_stretch_shifts_nothing_behind_it(tmp_path, run_folder):
    video = write_sounding(tmp_path / "a.mp4", beeps_s=(1.0, 7.0))
    with av.open(str(video)) as container:
        packets = list(container.demux(video=0))
    data = bytearray(video.read_bytes())
    for packet in packets:
        if packet.pts is not None and 3 <= packet.pts * packet.time_base < 4:
            data[packet.pos + 5 : packet.pos + packet.size] = b"\xff" * (packet.size - 5)
    video.write_bytes(data)
    detector = detector_of(run_folder)
    list(detector.run(video, out=tmp_path / "out"))
    assert len(detector.report.gaps) == 1
    in_step(tmp_path / "out" / "annotated.mp4", 2)


def test_a_run_that_was_stopped_and_went_on_sounds_as_if_it_had_not(tmp_path, run_folder):
    video = write_sounding(tmp_path / "a.mp4", seconds=16, beeps_s=(1.0, 6.0, 9.5, 14.0))
    reached = []
    detector = detector_of(run_folder)
    list(
        detector.run(
            video,
            out=tmp_path / "out",
            on_progress=reached.append,
            should_stop=lambda: bool(reached) and reached[-1] > 7,
        )
    )
    assert detector.report.stopped
    seen = len(seen_s(tmp_path / "out" / "annotated.mp4"))
    assert 2 <= seen < 4
    in_step(tmp_path / "out" / "annotated.mp4", seen)
    list(detector_of(run_folder).run(video, out=tmp_path / "out"))
    in_step(tmp_path / "out" / "annotated.mp4", 4)


def test_sound_that_is_left_out_is_a_note(tmp_path, run_folder, monkeypatch):
    video = write_sounding(tmp_path / "a.mkv", codec="pcm_s16le", seconds=3, beeps_s=(1.0,))
    detector = detector_of(run_folder)
    list(detector.run(video, out=tmp_path / "out"))
    assert detector.report.notes == [
        "annotated.mp4 is without sound: it is encoded as pcm_s16le, which is not copied into MP4 "
        "files"
    ]
    assert seen_s(tmp_path / "out" / "annotated.mp4") == pytest.approx([1.0])

    class Pipe:
        buffer = io.BytesIO(video.read_bytes())

    monkeypatch.setattr("sys.stdin", Pipe)
    detector = detector_of(run_folder)
    list(detector.run("-", out=tmp_path / "pipe", page=False))
    assert detector.report.notes == [
        "annotated.mp4 is without sound: the source cannot be read twice"
    ]


def test_a_silent_source_stays_as_it_is(tmp_path, run_folder):
    video = write_squares(tmp_path / "a.mp4", seconds=2)
    detector = detector_of(run_folder)
    list(detector.run(video, out=tmp_path / "out"))
    assert heard_s(tmp_path / "out" / "annotated.mp4") == [] and detector.report.notes == []
