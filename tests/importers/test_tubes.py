import csv
import pickle
from functools import partial

import numpy as np
import pytest
from numbered_video import write_numbered

from detection.datasets.actor_table import read_actor_table
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import open_video
from detection.errors import UserError
from detection.importers.source_videos import video_ids
from detection.importers.tubes import JHMDB, MULTISPORTS, UCF101_24, import_tubes
from detection.video.reader import VideoReader

import_jhmdb = partial(import_tubes, JHMDB)

WAVE = "wave/Goal_1_@_2_(x)_wave_0"
SIT = "sit/plain_sit_1"
SHORT = "sit/short_sit_2"
FRAMES = {WAVE: 20, SIT: 15, SHORT: 12}


def tube(frames, box=(0, 0, 319, 239)):
    return np.array([[frame, *box] for frame in frames], np.float32)


def content(**changes):
    values = {
        "labels": ["sit", "wave"],
        "gttubes": {
            WAVE: {1: [tube(range(1, 21), (32, 24, 95, 119))]},
            SIT: {0: [tube(range(1, 16))]},
            SHORT: {0: [tube(range(1, 15))]},  # two frames more than the clip has
        },
        "nframes": {WAVE: 20, SIT: 15, SHORT: 14},
        "train_videos": [[WAVE], [SIT, SHORT], [WAVE, SIT]],
        "test_videos": [[SIT, SHORT], [WAVE], [SHORT]],
        "resolution": dict.fromkeys(FRAMES, (240, 320)),
    }
    return values | changes


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for name, count in FRAMES.items():
        path = root / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_numbered(path, [i / 30 for i in range(count)], fps=30, width=320, height=240)
    (root / "JHMDB-GT.pkl").write_bytes(pickle.dumps(content(), protocol=2))
    return root


def rewrite(source, **changes):
    (source / "JHMDB-GT.pkl").write_bytes(pickle.dumps(content(**changes), protocol=2))


def test_the_folder_is_a_data_set_of_three_splits(source, tmp_path):
    report = import_jhmdb(source, tmp_path / "out")
    assert report.num_rows == {
        "split1_train": 20, "split1_val": 27, "split2_train": 27, "split2_val": 20,
        "split3_train": 35, "split3_val": 12,
    }  # fmt: skip
    data = DatasetFolder.open(tmp_path / "out")
    assert data.file.evaluation.protocol == "frame-map" and not data.file.made_up
    labels = data.read_label_map()
    assert labels.names == ("sit", "wave") and labels.ids == (1, 2)
    table = read_actor_table(data, "split1_train", labels)
    (video_id,) = table.video_names
    assert len(table) == 20 and table.labels(3).tolist() == [[0, 1]]
    # x2 and y2 name the last pixel inside: 32 to 95 is 32 to 96 of 320.
    np.testing.assert_allclose(table.boxes(0).xyxy_01, [[0.1, 0.1, 0.3, 0.5]], rtol=1e-6)
    with open_video(data, video_id) as video:
        times_s = video.frame_times_s()
    assert [k.time_s for k in table.keyframes()] == pytest.approx(times_s, abs=1e-6)


def test_whole_frames_stay_whole(source, tmp_path):
    import_jhmdb(source, tmp_path / "out")
    data = DatasetFolder.open(tmp_path / "out")
    table = read_actor_table(data, "split1_val", data.read_label_map())
    assert table.boxes(0).xyxy_01.tolist() == [[0, 0, 1, 1]]


def test_every_box_keeps_its_frame(source, tmp_path):
    """Frames count from 1: frame k is the k-th one shown."""
    frames = range(3, 13)
    moving = np.array([[k, 8 * k, 0, 8 * k + 79, 239] for k in frames], np.float32)
    rewrite(source, gttubes={SHORT: {0: [moving]}}, train_videos=[[SHORT]], test_videos=[[]])
    import_jhmdb(source, tmp_path / "out")
    data = DatasetFolder.open(tmp_path / "out")
    table = read_actor_table(data, "split1_train", data.read_label_map())
    assert [k.time_s for k in table.keyframes()] == pytest.approx(
        [(k - 1) / 30 for k in frames], abs=1e-6
    )
    assert table.boxes_01[:, 0].tolist() == pytest.approx([8 * k / 320 for k in frames])


