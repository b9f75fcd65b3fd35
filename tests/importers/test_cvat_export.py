"""What is exported for CVAT comes back: same boxes, same people, same actions."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_video import write_numbered

from ava_tools import export_cvat, import_dataset
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.importers.cvat_export import ActionChoices, TrackBox, without_interpolated
from detection.importers.cvat_xml import read_cvat
from detection.people.keyframe_frames import regular_keyframes


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two videos without labels, as `import_dataset videos` makes them; two people found in a."""
    folder = tmp_path_factory.mktemp("films")
    write_numbered(folder / "a b&.mp4", [i / 10 for i in range(80)], fps=10)
    write_numbered(folder / "b.mp4", [i / 10 for i in range(40)], fps=10)
    out = folder / "raw"
    assert import_dataset.main(["videos", "--source", str(folder), "--out", str(out)]) == 0
    (video, _) = (out / "annotations" / "all_videos.txt").read_text().splitlines()
    rows = []
    for second in range(8):
        rows.append(f"{video},{second},{0.1 + second / 50},.1,{0.3 + second / 50},.9,,0.9")
        if second not in (3, 4, 5, 6):
            rows.append(f"{video},{second},.7,.1,.9,.9,,0.8")
        rows.append(f"{video},{second},.4,.4,.5,.5,,0.1")
    rows.append("b,1,.2,.2,.6,.8,,0.95")
    (out / "annotations" / "people.csv").write_text("\n".join(rows) + "\n")
    return out


def export(raw, out, *more):
    return export_cvat.main(
        ["--dataset", str(raw), "--split", "all", "--boxes", str(raw / "annotations/people.csv"),
         "--out", str(out), *more]
    )  # fmt: skip


def test_people_found_go_to_cvat_and_come_back_with_actions(raw, tmp_path, capsys):
    """The annotator is played by an edit of the text: one tick, which holds to the track's end."""
    out = tmp_path / "cvat"
    assert export(raw, out, "--one-of", "pose=stand,sit & lie", "--actions", "wave") == 0
    assert "2 videos, 4 people, 13 boxes" in capsys.readouterr().out
    (label,) = json.loads((out / "labels.json").read_text())
    assert [a["input_type"] for a in label["attributes"]] == ["select", "checkbox"]
    assert label["attributes"][0]["values"] == ["none", "stand", "sit & lie"]
    (path,) = [p for p in out.glob("*.xml") if p.stem != "b"]
    first = read_cvat(path).tracks[0]
    assert [b.frame for b in first.boxes] == [0, 70] and not first.boxes[-1].outside
    text = path.read_text()
    said = '><attribute name="pose">sit &amp; lie</attribute></box>'
    path.write_text(re.sub(r"></box>", said, text, count=1))
    done = ["cvat", "--source", str(out), "--videos", str(raw / "videos"), "--val-videos", "b"]
    done += ["--every", "1"]
    assert import_dataset.main([*done, "--out", str(tmp_path / "mine")]) == 0
    data = DatasetFolder.open(tmp_path / "mine")
    labels = data.read_label_map()
    assert labels.names == ("stand", "sit & lie", "wave")
    rows = read_ground_truth(data.split("train").annotations)
    by_person = {}
    for t, box, action, person in zip(
        rows.time_us.tolist(), rows.boxes_01.tolist(), rows.action_id.tolist(),
        rows.person_id.tolist(), strict=True,
    ):  # fmt: skip
        by_person.setdefault(person, []).append((t / 1e6, box[0], action))
    walk = by_person.pop(0)
    assert [(t, action) for t, _, action in walk] == [(t, 2) for t in range(8)]
    np.testing.assert_allclose([x for _, x, _ in walk], 0.1 + np.arange(8) / 50, atol=1e-3)
    others = sorted((t, action) for track in by_person.values() for t, _, action in track)
    assert others == [(0, -1), (1, -1), (2, -1), (7, -1)]


