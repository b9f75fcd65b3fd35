"""The job from an empty environment to an annotated video: what it types, checks and says.

The whole of it, minutes and gigabytes, is run by `.ci/run` and not here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_pipeline import write_squares

from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import from_wheel  # noqa: E402


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("video") / "video.mp4", seconds=1)


def drawn_on(video, path, *, box=True, less=0, size=None, times=1):
    """Write the frames of a video again, as an annotated one might be."""
    with VideoReader(video) as reader:
        frames = [(time_s, frame.copy()) for time_s, frame in reader.frames()]
    height, width = frames[0][1].shape[:2] if size is None else size
    height, width = times * height, times * width
    with VideoWriter(path, width=width, height=height, fps=10) as writer:
        for time_s, frame in frames[: len(frames) - less]:
            if box:
                frame[10:50, [10, 11, 50, 51]] = 255
                frame[[10, 11, 48, 49], 10:52] = 255
            frame = frame.repeat(times, axis=0).repeat(times, axis=1)
            writer.write(np.resize(frame, (height, width, 3)) if size else frame, time_s)
    return path


def test_an_annotated_video_has_the_frames_and_boxes(video, tmp_path):
    good = drawn_on(video, tmp_path / "good.mp4")
    assert from_wheel.compare_videos(good, video) == []
    bare = drawn_on(video, tmp_path / "bare.mp4", box=False)
    assert from_wheel.compare_videos(bare, video) == ["annotated.mp4: no box is drawn in any frame"]
    short = drawn_on(video, tmp_path / "short.mp4", less=2)
    assert from_wheel.compare_videos(short, video) == ["annotated.mp4: 8 frames, the video has 10"]
    large = drawn_on(video, tmp_path / "large.mp4", times=3)
    assert from_wheel.compare_videos(large, video) == [], "small videos are drawn larger"
    wide = drawn_on(video, tmp_path / "wide.mp4", size=(72, 128))
    assert "(72, 128, 3) pixels" in from_wheel.compare_videos(wide, video)[0]


def test_what_is_missing_in_the_results_is_named(video, tmp_path):
    names = ("annotated.mp4", "review.html", "detections.csv", "events.jsonl", "summary.json")
    assert from_wheel.find_problems(tmp_path, video) == [f"{name} is missing" for name in names]
    drawn_on(video, tmp_path / "annotated.mp4")
    (tmp_path / "review.html").write_text("<script>video</script>")
    (tmp_path / "detections.csv").write_text("video,0000,0,0,1,1,3,0.5\n")
    (tmp_path / "events.jsonl").write_text("")
    (tmp_path / "summary.json").write_text("{}")
    assert from_wheel.find_problems(tmp_path, video) == []
    (tmp_path / "detections.csv").write_text("\n")
    (tmp_path / "review.html").write_text("<p>nothing")
    assert from_wheel.find_problems(tmp_path, video) == [
        "detections.csv: no person was found",
        "review.html: no page of this video",
    ]


def test_lines_are_three_and_name_the_environment_that_they_fill():
    inputs = from_wheel.Inputs(Path("v.mp4"), ("--people", "p.onnx"), "[export]", "")
    make, install, run = from_wheel.typed_lines("x.whl", inputs, "uv")
    assert make[:2] == ("uv", "venv")
    assert install == ("uv", "pip", "install", "--python", ".venv", "./x.whl[export]")
    assert run == (".venv/bin/x3d-actions", "detect_actions", "v.mp4", "--people", "p.onnx")
    _, install, again = from_wheel.typed_lines("x.whl", inputs, "pip")
    assert install == (".venv/bin/pip", "install", "./x.whl[export]") and again == run


def test_lines_run_in_their_folder_without_this_environments_settings(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PIP_CONSTRAINT", "/nowhere")
    code = (
        "import os; print(os.getcwd(), os.environ.get('PYTHONPATH'), "
        "os.environ.get('PIP_CONSTRAINT'), os.environ['OWN'])"
    )
    seconds = from_wheel.type_lines([(sys.executable, "-c", code)], tmp_path, {"OWN": "1"})
    assert len(seconds) == 1 and seconds[0] > 0
    assert f"{tmp_path.resolve()} None None 1" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        from_wheel.type_lines([(sys.executable, "-c", "1/0")], tmp_path, {})
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("exit code 1: ") and "ZeroDivisionError" in said


def test_the_limit_and_all_problems_decide_the_exit_code(capsys):
    said = {"about": "a clip", "limit_s": 120}
    assert from_wheel.report([1, 2, 3], [], **said) == 0
    out = capsys.readouterr()
    assert "6.0 s by the clock (environment 1.0, installation 2.0, a clip: 3.0" in out.out
    assert not out.err
    assert from_wheel.report([1, 100, 20], [], **said) == 1
    assert "from_wheel: 121.0 s, at most 120 s are allowed" in capsys.readouterr().err
    assert from_wheel.report([1, 2, 3], ["review.html is missing"], **said) == 1
    assert capsys.readouterr().err == "from_wheel: review.html is missing\n"


def test_without_real_data_small_networks_and_a_video_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(from_wheel, "REPOSITORY", tmp_path / "a" / "b")
    monkeypatch.delenv("ACTION_DATA", raising=False)
    made = from_wheel.find_inputs(tmp_path)
    assert made.extra == "" and "random weights" in made.about and made.video.is_file()
    assert all(Path(made.options[place]).exists() for place in (1, 3))
    for name in (
        "clips/archery.mp4", "weights/x3d_xs_k400_from_int8.pyth", "detectors/yolox_nano.onnx"
    ):  # fmt: skip
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).touch()
    monkeypatch.setenv("ACTION_DATA", str(tmp_path / "data"))
    real = from_wheel.find_inputs(tmp_path)
    assert real.extra == "[export]" and real.video.name == "archery.mp4"


def test_a_full_disk_is_said_beforehand(monkeypatch, capsys):
    monkeypatch.setattr(from_wheel, "NEEDED_BYTES", 10**18)
    assert from_wheel.main([]) == 2
    assert "GB free, 1000000000 GB are required" in capsys.readouterr().err


def test_continuous_integration_runs_it():
    job = (REPOSITORY / ".ci/run").read_text(encoding="utf-8")
    assert "benchmarks/from_wheel.py" in job
