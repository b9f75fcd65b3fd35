"""verify names what a training run would stumble over, and nothing else."""

from __future__ import annotations

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
from awkward_video import encoded, mux
from numbered_dataset import make_dataset
from numbered_video import numbered_image, write_numbered

from ava_tools import verify as command
from detection.checks.videos import verify_dataset
from detection.datasets.ava_csv import write_keyframe_list, write_person_boxes
from detection.datasets.folder import DatasetFolder, write_dataset_file
from detection.errors import UserError
from detection.prepare.dataset import prepare_dataset
from detection.prepare.video import PrepareOptions
from detection.structures import ActorBoxes, Keyframe
from detection.transfer.manifest import FetchedFile, Manifest
from detection.video.reader import VideoReader

SMALL = PrepareOptions(short_side=64)


@pytest.fixture
def root(tmp_path):
    """Two videos of four seconds with keyframes at 1 and 2 s."""
    root = make_dataset(tmp_path / "data", {name: [1.0, 2.0] for name in "ab"})
    for name in "ab":
        write_numbered(root / f"videos/{name}.mp4", [i / 25 for i in range(100)])
    return root


def verify(root, **options):
    return verify_dataset(DatasetFolder.open(root), **options)


def only_problem(root, **options):
    report = verify(root, **options)
    assert len(report.problems) == 1, [str(finding) for finding in report.findings]
    return str(report.problems[0])


def change_file(root, **changes):
    file = DatasetFolder.open(root).file
    write_dataset_file(root, file.model_copy(update=changes))


def change_split(root, **changes):
    part = DatasetFolder.open(root).file.splits["train"].model_copy(update=changes)
    change_file(root, splits={"train": part})


def run(capsys, *arguments):
    code = command.main([*map(str, arguments), "--jobs", "1"])
    return code, capsys.readouterr().out


