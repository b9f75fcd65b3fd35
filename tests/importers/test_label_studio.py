"""Label Studio: what is exported comes back; regions, frame rates and lifespans as it has them."""

import copy
import json

import pytest
from made_labels import exported, imported, write_labelled
from numbered_video import write_numbered

from detection.errors import UserError
from detection.importers.label_studio import read_label_studio_videos
from detection.importers.label_studio_regions import DrawnBox

ROWS = [
    "a,0001,0.077,0.151,0.283,0.811,3,1",
    "a,0001,0.077,0.151,0.283,0.811,17,1",
    "a,0002,0.1,0.151,0.283,0.811,3,1",
    "a,0002,0.1,0.151,0.283,0.811,17,1",
    "a,0004,0.1,0.151,0.283,0.811,10,1",
    "a,0004,0.5,0.151,0.9,0.811,24,0",
    "a,2.133333,0.1,0.2,0.3,0.9,,0",
    "b 走,0003,0.333333,0.1,0.999,0.9,31,5",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("made") / "set", ROWS)


def test_rows_come_back(made, tmp_path, capsys):
    path = exported("label-studio", made, tmp_path / "p.json")
    out = capsys.readouterr().out
    assert "2 tasks, 6 boxes of 3 people in 5 regions; 10 to 10 frames a second" in out
    assert "1 of 6 boxes lie between two frames" in out
    assert imported("label-studio", path, made, tmp_path / "b", "--every", "keys") == sorted(ROWS)


def test_whole_seconds_come_back_as_keyframes_with_those_that_lack_a_person(tmp_path):
    rows = [*ROWS[:4], "a,0004,0.1,0.151,0.283,0.811,10,1"]
    folder = write_labelled(tmp_path / "set", rows)
    path = exported("label-studio", folder, tmp_path / "p.json")
    back = imported("label-studio", path, folder, tmp_path / "b", "--every", "1")
    assert back == sorted([*rows, *(f"a,000{second}" for second in (0, 3, 5, 6, 7))])


def test_the_configuration_lists_the_labels(made, tmp_path):
    config = tmp_path / "c.xml"
    exported("label-studio", made, tmp_path / "p.json", "--label-config", config)
    text = config.read_text(encoding="utf-8")
    assert 'framerate="$fps"' in text and '<Label value="talk to (e.g., self, a person)"/>' in text
    with pytest.raises(UserError, match=r"c\.xml: is there already"):
        exported("label-studio", made, tmp_path / "q.json", "--label-config", config)


def key(frame, x=10.0, *, enabled=True, **more):
    box = {"x": x, "y": 20, "width": 30, "height": 40, "rotation": 0}
    return box | {"frame": frame, "enabled": enabled, "time": frame / 10} | more


def rectangle(*sequence, identity="r1", labels=("sit",), **value):
    value = {"framesCount": 80, "duration": 8.0, "sequence": list(sequence)} | value
    value |= {"labels": list(labels)} if labels else {}
    return {"id": identity, "type": "videorectangle", "value": value}


def task(*result, video="/data/upload/1/0a1b2c3d-a.mp4", **data):
    return {"id": 7, "data": {"video": video} | data, "annotations": [{"result": list(result)}]}


def read(made, tmp_path, *tasks, **options):
    (tmp_path / "p.json").write_text(json.dumps(tasks), encoding="utf-8")
    return read_label_studio_videos(tmp_path / "p.json", made / "videos", **options)


def boxes_of(data):
    return {round(b.frame_or_time, 3): round(b.box[0], 6) for b in data.videos[0].boxes}


def test_boxes_move_evenly_and_are_absent_after_one_that_is_not_enabled(made, tmp_path):
    sequence = key(11), key(31, 30.0, enabled=False), key(51, 50.0)
    data = read(made, tmp_path, task(rectangle(*sequence)), every_s=1.0)
    assert boxes_of(data) == {1: 0.1, 2: 0.2, 3: 0.3, 5: 0.5, 6: 0.5, 7: 0.5}
    assert data.videos[0].empty == [0, 4]
    assert data.videos[0].boxes[0].actions == ("sit",) and data.videos[0].boxes[0].person == "r1"
    keys = read(made, tmp_path, task(rectangle(*sequence)), every_s="keys")
    assert boxes_of(keys) == {1.0: 0.1, 3.0: 0.3, 5.0: 0.5} and not keys.videos[0].empty


