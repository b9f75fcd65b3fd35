from __future__ import annotations

import cv2
import numpy as np
import pytest

from ava_tools import import_dataset
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import open_video
from detection.errors import UserError
from detection.importers.frame_folders import import_frame_folders


def write_frames(folder, numbers, pattern="{:06d}.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        grey = np.full((36, 48, 3), 5 * number, np.uint8)
        assert cv2.imwrite(str(folder / pattern.format(number)), grey)
    return folder


def test_each_folder_is_a_video(tmp_path):
    source = tmp_path / "source"
    write_frames(source / "MOT-02" / "img1", [1, 2, 3, 5])
    write_frames(source / "walk", range(1, 11), "walk_{:06d}.jpg")
    (source / "walk" / "notes.txt").write_text("no frame")
    report = import_frame_folders(source, tmp_path / "out", fps=10, start_s=2)
    assert report.num_videos == 2
    assert report.notes[0] == "14 frames, numbered from 1 (--first-frame says otherwise)"
    assert report.notes[1].endswith("stands in for them: MOT-02: 1")
    folder = DatasetFolder.open(tmp_path / "out")
    for name, ends in (("MOT-02", (2.0, 2.4)), ("walk", (2.0, 2.9))):
        with open_video(folder, name) as video:
            assert video.ends_s() == pytest.approx(ends)
            assert video.frame_size() == (48, 36)
    with open_video(folder, "walk") as video:
        shown = video.read([2.3]).frames
        assert abs(int(shown[0, 0, 0, 0]) - 20) <= 2  # the file of number 4
    names = (tmp_path / "out/annotations/all_videos.txt").read_text().split()
    assert names == ["MOT-02", "walk"]


def test_folders_numbered_from_0_begin_at_the_start(tmp_path):
    write_frames(tmp_path / "v", range(3), "frame{}.jpeg")
    report = import_frame_folders(tmp_path / "v", tmp_path / "out", fps=25)
    assert "numbered from 0" in report.notes[0]
    with open_video(DatasetFolder.open(tmp_path / "out"), "v") as video:
        assert video.frame_times_s().tolist() == pytest.approx([0, 0.04, 0.08])
    again = import_frame_folders(
        tmp_path / "v", tmp_path / "out", fps=25, first_frame=0, overwrite=True, link=True
    )
    assert again.num_videos == 1


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match="folder of frames not found"):
        import_frame_folders(tmp_path / "no", tmp_path / "out", fps=25)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no frames named like"):
        import_frame_folders(tmp_path / "empty", tmp_path / "out", fps=25)
    zero = write_frames(tmp_path / "zero", range(2))
    with pytest.raises(UserError, match="000000.jpg: frame 0, from 1 on is required"):
        import_frame_folders(zero, tmp_path / "out", fps=25, first_frame=1)
    write_frames(tmp_path / "zero", [1], "x_{}.jpg")
    with pytest.raises(UserError, match="a second frame 1 beside 000001.jpg"):
        import_frame_folders(zero, tmp_path / "out", fps=25)
    write_frames(tmp_path / "png", [1], "{}.png")
    with pytest.raises(UserError, match="1 images are .png, frames are read from JPEG alone"):
        import_frame_folders(tmp_path / "png", tmp_path / "out", fps=25)
    broken = write_frames(tmp_path / "broken", [2])
    (broken / "000001.jpg").write_text("no image")
    with pytest.raises(UserError, match="broken/000001.jpg: not a readable JPEG"):
        import_frame_folders(broken, tmp_path / "out", fps=25)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, capsys):
    source = write_frames(tmp_path / "v", range(1, 4))
    line = ["frames", "--source", str(source), "--out", str(tmp_path / "out"), "--fps", "25"]
    assert import_dataset.main([*line, "--start", "900"]) == 0
    assert "1 videos -> " in capsys.readouterr().out
    assert DatasetFolder.open(tmp_path / "out").file.frames.start_s == 900
