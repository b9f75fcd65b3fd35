"""The command that draws the demo data set, on a few small videos."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ava_tools.make_demo import main
from detection.datasets.ava_csv import read_ground_truth, read_keyframe_list
from detection.datasets.folder import DatasetFolder
from detection.demo import CLASSES, generate
from detection.demo.annotate import ground_truth, is_excluded, notes_of, tell_stories
from detection.demo.generate import generate_demo
from detection.demo.parameters import DemoParameters
from detection.errors import UserError
from detection.video.reader import VideoReader

TINY = DemoParameters(seed=5, num_train=2, num_val=2, keyframes=2, width=160, height=120, fps=10)
TINY_OPTIONS = [
    "--seed", "5", "--num-train", "2", "--num-val", "2", "--keyframes", "2",
    "--size", "160x120", "--fps", "10",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "made"
    assert generate_demo(out, TINY, workers=0)
    return out


def texts(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "annotations").iterdir())}


def frames(folder: Path) -> dict[str, np.ndarray]:
    decoded = {}
    for path in sorted((folder / "videos").iterdir()):
        with VideoReader(path) as video:
            decoded[path.name] = video.read(video.frame_times_s()).frames.numpy()
    return decoded


def test_it_is_a_data_set_folder_that_says_it_is_made_up(made: Path) -> None:
    folder = DatasetFolder.open(made)
    assert folder.file.made_up
    assert "made up" in folder.file.description.lower()
    assert folder.read_label_map().names == tuple(action.name for action in CLASSES)
    for name in ("train", "val"):
        split = folder.split(name)
        assert split.videos is not None and split.exclusions is not None
        ids = split.videos.read_text(encoding="utf-8").split()
        assert len(ids) == 2
        assert all(video_id.startswith("demo_") for video_id in ids)
        rows = read_ground_truth(split.annotations)
        assert {key.video_id for key in rows.keyframes()} <= set(ids)
        assert not set(rows.keyframes()) & read_keyframe_list(split.exclusions)
        assert rows.person_id is not None


def test_videos_are_h264_of_the_stated_size_rate_and_length(made: Path) -> None:
    for path in (made / "videos").iterdir():
        with VideoReader(path) as video:
            info = video.info
            assert (info.width, info.height, info.codec) == (160, 120, "h264")
            assert info.num_frames == 10 * 3
            np.testing.assert_allclose(video.frame_times_s(), np.arange(30) / 10, atol=1e-3)


def test_keyframes_are_written_as_ava_writes_them(made: Path) -> None:
    first = (made / "annotations" / "train.csv").read_text(encoding="utf-8").splitlines()[0]
    fields = first.split(",")
    assert len(fields) == 8
    assert fields[1] in ("0001", "0002")


def test_the_frame_at_a_keyframe_shows_what_the_row_says(made: Path) -> None:
    # The decoded frame is the one that the annotated scene draws at that second.
    from detection.demo.scene import StoryScene

    story = next(iter(tell_stories("val", 1, seed=5, slots=2, aspect=4 / 3)))
    notes = notes_of(story, slots=2, size_px=(160, 120))
    fair = [note for people in notes if not is_excluded(people) for note in people]
    rows = read_ground_truth(made / "annotations" / "val.csv")
    mine = ground_truth(fair)
    here = [rows.video_names[v] == story.video_id for v in rows.video_index]
    np.testing.assert_allclose(rows.boxes_01[here], mine.boxes_01, atol=1e-6)
    drawn = StoryScene(story, np.array([1.0]), size_px=(160, 120)).frame(0)
    with VideoReader(made / "videos" / f"{story.video_id}.mp4") as video:
        shown = video.read([1.0]).frames.numpy()[0].transpose(1, 2, 0)
        later = video.read([2.0]).frames.numpy()[0].transpose(1, 2, 0)
    difference = np.abs(shown.astype(int) - drawn).mean()
    assert difference < 8
    assert difference < np.abs(later.astype(int) - drawn).mean()


def test_equal_seeds_give_equal_files_and_frames_whatever_the_workers(
    made: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    assert generate_demo(again, TINY, workers=2)
    assert texts(again) == texts(made)
    ours, theirs = frames(made), frames(again)
    assert list(ours) == list(theirs)
    for name, pixels in ours.items():
        np.testing.assert_array_equal(pixels, theirs[name])


def test_another_seed_gives_another_set(made: Path) -> None:
    one, other = (
        next(iter(tell_stories("train", 1, seed=seed, slots=2, aspect=4 / 3))) for seed in (5, 6)
    )
    assert one.camera != other.camera or one.people != other.people


def test_run_again_it_keeps_the_same_set(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*")}
    assert main(["--out", str(made), *TINY_OPTIONS]) == 0
    assert "already made" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*")} == before


def test_other_parameters_are_refused_unless_overwritten(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(made, out)
    other = DemoParameters(seed=6, num_train=1, num_val=1, keyframes=1, width=96, height=72, fps=5)
    with pytest.raises(UserError, match="other parameters.*--overwrite"):
        generate_demo(out, other, workers=0)
    assert texts(out) == texts(made)
    assert generate_demo(out, other, workers=0, overwrite=True)
    assert len(list((out / "videos").iterdir())) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]


def test_a_set_with_a_video_gone_is_not_taken_for_whole(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(made, out)
    gone = sorted((out / "videos").iterdir())[0]
    gone.unlink()
    with pytest.raises(UserError, match=rf"{gone.name} is gone"):
        generate_demo(out, TINY, workers=0)


def test_a_folder_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is there already"):
            generate_demo(tmp_path / "mine", TINY, workers=0, overwrite=overwrite)
    assert (tmp_path / "mine" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_demo(tmp_path / "out", TINY, workers=0, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-train", "0"], "num_train is 0, 1 to 10,000 is required"),
        (["--size", "640x240"], "640 x 240: width must be 1 to 2 times the height"),
        (["--fps", "1"], "fps is 1, 5 to 240 is required"),
    ],
)
def test_bad_parameters_are_named(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        main(["--out", str(tmp_path / "x"), *options])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "most"),
    [("num_train", 10_000), ("num_val", 10_000), ("keyframes", 3600), ("width", 4096)]
    + [("height", 4096), ("fps", 240), ("seed", (1 << 63) - 1)],
)
def test_no_one_draws_for_days_by_a_slip_of_the_keyboard(name: str, most: int) -> None:
    square = {"width": 4096, "height": 4096}
    DemoParameters(**{**square, name: most})
    with pytest.raises(UserError, match=f"{name} is {most + 1}, .* to {most:,} is required"):
        DemoParameters(**{**square, name: most + 1})


def test_the_command_draws_a_sheet_and_fails_in_one_line(made: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["--out", str(made), *TINY_OPTIONS, "--sheet", str(sheet)]) == 0
    image = cv2.imread(str(sheet))
    assert image.shape == (2 * 2 * 120, 4 * 2 * 160, 3)  # twice as large, for the labels
    assert (image == (20, 20, 20)).all(axis=-1).sum() > 1000  # the plates below them
    command = [sys.executable, "-m", "ava_tools.make_demo", "--out", str(made), "--size", "wide"]
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "WIDTHxHEIGHT is required" in bad.stderr
    command[-2:] = ["--seed", "77"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in refused.stderr


def test_the_command_draws_by_default_what_the_tests_look_at(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    asked = []
    monkeypatch.setattr(generate, "generate_demo", lambda _, given, **__: asked.append(given))
    main(["--out", str(tmp_path / "x")])
    assert asked == [DemoParameters()]