def test_frames_count_at_the_rate_of_the_configuration(made, tmp_path):
    """25 a second on a video of 10: frame 51 is shown at 2 s."""
    region = rectangle(key(51, enabled=False), framesCount=200)
    data = read(made, tmp_path, task(region), every_s=1.0)
    assert boxes_of(data) == {2: 0.1}
    assert any("another frame rate than their own: a.mp4 25 for 10" in n for n in data.notes)
    region = rectangle(key(51, enabled=False), framesCount=None)
    assert boxes_of(read(made, tmp_path, task(region, fps=25.0), every_s=1.0)) == {2: 0.1}
    assert boxes_of(read(made, tmp_path, task(region), every_s=1.0, fps=12.5)) == {4: 0.1}
    assert boxes_of(read(made, tmp_path, task(region), every_s=1.0)) == {5: 0.1}


def test_a_frame_count_that_is_off_by_two_is_the_videos_own(made, tmp_path):
    region = rectangle(key(79, enabled=False), framesCount=82)
    assert boxes_of(read(made, tmp_path, task(region), every_s=0.0)) == {7.8: 0.1}


def test_times_of_a_varying_rate_are_those_that_label_studio_shows(tmp_path):
    """It counts evenly: half a second a frame, whatever is shown when."""
    folder = tmp_path / "set" / "videos"
    folder.mkdir(parents=True)
    write_numbered(folder / "v.mp4", [0.0, 0.1, 0.2, 0.3, 2.0], fps=10)
    region = rectangle(key(5, enabled=False), framesCount=5, duration=2.5)
    data = read(tmp_path / "set", tmp_path, task(region, video="v.mp4"), every_s="keys")
    assert boxes_of(data) == {2.0: 0.1}


def test_choices_of_a_region_are_actions_and_person_is_none(made, tmp_path):
    choices = {"id": "r1", "type": "choices", "value": {"choices": ["wave", "lift"]}}
    other = {"id": "t", "type": "textarea", "value": {"text": ["x"]}}
    result = rectangle(key(1), labels=("Person",)), choices, other
    data = read(made, tmp_path, task(*result), every_s="keys")
    assert data.videos[0].boxes[0].actions == ("wave", "lift")
    assert data.classes == ["wave", "lift"]
    assert any("1 labels that only say 'person'" in note for note in data.notes)
    assert any("other types left out: textarea (1)" in note for note in data.notes)


def test_timeline_labels_are_segments_and_their_doubles_are_not(made, tmp_path):
    span = {
        "type": "timelinelabels",
        "id": "t",
        "value": {"ranges": [{"start": 11, "end": 21}], "timelinelabels": ["talk"]},
    }
    double = {"type": "timelinelabels", "id": "r1", "value": {"sequence": []}}
    result = rectangle(key(1), labels=()), span, double
    data = read(made, tmp_path, task(*result), every_s=1.0)
    acting = [b.frame_or_time for b in data.videos[0].boxes if b.actions == ("talk",)]
    assert acting == [1.0, 2.0] and len(data.videos[0].boxes) == 8  # fmt: skip


def test_a_rotation_turns_about_the_upper_left_corner():
    turned = DrawnBox(1, (50.0, 50.0, 20.0, 10.0), 90.0, enabled=True)
    assert turned.hull_01((200, 100)) == pytest.approx((0.45, 0.5, 0.5, 0.9))
    assert DrawnBox(1, (50.0, 50.0, 20.0, 10.0), 0.0, True).hull_01((2, 1)) == (0.5, 0.5, 0.7, 0.6)


def test_the_last_annotation_that_is_not_skipped_is_taken(made, tmp_path):
    many = task(rectangle(key(1)))
    many["annotations"] += [
        {"result": [rectangle(key(1), labels=("stand",))]},
        {"result": [], "was_cancelled": True},
    ]
    data = read(made, tmp_path, many, every_s="keys")
    assert data.videos[0].boxes[0].actions == ("stand",)
    assert any("1 tasks with several annotations" in note for note in data.notes)
    data = read(made, tmp_path, task(rectangle(key(1))), many | {"annotations": []})
    assert any("1 tasks without an annotation" in note for note in data.notes)


@pytest.mark.parametrize(
    "video",
    ["a.mp4", "/data/local-files/?d=some%2Fa.mp4", "s3://bucket/x/a.mp4", "http://h/a.mp4?t=1"],
)
def test_videos_are_found_by_the_end_of_their_address(made, tmp_path, video):
    assert read(made, tmp_path, task(rectangle(key(1)), video=video)).videos[0].name == "a.mp4"