def test_rows_past_the_end_are_left_out_and_listed(source, tmp_path):
    report = import_jhmdb(source, tmp_path / "out")
    assert [(row.source, row.frame, row.num_frames) for row in report.left_out] == [
        (SHORT, 13, 12), (SHORT, 14, 12)
    ]  # fmt: skip
    with (tmp_path / "out" / "left_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["frame"], row["frames_in_clip"]) for row in rows] == [
        (SHORT, "13", "12"), (SHORT, "14", "12")
    ]  # fmt: skip


def test_ids_are_safe_different_and_stay(source, tmp_path):
    names = [WAVE, SIT, "a/x", "b/x", "a/x y", "a/x_y", "a/..", "a/" + "ü" * 400, "a/" + "ü" * 401]
    ids = video_ids(names, ascii_only=True)
    assert len({video_id.casefold() for video_id in ids.values()}) == len(names)
    for video_id in ids.values():
        assert video_id.isascii() and 0 < len(video_id) < 200
        assert all(mark.isalnum() or mark in "_-." for mark in video_id)
        assert not video_id.startswith(".")
    assert ids[SIT] == "plain_sit_1" and ids["a/x_y"] == "x_y"
    assert video_ids([WAVE], ascii_only=True) == {WAVE: ids[WAVE]}
    known = "catch/Torwarttraining_2_(_sterreich)_catch_f_cm_np1_ba_goo_0"  # box files have it so
    kept = "Torwarttraining_2___sterreich__catch_f_cm_np1_ba_goo_0-b7adebde"
    assert video_ids([known], ascii_only=True) == {known: kept}
    assert video_ids([]) == {}
    import_jhmdb(source, tmp_path / "out")
    files = {path.stem for path in (tmp_path / "out" / "videos").iterdir()}
    assert files == set(video_ids(list(FRAMES), ascii_only=True).values())
    with (tmp_path / "out" / "video_sources.csv").open(newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == set(FRAMES)


@pytest.mark.parametrize("link", [False, True])
def test_videos_are_copies_or_links(source, tmp_path, link):
    import_jhmdb(source, tmp_path / "out", link=link)
    target = tmp_path / "out" / "videos" / "plain_sit_1.mp4"
    original = source / "videos" / f"{SIT}.mp4"
    assert target.read_bytes() == original.read_bytes()
    assert target.samefile(original) == link


def test_a_folder_that_is_there_is_kept_unless_asked(source, tmp_path):
    out = tmp_path / "out"
    import_jhmdb(source, out)
    (out / "mine.txt").write_text("notes")
    with pytest.raises(UserError, match="out: is there already; --overwrite"):
        import_jhmdb(source, out)
    assert (out / "mine.txt").exists()
    import_jhmdb(source, out, overwrite=True)
    assert not (out / "mine.txt").exists() and (out / "dataset.yaml").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_folder_that_is_no_data_set_is_never_replaced(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is no data set folder, so it is kept"):
        import_jhmdb(source, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").exists()


def break_clip(source):
    path = source / "videos" / f"{SIT}.mp4"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda s: (s / "JHMDB-GT.pkl").unlink(), r"JHMDB-GT\.pkl: file not found"),
        (lambda s: (s / "JHMDB-GT.pkl").write_bytes(b"x"), r"JHMDB-GT\.pkl: not a pickle"),
        (
            lambda s: (s / "JHMDB-GT.pkl").write_bytes(pickle.dumps([1])),
            "a dictionary with .* is required",
        ),
        (
            lambda s: (s / "videos" / f"{SIT}.mp4").unlink(),
            "1 of 3 videos are missing, the first: video .sit/plain_sit_1. not found",
        ),
        (break_clip, r"plain_sit_1\.mp4: .*cut short"),
        (lambda s: rewrite(s, gttubes={SIT: {0: [np.zeros((3, 4))]}}), r"shape \(3, 4\)"),
        (lambda s: rewrite(s, gttubes={SIT: {7: [tube([1])]}}), "class 7 of 2"),
        (lambda s: rewrite(s, gttubes={SIT: {0: [tube([0])]}}), "whole numbers from 1 on"),
        (
            lambda s: rewrite(s, gttubes={SIT: {0: [tube([np.nan])]}}),
            "plain_sit_1: finite numbers are required",
        ),
        (lambda s: rewrite(s, gttubes={SIT: 5}), "not JHMDB-21.s annotations"),
        (lambda s: rewrite(s, train_videos=[["sit/unknown"]], test_videos=[[]]), "sit/unknown"),
        (lambda s: rewrite(s, resolution={}), "not JHMDB-21.s annotations"),
        (lambda s: rewrite(s, resolution=np.zeros(3)), "not JHMDB-21.s annotations"),
        (
            lambda s: rewrite(
                s,
                gttubes={SIT: {0: [tube([1], (400, 0, 500, 9))]}},
                train_videos=[[SIT]],
                test_videos=[[]],
            ),
            "plain_sit_1: the box lies outside the frame",
        ),
        (lambda s: rewrite(s, gttubes={"../../etc/passwd": {}}), "is not FOLDER/NAME"),
        (lambda s: rewrite(s, gttubes={"sit/../x": {}}), "is not FOLDER/NAME"),
        (lambda s: rewrite(s, gttubes={"/etc": {}}), "is not FOLDER/NAME"),
    ],
)
def test_a_bad_source_is_named_and_nothing_is_written(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(UserError, match=message) as caught:
        import_jhmdb(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.real_data
def test_the_real_clips_give_the_known_counts(real_data, tmp_path):
    report = import_jhmdb(real_data / "jhmdb", tmp_path / "out")
    assert report.num_videos == 928
    assert report.num_rows["split1_val"] == 9126
    assert len(report.left_out) == 14
    assert {(row.source.split("/")[0], row.num_frames) for row in report.left_out} == {
        ("clap", 27), ("clap", 18), ("stand", 35)
    }  # fmt: skip
    data = DatasetFolder.open(tmp_path / "out")
    labels = data.read_label_map()
    assert len(labels) == 21
    for number in (1, 2, 3):
        train = read_actor_table(data, f"split{number}_train", labels)
        val = read_actor_table(data, f"split{number}_val", labels)
        assert len(train) + len(val) == 31838 and len(train.video_names + val.video_names) == 928
        assert not set(train.video_names) & set(val.video_names)
    for position in range(0, len(val), 900):
        keyframe = val.keyframe(position)
        with VideoReader(data.video_path(keyframe.video_id)) as video:
            clip = video.read([keyframe.time_s], keyframes_s=[keyframe.time_s])
        assert clip.times_s[0] == pytest.approx(keyframe.time_s, abs=1e-6)


def test_ucf_and_multisports_have_tubes_in_part_of_their_videos(source, tmp_path):
    """Frames without a tube are empty keyframes; impossible boxes are left out and listed."""
    tubes = {
        WAVE: {1: [tube(range(3, 9)), tube(range(5, 7), (-40, 10, 99, 380))], 0: [tube([6])]},
        SIT: {0: [tube([2], (330, 0, 340, 9))]},
    }
    values = content(gttubes=tubes, train_videos=[[WAVE]], test_videos=[[SIT]])
    for form in (UCF101_24, MULTISPORTS):
        (source / form.files[0]).write_bytes(pickle.dumps(values, protocol=2))
        out = tmp_path / form.key
        report = import_tubes(form, source, out)
        assert report.num_rows == {"train": 9, "val": 0} and report.num_clipped == 2
        (gone,) = report.left_out
        assert gone.source == SIT and gone.frame == 2 and "outside the frame" in gone.reason
        data = DatasetFolder.open(out)
        rows = read_ground_truth(data.split("train").annotations)
        assert len(rows.empty_keyframes) == 20 - 6 and set(rows.person_id.tolist()) == {1, 2, 3}
        assert rows.boxes_01.max() == 1 and rows.boxes_01.min() == 0
        table = read_actor_table(data, "train", data.read_label_map(), keep_empty=True)
        assert len(table) == 20 and table.labels(5).tolist() == [[0, 1], [0, 1], [1, 0]]


def test_a_mutated_pickle_is_refused_or_read(tmp_path):
    """Bytes changed and cut: one line of `UserError`, whatever they make of the pickle."""
    values = content()
    original = pickle.dumps(values, protocol=2)
    generator = np.random.default_rng(3)
    path = tmp_path / "JHMDB-GT.pkl"
    refused = 0
    for _ in range(400):
        data = bytearray(original)
        for _ in range(int(generator.integers(1, 5))):
            data[int(generator.integers(0, len(data)))] = int(generator.integers(0, 256))
        path.write_bytes(bytes(data[: int(generator.integers(len(data) // 2, len(data) + 1))]))
        try:
            import_jhmdb(tmp_path, tmp_path / "out")
        except UserError as error:
            refused += 1
            assert "out" not in {p.name for p in tmp_path.iterdir()}, error
    assert refused == 400  # there is no video: what can be read ends there
