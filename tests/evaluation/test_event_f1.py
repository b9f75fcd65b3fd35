"""Events of players, against FOOTPASS' published evaluation and against plain loops.

`GOLDEN` is what `evaluate_events_from_json` of `utils/metric_utils.py` (JeremieOchin/FOOTPASS at
0da7385, unchanged but for an empty stand-in for h5py) returns for the first cases: TP, FP, FN of
all classes, and of each of the eight.
"""

from __future__ import annotations

import json

import event_cases
import pytest

from ava_tools import score_events
from detection.errors import UserError
from detection.evaluation.event_f1 import PersonEvent, event_f1
from detection.evaluation.event_files import FOOTPASS_CLASSES, read_events

GOLDEN = [
    (
        (18, 20, 26, 0.47368421052631576, 0.4090909090909091, 0.43902439024390244),
        [3, 2, 3, 1, 0, 3, 4, 2],
        [2, 0, 3, 3, 1, 5, 4, 2],
        [4, 1, 4, 0, 2, 6, 4, 5],
    ),
    (
        (14, 11, 21, 0.56, 0.4, 0.4666666666666667),
        [1, 3, 0, 2, 3, 1, 2, 2],
        [1, 5, 1, 0, 1, 0, 2, 1],
        [0, 3, 5, 3, 3, 2, 3, 2],
    ),
    (
        (11, 25, 30, 0.3055555555555556, 0.2682926829268293, 0.28571428571428575),
        [1, 0, 0, 3, 1, 2, 3, 1],
        [1, 4, 1, 8, 3, 4, 2, 2],
        [3, 3, 4, 4, 3, 5, 3, 5],
    ),
    (
        (5, 5, 12, 0.5, 0.29411764705882354, 0.37037037037037035),
        [0, 1, 0, 2, 0, 0, 1, 1],
        [0, 0, 1, 1, 1, 0, 1, 1],
        [0, 5, 0, 2, 1, 0, 2, 2],
    ),
    (
        (29, 39, 42, 0.4264705882352941, 0.4084507042253521, 0.4172661870503597),
        [4, 4, 3, 4, 1, 2, 7, 4],
        [5, 2, 6, 10, 3, 5, 4, 4],
        [6, 2, 4, 13, 6, 3, 2, 6],
    ),
    (
        (17, 30, 35, 0.3617021276595745, 0.3269230769230769, 0.3434343434343434),
        [0, 1, 1, 3, 4, 1, 5, 2],
        [1, 1, 5, 4, 3, 8, 5, 3],
        [4, 2, 5, 2, 3, 5, 10, 4],
    ),
]


def read(folder, truth, found):
    paths = []
    for name, content in (("truth.json", truth), ("found.json", found)):
        paths.append(folder / name)
        paths[-1].write_text(json.dumps(content))
    num_classes = len(FOOTPASS_CLASSES)
    return (
        read_events(paths[0], num_classes=num_classes, scored=False)[0],
        read_events(paths[1], num_classes=num_classes, scored=True)[0],
    )


def test_equal_to_the_published_evaluation(tmp_path):
    for seed, (counts, *per_class) in enumerate(GOLDEN):
        truth, found = read(tmp_path, *event_cases.event_case(seed))
        score = event_f1(truth, found, FOOTPASS_CLASSES)
        assert (score.num_true, score.num_false, score.num_missed) == counts[:3]
        assert (score.precision, score.recall, score.f1) == pytest.approx(counts[3:], abs=1e-12)
        for key, expected in zip(("true", "false", "missed"), per_class, strict=True):
            assert [one[key] for one in score.per_class.values()] == expected


def counts_by_loops(truth, found):
    """Return true, false, missed: the rule again, one detection after the other."""
    true = false = events = 0
    for game in set(truth["keys"]) & set(found["keys"]):
        left = [tuple(e[:4]) for e in truth["events"][game] if 1 <= e[3] <= 8]
        events += len(left)
        for frame, team, shirt, action, score in sorted(found["events"][game], key=lambda e: -e[4]):
            if score < 0.15 or not 1 <= action <= 8:
                continue
            near = [
                (abs(e[0] - frame), e) for e in left
                if e[1:] == (team, shirt, action) and abs(e[0] - frame) <= 12
            ]  # fmt: skip
            if near:
                left.remove(min(near)[1])
                true += 1
            else:
                false += 1
    return true, false, events - true