def changed(path, value):
    tasks = [copy.deepcopy(task(rectangle(key(1), key(5))))]
    here = tasks
    *parents, last = path
    for name in parents:
        here = here[name]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return tasks


RESULT = (0, "annotations", 0, "result", 0)
PLACE = r"\[0\]\.annotations\[0\]\.result\[0\]"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((0,), 3, r"\[0\]: an object is required, found 3"),
        ((0, "annotations"), None, r"\[0\]: no annotations \(JSON-MIN, or a task to import\?\)"),
        ((0, "annotations"), {}, r"\[0\]\.annotations: a list is required"),
        ((0, "data"), None, r"\[0\]\.data: an object that names the video"),
        ((0, "data", "video"), "../../etc/c.mp4", r"\[0\]\.data: video 'c.mp4' not found"),
        ((0, "data", "video"), "..", r"\[0\]\.data: no video is named"),
        ((0, "data", "video"), "a\x1b.mp4", r"\[0\]\.data: .*not a valid name"),
        ((0, "data", "fps"), -1, "-1 frames a second: above 0 to 1000"),
        ((*RESULT, "id"), None, PLACE + r"\.id: a text is required"),
        ((*RESULT, "value"), None, PLACE + ": an object is required"),
        ((*RESULT, "value", "labels"), ["a\nb"], PLACE + ": .*no valid class name"),
        ((*RESULT, "value", "labels"), [1], PLACE + r"\.value\.labels: texts are required"),
        ((*RESULT, "value", "sequence"), {}, PLACE + r"\.value\.sequence: a list"),
        ((*RESULT, "value", "sequence", 1, "frame"), 1, "frame 1 is there twice"),
        ((*RESULT, "value", "sequence", 1, "frame"), 1.5, r"sequence\[1\]\.frame: a whole number"),
        ((*RESULT, "value", "sequence", 1, "frame"), 1e15, "must be a finite number"),
        ((*RESULT, "value", "sequence", 1, "frame"), 90, PLACE + r"\.value\.sequence: frame 90"),
        ((*RESULT, "value", "sequence", 1, "x"), None, r"sequence\[1\]\.x: 'x' is required"),
        ((*RESULT, "value", "sequence", 1, "width"), 0, r"sequence\[1\]: width 0 and height 40"),
        ((*RESULT, "value", "sequence", 1, "enabled"), "no", r"\.enabled: true or false"),
        ((*RESULT, "value", "duration"), "8", r"\.value\.duration: .*must be a finite number"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(made, tmp_path, path, value, said):
    with pytest.raises(UserError, match=said) as caught:
        read(made, tmp_path, *changed(path, value))
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_other_forms_are_named(made, tmp_path):
    old = task() | {"completions": []}
    del old["annotations"]
    with pytest.raises(UserError, match=r"'completions' of Label Studio below 1\.0 found; .*1\.0"):
        read(made, tmp_path, old)
    (tmp_path / "o.json").write_text("{}")
    with pytest.raises(UserError, match=r"o\.json:1: not JSON of one list .* an object found"):
        read_label_studio_videos(tmp_path / "o.json", made / "videos")
    with pytest.raises(UserError, match="is in a task above already"):
        read(made, tmp_path, task(rectangle(key(1))), task(rectangle(key(1))))


def test_a_box_without_a_stated_time_is_at_its_frames_own(made, tmp_path):
    without = [{k: v for k, v in key(frame).items() if k != "time"} for frame in (11, 80)]
    data = read(made, tmp_path, task(rectangle(*without)), every_s="keys")
    assert boxes_of(data) == {1.0: 0.1, 7.9: 0.1}


def test_a_person_goes_on_to_the_next_box_where_no_keyframe_in_between_lacks_them(tmp_path):
    times = {1: "0000 0001 0002 0004 0005 0006 0007", 2: "0001 1.500000"}
    rows = [f"a,{t},0.1,0.1,0.3,0.3,3,{who}" for who, said in times.items() for t in said.split()]
    path = exported("label-studio", write_labelled(tmp_path / "s", rows), tmp_path / "p.json")
    (written,) = json.loads(path.read_text())[0]["annotations"]
    one, two = (result["value"]["sequence"] for result in written["result"])
    assert [part["enabled"] for part in one] == [True, False, False, True, True, True, False]
    assert [part["enabled"] for part in two] == [True, False]
