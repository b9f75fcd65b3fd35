"""Names of videos in any script: ids, files, AVA's tables, CVAT and back."""

import csv
import re
import unicodedata

import numpy as np
import pytest
from fake_people import FakeDetector
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_video import write_numbered

from ava_tools import check, detect_people, export_cvat, import_dataset
from detection.datasets.ava_csv import read_ground_truth, read_person_boxes
from detection.datasets.folder import DatasetFolder
from detection.datasets.plain_names import check_video_id, without_video_suffix
from detection.importers.cvat_export import is_xml_text
from detection.importers.source_videos import (
    MOST_ID_BYTES,
    rename_notes,
    video_ids,
    write_video_sources,
)
from detection.importers.unlabelled import import_unlabelled
from detection.video.writer import VideoWriter

NAMES = {
    "歩く人.mp4": "歩く人",
    "Женщина идёт.mp4": "Женщина идёт",
    unicodedata.normalize("NFD", "Übung für Ärzte.mp4"): "Übung für Ärzte",
    "wave 👋🏽 👨‍👩‍👧.mp4": "wave 👋🏽 👨‍👩‍👧",
    "हाथ हिलाना.mp4": "हाथ हिलाना",
    "cam, 2 (left) #1 100% 'a'&b+c=d;[e].mp4": "cam, 2 (left) #1 100% 'a'&b+c=d;[e]",
}


def test_names_of_any_script_stay():
    assert video_ids(list(NAMES)) == NAMES
    assert rename_notes(NAMES) == []
    assert video_ids([]) == {} and rename_notes({}) == []


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ('a:b*c?"d<e>f|g.mp4', "a_b_c__d_e_f_g-"),
        ("a\x1bb\x7f\u2028\u202ec.mp4", "a_b___c-"),
        ("b\udcff\ufffe.mp4", "b__-"),
        ("..hidden.mp4", "hidden-"),
        ("-rf.mp4", "rf-"),
        ("end. .mp4", "end-"),
        (" \u3000blank\u00a0.mp4", "blank-"),
        ("CON.mp4", "CON-"),
        ("con .x.mp4", "con .x-"),
        ("x/NUL.avi", "NUL-"),
        ("....mp4", "_-"),
        ("長" * 90 + ".mp4", "長" * 63 + "-"),
        ("a" * 201 + ".mp4", "a" * 190 + "-"),
    ],
)
def test_what_a_file_system_forbids_is_replaced_and_said(name, start):
    ids = video_ids([name])
    assert ids[name].startswith(start) and len(ids[name]) == len(start) + 8
    (line,) = rename_notes(ids)
    assert line.startswith("1 videos renamed") and f"-> {ids[name]}; video_sources.csv" in line
    assert line.isprintable()


def test_ids_of_youtube_stay_as_the_rows_of_ava_name_them():
    names = ["-5KQ66BBWC4.mp4", "x/_-Z6wFjXtGQ.mkv", "-5KQ66BBWC.mp4", "-5KQ66BBWC44.mp4"]
    ids = video_ids(names)
    assert [ids[name] for name in names[:2]] == ["-5KQ66BBWC4", "_-Z6wFjXtGQ"]
    assert all(ids[name].startswith("5KQ66BBWC") for name in names[2:])
    assert video_ids(names[:1], ascii_only=True)[names[0]].startswith("5KQ66BBWC4-")
    twins = video_ids(["a/-5KQ66BBWC4.mp4", "b/-5KQ66BBWC4.mp4"])
    assert len(set(twins.values())) == 2


def test_names_that_one_file_system_takes_for_one_differ():
    names = [
        "a/Übung.mp4",
        "b/übung.mp4",
        unicodedata.normalize("NFD", "c/Übung.mp4"),
        "übung2.mp4",
    ]
    ids = video_ids(names)
    assert len({video_id.casefold() for video_id in ids.values()}) == 4
    assert ids["übung2.mp4"] == "übung2" and all(
        ids[n].casefold().startswith("übung-") for n in names[:3]
    )
    assert "3 videos renamed" in rename_notes(ids)[0]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=6, unique=True))