def test_labels_go_to_cvat_and_come_back_the_same(raw, tmp_path):
    """Any labels of a data set, with every box written: the same rows after the round trip."""
    table = tmp_path / "t.csv"
    table.write_text(
        "video,time,x1,y1,x2,y2,action,person\n"
        + "".join(
            f"{video},{t},{x},.25,{x + 0.25},.75,{action},{person}\n"
            for video, t, x, action, person in [
                ("b", 0, 0.25, "sit;wave", 1), ("b", 1, 0.25, "", 1), ("b", 1, 0.5, "sit", 2),
                ("b", 2, 0.5, "stand", 1), ("b", 3, 0.5, "stand", 2),
            ]
        )
    )  # fmt: skip
    first, second = tmp_path / "first", tmp_path / "second"
    csv = ["csv", "--source", str(table), "--videos", str(raw / "videos"), "--val-share", "0"]
    assert import_dataset.main([*csv, "--exclusive", "pose=sit,stand", "--out", str(first)]) == 0
    out = tmp_path / "cvat"
    export_cvat.main(["--dataset", str(first), "--split", "train", "--out", str(out)])
    cvat = ["cvat", "--source", str(out), "--videos", str(first / "videos"), "--val-share", "0"]
    cvat += ["--every", "1"]
    assert import_dataset.main([*cvat, "--out", str(second)]) == 0
    results = []
    for root in (first, second):
        data = DatasetFolder.open(root)
        labels = data.read_label_map()
        rows = read_ground_truth(data.split("train").annotations)
        ids = np.unique(rows.person_id, return_inverse=True)[1]
        name_of = {-1: None, **dict(zip(labels.ids, labels.names, strict=True))}
        results.append(sorted(
            (t, *map(float, np.round(box, 3)), str(name_of[a]), int(p))
            for t, box, a, p in zip(
                rows.time_us.tolist(), rows.boxes_01, rows.action_id.tolist(), ids, strict=True
            )
        ))  # fmt: skip
        assert set(data.file.exclusive["pose"]) == {"sit", "stand"}
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "more, message",
    [
        ((), "no action to choose from"),
        (("--one-of", "pose"), "NAME=ACTION,ACTION,... is required"),
        (("--one-of", "pose=sit,"), "NAME=ACTION,ACTION,... is required"),
        (("--actions", "sit", "--one-of", "pose=sit,lie"), "action 'sit' is there twice"),
        (("--actions", "a\x01b"), "is an invalid name of an action"),
    ],
)
def test_bad_choices_are_named_and_nothing_is_written(raw, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        export(raw, tmp_path / "cvat", *more)
    assert not (tmp_path / "cvat").exists()


def test_files_that_are_there_stay_unless_asked(raw, tmp_path):
    (tmp_path / "b.xml").write_text("an hour of work")
    with pytest.raises(UserError, match="b.xml: is there already; --overwrite"):
        export(raw, tmp_path, "--actions", "wave")
    assert (tmp_path / "b.xml").read_text() == "an hour of work" and len(
        list(tmp_path.iterdir())
    ) == 1


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0, 0.7), st.sampled_from([None, ("a",)])), min_size=1, max_size=12
    ),
    st.sampled_from([0.5, 0.9, 2.0]),
)
def test_thinned_tracks_explain_what_was_left_out(drawn, keep_iou):
    part = [
        TrackBox(10 * i, np.array([x, 0.1, x + 0.3, 0.9]), actions)
        for i, (x, actions) in enumerate(drawn)
    ]
    kept = without_interpolated(part, keep_iou)
    frames = [box.frame for box in kept]
    assert frames == sorted(set(frames)) and kept[0] is part[0] and kept[-1] is part[-1]
    assert keep_iou < 1 or kept == part
    for box in part:
        before = max((k for k in kept if k.frame <= box.frame), key=lambda k: k.frame)
        after = min((k for k in kept if k.frame >= box.frame), key=lambda k: k.frame)
        assert before.actions == box.actions
        share = (box.frame - before.frame) / max(after.frame - before.frame, 1)
        x = before.box_01[0] + share * (after.box_01[0] - before.box_01[0])
        overlap = max(0, 0.3 - abs(x - box.box_01[0]))
        assert overlap / (0.6 - overlap) >= min(keep_iou, 1) - 1e-6


