"""Files into tracks and people: linked, named after the ground truth, by the files' own ids."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame

from ava_tools import visualize
from detection.datasets.ava_csv import AvaRows, read_detections, read_ground_truth
from detection.datasets.label_map import write_label_map
from detection.review import media
from detection.review.from_csv import keyframes_of, tracks_of, truth_of
from detection.review.media import place_playable_video, why_encoded_anew
from detection.structures import Keyframe, LabelMap
from detection.video.copying import most_frames_to_seek
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

MAP = LabelMap(("stand", "walk"), (12, 14))
FOUND = (
    "v,1,0.1,0.1,0.3,0.9,12,0.9\nv,1,0.1,0.1,0.3,0.9,14,0.2\nv,1,0.6,0.1,0.8,0.9,14,0.7\n"
    "v,2,0.12,0.1,0.32,0.9,12,0.8\nw,2,0.12,0.1,0.32,0.9,12,0.8\nv,2,0.6,0.1,0.8,0.9,99,0.7\n"
)
TRUTH = "v,1,0.1,0.1,0.3,0.9,12,31\nv,2,0.1,0.1,0.3,0.9,,31\nv,3\nv,2.5,0.6,0.1,0.8,0.9,14,8\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[AvaRows, AvaRows]:
    (tmp_path / "det.csv").write_text(FOUND)
    (tmp_path / "gt.csv").write_text(TRUTH)
    return read_detections(tmp_path / "det.csv"), read_ground_truth(tmp_path / "gt.csv")


def test_boxes_are_linked_and_named_after_the_people_they_overlap(files):
    found, known = files
    times = keyframes_of("v", known, found)
    assert times == [1.0, 2.0, 2.5, 3.0]
    truth = truth_of(known, "v", MAP, times)
    tracks = {track.track_id: track for track in tracks_of(found, "v", MAP, times, truth=truth)}
    assert sorted(tracks) == [31, 32]
    np.testing.assert_allclose(tracks[31].action_scores, [[0.9, 0.2], [0.8, 0]])
    assert tracks[32].times_s.tolist() == [1, 2]  # the class outside the map leaves the box
    bare = tracks_of(found, "v", MAP, times)
    assert [track.track_id for track in bare] == [1, 2]
    assert [list(person.times_s) for person in truth.people] == [[2.5], [1, 2]]
    assert truth.people[1].labels.tolist() == [[True, False], [False, False]]
    assert list(truth.keyframes_s) == times


def test_the_files_own_track_ids_are_kept(tmp_path):
    rows = "v,1,0.1,0.1,0.3,0.9,12,0.9,17\nv,9,0.6,0.1,0.8,0.9,12,0.9,17\n"
    (tmp_path / "det.csv").write_text(rows)
    [track] = tracks_of(read_detections(tmp_path / "det.csv"), "v", MAP, [1.0, 9.0])
    assert track.track_id == 17 and track.times_s.tolist() == [1, 9]


def test_left_out_keyframes_and_videos_that_are_not_there(files):
    found, known = files
    left_out = frozenset({Keyframe("v", 2.0), Keyframe("w", 1.0)})
    assert keyframes_of("v", known, None, left_out=left_out) == [1.0, 2.5, 3.0]
    assert keyframes_of("nobody", known, found) == []
    assert tracks_of(found, "nobody", MAP, []) == ()
    assert truth_of(known, "nobody", MAP, []).people == ()


def write(path: Path, interval_s: float, seconds: int = 6, **how) -> Path:
    with VideoWriter(path, width=64, height=48, fps=5, keyframe_interval_s=interval_s) as writer:
        for number in range(5 * seconds):
            writer.write(np.full((48, 64, 3), 4 * number, np.uint8), 3 + number / 5)
    return path


def test_playable_videos_are_linked_and_others_written_anew_at_their_times(tmp_path, monkeypatch):
    good = write(tmp_path / "good.mp4", 1.0)
    assert place_playable_video(good, tmp_path / "out") == "videos/good.mp4"
    assert (tmp_path / "out" / "videos" / "good.mp4").samefile(good)
    assert place_playable_video(good, tmp_path / "out") == "videos/good.mp4"  # again
    # Five frames of 48x64 between two key frames of the first, thirty of the second.
    monkeypatch.setattr(media, "MOST_MEGAPIXELS_TO_SEEK", 10 * 48 * 64 / 1e6)
    for source, is_slow in ((write(tmp_path / "slow.mp4", 60), True), (as_matroska(good), False)):
        with VideoReader(source) as reader:
            assert (why_encoded_anew(reader) is not None) == is_slow
            assert not is_slow or why_encoded_anew(reader, start_s=3, end_s=5) is not None
            times_s = reader.frame_times_s()
        place = tmp_path / "out" / place_playable_video(source, tmp_path / "out")
        assert place.name == f"{source.stem}.mp4" and not place.samefile(source)
        with VideoReader(place) as reader:
            assert why_encoded_anew(reader) is None
            np.testing.assert_allclose(reader.frame_times_s(), times_s, atol=1e-3)


def as_matroska(path: Path) -> Path:
    made = path.with_name("other.mkv")
    with VideoReader(path) as reader, av.open(str(made), "w") as container:
        stream = container.add_stream_from_template(reader.stream)
        for packet in reader.packets():
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    return made


@pytest.mark.parametrize(("gaps", "start_s", "end_s", "most"), [
    ([4, 10, 6], -np.inf, np.inf, 10),
    ([4, 10, 6], 0.0, 0.3, 4),
    ([4, 10, 6], 0.5, 1.2, 10),
    ([4, 10, 6], 1.45, 1.9, 6),
    ([4, 10, 6], 0.3, 0.4, 10),
    ([3], 0.0, np.inf, 3),
])  # fmt: skip
def test_a_seek_decodes_the_frames_from_its_key_frame_on(tmp_path, gaps, start_s, end_s, most):
    """Only seeks between the two times count."""
    keys = np.cumsum([0, *gaps]).tolist()
    frame = VideoFrame.from_ndarray(np.full((48, 32), 90, np.uint8), format="yuv420p")
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        options = {"g": "1000", "sc_threshold": "0", "forced-idr": "1", "bf": "0"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width = stream.height = 32
        for number in range(sum(gaps)):
            frame.pts = number
            frame.pict_type = PictureType.I if number in keys else PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoReader(tmp_path / "v.mp4") as reader:
        assert most_frames_to_seek(reader, start_s=start_s, end_s=end_s) == most


def test_review_of_one_video(tmp_path, capsys):
    write(tmp_path / "v.mp4", 1.0)
    (tmp_path / "det.csv").write_text(FOUND.replace("v,1,", "v,4,").replace("v,2,", "v,5,"))
    write_label_map(tmp_path / "map.pbtxt", MAP)
    arguments = ["--review", "--video", tmp_path / "v.mp4", "--label-map", tmp_path / "map.pbtxt"]
    arguments += ["--detections", tmp_path / "det.csv", "--out", tmp_path / "page"]
    assert visualize.main([*map(str, arguments)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page' / 'review.html'}\n"
    assert '"start":3.0' in (tmp_path / "page" / "review.html").read_text()
    with pytest.raises(ValueError, match="no rows of video 'x'; it has v, w"):
        visualize.main([*map(str, arguments), "--video-id", "x"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--review"],
        ["--dataset", "d", "--out", "o"],
        ["--review", "--dataset", "d"],
        ["--review", "--run", "r", "--out", "o"],
        ["--review", "--run", "r", "--dataset", "d"],
        ["--review", "--run", "r", "--detections", "d.csv"],
        ["--review", "--video", "v.mp4", "--out", "o", "--label-map", "m"],
        ["--review", "--run", "r", "--sheet"],
        ["--review", "--no-review", "--run", "r"],
    ],
)
def test_flags_that_do_not_go_together(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        visualize.main(arguments)
    assert caught.value.code == 2 and "error:" in capsys.readouterr().err