def test_any_name_becomes_an_id_that_every_part_takes(names):
    ids = video_ids(names)
    for video_id in ids.values():
        assert check_video_id(video_id) == video_id == without_video_suffix(video_id)
        assert (
            is_xml_text(video_id)
            and "/" not in video_id
            and len(video_id.encode()) <= MOST_ID_BYTES
        )
        assert unicodedata.is_normalized("NFC", video_id)
        youtube = re.fullmatch("[A-Za-z0-9_-]{11}", video_id)
        assert not set(video_id) & set('\\:*?"<>|') and (youtube or video_id[0] not in ".- ")
        assert video_id[-1] not in ". "
        assert video_ids([f"{video_id}.mp4"]) == {f"{video_id}.mp4": video_id}, "an id stays"
    assert len({video_id.casefold() for video_id in ids.values()}) == len(ids)


@pytest.fixture
def films(tmp_path):
    """A red square on grey in each of the awkwardly named videos of 1.3 s."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number, name in enumerate([*NAMES, "a:b.mp4", "長" * 66 + ".mp4"]):
        image = np.full((72, 96, 3), 90 + 10 * number, np.uint8)
        image[20:50, 30:60] = (220, 30, 30)
        with VideoWriter(folder / name, width=96, height=72, fps=10) as writer:
            for _ in range(13):
                writer.write(image)
    return folder


def sources_of(folder):
    with (folder / "video_sources.csv").open(encoding="utf-8", newline="") as file:
        return {row["source"]: row["video_id"] for row in csv.DictReader(file)}


def test_named_videos_go_the_whole_way(films, tmp_path, monkeypatch, capsys):
    """Import, detect, write for CVAT, import again, check."""
    raw, mine = tmp_path / "raw", tmp_path / "mine"
    import_dataset.main(["videos", "--source", str(films), "--out", str(raw), "--link"])
    ids = sources_of(raw)
    assert "1 videos renamed" in capsys.readouterr().out
    assert {name: video_id for name, video_id in ids.items() if name in NAMES} == NAMES
    assert len(ids) == len(NAMES) + 2 and ids["a:b.mp4"].startswith("a_b-")
    monkeypatch.setattr(detect_people, "_open_detector", lambda *_: FakeDetector())
    monkeypatch.setattr(detect_people, "_detector_options", lambda *_: {"network": None})
    monkeypatch.setattr(detect_people._Opened, "as_part", lambda *_: None)
    boxes = raw / "annotations" / "people.csv"
    asked = ["--dataset", str(raw), "--split", "all", "--weights", "none", "--workers", "0"]
    asked += ["--out", str(boxes), "--register", "people", "--every-second", "--device", "cpu"]
    assert detect_people.main(asked) == 0
    assert set(read_person_boxes(boxes).video_names) == set(ids.values())
    cvat = tmp_path / "cvat"
    export_cvat.main(
        ["--dataset", str(raw), "--split", "all", "--boxes", "people", "--min-score", "0",
         "--actions", "wave", "--out", str(cvat)]
    )  # fmt: skip
    for path in cvat.glob("*.xml"):
        text = path.read_text(encoding="utf-8")
        said = '><attribute name="wave">true</attribute></box>'
        path.write_text(text.replace("></box>", said), encoding="utf-8")
    import_dataset.main(
        ["cvat", "--source", str(cvat), "--videos", str(raw / "videos"), "--out", str(mine)]
    )
    data = DatasetFolder.open(mine)
    rows = [read_ground_truth(data.split(split).annotations) for split in ("train", "val")]
    assert {name for part in rows for name in part.video_names} == set(ids.values())
    assert sources_of(mine) == {f"{video_id}.mp4": video_id for video_id in ids.values()}
    capsys.readouterr()
    assert check.main([str(mine), "--pictures", "0"]) == 0, capsys.readouterr()


def test_the_list_of_sources_keeps_what_stands_there(tmp_path):
    write_video_sources(tmp_path, {"a/x,1.mp4": "x,1"})
    write_video_sources(tmp_path, {"b/y.mp4": "y"})
    assert sources_of(tmp_path) == {"a/x,1.mp4": "x,1", "b/y.mp4": "y"}


def test_a_folder_of_one_plain_video_says_nothing_of_names(tmp_path):
    (tmp_path / "films").mkdir()
    write_numbered(tmp_path / "films" / "a.mp4", [0.0, 0.1])
    report = import_unlabelled(tmp_path / "films", tmp_path / "raw")
    assert report.notes == () and sources_of(tmp_path / "raw") == {"a.mp4": "a"}
