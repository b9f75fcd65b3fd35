"""The trial of one's own three actions: its draws, the documents' commands, its annotator."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_labels
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import own_actions  # noqa: E402
from own_actions_report import Outcome, print_table, read_result  # noqa: E402
from page_annotator import (  # noqa: E402
    KnownPerson,
    known_person,
    label_jhmdb,
    label_people,
)

from ava_tools import detect_people, label, teach  # noqa: E402
from detection import KeyframeResult, VideoResults  # noqa: E402
from detection.datasets.ava_csv import read_person_boxes, write_person_boxes  # noqa: E402
from detection.datasets.label_file import read_label_file  # noqa: E402
from detection.structures import ActorBoxes, Keyframe, LabelMap  # noqa: E402
from detection.tracking.events import ActionEvent  # noqa: E402

ACTIONS = ("stand", "sit", "wave")
NAMES = [
    f"{action}/film{film}_{action}_f_cm_np1_fr_med_{clip}"
    for action in ACTIONS
    for film in range(40)
    for clip in range(2)
]
BOX = (0.2, 0.2, 0.6, 0.8)


@given(st.integers(0, 1000), st.sampled_from(["train", "test"]))
def test_no_film_is_labelled_and_held_out(seed, of):
    tests = [name.replace("film3", "film5") for name in NAMES]  # some of the same films
    annotation = {"train_videos": [NAMES], "test_videos": [tests]}
    labelled, held_out = own_actions.draw(annotation, ACTIONS, seed, of)
    films = {own_actions.film_of(name) for name in labelled}
    assert not films & {own_actions.film_of(name) for name in held_out}
    for action in ACTIONS:
        for names, count in ((labelled, 8), (held_out, 4)):
            assert sum(name.startswith(f"{action}/") for name in names) == count
    assert (labelled, held_out) == own_actions.draw(annotation, ACTIONS, seed, of)


def test_a_draw_of_too_few_clips_is_refused():
    annotation = {"train_videos": [NAMES[:3]], "test_videos": [[]]}
    with pytest.raises(SystemExit, match="too few clips"):
        own_actions.draw(annotation, ACTIONS, 0, "train")


def test_commands_are_those_of_the_documents_with_their_arguments():
    find = own_actions.documented("-m ava_tools.detect_people")
    own = own_actions.replaced(find, "--weights coco --network resnet50_v2", ["--weights", "w.pt"])
    options = detect_people._parse(own[2:])
    assert (options.weights, options.network, options.register) == ("w.pt", None, "people")
    page = own_actions.documented("-m ava_tools.label")
    page = own_actions.replaced(
        page, "--one-of pose=stand,sit --actions wave", ["--one-of", "a=b,c"]
    )
    assert label._parse(page[2:]).one_of == ["a=b,c"]
    assert teach._parse(own_actions.documented("-m ava_tools.teach")[2:]).watch is False
    with pytest.raises(SystemExit, match="no command"):
        own_actions.documented("-m ava_tools.dance")
    with pytest.raises(SystemExit, match="is not in"):
        own_actions.replaced(shlex.split("a --weights b"), "--weights coco", [])


def test_how_far_a_track_is_the_known_person():
    times_s = np.arange(10) / 10
    known = KnownPerson("wave", times_s, np.tile(BOX, (10, 1)))
    boxes = np.tile(BOX, (2, 1))
    assert known.overlap(np.array([0.1, 0.52]), boxes) == pytest.approx(1)
    left = np.array([BOX, (0.2, 0.2, 0.4, 0.8)])
    assert known.overlap(np.array([0.1, 0.5]), left) == pytest.approx(0.75)
    assert known.overlap(np.array([0.1, 5.0]), left) == pytest.approx(1)  # not known at 5 s
    assert known.overlap(np.array([5.0]), boxes[:1]) == 0
    assert known.overlap(np.zeros(0), np.zeros((0, 4))) == 0
    nobody = KnownPerson("wave", np.zeros(0), np.zeros((0, 4)))
    assert nobody.overlap(np.array([0.1]), boxes[:1]) == 0


def test_jhmdb_counts_frames_from_1_and_the_last_pixel_in(tmp_path):
    root = tiny_labels.make_raw(tmp_path / "raw", videos=1)
    tube = np.array([[1, 0, 0, 47, 35], [30, 24, 18, 95, 71], [31, 0, 0, 9, 9]], np.float32)
    annotation = {"gttubes": {"sit/a": {4: [tube]}}, "resolution": {"sit/a": (72, 96)}}
    known = known_person(annotation, "sit/a", root / "videos" / "train_0.mp4")
    assert known.action == "sit"
    np.testing.assert_allclose(known.times_s, [0, 2.9])  # of 3 s, 10 frames each
    np.testing.assert_allclose(known.boxes_01, [[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]])


@pytest.fixture
def page(tmp_path):
    """A label page of four videos, in the first of which a second box stands in the corner."""
    root = tiny_labels.make_raw(tmp_path / "raw", videos=4)
    path = root / "annotations" / "people.csv"
    rows = read_person_boxes(path)
    boxes: dict[Keyframe, ActorBoxes] = {}
    known = {}
    for row in range(len(rows)):
        boxes[rows.keyframe(row)] = ActorBoxes(rows.boxes_01[row : row + 1], [0.9])
    for video_id in rows.video_names:
        mine = rows.select(rows.video_index == rows.video_names.index(video_id))
        known[video_id] = KnownPerson("be red", mine.time_us / 1e6, mine.boxes_01)
    first = next(key for key in boxes if key.video_id == "train_0")
    corner = np.array([[0.9, 0.9, 1, 1]], np.float32)
    both = np.concatenate([boxes[first].xyxy_01, corner])
    boxes[first] = ActorBoxes(both, [0.9, 0.8])
    path.unlink()
    write_person_boxes(path, boxes.items())
    assert label.main(["--dataset", str(root), "--quiet"]) == 0
    return root, known


def test_the_annotator_labels_the_known_person_and_leaves_others_undecided(page):
    root, known = page
    elsewhere = KnownPerson(
        "be blue", known["train_3"].times_s, np.tile((0, 0, 0.01, 0.01), (2, 1))
    )
    known |= {"train_3": elsewhere, "train_1": KnownPerson("be blue", *_where(known["train_1"]))}
    assert label_people(root, known) == 3
    file = read_label_file(root / "labels" / "labels.json")
    videos = {video.video_id: video for video in file.videos}
    assert sorted(videos) == ["train_0", "train_1", "train_2"]
    for name, action in (("train_0", "be red"), ("train_1", "be blue"), ("train_2", "be red")):
        (person,) = videos[name].people
        column = file.classes.index_by_name[action]
        assert person.labels.sum(axis=0).tolist() == [2 * (c == column) for c in range(3)]
        assert not videos[name].nobody
    assert sorted(videos["train_0"].undecided.tolist()) == [0, 1]
    assert videos["train_1"].undecided.tolist() == [0, 0]


def test_the_annotator_finds_clips_by_their_names(page):
    root, known = page
    tubes = {}
    for video_id, one in known.items():
        boxes_px = one.boxes_01 * [96, 72, 96, 72] - [0, 0, 1, 1]
        tube = np.column_stack([np.rint(one.times_s * 10) + 1, boxes_px])
        tubes[f"be red/{video_id}"] = {0: [tube]}
    annotation = {"gttubes": tubes, "resolution": dict.fromkeys(tubes, (72, 96))}
    assert label_jhmdb(root, annotation) == 4
    del annotation["gttubes"]["be red/train_2"]
    with pytest.raises(SystemExit, match="no clip of JHMDB is named 'train_2'"):
        label_jhmdb(root, annotation)


def _where(known: KnownPerson):
    return known.times_s, known.boxes_01


def test_teach_takes_what_the_annotator_exports(page, tmp_path, capsys):
    root, known = page
    for number, video_id in enumerate(sorted(known)):
        action = ("be red", "be blue")[number % 2]
        known[video_id] = KnownPerson(action, *_where(known[video_id]))
    label_people(root, known)
    configuration = tiny_labels.write_configuration(tmp_path)
    words = ["--dataset", str(root), "--cfg", str(configuration), "--quiet"]
    assert teach.main([*words, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "4 of 5 people decided" in out
    last = out.splitlines()[-1]
    assert last.startswith("use it: python -m ava_tools.detect_actions VIDEO --checkpoint ")


def test_an_annotator_who_knows_nobody_here_exports_no_video(page):
    root, known = page
    gone = {video_id: KnownPerson("be red", np.zeros(0), np.zeros((0, 4))) for video_id in known}
    assert label_people(root, gone) == 0
    assert read_label_file(root / "labels" / "labels.json").videos == ()


def results_of(*found: tuple[int, str]) -> VideoResults:
    """Two people, the first of which is the annotated one, and events of (track, action)."""
    names = LabelMap(ACTIONS, (1, 2, 3))
    keyframe = KeyframeResult(
        0.5,
        np.array([1, 2]),
        np.array([BOX, (0.7, 0, 1, 1)], np.float32),
        np.array([0.9, 0.6], np.float32),
        np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.1]], np.float32),
        ((), ()),
        names.names,
    )
    events = [ActionEvent("v", track, action, 1, 0.25, 0.75, 0.8) for track, action in found]
    return VideoResults("v", names, events, [keyframe])


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([], (False, False)),
        ([(1, "stand")], (True, False)),
        ([(1, "stand"), (2, "sit")], (True, True)),
        ([(1, "wave")], (False, True)),
        ([(2, "stand")], (True, False)),  # whoever does it
    ],
)
def test_a_clip_is_right_by_its_own_action_and_wrong_by_another(found, verdict):
    known = KnownPerson("stand", np.array([0.5]), np.array([BOX]))
    clip = read_result("stand/v", results_of(*found), known)
    assert (clip.right, clip.wrong) == verdict
    assert [line.split(":")[0] for line in clip.tracks] == [
        "person 1, IoU 1.00, confidence 0.90",
        "person 2, IoU 0.00, confidence 0.60",
    ]
    assert sum(line.count("*0.80") for line in clip.tracks) == len(found)


def test_the_table_counts_clips_and_adds_up_the_draws(capsys):
    known = KnownPerson("stand", np.array([0.5]), np.array([BOX]))
    right = read_result("stand/v", results_of((1, "stand")), known)
    both = read_result("stand/v", results_of((1, "stand"), (1, "sit")), known)
    empty = read_result("stand/v", VideoResults("v", LabelMap(("a",), (1,)), [], []), known)
    assert empty.lines[-1].strip().startswith("nobody")
    draws = [
        Outcome(ACTIONS, 0, (right, both), 3, "none", {"teach": 4.0, "detect": 1.6}),
        Outcome(ACTIONS, 1, (empty, right), 3, "none", {"teach": 5.0}),
    ]
    print_table(draws, labelled="people")
    rows = capsys.readouterr().out.splitlines()
    assert rows[2] == "| stand, sit, wave | 0 | 2 of 2 | 1 | 3 | none | 4 | 2 | 6 |"
    assert rows[3] == "| stand, sit, wave | 1 | 1 of 2 | 0 | 3 | none | 5 | 0 | 5 |"
    assert rows[4] == "stand, sit, wave: right in 3 of 4, a wrong action in 1"
