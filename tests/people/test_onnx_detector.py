"""Detectors of ONNX files: framing, decoding and suppression against numbers worked by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tiny_data import make_dataset  # noqa: E402
from tiny_onnx import ROWS, decoded, no_rows, save_boxes, save_yolox  # noqa: E402

from ava_tools import detect_people  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.errors import UserError  # noqa: E402
from detection.people.base import person_threshold  # noqa: E402
from detection.people.coco import coco_classes  # noqa: E402
from detection.people.weights import load_people_detector  # noqa: E402

LABEL_OF_PERSON = 1
WIDE = torch.zeros(3, 64, 128, dtype=torch.uint8)  # is scaled by half into 64 px


def same(found, expected, atol=1e-6) -> bool:
    """Say whether as many numbers are nearly equal: `np.allclose` takes none for any."""
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and np.allclose(found, expected, atol=atol)


def person_at(rows: np.ndarray, place: int, *, score: float = 1.0, column: int = 0) -> np.ndarray:
    """Add somebody: half a cell to the right of its corner and a quarter down, 2 by 3 cells."""
    rows[place, :4] = 0.5, 0.25, np.log(2), np.log(3)
    rows[place, 4], rows[place, 5 + column] = score, 1.0
    return rows


def boxes_of(path, image=WIDE, **how) -> np.ndarray:
    (found,) = load_people_detector(path, **how).detect([image])
    return np.concatenate([found.xyxy_01, found.score[:, None]], axis=1)


@pytest.mark.parametrize("in_file", [False, True])
def test_rows_are_decoded_once_wherever_that_is_done(tmp_path, in_file):
    rows = person_at(no_rows(), 3 * 8 + 2, score=0.9)  # stride 8: line 3, column 2
    person_at(rows, 64 + 1 * 4 + 2, score=0.5)  # stride 16: line 1, column 2
    path = save_yolox(tmp_path / "x.onnx", decoded(rows) if in_file else rows)
    # Centre (20, 26), 16 by 24; centre (40, 20), 32 by 48: in 64 px, twice as many here.
    expected = [
        [24 / 128, 28 / 64, 56 / 128, 1, 0.9],
        [48 / 128, 0, 112 / 128, 1, 0.5],
    ]  # fmt: skip
    assert same(boxes_of(path), expected, atol=1e-5)


def test_the_frame_is_bgr_in_the_upper_left_and_grey_below(tmp_path):
    image = torch.zeros(3, 64, 128, dtype=torch.uint8)
    image[0], image[2] = 250, 50  # red and blue
    rows = person_at(no_rows(), 0)
    for pixel, score in {
        (0, 0, 0): 50 / 255, (2, 0, 0): 250 / 255, (1, 0, 0): 0,
        (2, 31, 63): 250 / 255, (2, 32, 0): 114 / 255, (0, 63, 63): 114 / 255,
    }.items():  # fmt: skip
        path = save_yolox(tmp_path / "x.onnx", rows, pixel=pixel)
        found = boxes_of(path, image, score_floor=0.01)
        assert same(found[:, 4], [score] if score else [], atol=1e-6), pixel


def test_weak_and_overlapping_boxes_are_left_out_and_people_counted(tmp_path):
    rows = person_at(no_rows(), 0, score=0.04)
    rows = person_at(person_at(rows, 27, score=0.6), 30, score=0.7)
    rows[28] = rows[27]
    rows[28, 0] -= 1  # the same place, told by the next cell
    path = save_yolox(tmp_path / "x.onnx", rows)
    assert same(boxes_of(path)[:, 4], [0.7, 0.6])
    assert same(boxes_of(path, max_people=1)[:, 4], [0.7])
    assert same(boxes_of(path, score_floor=0.01)[:, 4], [0.7, 0.6, 0.04])


def test_the_class_is_found_by_name_and_by_number(tmp_path):
    rows = person_at(person_at(no_rows(), 0, score=0.5), 7, score=0.6, column=16)  # COCO's dog
    path = save_yolox(tmp_path / "x.onnx", rows)
    assert same(boxes_of(path)[:, 4], [0.5])
    assert same(boxes_of(path, actor_classes=["dog"])[:, 4], [0.6])
    assert same(boxes_of(path, actor_classes=["17"])[:, 4], [0.6])
    own = person_at(no_rows(2), 0, score=0.8, column=1)
    for names in ("['pig', 'person']", "{0: 'pig', 1: 'person'}"):
        path = save_yolox(tmp_path / "own.onnx", own, names=names)
        detector = load_people_detector(path)
        assert same(detector.detect([WIDE])[0].score, [0.8]) and detector.notes == ()
    path = save_yolox(tmp_path / "own.onnx", own)
    with pytest.raises(UserError, match="none of its 2 classes is named person; name one"):
        load_people_detector(path)
    assert same(boxes_of(path, actor_classes=["2"])[:, 4], [0.8])
    with pytest.raises(UserError, match="no class 'cat' among its 2"):
        load_people_detector(path, actor_classes=["cat"])


def test_no_frames_and_nobody(tmp_path):
    for path in (
        save_yolox(tmp_path / "x.onnx", no_rows()),
        save_boxes(tmp_path / "b.onnx", [], [], []),
    ):
        detector = load_people_detector(path)
        assert detector.detect([]) == []
        (nobody,) = detector.detect([WIDE])
        assert len(nobody) == 0
        assert person_threshold(detector) is None
        with pytest.raises(ValueError, match=r"frames must be \(3, H, W\) uint8"):
            detector.detect([torch.zeros(3, 4, 4)])


@pytest.mark.parametrize("batched", [False, True])
def test_boxes_labels_and_scores_are_taken_as_they_are(tmp_path, batched):
    boxes = [[12.8, 6.4, 64, 32], [0, 0, 64, 64], [0, 0, 128, 64]]
    path = save_boxes(tmp_path / "b.onnx", boxes, [1, 1, 3], [0.7, 0.9, 0.8], batched=batched)
    expected = [[0, 0, 0.5, 1, 0.9], [0.1, 0.1, 0.5, 0.5, 0.7]]
    assert same(boxes_of(path), expected, atol=1e-6)
    fixed = save_boxes(tmp_path / "f.onnx", boxes, [1, 1, 3], [0.7, 0.9, 0.8], size=(64, 256))
    assert same(boxes_of(fixed)[:, 2], [0.25, 0.25], atol=1e-6), "in the network's pixels"
    names = save_boxes(tmp_path / "n.onnx", boxes, [1, 1, 2], [0.7, 0.9, 0.8], names="['a', 'b']")
    assert same(boxes_of(names, actor_classes=["b"])[:, 4], [0.8])
    assert coco_classes()[LABEL_OF_PERSON - 1] == "person"


def logits(scale: float) -> np.ndarray:
    rows = person_at(no_rows(), 0)
    rows[:, 4:] = scale * (rows[:, 4:] - 0.3)
    return rows


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: save_yolox(p, logits(9)), "scores from -2.7 to 6.3, which look like logits"),
        (lambda p: save_yolox(p, 70 * person_at(no_rows(), 0)), "from 0 to 70, .* like per cent"),
        (lambda p: save_boxes(p, [[0, 0, 9, 9]], [1], [88]), "from 0 to 88, .* like per cent"),
        (lambda p: save_boxes(p, [[0, 0, 9, 9]], [1, 1], [0.5]), "1 boxes, 2 labels and 1 scores"),
        (lambda p: save_boxes(p, [[0, 0, np.nan, 9]], [1], [0.5]), "is not finite"),
        (lambda p: save_yolox(p, no_rows()[:-1]), r"another layout: .*output \[1, 83, 85\]"),
        (lambda p: save_yolox(p, no_rows(), size=(65, 64)), "another layout"),
        (lambda p: save_yolox(p, no_rows(), size=("h", "w")), r"another layout: .*'h', 'w'\]"),
        (lambda p: save_yolox(p, no_rows()[:, :5]), "supported: YOLOX's"),
        (lambda p: save_yolox(p, no_rows(), names="['a']"), "names 1 classes, its output has 80"),
        (lambda p: save_yolox(p, no_rows(), names="open('x')"), "`names` is no list of class"),
        (lambda p: p.write_bytes(b"no graph"), "onnxruntime cannot open it"),
        (lambda p: None, "file not found"),
    ],
)
def test_files_that_cannot_be_used_say_why_in_one_line(tmp_path, write, message):
    path = tmp_path / "detector.onnx"
    write(path)
    with pytest.raises(UserError, match=message) as raised:
        load_people_detector(path).detect([torch.full((3, 64, 64), 7, dtype=torch.uint8)])
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_a_network_cannot_be_chosen(tmp_path):
    path = save_yolox(tmp_path / "x.onnx", no_rows())
    with pytest.raises(UserError, match="an ONNX file holds its network"):
        load_people_detector(path, network="mobile")


def test_detect_people_takes_one_and_names_it_for_other_commands(tmp_path):
    root = make_dataset(tmp_path / "data")
    path = save_yolox(tmp_path / "x.onnx", person_at(no_rows(), 0, score=0.75))
    detect_people.main(
        ["--dataset", str(root), "--split", "val", "--weights", str(path), "--register", "coco",
         "--out", str(root / "annotations" / "boxes.csv"), "--quiet"]
    )  # fmt: skip
    rows = list(csv.reader((root / "annotations" / "boxes.csv").open()))
    assert rows and {float(row[-1]) for row in rows} == {0.75}
    assert DatasetFolder.open(root).file.people.weights == str(path)
    assert ROWS == 84


@pytest.mark.real_data
def test_a_real_detector_finds_the_people_of_a_real_frame(real_data):
    from detection.video.reader import VideoReader

    path = real_data / "detectors" / "yolox_nano.onnx"
    with VideoReader(real_data / "clips" / "mmaction2_demo_skeleton.mp4") as video:
        frames = video.read([1.0]).frames
    (people,) = load_people_detector(path).detect(list(frames))
    assert (people.score > 0.5).sum() == 2
