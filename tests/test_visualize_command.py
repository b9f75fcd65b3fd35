"""`python -m ava_tools.visualize`: videos and sheets from files and from runs, and bad input."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from ava_tools import visualize
from detection.config import config_from_dict, config_to_yaml
from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.drawing.paint import TRUTH
from detection.drawing.palette import track_color
from detection.errors import UserError
from detection.structures import LabelMap
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

TRUTH_ROWS = "{id},0.5,0.1,0.1,0.5,0.9,12,0\n{id},1.5,0.3,0.1,0.7,0.9,12,0\n"
FOUND_ROWS = "{id},0.5,0.1,0.1,0.5,0.9,12,0.9\n{id},1.5,0.3,0.1,0.7,0.9,14,0.8\n"
# People of the files above have the number 0; without ids the first one found is 1.
PREDICTION, FIRST_FOUND = track_color(0), track_color(1)


def make_video(path: Path, *, start_s: float = 0.0, times_s: np.ndarray | None = None) -> None:
    if times_s is None:
        times_s = start_s + np.arange(20) / 10
    with VideoWriter(path, width=160, height=120, fps=10) as writer:
        for number, time_s in enumerate(times_s):
            writer.write(np.full((120, 160, 3), 40 + 2 * number, np.uint8), float(time_s))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    make_video(tmp_path / "clip.mp4")
    (tmp_path / "gt.csv").write_text(TRUTH_ROWS.format(id="clip"))
    (tmp_path / "det.csv").write_text(FOUND_ROWS.format(id="clip"))
    write_label_map(tmp_path / "map.pbtxt", LabelMap(("stand", "walk"), (12, 14)))
    return tmp_path


def run(folder: Path, *more: str, truth: bool = True, found: bool = True) -> int:
    arguments = ["--video", str(folder / "clip.mp4"), "--label-map", str(folder / "map.pbtxt")]
    arguments += ["--ground-truth", str(folder / "gt.csv")] if truth else []
    arguments += ["--detections", str(folder / "det.csv")] if found else []
    if "--out" not in more and "--keyframes-only" not in more:
        arguments += ["--out", str(folder / "out" / "drawn.mp4")]
    return visualize.main([*arguments, *more])


def near(frame: np.ndarray, color: tuple[int, int, int]) -> int:
    """Count pixels near a colour (H.264 keeps colours roughly)."""
    return int((np.abs(frame.astype(int) - color).max(axis=2) < 40).sum())


def frame_at(path: Path, time_s: float) -> np.ndarray:
    with VideoReader(path) as reader:
        return reader.read([time_s]).frames[0].permute(1, 2, 0).numpy()


def test_video_shows_both_sides_in_the_rhythm_of_the_video(clip: Path) -> None:
    assert run(clip) == 0
    with VideoReader(clip / "out" / "drawn.mp4") as reader:
        assert reader.info.codec == "h264"
        np.testing.assert_allclose(reader.frame_times_s(), np.arange(20) / 10, atol=1e-4)
    frame = frame_at(clip / "out" / "drawn.mp4", 0.5)
    middle = frame.shape[1] // 2
    assert near(frame[:, :middle], TRUTH) > 100 and near(frame[:, :middle], PREDICTION) == 0
    assert near(frame[:, middle:], PREDICTION) > 100 and near(frame[:, middle:], TRUTH) == 0
    assert [path.name for path in (clip / "out").iterdir()] == ["drawn.mp4"]


def test_the_box_moves_between_keyframes(clip: Path) -> None:
    run(clip, found=False)

    def left_edge(time_s: float) -> int:
        frame = frame_at(clip / "out" / "drawn.mp4", time_s)[60:-60]
        blue = np.abs(frame.astype(int) - TRUTH).max(axis=2) < 60
        return int(np.flatnonzero(blue.sum(axis=0) > 100)[0])

    first, between, last = left_edge(0.5), left_edge(1.0), left_edge(1.5)
    width = 960  # one panel of 720 pixels
    assert first == pytest.approx(0.1 * width, abs=4)
    assert between == pytest.approx(0.2 * width, abs=4)
    assert last == pytest.approx(0.3 * width, abs=4)


@pytest.mark.parametrize("side", ["truth", "found"])
def test_one_side_alone_is_drawn_larger(clip: Path, side: str) -> None:
    assert run(clip, truth=side == "truth", found=side == "found") == 0
    frame = frame_at(clip / "out" / "drawn.mp4", 0.5)
    assert frame.shape[1] == 960
    assert (near(frame, TRUTH) > 100) is (side == "truth")
    assert (near(frame, FIRST_FOUND) > 100) is (side == "found")


def test_variable_rate_and_late_start_are_kept(clip: Path) -> None:
    times_s = 902 + np.array([0, 0.1, 0.25, 0.3, 0.7, 0.8, 1.2, 1.21, 2.0])
    make_video(clip / "clip.mp4", times_s=times_s)
    (clip / "gt.csv").write_text("clip,0903,0.1,0.1,0.5,0.9,12,0\n")
    run(clip, found=False)
    with VideoReader(clip / "out" / "drawn.mp4") as reader:
        np.testing.assert_allclose(reader.frame_times_s(), times_s - 902, atol=1e-4)


def test_window_and_length(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(clip, "--start", "0.5", "--end", "1.0")
    with VideoReader(clip / "out" / "drawn.mp4") as reader:
        assert len(reader.frame_times_s()) == 6
    run(clip, "--seconds", "0.5")
    with VideoReader(clip / "out" / "drawn.mp4") as reader:
        assert len(reader.frame_times_s()) == 6
    assert "--seconds 0: all" in capsys.readouterr().err


def test_sheet_of_keyframes_without_a_video(clip: Path) -> None:
    assert run(clip, "--keyframes-only", "--sheet", str(clip / "s" / "sheet.png")) == 0
    sheet = cv2.cvtColor(cv2.imread(str(clip / "s" / "sheet.png")), cv2.COLOR_BGR2RGB)
    assert near(sheet, TRUTH) > 200 and near(sheet, PREDICTION) > 200
    assert not (clip / "out").exists()


def test_labels_with_odd_characters(clip: Path) -> None:
    names = ('<script>"x"\\', "日本 " + "long " * 60)
    write_label_map(clip / "map.pbtxt", LabelMap(names, (12, 14)))
    assert run(clip) == 0


def test_title_with_odd_characters(clip: Path) -> None:
    video_id = '<b>a, "b" é 日本</b>'
    quoted = '"' + video_id.replace('"', '""') + '"'
    (clip / "gt.csv").write_text(TRUTH_ROWS.format(id=quoted), encoding="utf-8")
    assert run(clip, "--video-id", video_id, found=False) == 0


def test_threshold_hides_labels(clip: Path) -> None:
    run(clip, "--threshold", "0.95", truth=False)
    assert near(frame_at(clip / "out" / "drawn.mp4", 0.5)[110:-80], FIRST_FOUND) == 0


# Bad input: one line, exit code 2, nothing half written.


def fails(folder: Path, *more: str, match: str, **sides: bool) -> None:
    with pytest.raises(UserError, match=match) as caught:
        run(folder, *more, **sides)
    assert "\n" not in str(caught.value)
    assert not list((folder / "out").glob("*"))


def test_missing_video(clip: Path) -> None:
    (clip / "clip.mp4").unlink()
    fails(clip, match=r"clip\.mp4: video file not found")


def test_not_a_video(clip: Path) -> None:
    (clip / "clip.mp4").write_text("no frames")
    fails(clip, match=r"clip\.mp4: not a video")


def test_truncated_video(clip: Path) -> None:
    whole = (clip / "clip.mp4").read_bytes()
    (clip / "clip.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    fails(clip, match=r"clip\.mp4: ")


@pytest.mark.parametrize("name", ["gt.csv", "det.csv"])
def test_video_that_is_not_in_the_csv(clip: Path, name: str) -> None:
    rows = FOUND_ROWS if name == "det.csv" else TRUTH_ROWS
    (clip / name).write_text("".join(rows.format(id=f"other{i}") for i in range(7)))
    fails(clip, match=rf"{name}: no rows of video 'clip'; it has other0, .*other4 and 2 more")


def test_empty_csv(clip: Path) -> None:
    (clip / "gt.csv").write_text("")
    fails(clip, match=r"gt\.csv: ")


def test_broken_row(clip: Path) -> None:
    (clip / "det.csv").write_text("clip,0.5,0.1,0.1\n")
    fails(clip, match=r"det\.csv:1")


def test_keyframes_of_another_cut(clip: Path) -> None:
    (clip / "gt.csv").write_text("clip,0902,0.1,0.1,0.5,0.9,12,0\n")
    fails(clip, match="shows 0.000 to 1.900 s.*902", found=False)


def test_window_without_frames(clip: Path) -> None:
    fails(clip, "--start", "50", "--end", "60", match="no frame from 50.000 to 60.000 s")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--run", "r", "--video", "v"],
        ["--video", "v", "--label-map", "m", "--out", "o"],
        ["--video", "v", "--label-map", "m", "--detections", "d"],
        ["--video", "v", "--label-map", "m", "--detections", "d", "--keyframes-only"],
        ["--run", "r", "--top-k", "0"],
        ["--run", "r", "--threshold", "1.5"],
        ["--run", "r", "--out", "o.mp4"],
    ],
)
def test_flags_that_do_not_go_together(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        visualize.main(arguments)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_as_a_program_it_ends_with_2_and_one_line(clip: Path) -> None:
    command = [sys.executable, "-m", "ava_tools.visualize", "--video", str(clip / "no.mp4")]
    command += ["--label-map", str(clip / "map.pbtxt"), "--detections", str(clip / "det.csv")]
    done = subprocess.run(
        [*command, "--out", str(clip / "o.mp4")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {clip / 'no.mp4'}: video file not found\n"


# A run.


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    root, folder = tmp_path / "data", tmp_path / "run"
    ids = ["a", "b-_1", "c", "d"]
    (root / "videos").mkdir(parents=True)
    (root / "annotations").mkdir()
    for video_id in ids:
        make_video(root / "videos" / f"{video_id}.mp4")
    truth = "".join(TRUTH_ROWS.format(id=video_id) for video_id in ids)
    (root / "annotations" / "val.csv").write_text(truth)
    write_label_map(root / "annotations" / "label_map.pbtxt", LabelMap(("stand", "walk"), (12, 14)))
    split = SplitPart(annotations="annotations/val.csv")
    write_dataset_file(
        root,
        DatasetFile(name="made", videos="videos", splits={"val": split}, made_up=True),
    )
    folder.mkdir()
    config = config_from_dict({"data": {"root": str(root)}}, "test")
    (folder / "config.yaml").write_text(config_to_yaml(config))
    found = "".join(FOUND_ROWS.format(id=video_id) for video_id in ids)
    (folder / "detections.csv").write_text(found)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_run_draws_videos_spread_over_all(run_folder: Path) -> None:
    assert visualize.main(["--run", str(run_folder), "--videos", "2", "--sheet"]) == 0
    assert names_in(run_folder / "visualize") == ["a.mp4", "d.mp4", "keyframes.png", "review"]
    page = (run_folder / "visualize" / "review" / "review.html").read_text()
    assert all(f'"id":"{name}"' in page for name in ("a", "b-_1", "c", "d"))  # all of them
    assert visualize.main(["--run", str(run_folder), "--keyframes-only"]) == 0


def test_a_split_that_lists_its_videos_shows_no_others_of_its_file(run_folder: Path) -> None:
    root = run_folder.parent / "data"
    (root / "ids.txt").write_text("a\nc\n")
    part = SplitPart(annotations="annotations/val.csv", videos="ids.txt")
    made = {"name": "made", "videos": "videos", "splits": {"val": part}}
    (root / "dataset.yaml").unlink()
    write_dataset_file(root, DatasetFile(**made))
    (run_folder / "detections.csv").write_text(FOUND_ROWS.format(id="a"))  # c was missed
    out = run_folder.parent / "page"
    review = ["--review", "--dataset", str(root), "--out", str(out)]
    for arguments, page in (
        (["--run", str(run_folder), "--review"], run_folder / "visualize" / "review"),
        (review, out),
    ):
        assert visualize.main(arguments) == 0
        text = (page / "review.html").read_text()
        shown = [name for name in ("a", "b-_1", "c", "d") if f'"id":"{name}"' in text]
        assert shown == ["a", "c"]


def test_no_review_page_where_none_is_required(run_folder: Path) -> None:
    assert visualize.main(["--run", str(run_folder), "--videos", "1", "--no-review"]) == 0
    assert not (run_folder / "visualize" / "review").exists()


def test_run_draws_the_video_asked_for(run_folder: Path) -> None:
    assert visualize.main(["--run", str(run_folder), "--video-id", "b-_1"]) == 0
    assert names_in(run_folder / "visualize") == ["b-_1.mp4"]


def test_run_with_an_unknown_video(run_folder: Path) -> None:
    with pytest.raises(UserError, match="no rows of video 'zz'; it has a, b-_1, c, d"):
        visualize.main(["--run", str(run_folder), "--video-id", "zz"])
    assert not (run_folder / "visualize").exists()


def test_run_without_detections_says_what_makes_them(run_folder: Path) -> None:
    (run_folder / "detections.csv").unlink()
    with pytest.raises(UserError, match=r"detections\.csv: file not found.*--eval-only"):
        visualize.main(["--run", str(run_folder)])


def test_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run folder not found"):
        visualize.main(["--run", str(tmp_path / "nothing")])


def test_run_whose_data_moved(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"dataset\.yaml: file not found"):
        visualize.main(["--run", str(run_folder)])
    options = ["--run", str(run_folder), "--data", str(tmp_path / "moved"), "--videos", "1"]
    assert visualize.main(options) == 0


def test_run_with_a_missing_video_writes_nothing(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "videos" / "c.mp4").unlink()
    with pytest.raises(UserError, match=r"c\.mp4: video file not found"):
        visualize.main(["--run", str(run_folder), "--video-id", "c"])
    assert not (run_folder / "visualize").exists()


@pytest.mark.real_data
def test_a_real_clip(real_data: Path, tmp_path: Path) -> None:
    clips = sorted((real_data / "jhmdb" / "videos" / "golf").glob("*.mp4"))
    (tmp_path / "det.csv").write_text(f"{clips[0].stem},0.5,0.1,0.1,0.5,0.9,12,0.9\n")
    write_label_map(tmp_path / "map.pbtxt", LabelMap(("stand", "walk"), (12, 14)))
    out = tmp_path / "drawn.mp4"
    visualize.main(
        ["--video", str(clips[0]), "--detections", str(tmp_path / "det.csv")]
        + ["--label-map", str(tmp_path / "map.pbtxt"), "--out", str(out)]
    )
    with VideoReader(out) as drawn, VideoReader(clips[0]) as source:
        source_s = source.frame_times_s()
        expected_s = source_s[source_s <= 1.5]
        assert len(expected_s) > 10
        np.testing.assert_allclose(drawn.frame_times_s(), expected_s - expected_s[0], atol=1e-4)


@pytest.mark.parametrize("shape", [Fraction(2), Fraction(3, 4)])
def test_an_anamorphic_video_is_drawn_as_players_show_it(clip: Path, shape: Fraction) -> None:
    """The frame is as wide as players show it, and the box lies on the same things."""
    with VideoWriter(clip / "clip.mp4", width=160, height=120, fps=10, shape=shape) as writer:
        for _ in range(20):
            frame = np.full((120, 160, 3), 40, np.uint8)
            frame[12:108, 16:80] = (250, 250, 250)  # where the first box is
            writer.write(frame)
    run(clip, "--short-side", "240", found=False)
    one = ("--keyframes-only", "--sheet-keyframes", "1", "--sheet", str(clip / "sheet.png"))
    run(clip, *one, found=False)
    video = frame_at(clip / "out" / "drawn.mp4", 0.5)
    sheet = cv2.cvtColor(cv2.imread(str(clip / "sheet.png")), cv2.COLOR_BGR2RGB)
    for image in (video, sheet):
        bright = (image > 200).all(axis=2)
        rows, columns = bright.sum(axis=1), bright.sum(axis=0)
        height = int((rows > 0.5 * rows.max()).sum())
        width = int((columns > 0.5 * columns.max()).sum())
        assert width / height == pytest.approx(float(64 * shape / 96), rel=0.15)
        assert near(image, TRUTH) > 100
