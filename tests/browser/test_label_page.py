"""The label page in a real browser, from disk: people get labels, by keys and by mouse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from driving import Browser, wait
from selenium_keys import BACK, CONTROL, ENTER, ESCAPE, SHIFT, TAB
from tiny_data import make_dataset

from ava_tools import label
from detection.datasets.label_file import read_label_file
from detection.review.document import Decision, ReviewDocument, ReviewTrack, ReviewVideo
from detection.review.page import write_review
from detection.structures import LabelMap
from detection.video.writer import VideoWriter

pytestmark = pytest.mark.browser

MAP = LabelMap(("stand", "sit", "wave"), (12, 11, 80))
POSES = {"pose": (0, 1)}
TIMES = (0.0, 1.0, 2.0, 3.0, 4.0)


def write_video(path: Path) -> None:
    with VideoWriter(path, width=160, height=90, fps=10, crf=20) as writer:
        for number in range(50):
            writer.write(np.full((90, 160, 3), 4 * number, np.uint8))


def track(track_id: int, place: int = 0, times_s=TIMES, scores=None) -> ReviewTrack:
    """A person in one of nine places, in numbers that a shorter form would change."""
    x = 0.1 * place + 0.012345
    boxes = np.tile([x, 0.123456, x + 0.07, 0.9], (len(times_s), 1)).round(6)
    scores = [0.0] * len(MAP) if scores is None else scores
    return ReviewTrack(track_id, times_s, boxes, [scores] * len(times_s), [0.9] * len(times_s))


def video(folder: Path, video_id: str, *tracks: ReviewTrack, **more) -> ReviewVideo:
    path = folder / "videos" / "a.mp4"
    if not path.exists():
        write_video(path)
    given = {"duration_s": 5.0, "keyframes_s": TIMES} | more
    return ReviewVideo(video_id, "videos/a.mp4", 160, 90, tracks=tracks, **given)


def page_of(folder: Path, *videos: ReviewVideo, **more) -> Path:
    given = {"title": "raw", "label_map": MAP, "exclusive": POSES, "mode": "label"} | more
    return write_review(folder, ReviewDocument(videos=videos, **given))


def two_videos(folder: Path, scores=None) -> tuple[ReviewVideo, ReviewVideo]:
    first = video(folder, "a", track(1, 1, scores=scores), track(2, 5, TIMES[1:4]))
    return first, video(folder, "b", track(1, 3))


def chosen(browser: Browser) -> tuple[str, int] | None:
    """Return video and person that the page is at."""
    found = browser.js("review.view.chosen ? [review.view.clip.id, review.view.chosen.id] : null")
    return tuple(found) if found else None


def at(browser: Browser, video_id: str, person: int) -> None:
    wait(lambda: chosen(browser) == (video_id, person), f"{video_id}, person {person}")


def picks(browser: Browser) -> list[str]:
    """Return what is picked for the chosen person at each keyframe."""
    return browser.js(
        "review.view.cells().map((c) => c === null ? '-' : c.nobody ? 'nobody' : "
        "c.labels.map((i) => review.doc.classes[i].name).join('+') || 'none')"
    )


def progress(browser: Browser) -> str:
    return browser.text("header.top .progress")


def exported(browser: Browser) -> dict:
    """Return the label file that the page saves."""
    if not browser.js("document.querySelector('dialog') !== null"):
        browser.press("e")
    browser.click("#save-labels")
    path = browser.downloaded("labels.json")
    file = json.loads(path.read_text("utf-8"))
    browser.press(ESCAPE)
    browser.until("document.querySelector('dialog') === null")
    return file


def import_file(browser: Browser, path: Path) -> str:
    """Choose a file as the dialog of the system would; return what the page says of it."""
    browser.driver.execute_script(
        "HTMLInputElement.prototype.click = () => {}; document.getElementById('import').click()"
    )
    browser.driver.find_element("css selector", "#import-file").send_keys(str(path))
    said = browser.text("dialog")
    browser.press(ESCAPE)
    browser.until("document.querySelector('dialog') === null")
    return said


def test_a_page_is_labelled_by_keys_kept_exported_and_taken_in_again(
    browser: Browser, tmp_path: Path
):
    page = page_of(tmp_path, *two_videos(tmp_path))
    browser.open(page)
    assert progress(browser) == "0 of 3 people, 0 of 2 videos"
    browser.press(ENTER)
    at(browser, "a", 1)
    # One key labels all of the track; another of the group takes its place.
    browser.press("1", "2", "3")
    assert picks(browser) == ["sit+wave"] * 5
    assert progress(browser).startswith("1 of 3 people")
    # A span: from 2 s to 3 s the person stands.
    browser.js("review.view.seek(2)")
    browser.press("[")
    browser.js("review.view.seek(3)")
    browser.press("]", "1")
    assert picks(browser) == ["sit+wave"] * 2 + ["stand+wave"] * 2 + ["sit+wave"]
    browser.chord(CONTROL, "z")
    assert picks(browser) == ["sit+wave"] * 5
    browser.chord(CONTROL, SHIFT, "z")
    browser.press(ENTER)
    at(browser, "a", 2)
    assert browser.js("review.view.span") is None
    browser.press("0")  # the box is wrong: decided, and on to the next one
    at(browser, "b", 1)
    assert progress(browser) == "2 of 3 people, 1 of 2 videos"
    assert browser.text("[data-key='next']").startswith("None of these, next")
    browser.press(ENTER)
    assert "Everybody is decided: 3 people." in browser.text("dialog")
    assert "DATASET/labels/" in browser.text("dialog")
    assert browser.text("dialog pre") == "python -m ava_tools.teach --dataset DATASET"
    file = exported(browser)
    check_file(file, browser)
    # Everything is there after a reload, and after an import into an empty browser.
    browser.until("review.edits.unsaved.size === 0")
    browser.open(page)
    assert progress(browser) == "3 of 3 people, 2 of 2 videos"
    browser.forget()
    browser.open(page)
    assert progress(browser) == "0 of 3 people, 0 of 2 videos"
    said = import_file(browser, browser.downloads / "labels.json")
    assert said.startswith("Imported\n3 people taken from labels.json, 0 the same already.")
    (browser.downloads / "labels.json").rename(tmp_path / "first.json")
    again = exported(browser)
    assert {**again, "exported": "", "annotator": ""} == {**file, "exported": "", "annotator": ""}
    browser.chord(CONTROL, "z")  # an import is one step
    assert progress(browser) == "0 of 3 people, 0 of 2 videos"


def check_file(file: dict, browser: Browser) -> None:
    """The form of a label file, key by key."""
    keys = "format version page annotator exported title classes exclusive videos videos_count"
    assert list(file) == [*keys.split(), "people_count"]
    assert file["format"] == "x3d-action-detection labels" and file["version"] == 1
    assert file["page"] == browser.js("review.doc.key") and len(file["page"]) == 20
    assert re.fullmatch("[0-9a-f]{16}", file["annotator"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", file["exported"])
    assert file["title"] == "raw" and file["exclusive"] == {"pose": ["stand", "sit"]}
    assert file["classes"][0] == {"id": 12, "name": "stand"}
    assert (file["videos_count"], file["people_count"]) == (2, 2)
    first, second = file["videos"]
    assert first["id"] == "a" and first["keyframes"] == [round(t * 1e6) for t in TIMES]
    assert first["undecided"] == [0] * 5
    box = [0.112345, 0.123456, 0.182345, 0.9]  # the very numbers of the box file
    sit, stand = [11, 80], [12, 80]
    [one] = first["people"]
    assert one == {"id": 1, "k": [0, 1, 2, 3, 4], "b": box * 5, "l": [sit, sit, stand, stand, sit]}
    wrong = track(2, 5).boxes_01[:3].reshape(-1).tolist()
    assert first["nobody"] == [{"id": 2, "k": [1, 2, 3], "b": wrong}]
    assert second["people"][0]["l"] == [[]] * 5 and second["nobody"] == []


def test_everything_by_mouse(browser: Browser, tmp_path: Path):
    from selenium.webdriver import ActionChains

    browser.open(page_of(tmp_path, *two_videos(tmp_path)))
    browser.click("#begin")
    at(browser, "a", 1)
    browser.click("[data-key='class:0']")
    assert picks(browser) == ["stand"] * 5
    # Drag along the person's lane: from about 1 s to about 3 s.
    canvas = browser.element(".timeline canvas")
    x = [browser.js("review.view.timeline.x(arguments[0])", t) for t in (1.0, 3.0)]
    top = browser.js("review.view.timeline.rows[0].y + 12")
    width, height = canvas.size["width"], canvas.size["height"]
    chain = ActionChains(browser.driver, duration=50)
    chain.move_to_element_with_offset(canvas, round(x[0] - width / 2), round(top - height / 2))
    chain.click_and_hold()
    for share in (0.5, 1.0):
        place = x[0] + share * (x[1] - x[0])
        chain.move_to_element_with_offset(canvas, round(place - width / 2), round(top - height / 2))
    chain.release().perform()
    assert browser.js("review.view.span") == [1, 3]
    assert "0:01.0 to 0:03.0" in browser.text("#when")
    browser.click("[data-key='class:1']")
    assert picks(browser) == ["stand", "sit", "sit", "sit", "stand"]
    browser.click("[data-key='whole']")
    assert (
        browser.js("document.querySelector(\"[data-key='class:1']\").getAttribute('aria-pressed')")
        == "mixed"
    )
    # The keys go on working after clicks: Enter is no second click.
    browser.click("[data-key='class:2']")
    assert picks(browser)[1] == "sit+wave"
    browser.press(ENTER)
    at(browser, "a", 2)
    browser.click("[data-key='nobody']")
    at(browser, "b", 1)
    browser.click("[data-key='before']")
    at(browser, "a", 2)
    assert picks(browser) == ["nobody"] * 3
    browser.click("[data-key='clear']")
    assert picks(browser) == ["-"] * 3
    browser.click("[data-key='box:guess:1']")
    at(browser, "a", 1)
    browser.click("#tab-people")
    browser.click("[data-key='person:2']")
    at(browser, "a", 2)
    browser.click("#tab-person")
    browser.click("[data-key='next']")
    at(browser, "b", 1)
    assert progress(browser) == "2 of 3 people, 1 of 2 videos"


def test_suggestions_are_accepted_by_one_key_and_keep_what_was_picked(
    browser: Browser, tmp_path: Path
):
    """The page written again with scores and an order has the same key, so picks stay."""
    browser.open(page_of(tmp_path, *two_videos(tmp_path)))
    browser.press(ENTER, "a", "2")  # no suggestion yet: A does nothing
    browser.until("review.edits.unsaved.size === 0")
    first, second = two_videos(tmp_path, scores=[0.9, 0.2, 0.7])
    second = video(tmp_path, "b", track(1, 3, scores=[0.1, 0.3, 0.2]))
    page = page_of(tmp_path, first, second, order=[("b", 1), ("a", 2)])
    browser.open(page)
    assert progress(browser).startswith("1 of 3 people")
    browser.press(ENTER)
    at(browser, "b", 1)
    # Of a group the likeliest is suggested, other actions from the slider's score on.
    assert "sit 0.30" in browser.text(".suggestion") and "wave" not in browser.text(".suggestion")
    browser.press("a")
    at(browser, "a", 2)
    assert browser.js("document.querySelector('.suggestion') === null")
    browser.chord(SHIFT, ENTER)
    at(browser, "b", 1)
    assert picks(browser) == ["sit"] * 5
    browser.js("review.show(0, 1)")
    at(browser, "a", 1)
    assert picks(browser) == ["sit"] * 5
    assert browser.text(".suggestion").startswith("Suggested: stand 0.90, wave 0.70")
    browser.click("[data-key='accept']")
    browser.js("review.show(0, 1)")
    assert picks(browser) == ["stand+wave"] * 5


def test_enter_asks_about_a_part_of_a_person_that_nothing_is_picked_for(
    browser: Browser, tmp_path: Path
):
    browser.open(page_of(tmp_path, video(tmp_path, "a", track(1), track(2, 4))))
    at(browser, "a", 1)
    browser.js("review.view.seek(3)")
    browser.press("]", "1", ENTER)
    assert picks(browser) == ["stand"] * 4 + ["-"]
    assert "at 0:04.0: pick" in browser.text(".warn")
    file = exported(browser)  # a part is decided: exported as that
    [one] = file["videos"]
    assert one["people"][0]["k"] == [0, 1, 2, 3] and one["undecided"] == [1] * 4
    browser.press(ENTER)
    at(browser, "a", 2)
    browser.chord(SHIFT, ENTER)
    assert picks(browser) == ["stand"] * 4 + ["none"]
    assert progress(browser).startswith("1 of 2 people")


def test_picks_that_are_not_decided_are_told_before_the_export(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, video(tmp_path, "a", track(1), track(2, 4)), exclusive={}))
    at(browser, "a", 1)
    browser.press("1", "n")
    at(browser, "a", 2)
    browser.press("e")
    assert "nothing to export" in browser.text("dialog")
    assert "1 person has picks and is not decided" in browser.text("dialog")
    browser.click("#decide-begun")
    browser.until("review.edits.counts.decided === 1")
    assert exported(browser)["videos"][0]["people"][0]["l"] == [[12]] * 5


def test_moving_on_by_itself_is_one_key_a_person(browser: Browser, tmp_path: Path):
    """Where every class is of a group it is so from the start; undo leads back."""
    names = {"label_map": LabelMap(("stand", "sit"), (1, 2)), "exclusive": {"pose": (0, 1)}}
    people = [track(n, n, scores=[0, 0]) for n in (1, 2, 3)]
    browser.open(page_of(tmp_path, video(tmp_path, "a", *people), **names))
    at(browser, "a", 1)
    browser.press("1")
    at(browser, "a", 2)
    browser.press("2")
    at(browser, "a", 3)
    browser.chord(CONTROL, "z")
    at(browser, "a", 2)
    assert picks(browser) == ["-"] * 5


def test_tab_leads_to_the_next_person_and_through_dialogs_as_ever(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, *two_videos(tmp_path)))
    browser.press(ENTER)
    at(browser, "a", 1)
    browser.press("1", TAB)
    at(browser, "a", 2)
    browser.chord(SHIFT, TAB)
    at(browser, "a", 1)
    browser.press("?")
    assert "Digits choose no person here" in browser.text("dialog")
    browser.press(TAB)
    assert chosen(browser) == ("a", 1)


@pytest.mark.parametrize("time_s", [3.0, 4.75])
def test_the_stretch_of_a_person_plays_in_a_loop(browser: Browser, tmp_path: Path, time_s: float):
    """Also where the stretch goes on to the end of the video, of 5 s."""
    short = track(7, 4, (time_s,))
    keyframes_s = (0.0, 1.0, 2.0, 3.0, 4.0, 4.75)
    browser.open(page_of(tmp_path, video(tmp_path, "a", short, keyframes_s=keyframes_s)))
    browser.until(f"review.view.player.playing && review.view.player.time > {time_s - 0.6}")
    assert browser.js("review.view.stretch()") == [time_s - 0.5, time_s + 0.5]
    browser.driver.execute_script(
        "window.back = 0; const { player } = review.view; const plain = player.seek.bind(player);"
        f"player.seek = (t) => {{ if (t === {time_s - 0.5}) window.back += 1; plain(t); }};"
    )
    browser.until("window.back > 1")
    assert browser.js("review.view.player.time") < time_s + 0.8
    browser.press(" ")
    browser.until("!review.view.player.playing")


HTML = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'


def test_hostile_names_are_text_and_come_back_from_the_file(browser: Browser, tmp_path: Path):
    names = (HTML, "__proto__", "'\"\\ \u2028 סיט 走")
    groups = {HTML + "'": (0, 1)}
    label_map = LabelMap(names, (1, 2, 3))
    ids = [HTML + '"', "дом 走 #?&%41"]
    page = page_of(
        tmp_path,
        *(video(tmp_path, one, track(1)) for one in ids),
        title=HTML,
        note=HTML,
        label_map=label_map,
        exclusive=groups,
    )
    browser.open(page)
    browser.press(ENTER, "2", "3", ENTER)
    at(browser, ids[1], 1)
    browser.press("1")
    browser.click("#tab-people")
    assert browser.js("window.hacked") is None
    assert browser.js("document.querySelectorAll('img, b b').length") == 0
    file = exported(browser)
    assert [one["id"] for one in file["videos"]] == ids and file["title"] == HTML
    assert file["exclusive"] == {HTML + "'": list(names[:2])}
    assert [one["people"][0]["l"][0] for one in file["videos"]] == [[2, 3], [1]]
    browser.until("review.edits.unsaved.size === 0")
    browser.forget()
    browser.open(page)
    assert "2 people taken" in import_file(browser, browser.downloads / "labels.json")
    assert progress(browser) == "2 of 2 people, 2 of 2 videos"


def test_nobody_detected_and_no_videos(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, video(tmp_path, "a"), video(tmp_path, "b", keyframes_s=())))
    assert progress(browser) == "0 of 0 people, 0 of 0 videos"
    assert "nobody detected" in browser.text(".clips li")
    for fragment in ("a", "b"):
        browser.js("location.hash = arguments[0]", f"#clip={fragment}")
        browser.until("review.view.clip?.id === arguments[0]", fragment)
        for key in ("1", "0", "a", "[", "]", "n", "x", BACK, ESCAPE, " ", "l"):
            browser.press(key)
            browser.press(ESCAPE)
        assert "Nobody was detected" in browser.text("#panel")
    browser.press(ENTER)
    assert "nothing to export" in browser.text("dialog")
    browser.open(page_of(tmp_path / "empty"))
    browser.press(ENTER)
    assert "nothing to export" in browser.text("dialog")


def test_two_hundred_people_in_one_video(browser: Browser, tmp_path: Path):
    people = [track(n, n % 9, (TIMES[n % 5],)) for n in range(1, 201)]
    page = page_of(tmp_path, video(tmp_path, "a", *people))
    browser.open(page)
    at(browser, "a", 5)  # by time, then by number
    for number in range(60):
        browser.press("12"[number % 2], ENTER)
    assert progress(browser) == "60 of 200 people, 0 of 1 video"
    browser.until("review.edits.unsaved.size === 0")
    browser.open(page)  # where it was left
    at(browser, "a", 101)
    # The row of the chosen person is in sight, and only rows in sight are drawn.
    row = browser.js("document.querySelector('.gutter .chosen').textContent")
    assert row == f"Person {chosen(browser)[1]}"
    assert browser.js("document.querySelectorAll('.gutter .row').length") < 60
    browser.click("#tab-people")
    assert browser.js("document.querySelectorAll('#panel li').length") == 200
    file = exported(browser)
    assert file["people_count"] == 60
    [one] = file["videos"]
    assert sum(one["undecided"]) == sum(40 - 40 * (k <= 0) for k in range(2)) - 20


def test_more_than_nine_classes_are_found_by_typing(browser: Browser, tmp_path: Path):
    names = LabelMap(tuple(f"action {n}" for n in range(1, 31)), tuple(range(1, 31)))
    one = track(1, scores=[0.0] * 30)
    browser.open(page_of(tmp_path, video(tmp_path, "a", one), label_map=names, exclusive={}))
    at(browser, "a", 1)
    browser.press("9", "l")
    browser.until("document.activeElement.getAttribute('role') === 'combobox'")
    browser.press("action 27", ENTER)
    assert picks(browser) == ["action 9+action 27"] * 5
    browser.click("[data-key='class:29']")
    assert picks(browser) == ["action 9+action 27+action 30"] * 5


def test_what_was_decided_before_is_shown_exported_and_can_be_changed(
    browser: Browser, tmp_path: Path
):
    given = (
        Decision(1, TIMES, [[True, False, True]] * 5),
        Decision(2, TIMES[1:3], np.zeros((2, 3), bool), nobody=True),
    )
    first = video(tmp_path, "a", track(1, 1), track(2, 5, TIMES[1:4]), decisions=given)
    page = page_of(tmp_path, first)
    browser.open(page)
    at(browser, "a", 2)  # of which a part is decided
    assert picks(browser) == ["nobody", "nobody", "-"]
    assert progress(browser).startswith("1 of 2 people")
    [one] = exported(browser)["videos"]
    assert one["people"][0]["l"] == [[12, 80]] * 5 and one["nobody"][0]["k"] == [1, 2]
    assert one["undecided"] == [0, 0, 0, 1, 0]
    browser.js("review.show(0, 1)")
    browser.press("2", BACK)
    assert picks(browser) == ["-"] * 5
    browser.chord(CONTROL, "z")
    browser.chord(CONTROL, "z")
    assert picks(browser) == ["stand+wave"] * 5
    assert browser.js("review.edits.of(0).size") == 0


def test_a_file_that_contradicts_is_counted_and_own_picks_stay(browser: Browser, tmp_path: Path):
    page = page_of(tmp_path, *two_videos(tmp_path))
    browser.open(page)
    browser.press(ENTER, "1", ENTER, "2", ENTER)
    at(browser, "b", 1)
    exported(browser)
    saved = browser.downloads / "labels.json"
    browser.until("review.edits.unsaved.size === 0")
    browser.forget()
    browser.open(page)
    browser.press(ENTER, "2", ENTER)
    at(browser, "a", 2)
    said = import_file(browser, saved)
    assert "1 person taken" in said and "1 person contradict" in said
    assert "a, person 1, 0:00.0: sit here, stand in the file" in said
    browser.js("review.show(0, 1)")
    assert picks(browser) == ["sit"] * 5
    assert progress(browser).startswith("2 of 3 people")


def changed(file: dict, *keys: str | int, value: object) -> dict:
    """Return a label file of which one value is another."""
    copy = json.loads(json.dumps(file))
    target = copy
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    return copy


WRONG = {
    "a list": ([], "it is no label file"),
    "another form": (("format",), "CSV", "it is no label file"),
    "a later version": (("version",), 2, "of version 2, this page reads 1"),
    "another page": (("page",), "0" * 20, "of another page (raw, 00000000000000000000)"),
    "fewer videos": (("videos_count",), 3, "number of videos"),
    "fewer people": (("people_count",), 7, "number of people"),
    "another video": (("videos", 0, "id"), "zoo", "video zoo is not on this page"),
    "another time": (("videos", 0, "keyframes", 0), 17, "a keyframe is not on this page"),
    "another class": (("videos", 0, "people", 0, "l", 0), [13], "a class is not of this page"),
    "both poses": (("videos", 0, "people", 0, "l", 0), [12, 11], "exclude each other"),
    "another box": (("videos", 0, "people", 0, "b", 0), 0.2, "no such box on this page"),
    "a long box": (("videos", 0, "people", 0, "b", 0), 9, "boxes are wrong"),
    "another person": (("videos", 0, "people", 0, "id"), 9, "person 9: has no such box"),
    "a name": (("videos", 0, "people", 0, "id"), "</script>", "a person's id is"),
    "no list": (("videos", 0, "people", 0, "k"), 3, "a list is missing"),
}


def test_files_of_other_pages_and_broken_ones_are_refused_whole(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, *two_videos(tmp_path)))
    browser.press(ENTER, "1", ENTER)
    at(browser, "a", 2)
    file = exported(browser)
    browser.chord(CONTROL, "z")
    assert progress(browser).startswith("0 of 3")
    text = json.dumps(file)
    cases = {"cut short": (text[: len(text) // 2], "no JSON, or was cut short")}
    for name, (*place, value, words) in WRONG.items():
        other = json.dumps(changed(file, *place[0], value=value) if place else value)
        cases[name] = (other, words)
    for name, (content, words) in cases.items():
        path = tmp_path / f"{name}.json"
        path.write_text(content)
        said = import_file(browser, path)
        assert said.startswith("Not imported") and f"{name}.json" in said, name
        assert words in said and "Nothing was taken from it" in said, (name, said)
        assert progress(browser).startswith("0 of 3"), name


@pytest.mark.parametrize(
    "stored", ["{not json", "[[9,[[5,[0],0,0]]]]", "[[1,[[4,[0],0,0]]]]", "[[1,[[5,[0,1],0,0]]]]"]
)
def test_damaged_picks_are_set_aside(browser: Browser, tmp_path: Path, stored: str):
    page = page_of(tmp_path, video(tmp_path, "a", track(1)))
    browser.open(page)
    name = browser.js("review.edits.name(0)")
    browser.js("localStorage.setItem(arguments[0], arguments[1])", name, stored)
    browser.open(page)
    assert "could not be read" in browser.text(".message")
    assert browser.js("localStorage.getItem(arguments[0])", f"{name}:damaged") == stored
    assert picks(browser) == ["-"] * 5


def test_from_a_data_set_to_the_label_file(browser: Browser, tmp_path: Path):
    """The command's page, of a data set without labels: the file finds its boxes again."""
    root = make_dataset(tmp_path / "raw", train=2, val=1)
    lines = (root / "annotations" / "train.csv").read_text().splitlines()
    boxes = sorted({",".join(line.split(",")[:6]) for line in lines})
    (root / "annotations" / "people.csv").write_text("".join(f"{box},,0.9\n" for box in boxes))
    file = (root / "dataset.yaml").read_text()
    file = file.replace("annotations: annotations/train.csv", "annotations: annotations/train.csv\n"
                        "    boxes: {people: annotations/people.csv}")  # fmt: skip
    (root / "dataset.yaml").write_text(file)
    arguments = [
        "--dataset",
        str(root),
        "--one-of",
        "colour=be red,be blue",
        "--actions",
        "be here",
    ]
    assert label.main([*arguments, "--quiet"]) == 0
    browser.open(root / "label" / "review.html")
    browser.press(ENTER, "1", "3", ENTER)
    at(browser, "train_1", 1)
    browser.press("2", ENTER)
    found = exported(browser)
    assert found["classes"][1] == {"id": 7, "name": "be blue"}  # as in the data set's label map
    rows = [
        (one["id"], one["keyframes"][k], *person["b"][4 * j : 4 * j + 4])
        for one in found["videos"]
        for person in one["people"]
        for j, k in enumerate(person["k"])
    ]
    words = [box.split(",") for box in boxes]
    read = read_label_file(browser.downloads / "labels.json")
    assert [one.video_id for one in read.videos] == ["train_0", "train_1"]
    assert read.classes.exclusive == {"colour": (0, 1)}
    assert read.page == browser.js("review.doc.key")
    assert rows == [(w[0], round(float(w[1]) * 1e6), *map(float, w[2:6])) for w in words]


CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names_of_controls(browser: Browser, tmp_path: Path, scheme: str):
    """WCAG AA: text at 4.5 to 1, and every control has a name."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.open(page_of(tmp_path, *two_videos(tmp_path, scores=[0.9, 0.2, 0.7])))

    def check() -> None:
        assert browser.driver.execute_script(CONTRAST + "return lowContrast();") == []
        assert browser.driver.execute_script(CONTRAST + "return unnamed();") == []

    check()
    browser.press(ENTER)
    at(browser, "a", 1)
    check()
    browser.press("1")
    browser.js("review.view.seek(2)")
    browser.press("[", "3")
    check()
    browser.press(BACK, ENTER)  # the warning
    check()
    browser.click("#tab-people")
    check()
    browser.press("e")
    check()
    browser.press(ESCAPE, "?")
    check()


def test_the_export_names_the_folder_that_the_page_lies_in(browser, tmp_path):
    for name, typed in (
        ("my set", f"'{tmp_path}/my set'"),
        ("it's 世", f"'{tmp_path}/it'\\''s 世'"),
        ("raw", f"{tmp_path}/raw"),
    ):
        folder = tmp_path / name / "label"
        page = page_of(folder, video(folder, "a", track(1)))
        browser.open(page)
        at(browser, "a", 1)
        browser.press("1")
        browser.until("review.edits.unsaved.size === 0")
        browser.press("e")
        assert f"{tmp_path}/{name}/labels/" in browser.text("dialog")
        assert browser.text("dialog pre") == f"python -m ava_tools.teach --dataset {typed}"
        browser.js("localStorage.clear()")  # the pages are one to the browser