def test_a_good_folder_passes(root, capsys):
    assert run(capsys, root) == (
        0,
        f"{root}: 2 videos, 200 frames decoded, 4 keyframes: a training run finds all it needs\n",
    )


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def damaged(path):
    data = bytearray(path.read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm, message",
    [
        (cut, "cut short"),
        (damaged, "damaged or cut short after"),
        (lambda path: path.write_bytes(b""), "not a video"),
        (lambda path: path.write_bytes(b"nothing" * 999), "not a video"),
        (lambda path: path.unlink(), "video file not found"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    ],
    ids=["cut", "damaged", "empty", "junk", "missing", "folder"],
)
def test_a_bad_video_is_named_with_what_to_do(root, harm, message, capsys):
    harm(root / "videos/b.mp4")
    code, text = run(capsys, root)
    assert code == 1 and "b: " in text and "b.mp4" in text and message in text
    assert "replace it by a good copy" in text and not text.startswith("a: ")
    # Kept findings say the same.
    assert run(capsys, root)[0] == 1


def test_keyframes_past_the_end_are_counted_and_the_first_row_named(tmp_path):
    root = make_dataset(tmp_path / "data", {"v": [1.0, 3.98, 4.0, 9.0]})
    write_numbered(root / "videos/v.mp4", [i / 25 for i in range(100)])
    text = only_problem(root)
    assert "2 keyframe(s) outside its frames" in text and "0.000 to 3.960 s" in text
    assert "the first at 4.000000 s" in text and "train.csv:3" in text
    write_keyframe_list(root / "annotations/x.csv", [Keyframe("v", 4.0), Keyframe("v", 9.0)])
    change_split(root, exclusions="annotations/x.csv")
    assert not verify(root).problems


def test_keyframes_of_boxes_count_too(root):
    box = ActorBoxes(np.array([[0, 0, 1, 1]], np.float32), np.ones(1, np.float32))
    place = "annotations/boxes_x.csv"
    write_person_boxes(root / place, [(Keyframe("a", 1.0), box), (Keyframe("a", 7.0), box)])
    change_split(root, boxes={"x": place})
    assert "boxes_x.csv:2" in only_problem(root)
    (root / place).unlink()
    assert "boxes_x.csv: file not found" in only_problem(root)


def test_a_list_of_videos_is_heeded(root):
    (root / "videos/b.mp4").unlink()
    (root / "annotations/only.txt").write_text("a\n")
    change_split(root, videos="annotations/only.txt")
    assert not verify(root).problems


@pytest.mark.parametrize("name", ["train.csv", "label_map.pbtxt"])
def test_missing_and_malformed_annotations_are_problems(root, name):
    path = root / "annotations" / name
    path.write_text("no,such\nthing,at,all\n")
    assert any(name in str(finding) for finding in verify(root).problems)
    path.unlink()
    assert any(name in str(finding) for finding in verify(root).problems)


def test_no_data_set_and_bad_options_are_user_errors(root, tmp_path):
    for arguments, message in (
        ([tmp_path], "dataset.yaml: file not found"),
        ([root, "--split", "test"], "split 'test' not found"),
        ([root, "optim.lr=1"], "need --cfg"),
        ([root, "--frame-lists", tmp_path], "no frame list"),
    ):
        with pytest.raises(UserError, match=message):
            command.main([*map(str, arguments), "--jobs", "1"])


def test_with_the_eyes_of_a_run(root, tmp_path, capsys):
    cfg = tmp_path / "run.yaml"
    cfg.write_text("data: {root: nowhere, val_split: train}\n")
    assert run(capsys, root, "--cfg", cfg)[0] == 0
    code, text = run(capsys, root, "data.val_boxes=mine", "--cfg", cfg)
    assert code == 1 and "has no boxes 'mine'" in text


def test_what_was_found_is_used_again_until_the_file_changes(root, monkeypatch):
    verify(root)
    decoded = []
    look = VideoReader.decoded_times_s

    def counted(video):
        decoded.append(video.path.name)
        return look(video)

    monkeypatch.setattr(VideoReader, "decoded_times_s", counted)
    assert not verify(root).problems and not decoded
    assert json.loads((root / "verified/a.json").read_text())["holes_s"] == []  # as of old
    assert not verify(root, again=True).problems and decoded == ["a.mp4", "b.mp4"]
    decoded.clear()
    write_numbered(root / "videos/b.mp4", [i / 30 for i in range(20)])
    (root / "verified/a.json").write_text("{")
    assert "b: " in only_problem(root) and decoded == ["a.mp4", "b.mp4"]


def test_prepared_videos_are_those_that_prepare_made(root, tmp_path):
    out = tmp_path / "out"
    prepare_dataset(
        DatasetFolder.open(root),
        out,
        options=SMALL,
        clip_span_s=1.0,
        how_to_get="ava_tools.prepare",
    )
    assert not verify(out).problems
    reports = [str(finding) for finding in verify(out, clip_span_s=3.0).problems]
    assert len(reports) == 2 and "was cut to 0.500 to 2.500 s" in reports[0]
    assert "longer --clip-span" in reports[0]
    shutil.copy(out / "videos/a.mp4", out / "videos/b.mp4")
    data = bytearray((out / "videos/b.mp4").read_bytes())
    data[-1] ^= 1
    (out / "videos/b.mp4").write_bytes(data)
    assert any("is not what prepare made" in str(f) for f in verify(out).problems)


def test_downloaded_videos_are_those_that_came(root):
    size = (root / "videos/b.mp4").stat().st_size
    entry = FetchedFile("http://x/b.mp4", "videos/b.mp4", size, "0" * 64, None)
    manifest = Manifest(root, {"videos/b.mp4": entry})
    manifest.write()
    change_file(root, how_to_get="python -m ava_tools.download --out x")
    text = only_problem(root)
    assert "is not what was downloaded" in text and "--only=b" in text


def test_a_still_image_is_worth_a_note(tmp_path):
    root = make_dataset(tmp_path / "data", {"v": [1.0, 5.0]})
    times_s = [i / 25 for i in range(50)] + [8 + i / 25 for i in range(50)]
    write_numbered(root / "videos/v.mp4", times_s)
    report = verify(root)
    assert not report.problems
    assert "1 keyframe(s) more than half a second from any frame" in str(report.findings[0])


def write_list(path, count, video_id="v"):
    path.parent.mkdir(exist_ok=True)
    rows = [f'{video_id} 0 {i} {video_id}/{video_id}_{i + 1:06d}.jpg ""' for i in range(count)]
    path.write_text("original_vido_id video_id frame_id path labels\n" + "\n".join(rows) + "\n")


def test_films_are_compared_with_the_frame_lists_of_fair(tmp_path):
    root = make_dataset(tmp_path / "data", {"v": [902.0, 903.0]})
    write_numbered(root / "videos/v.mp4", [899 + i / 25 for i in range(200)])  # to 906.96 s
    write_list(root / "frame_lists/train.csv", 210)  # to 906.97 s
    assert not verify(root).findings
    write_list(root / "frame_lists/train.csv", 300)
    text = only_problem(root)
    assert "shows 899.0 to 907.0 s" in text and "lists frames of 900.0 to 910.0 s" in text
    write_list(root / "frame_lists/train.csv", 10, video_id="other")
    assert "1 of 1 videos are in no list" in str(verify(root).findings[0])
    (root / "frame_lists/train.csv").write_text("a,b,c\n")
    assert "train.csv:1" in only_problem(root)
    (root / "frame_lists/train.csv").write_text(
        "original_vido_id video_id frame_id path labels\nv 0 0 nothing\n"
    )
    assert "train.csv:2" in only_problem(root)


@pytest.fixture
def frames(tmp_path):
    """A data set of extracted frames: 30 a second from 900 s, 120 of them."""
    root = make_dataset(tmp_path / "data", {"v": [901.0, 902.0]})
    (root / "frames/v").mkdir(parents=True)
    for number in range(1, 121):
        image = numbered_image(number, width=80, height=48)
        cv2.imwrite(str(root / f"frames/v/v_{number:06d}.jpg"), image)
    text = (root / "dataset.yaml").read_text()
    frames = "frames: {folder: frames, fps: 30.0, start_s: 900.0}"
    (root / "dataset.yaml").write_text(text.replace("videos: videos", frames))
    return root


def test_extracted_frames(frames):
    write_list(frames / "frame_lists/train.csv", 120)
    assert not verify(frames).findings
    (frames / "frames/v/v_000070.jpg").unlink()
    reports = [str(finding) for finding in verify(frames).problems]
    assert "1 frames are missing between the first and the last" in reports[0]
    assert "number 70" in reports[0] and "119 frames where" in reports[1]


def test_half_written_frames_are_found(frames):
    path = frames / "frames/v/v_000070.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    assert "v_000070.jpg: no whole JPEG (1 such of 120 frames)" in only_problem(frames)
    path.write_bytes(b"")
    assert "v_000070.jpg" in only_problem(frames)
    for frame in (frames / "frames/v").iterdir():
        frame.unlink()
    assert "contains no frames" in only_problem(frames)


def test_a_source_of_tubes_short_of_its_boxes(tmp_path, capsys):
    (tmp_path / "videos/run").mkdir(parents=True)
    for name in "xy":
        write_numbered(tmp_path / f"videos/run/{name}.mp4", [i / 25 for i in range(20)])

    def tube(frames):
        rows = [[number, 5.0, 5.0, 50.0, 60.0] for number in range(1, frames + 1)]
        return {0: [np.array(rows, np.float32)]}

    values = {
        "labels": ["run"],
        "gttubes": {"run/x": tube(20), "run/y": tube(23), "run/z": tube(3)},
        "nframes": {"run/x": 20, "run/y": 23, "run/z": 3},
        "train_videos": [["run/x"]],
        "test_videos": [["run/y", "run/z"]],
        "resolution": {name: (96, 160) for name in ("run/x", "run/y", "run/z")},
    }
    (tmp_path / "JHMDB-GT.pkl").write_bytes(pickle.dumps(values))
    code, text = run(capsys, tmp_path, "--json", tmp_path / "found.json")
    assert code == 1
    assert "run/y: 20 frames where the annotations box frames up to 23" in text
    assert "run/z: no video file" in text and "run/x" not in text
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == ["num_videos", "num_frames", "num_keyframes", "findings"]
    assert [list(one) for one in found["findings"]] == [
        ["subject", "message", "advice", "is_problem"]
    ] * 2
    assert not (tmp_path / "verified").exists()


@pytest.mark.real_data
def test_the_three_short_clips_of_jhmdb_are_found(real_data, tmp_path, capsys):
    """On a source of ten clips: decoding all 928 is for the command, not for each test run."""
    values = pickle.loads((real_data / "jhmdb/JHMDB-GT.pkl").read_bytes(), encoding="latin1")
    short = [
        "clap/The_Slow_Clap_clap_u_cm_np1_fr_med_4",
        "clap/The_Slow_Clap_clap_u_nm_np1_fr_bad_20",
        "stand/BIG_FISH_stand_u_nm_np1_fr_med_27",
    ]
    chosen = [*short, *sorted(set(values["gttubes"]) - set(short))[::150]]
    for key in ("gttubes", "nframes", "resolution"):
        values[key] = {name: values[key][name] for name in chosen}
    values["train_videos"], values["test_videos"] = [chosen], [[]]
    (tmp_path / "JHMDB-GT.pkl").write_bytes(pickle.dumps(values, protocol=2))
    (tmp_path / "videos").symlink_to(real_data / "jhmdb/videos")
    code, text = run(capsys, tmp_path)
    assert code == 1
    assert [line.split(":")[0] for line in text.splitlines()[:-1]] == sorted(short)


def spoiled(data, generator):
    """Return a file with some bytes of its header (or of all of it) changed, or without its end."""
    data = bytearray(data)
    reach = min(len(data), 1500) if generator.random() < 0.7 else len(data)
    for _ in range(int(generator.choice([1, 2, 4, 16]))):
        place = int(generator.integers(reach))
        data[place] = int(generator.choice([0, 1, 255, data[place] ^ 0x80]))
    if generator.random() < 0.2:
        del data[int(generator.integers(len(data))) :]
    return bytes(data)


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "ts", "flv"])
def test_a_broken_header_is_a_finding_that_is_printed(tmp_path, capsys, suffix):
    """However it is broken: 0 with nothing to say, or 1 with a line about the video."""
    names = [f"v{number:02d}" for number in range(40)]
    root = make_dataset(tmp_path / "data", {name: [0.2] for name in names})
    encoder, packets = encoded("libx264", 15)
    rows = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
    whole = mux(tmp_path / f"whole.{suffix}", encoder, rows, codec="libx264").read_bytes()
    generator = np.random.default_rng(0)
    for name in names:
        (root / f"videos/{name}.{suffix}").write_bytes(spoiled(whole, generator))
    code, text = run(capsys, root)
    about = [line for line in text.splitlines()[:-1] if not line.startswith("note: ")]
    assert code == (1 if about else 0)
    assert all(line[:3] in names for line in about)
    assert "40 videos" in text.splitlines()[-1]
    assert suffix != "mp4" or code == 1