def test_equal_to_plain_loops(tmp_path):
    for seed in range(200):
        case = event_cases.event_case(seed)
        score = event_f1(*read(tmp_path, *case), FOOTPASS_CLASSES)
        assert (score.num_true, score.num_false, score.num_missed) == counts_by_loops(*case)


def event(frame, person="a", column=0, score=1.0):
    return PersonEvent(frame, person, column, score)


def test_tolerance_person_and_class_must_agree():
    truth = {"g": [event(100)]}
    for found, f1 in (
        (event(112), 1), (event(88), 1), (event(113), 0), (event(87), 0),
        (event(100, "b"), 0), (event(100, column=1), 0),
    ):  # fmt: skip
        assert event_f1(truth, {"g": [found]}, ("x", "y")).f1 == f1


def test_an_event_is_matched_once_and_by_the_nearest():
    truth = {"g": [event(0), event(10), event(20)]}
    found = {"g": [event(9, score=0.5), event(8, score=0.9), event(100, score=0.1)]}
    score = event_f1(truth, found, ("x",))
    assert score.matched == {"g": [0, 1, -1]}
    assert (score.num_true, score.num_false, score.num_missed) == (2, 0, 1)
    assert score.left_out == {"detections with scores under 0.15": 1}


def test_ties():
    equal = {"g": [event(5, score=0.5), event(10, score=0.5)]}
    assert event_f1({"g": [event(10)]}, equal, ("x",)).matched == {"g": [0]}
    as_near = event_f1({"g": [event(20), event(10)]}, {"g": [event(15)]}, ("x",))
    assert as_near.matched == {"g": [-1, 0]}


def test_nothing_and_videos_of_one_side():
    assert event_f1({}, {}, ("x",)).f1 == 0
    score = event_f1({"g": [], "h": [event(1)]}, {"g": [], "i": [event(1)]}, ("x",))
    assert (score.precision, score.recall, score.f1, score.num_videos) == (0, 0, 0, 1)
    assert score.per_class["x"]["missed"] == 0
    assert score.left_out == {"videos without detections": 1, "videos without ground truth": 1}
    only_false = event_f1({"g": []}, {"g": [event(1)]}, ("x",))
    assert (only_false.num_false, only_false.f1) == (1, 0)


def test_bad_events_of_python():
    with pytest.raises(UserError, match="g, event 0: class 3 of 1"):
        event_f1({"g": [event(1, column=3)]}, {}, ("x",))
    with pytest.raises(UserError, match="g, event 1: the score is nan"):
        event_f1({}, {"g": [event(1), event(1, score=float("nan"))]}, ("x",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"events": {}}, "`keys` .a list. and `events`"),
        ({"keys": ["g", "g"], "events": {}}, "game g is in `keys` twice"),
        ({"keys": ["g"], "events": {"g": 1}}, "game g: a list of events"),
        ({"keys": [], "events": {"g": []}}, "game g has events and is not in `keys`"),
        ({"keys": ["g"], "events": {"g": [[1, 2, 3]]}}, "event 0: frame, team, shirt, class"),
        ({"keys": ["g"], "events": {"g": [[1, 0, 7, 1], [1.5, 0, 7, 1]]}}, "event 1.*found 1.5"),
        ({"keys": ["g"], "events": {"g": [[1, 0, "x", 1]]}}, "found x"),
        ({"keys": ["g"], "events": {"g": [[1, 0, 7, 1, "high"]]}}, "a score is a number"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "events.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        read_events(path, num_classes=8, scored=True)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_command(tmp_path, capsys):
    read(tmp_path, *event_cases.event_case(1))
    files = ["--ground-truth", str(tmp_path / "truth.json")]
    files += ["--detections", str(tmp_path / "found.json")]
    assert score_events.main([*files, "--json", str(tmp_path / "out.json")]) == 0
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["f1"] == pytest.approx(GOLDEN[1][0][5])
    captured = capsys.readouterr()
    assert "F1 0.4667 within 12 frames" in captured.out
    assert "events of other classes" in captured.err
    (tmp_path / "found.json").write_text('{"keys": ["other"], "events": {}}')
    with pytest.raises(UserError, match="no game in common"):
        score_events.main(files)
