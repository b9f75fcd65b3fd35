import os

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_video import nearest, numbered_image, numbers_of

from detection.errors import UserError
from detection.prepare.video_probe import ProbeJob, probe_video
from detection.structures import ClipSampling
from detection.video.frame_folder import FrameFolder, nearest_frames


def write_frames(folder, numbers, name="ID"):
    folder.mkdir(parents=True)
    for number in numbers:
        image = numbered_image(number)
        cv2.imwrite(str(folder / f"{name}_{number:06d}.jpg"), image[:, :, ::-1])
    return folder


@pytest.fixture
def folder(tmp_path):
    """Frames 1 to 90 at 30 fps, the first shown at 900 s, as AVA is extracted."""
    return write_frames(tmp_path / "ID", range(1, 91))


def test_frames_by_time_as_from_a_video(folder):
    with FrameFolder(folder, fps=30, start_s=900) as frames:
        times_s = frames.frame_times_s()
        assert times_s == pytest.approx(900 + np.arange(90) / 30)
        required = ClipSampling(16, 5).times_s(901.0)
        clip = frames.read(required, keyframes_s=[901.0])
        assert numbers_of(clip.frames) == [1 + i for i in nearest(times_s.tolist(), required)]
        assert clip.frames.shape == (16, 3, 96, 160)
        assert frames.frame_size() == (160, 96)
        assert frames.span_s() == pytest.approx((900, 903))


def test_edges_repeat_but_a_keyframe_must_be_there(folder):
    frames = FrameFolder(folder, fps=30, start_s=900)
    assert numbers_of(frames.read([0.0, 900.0, 902.97, 5000.0]).frames) == [1, 1, 90, 90]
    for time_s in (899.9, 903.0):
        with pytest.raises(UserError, match=f"ID: keyframe at {time_s:.6f} s is outside"):
            frames.read([time_s], keyframes_s=[time_s])
        with pytest.raises(UserError, match=f"ID: keyframe at {time_s:.6f} s is outside"):
            frames.check_keyframes([901.0, time_s])
    frames.check_keyframes([900 - 0.016, 901.0, 902.97])


def test_a_missing_frame_gives_its_neighbour(tmp_path):
    frames = FrameFolder(write_frames(tmp_path / "ID", [1, 2, 5, 6]), fps=1, start_s=0)
    assert numbers_of(frames.read([0, 1, 2, 3, 4, 5]).frames) == [1, 2, 2, 5, 5, 6]


def test_short_side_and_colours(folder):
    image = np.full((96, 160, 3), (200, 30, 40), np.uint8)
    cv2.imwrite(str(folder / "ID_000001.jpg"), image[:, :, ::-1])
    clip = FrameFolder(folder, fps=30, start_s=900).read([900.0, 901.0], short_side=48)
    assert clip.frames.shape == (2, 3, 48, 80)
    assert clip.frames[0].float().mean(dim=(1, 2)).tolist() == pytest.approx([200, 30, 40], abs=4)
    assert numbers_of(clip.frames)[1] == 31


def test_bad_folders_are_named(tmp_path, folder):
    with pytest.raises(UserError, match="gone: folder of frames not found"):
        FrameFolder(tmp_path / "gone", fps=30, start_s=0).read([0])
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme.txt").write_text("")
    with pytest.raises(UserError, match="none: contains no frames named like"):
        FrameFolder(tmp_path / "none", fps=30, start_s=0).read([0])
    (folder / "ID_000007.jpg").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"ID_000007\.jpg: not a readable JPEG"):
        FrameFolder(folder, fps=30, start_s=0).read([0.2])
    cv2.imwrite(str(folder / "ID_0008.jpg"), numbered_image(8))
    with pytest.raises(UserError, match="a second frame 8"):
        FrameFolder(folder, fps=30, start_s=0).read([0])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True),
    st.lists(st.integers(-20, 150), max_size=12),
)
def test_nearest_equals_the_oracle(shown, required):
    shown_s, times_s = np.sort(np.array(shown, float)), np.array(required, float) / 2
    assert nearest_frames(shown_s, times_s).tolist() == nearest(shown_s.tolist(), times_s)


@pytest.mark.parametrize("name", ["q_999999999.jpg", f"q_{'9' * 30}.jpg", f"q_{'9' * 200}.jpg"])
def test_a_number_beyond_any_video_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="frame number above"):
        FrameFolder(tmp_path, fps=30, start_s=0).frame_times_s()


def test_what_is_no_regular_file_is_no_frame(tmp_path):
    os.mkfifo(tmp_path / "q_000001.jpg")
    with pytest.raises(UserError, match="not a regular file"):
        FrameFolder(tmp_path, fps=30, start_s=0).read([0.0])
    (tmp_path / "q_000001.jpg").unlink()
    (tmp_path / "q_000002.jpg").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="not a regular file"):
        FrameFolder(tmp_path, fps=30, start_s=0).read([0.0])


def test_frames_numbered_from_0_keep_their_times_and_are_told(tmp_path):
    folder = write_frames(tmp_path / "ID", range(0, 4))
    frames = FrameFolder(folder, fps=10, start_s=5)
    assert frames.frame_times_s() == pytest.approx([4.9, 5.0, 5.1, 5.2])
    assert numbers_of(frames.read([5.0]).frames) == [1]
    facts = probe_video(ProbeJob("ID", folder, frames_fps=10, frames_start_s=5), lambda done: None)
    assert facts.notes == (
        "its frames are numbered from 0; frame 1 is shown at 5 s, so that frame 0 is shown at "
        "4.900000 s",
    )
    (folder / "ID_000000.jpg").unlink()
    facts = probe_video(ProbeJob("ID", folder, frames_fps=10, frames_start_s=5), lambda done: None)
    assert facts.notes == ()