def test_choices_say_and_read_the_same_values():
    choices = ActionChoices(("wave",), {"pose": ("sit", "lie")})
    assert choices.values(()) == {"pose": "none", "wave": "false"}
    assert choices.values(("wave", "lie")) == {"pose": "lie", "wave": "true"}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Short videos of several lengths and rates, as a data set without labels."""
    folder = tmp_path_factory.mktemp("short")
    for frames, fps in ((39, 30), (13, 10), (8, 25), (50, 25), (120, 29.97), (1, 10), (202, 20)):
        times_s = [i / fps for i in range(frames)]
        write_numbered(folder / f"v{frames}.mp4", times_s, fps=fps)
    assert import_dataset.main(["videos", "--source", str(folder), "--out", f"{folder}/raw"]) == 0
    return folder / "raw"


def test_boxes_up_to_the_last_keyframe_come_back(films, tmp_path, capsys):
    """People at all keyframes that `detect_people --every-second` looks at, the last ones too."""
    data = DatasetFolder.open(films)
    keyframes, intervals_s = regular_keyframes(data, data.split("all"), None)
    assert sorted(intervals_s) == [0.1, 0.1, 0.1, 0.1, 0.2, 0.25, 1]
    table = films / "annotations" / "people.csv"
    with table.open("w") as file:
        for key in keyframes:
            file.write(f"{key.video_id},{key.time_s:.6f},.2,.2,.6,.8,,0.9\n")
    out = tmp_path / "cvat"
    assert export(films, out, "--actions", "wave") == 0
    assert "keyframes: 1 videos every 1 s, " in capsys.readouterr().out
    for path in out.glob("*.xml"):
        said = '><attribute name="wave">true</attribute></box>'
        path.write_text(path.read_text().replace("></box>", said))
    cvat = ["cvat", "--source", str(out), "--videos", str(films / "videos"), "--val-share", "0"]
    assert import_dataset.main([*cvat, "--out", str(tmp_path / "mine")]) == 0
    assert "keyframes: 1 videos every 1 s, 1 videos every 0.25 s" in capsys.readouterr().out
    rows = read_ground_truth(DatasetFolder.open(tmp_path / "mine").split("train").annotations)
    assert sorted(rows.keyframes()) == sorted(keyframes) and len(rows) == len(keyframes)
    assert rows.empty_keyframes == ()
    last_s = {key.video_id: key.time_s for key in sorted(keyframes)}
    assert last_s["v13"] == 1.2 and last_s["v202"] == 10 and last_s["v39"] == 1.2


def test_a_person_between_keyframes_is_named(raw, tmp_path, capsys):
    """The last box of b is 0.1 s before its end: kept; people at no keyframe are counted."""
    table = raw / "annotations" / "end.csv"
    table.write_text("b,3.9,.2,.2,.6,.8,,0.9\nb,1.33,.7,.2,.9,.8,,0.9\nb,1.35,.7,.2,.9,.8,,0.9\n")
    common = ["--dataset", str(raw), "--split", "all", "--boxes", str(table), "--actions", "wave"]
    assert export_cvat.main([*common, "--every", "0.1", "--out", str(tmp_path / "cvat")]) == 0
    cvat = ["cvat", "--source", str(tmp_path / "cvat"), "--videos", str(raw / "videos")]
    cvat += ["--val-share", "0", "--out", str(tmp_path / "mine"), "--overwrite", "--every"]
    for every, persons, named in (("1", 0, 2), ("0.1", 2, 0), ("0", 2, 0)):
        assert import_dataset.main([*cvat, every]) == 0
        said = capsys.readouterr().out
        assert (f"{named} persons are there between keyframes only" in said) == bool(named)
        data = DatasetFolder.open(tmp_path / "mine")
        rows = read_ground_truth(data.split("train").annotations)
        assert len(np.unique(rows.person_id)) == persons if persons else not len(rows)
