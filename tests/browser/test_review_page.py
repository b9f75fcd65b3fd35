"""The review page in a real browser, from disk: what is shown, corrected, kept and exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from driving import Browser
from tiny_data import make_dataset

from ava_tools import import_dataset, visualize
from detection.datasets.ava_csv import AvaRows, read_ground_truth
from detection.datasets.folder import DatasetFolder, write_dataset_file
from detection.drawing.palette import track_color
from detection.review.document import (
    ReviewDocument,
    ReviewTrack,
    ReviewTruth,
    ReviewVideo,
    TruePerson,
)
from detection.review.page import write_review
from detection.structures import LabelMap
from detection.video.writer import VideoWriter

pytestmark = pytest.mark.browser

MAP = LabelMap(("stand", "sit", "watch"), (12, 11, 80), ("POSE", "POSE", "PERSON"))
POSES = {"pose": (0, 1)}
LEFT, RIGHT = [0.1, 0.2, 0.3, 0.9], [0.6, 0.2, 0.8, 0.9]


def write_video(path: Path, *, start_s: float = 0.0, times_s: np.ndarray | None = None) -> None:
    """Write frames whose grey says which they are."""
    if times_s is None:
        times_s = np.arange(40) / 10
    with VideoWriter(path, width=320, height=180, fps=10, crf=1) as writer:
        for number, time_s in enumerate(times_s):
            grey = np.full((180, 320, 3), 6 * number, np.uint8)
            writer.write(grey, start_s + float(time_s))


def track(track_id: int, box: list[float], scores: list[float], times_s=(1.0, 2.0, 3.0)):
    n = len(times_s)
    return ReviewTrack(track_id, times_s, [box] * n, [scores] * n, [1.0] * n)


def clip(folder: Path, video_id: str = "clip", **more) -> ReviewVideo:
    """A clip of 4 s with two people predicted at 1, 2 and 3 s."""
    name = more.pop("name", "a.mp4")
    if not (folder / "videos" / name).exists():
        write_video(folder / "videos" / name)
    tracks = (track(4, LEFT, [0.9, 0.4, 0.05]), track(7, RIGHT, [0.2, 0.8, 0.6]))
    given = {"tracks": tracks, "keyframes_s": (1.0, 2.0, 3.0), "duration_s": 4.0} | more
    return ReviewVideo(video_id, f"videos/{name}", 320, 180, **given)


def page_of(folder: Path, *videos: ReviewVideo, title: str = "Test", **more) -> Path:
    given = {"label_map": MAP, "exclusive": POSES} | more
    return write_review(folder, ReviewDocument(title, videos=videos, **given))


def people(browser: Browser) -> list:
    """Return everybody at the keyframe as would be exported: [id, box, names]."""
    return browser.js(
        "review.view.labels().people.map((p) => [p.id, p.box, [...p.labels]"
        ".map((c) => review.doc.classes[c].name)])"
    )


def test_round_trip_from_a_page_to_a_data_set_that_is_read_back(browser: Browser, tmp_path: Path):
    """Correct a label, delete a box, add a box, mark reviewed, reload, export, import, read."""
    from selenium.webdriver import Keys

    root = make_dataset(tmp_path / "data", train=2, val=1)
    folder = DatasetFolder.open(root)
    exclusive = {"colour": ["be red", "be blue"]}
    write_dataset_file(root, folder.file.model_copy(update={"exclusive": exclusive}))
    truth = read_ground_truth(root / "annotations" / "val.csv")
    box = truth.boxes_01[0]
    found = [f"val_0,{t},{','.join(map(str, box))},{c},0.6\n" for t in (1, 2) for c in (3, 7, 9)]
    (tmp_path / "det.csv").write_text("".join(found))
    arguments = ["--review", "--dataset", root, "--detections", tmp_path / "det.csv"]
    assert visualize.main([*map(str, arguments), "--out", str(tmp_path / "page")]) == 0

    browser.open(tmp_path / "page" / "review.html")
    browser.at_rest(1.0)
    assert people(browser) == [[-1, pytest.approx(box.tolist()), ["be red", "be here"]]]
    # A label, by keyboard: choosing blue unsets red.
    browser.press("1", "l")
    browser.until("document.activeElement.getAttribute('role') === 'combobox'")
    browser.press("blue", Keys.ENTER)
    assert people(browser)[0][2] == ["be here", "be blue"]
    browser.press(Keys.ESCAPE, "r")
    # The next keyframe: one box deleted, another drawn by mouse and labelled.
    browser.press(Keys.ARROW_RIGHT)
    browser.at_rest(2.0)
    browser.click("[data-key^='delete:']")
    assert people(browser) == []
    browser.click("[data-key='add']")
    browser.drag((0.5, 0.25), (0.75, 0.75))
    browser.until("document.activeElement.getAttribute('role') === 'combobox'")
    browser.press("red", Keys.ENTER, Keys.ESCAPE)
    [[drawn_id, drawn, names]] = people(browser)
    assert drawn == pytest.approx([0.5, 0.25, 0.75, 0.75], abs=0.01) and names == ["be red"]
    browser.click("[data-key='review']")
    # Everything is still there after a reload.
    browser.until("review.edits.unsaved.size === 0")
    browser.open(tmp_path / "page" / "review.html")
    assert "2 of 2 keyframes reviewed" in browser.text("header.top")
    [video] = exported(browser)["videos"]
    assert video["keyframes"] == [1_000_000, 2_000_000] and video["undecided"] == [0, 0]
    assert video["people"] == [
        {"id": drawn_id, "k": [1], "b": drawn, "l": [[3]]},
        {"id": None, "k": [0], "b": box.tolist(), "l": [[7, 9]]},  # the very numbers of the file
    ]
    labels = str(browser.downloads / "labels.json")
    arguments = ["--dataset", str(root), "--split", "val", "--out", str(tmp_path / "new")]
    assert import_dataset.main(["corrections", *arguments, "--corrections", labels]) == 0
    rows = read_ground_truth(tmp_path / "new" / "annotations" / "val.csv")
    assert table(rows) == [
        ("val_0", 1.0, 7, *box.tolist()),
        ("val_0", 1.0, 9, *box.tolist()),
        ("val_0", 2.0, 3, *drawn),
    ]
    assert drawn_id >= 0


def table(rows: AvaRows) -> list[tuple]:
    """Return rows without persons, sorted; boxes are the very same numbers."""
    return sorted(
        (*rows.keyframe(i), int(rows.action_id[i]), *rows.boxes_01[i].tolist())
        for i in range(len(rows))
    )


def exported(browser: Browser) -> dict:
    """Return the label file that the page saves."""
    browser.click("#export")
    browser.click("#save-labels")
    file = json.loads(browser.downloaded("labels.json").read_text("utf-8"))
    browser.press("\ue00c")
    return file


def test_keyboard_alone_adds_moves_and_deletes_a_box_and_undoes(browser: Browser, tmp_path: Path):
    from selenium.webdriver import Keys

    browser.open(page_of(tmp_path, clip(tmp_path)))
    browser.at_rest(1.0)
    browser.press("n", Keys.ENTER, Keys.ESCAPE)
    assert [person[0] for person in people(browser)] == [4, 7, 8]
    assert people(browser)[2][1] == [0.4, 0.25, 0.6, 0.85]
    browser.press("3", Keys.ARROW_RIGHT, Keys.ARROW_UP)
    browser.chord(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert people(browser)[2][1] == pytest.approx([0.405, 0.245, 0.61, 0.845])
    browser.press(Keys.DELETE)
    assert [person[0] for person in people(browser)] == [4, 7]
    for _ in range(5):
        browser.chord(Keys.CONTROL, "z")
    assert browser.js("review.edits.of(0).size") == 0
    browser.chord(Keys.CONTROL, Keys.SHIFT, "z")
    assert people(browser)[2][1] == [0.4, 0.25, 0.6, 0.85]


def test_mouse_moves_and_resizes_a_chosen_box(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, clip(tmp_path)))
    browser.at_rest(1.0)
    browser.click("[data-key='box:guess:4']")
    browser.drag((0.2, 0.5), (0.3, 0.55))
    browser.until("review.edits.of(0).size === 1")
    assert people(browser)[0][1] == pytest.approx([0.2, 0.25, 0.4, 0.95], abs=0.01)
    browser.drag((0.2, 0.6), (0.1, 0.6))  # the handle in the middle of the left edge
    assert people(browser)[0][1] == pytest.approx([0.1, 0.25, 0.4, 0.95], abs=0.01)


def test_what_is_shown_follows_threshold_and_classes(browser: Browser, tmp_path: Path):
    """At 0.3 both people have labels, one pose each; at 0.85 one has none."""
    from selenium.webdriver import Keys

    browser.open(page_of(tmp_path, clip(tmp_path)))
    browser.at_rest(1.0)
    assert [person[2] for person in people(browser)] == [["stand"], ["sit", "watch"]]
    browser.js(
        "(review.view.slider.value = 0.85, review.view.slider.dispatchEvent(new Event('input')))"
    )
    assert [person[2] for person in people(browser)] == [["stand"], []]
    browser.click("#tab-classes")
    browser.click("[data-key='none']")
    assert browser.js("document.querySelectorAll('.box').length") == 0
    browser.click("[data-key='class:0']")
    assert browser.js("document.querySelectorAll('.box').length") == 1
    # The slider keeps the arrow keys to itself.
    browser.js("review.view.slider.focus()")
    browser.press(Keys.ARROW_LEFT)
    assert browser.js("review.view.k") == 0 and browser.js("review.slider") == pytest.approx(0.84)


def truth_for(folder: Path, **more) -> ReviewVideo:
    """Person 1 sits where track 4 says that he stands; nobody is where track 7 is."""
    person = TruePerson(1, [1.0, 2.0], [LEFT, LEFT], [[False, True, False]] * 2)
    return clip(folder, truth=ReviewTruth((1.0, 2.0), (person,)), **more)


def test_ground_truth_beside_prediction_and_the_worst_error_first(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, truth_for(tmp_path)))
    browser.click("#tab-errors")
    errors = browser.js("[...document.querySelectorAll('.errors button')].map((b) => b.innerText)")
    # Neighbouring keyframes are one entry; 3 s is not annotated, so it is no error.
    assert errors[0].startswith("stand · Wrong class") and "2 keyframes" in errors[0]
    assert "sit · Nobody there" in errors[1] and len(errors) == 3
    browser.click(".errors li:nth-child(2) button")
    assert browser.js("review.view.chosenKey") == "guess:7"
    browser.click("#tab-keyframe")
    signs = browser.js("[...document.querySelectorAll('.guesses .guess')].map((g) => g.innerText)")
    assert len(signs) == 2 and "stand" in signs[0] and "✗" in signs[0]
    assert "sit" in signs[1] and "✓" in signs[1]  # 0.4 is above the threshold
    kinds = browser.js("[...document.querySelectorAll('.box')].map((b) => b.className)")
    assert sum("truth" in kind for kind in kinds) == 1 and len(kinds) == 3


def test_a_prediction_that_is_right_after_all_is_adopted(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, truth_for(tmp_path)))
    browser.at_rest(1.0)
    browser.click("[data-key='adopt:7']")
    assert [person[2] for person in people(browser)] == [["sit"], ["sit", "watch"]]
    assert browser.js("review.edits.of(0).get(0).reviewed") is False
    browser.click("#export")
    assert "1 keyframe is edited and not marked" in browser.text("dialog")
    browser.click("#review-edited")
    assert "import_dataset corrections" in browser.text("dialog pre")
    assert "--videos FOLDER" in browser.text("dialog pre")  # may be a video of no data set
    browser.press("\ue00c")
    [video] = exported(browser)["videos"]
    assert [(person["id"], person["l"]) for person in video["people"]] == [
        (1, [[11]]),
        (8, [[11, 80]]),
    ]


HTML = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'


def test_html_in_texts_is_text(browser: Browser, tmp_path: Path):
    label_map = LabelMap((HTML, "sit", "&lt;b&gt;"), (12, 11, 80), (HTML, HTML, "x"))
    name = "<b>#?&%41'.mp4"
    write_video(tmp_path / "videos" / name)
    video = truth_for(tmp_path, video_id=HTML + '"', name=name)
    page = page_of(tmp_path, video, title=HTML, label_map=label_map, note=HTML, notes=(HTML,))
    browser.open(page)
    browser.at_rest(1.0)  # the odd file name plays
    for tab in ("errors", "classes", "keyframe"):
        browser.click(f"#tab-{tab}")
    browser.press("1", "l")
    assert browser.js("window.hacked") is None
    assert browser.js("document.querySelectorAll('img, b b').length") == 0
    assert browser.js("document.querySelector('h1').textContent") == HTML
    assert browser.driver.title == HTML
    browser.js("review.view.pick(null)")
    browser.press("r")
    file = exported(browser)
    assert file["videos"][0]["id"] == HTML + '"' and file["title"] == HTML
    assert file["classes"][0] == {"id": 12, "name": HTML}


def test_a_label_file_of_reviews_is_taken_in_again_and_never_over_own_work(
    browser: Browser, tmp_path: Path
):
    page = page_of(tmp_path, truth_for(tmp_path), clip(tmp_path, "other"))
    browser.open(page, "#clip=clip")
    browser.at_rest(1.0)
    browser.press("1", "l")
    browser.press("watch", "\ue007", "\ue00c", "r", "\ue014")
    browser.at_rest(2.0)
    browser.press("r")
    exported(browser)
    saved = browser.downloads / "labels.json"
    browser.forget()
    # Another browser: one keyframe is edited differently there.
    browser.open(page, "#clip=clip")
    browser.at_rest(1.0)
    browser.press("r")
    import_file(browser, saved)
    said = browser.text("dialog")
    assert "1 keyframe taken" in said and "1 keyframe contradict" in said and "0:01.00" in said
    assert browser.js("[...review.edits.of(0).keys()]") == [0, 1]
    assert people(browser)[0][2] == ["sit"]
    browser.press("\ue00c")
    browser.chord("\ue009", "z")
    assert browser.js("[...review.edits.of(0).keys()]") == [0]
    file = json.loads(saved.read_text())
    other = page_of(tmp_path, clip(tmp_path, tracks=()), title="Other")
    browser.open(other)
    import_file(browser, saved)
    assert "of another page (Test, " in browser.text("dialog")
    assert file["page"] != browser.js("review.doc.key")


def import_file(browser: Browser, path: Path) -> None:
    """Choose a file as the dialog of the system would."""
    browser.driver.execute_script(
        "HTMLInputElement.prototype.click = () => {}; document.getElementById('import').click()"
    )
    browser.driver.find_element("css selector", "#import-file").send_keys(str(path))
    browser.element("dialog")


def test_a_missing_video_is_named_and_labels_can_still_be_corrected(
    browser: Browser, tmp_path: Path
):
    video = clip(tmp_path)
    (tmp_path / "videos" / "a.mp4").unlink()
    browser.open(page_of(tmp_path, video))
    browser.until("review.view.player.broken")
    assert "The video file videos/a.mp4 is not there" in browser.text(".trouble")
    browser.press("\ue014")  # the right arrow
    assert browser.js("review.view.k") == 1
    browser.press("r")
    assert browser.js("review.edits.of(0).get(1).reviewed") is True


@pytest.mark.parametrize("stored", ["{not json", "[[99,1,[]]]", "[[0,1,[[1,[0,0,2,2],[0]]]]]", "7"])
def test_damaged_storage_is_set_aside(browser: Browser, tmp_path: Path, stored: str):
    page = page_of(tmp_path, clip(tmp_path))
    browser.open(page)
    name = browser.js("review.edits.name(0)")
    browser.js("localStorage.setItem(arguments[0], arguments[1])", name, stored)
    browser.open(page)
    assert "could not be read" in browser.text(".message")
    assert browser.js("localStorage.getItem(arguments[0])", f"{name}:damaged") == stored
    assert browser.js("review.edits.of(0).size") == 0
    browser.press("r")
    assert browser.js("review.edits.count(0, true)") == 1


def test_full_storage_is_said_before_work_is_lost(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, clip(tmp_path)))
    full = "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }"
    browser.js(full)
    browser.press("r")
    browser.until("!document.querySelector('.message').hidden")
    assert "export them" in browser.text(".message")
    browser.js("review.edits.unsaved.clear()")  # so that the page may be left


@pytest.mark.parametrize("start_s", [0.0, 5.0])
def test_boxes_belong_to_the_frame_on_screen(browser: Browser, tmp_path: Path, start_s: float):
    """A file that starts late, of variable rate: keyframes show their own frames."""
    times_s = np.cumsum(np.resize([0.05, 0.13, 0.08, 0.2], 40))
    times_s -= times_s[0]
    write_video(tmp_path / "videos" / "a.mp4", start_s=start_s, times_s=times_s)
    wanted = [7, 18, 33]
    keyframes = tuple(start_s + float(times_s[i]) for i in wanted)
    tracks = (track(1, LEFT, [0.9, 0, 0], keyframes),)
    length = float(times_s[-1]) + 0.1
    video = clip(tmp_path, start_s=start_s, duration_s=length, keyframes_s=keyframes, tracks=tracks)
    browser.open(page_of(tmp_path, video))
    for number, (frame, time_s) in enumerate(zip(wanted, keyframes, strict=True)):
        if number:
            browser.press("\ue014")
        browser.at_rest(time_s)
        assert browser.js("review.view.k") == number
        assert browser.js("review.view.player.presented") == pytest.approx(time_s, abs=0.002)
        assert grey_of(browser) == pytest.approx(6 * frame, abs=4)


def grey_of(browser: Browser) -> float:
    """Return the grey of the video on screen, off the boxes."""
    import cv2

    picture = browser.element(".stage").screenshot_as_png
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    height, width = image.shape
    return float(image[int(0.5 * height), int(0.45 * width)])


def test_playing_goes_on_and_the_boxes_with_it(browser: Browser, tmp_path: Path):
    start, end = [0.0, 0.2, 0.2, 0.9], [0.5, 0.2, 0.7, 0.9]
    moving = ReviewTrack(1, [1.0, 2.0], [start, end], [[0.9, 0, 0]] * 2, [1, 1])
    browser.open(page_of(tmp_path, clip(tmp_path, tracks=(moving,), keyframes_s=(1.0, 2.0))))
    browser.at_rest(1.0)
    # Slowly: a busy machine stops it late.
    browser.js("review.view.player.video.playbackRate = 0.25")
    browser.press(" ")
    browser.until("review.view.player.time > 1.2 && (review.view.player.pause(), true)")
    left, time_s = browser.js(
        "[parseFloat(document.querySelector('.box').style.left), review.view.player.time]"
    )
    assert 1.2 < time_s < 2.5
    assert left == pytest.approx(50 * min(1.0, time_s - 1), abs=0.5)


def test_a_page_opens_at_the_first_label_that_shows(browser: Browser, tmp_path: Path):
    late = ReviewTrack(
        4, [1.0, 2.0, 3.0], [LEFT] * 3, [[0.1, 0, 0], [0.2, 0, 0.9], [0.9, 0, 0]], [1] * 3
    )
    notes = ("Labels of <b>somebody</b> else.", "Good for sports.")
    browser.open(page_of(tmp_path, clip(tmp_path, tracks=(late,)), notes=notes))
    browser.at_rest(2.0)
    assert people(browser) == [[4, LEFT, ["watch"]]]
    lines = browser.js("[...document.querySelectorAll('.notes p')].map((p) => p.innerText)")
    assert lines == list(notes)
    assert browser.js("review.slider") == 0.3


def test_where_no_score_reaches_the_threshold_the_slider_starts_at_the_best_one(
    browser: Browser, tmp_path: Path
):
    weak = track(4, LEFT, [0.1, 0.176, 0.05]), track(7, RIGHT, [0.04, 0.02, 0.03])
    browser.open(page_of(tmp_path, clip(tmp_path, tracks=weak)))
    browser.at_rest(1.0)
    assert people(browser) == [[4, LEFT, ["sit"]], [7, RIGHT, []]]
    assert browser.js("Number(review.view.slider.value)") == pytest.approx(0.17)
    assert browser.text(".notes") == (
        "No score reaches its threshold of 0.30: the slider starts at 0.17, where the best one "
        "shows (0.18, sit; person 4, 1.0 s)."
    )
    assert "no label; likeliest: stand 0.04" in browser.text("#panel")
    browser.click("#tab-errors")
    assert browser.js("document.querySelectorAll('.errors li').length") >= 1


KINETICS = LabelMap(
    tuple(f"action number {n} of a long list" for n in range(399)) + ("very " * 80 + "long",),
    tuple(range(1, 401)),
)


def test_four_hundred_classes_those_seen_come_first(browser: Browser, tmp_path: Path):
    scores = np.zeros((3, 400), np.float32)
    scores[:, 7], scores[1:, 399], scores[:, 12] = 0.9, 0.8, 0.02
    found = ReviewTrack(4, [1.0, 2.0, 3.0], [LEFT] * 3, scores, [1] * 3)
    video = clip(tmp_path, tracks=(found,))
    page = page_of(tmp_path, video, label_map=KINETICS, exclusive={}, title="clip", note="A model")
    browser.open(page)
    browser.at_rest(1.0)
    # The name of the one video is its title, and is not repeated below it.
    assert browser.text("header.top .note") == "A model"
    browser.click("#tab-classes")
    rows = "[...document.querySelectorAll('.filters label')].map((row) => row.innerText.trim())"
    shown = browser.js(rows)
    assert len(shown) == 2 and shown[0].split() == [*KINETICS.names[7].split(), "3"]
    assert shown[1].startswith("very very") and shown[1].endswith("2")
    assert browser.text("[data-key='others']") == "398 classes not seen here"
    browser.click("[data-key='others']")
    browser.until("document.querySelectorAll('.filters label').length === 400")
    browser.click("[data-key='find']")
    browser.press("number 39")
    assert browser.js("document.querySelectorAll('.filters label').length") == 10
    # Long names take two lines at most, on every panel, and are whole in their tooltip.
    browser.press(*["\ue003"] * 9)
    browser.press("very")
    for tab in ("classes", "keyframe"):
        browser.click(f"#tab-{tab}")
        if tab == "keyframe":
            browser.js("review.view.step(1)")
            browser.at_rest(2.0)
        browser.until("document.querySelector('#panel .clamp[title^=very]') !== null")
        high, line, title = browser.js(
            "((node) => [node.clientHeight, parseFloat(getComputedStyle(node).lineHeight), "
            "node.title])(document.querySelector('#panel .clamp[title^=very]'))"
        )
        assert high <= 2 * line + 1 and title == KINETICS.names[399]


def test_a_person_with_very_many_labels_shows_the_likeliest(browser: Browser, tmp_path: Path):
    scores = np.tile(np.linspace(0.9, 0.5, 400, dtype=np.float32), (3, 1))
    found = ReviewTrack(4, [1.0, 2.0, 3.0], [LEFT] * 3, scores, [1] * 3)
    video = clip(tmp_path, tracks=(found,))
    browser.open(page_of(tmp_path, video, label_map=KINETICS, exclusive={}))
    browser.at_rest(1.0)
    assert browser.js("document.querySelectorAll('.chip').length") == 8
    browser.click("[data-key='whole:4']")
    browser.until("document.querySelectorAll('.chip').length === 400")


def test_a_person_has_the_colour_of_the_annotated_video(browser: Browser, tmp_path: Path):
    tracks = [track(n, [0.04 * n, 0.1, 0.04 * n + 0.03, 0.9], [0.9, 0, 0]) for n in (1, 2, 8, 9)]
    browser.open(page_of(tmp_path, clip(tmp_path, tracks=tuple(tracks))))
    browser.at_rest(1.0)
    for one in tracks:
        color = browser.js(
            "getComputedStyle(document.querySelector(arguments[0])).borderTopColor",
            f"[data-key='box:guess:{one.track_id}']",
        )
        assert color == "rgb({}, {}, {})".format(*track_color(one.track_id))
    dots = browser.js(
        "[...document.querySelectorAll('.gutter .dot, #panel .dot')]"
        ".map((dot) => getComputedStyle(dot).backgroundColor)"
    )
    assert dots == 2 * ["rgb({}, {}, {})".format(*track_color(t.track_id)) for t in tracks]


def test_least_sure_labels_say_so_once(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, clip(tmp_path)))
    browser.click("#tab-errors")
    rows = browser.js("[...document.querySelectorAll('.errors .what')].map((b) => b.innerText)")
    assert rows and set(rows) <= set(MAP.names)


def test_a_sheet_leads_to_its_clips_the_worst_first(browser: Browser, tmp_path: Path):
    good = TruePerson(4, [1.0], [LEFT], [[True, False, False]])
    fine = clip(
        tmp_path,
        "fine",
        truth=ReviewTruth((1.0,), (good,)),
        tracks=(track(4, LEFT, [0.95, 0, 0]),),
    )
    browser.open(
        page_of(tmp_path, fine, truth_for(tmp_path, video_id="bad/clip #1"), clip(tmp_path, "bare"))
    )
    names = browser.js("[...document.querySelectorAll('.clips .name')].map((n) => n.innerText)")
    assert names == ["bad/clip #1", "fine", "bare"]
    browser.click(".clips li:first-child a")
    browser.until("review.view.clip && review.view.clip.id === 'bad/clip #1'")
    browser.at_rest(1.0)
    browser.press("r")
    browser.js("location.hash = '#clip=%E0%A4%A'")  # no address at all
    browser.until("document.querySelector('.clips') !== null")
    browser.driver.back()
    browser.until("review.index >= 0")
    browser.click("header.top button")  # All clips
    browser.until("document.querySelector('.clips') !== null")
    assert "1 reviewed" in browser.text(".clips li:first-child")
    assert "1 of 9 keyframes reviewed" in browser.text("header.top")


def test_nobody_and_no_keyframes(browser: Browser, tmp_path: Path):
    browser.open(page_of(tmp_path, clip(tmp_path, tracks=())))
    browser.at_rest(1.0)
    assert "nobody" in browser.text("#panel")
    browser.press("r")
    [video] = exported(browser)["videos"]
    assert video == {
        "id": "clip", "keyframes": [1_000_000], "undecided": [0], "people": [], "nobody": []
    }  # fmt: skip
    browser.open(page_of(tmp_path / "none", clip(tmp_path / "none", tracks=(), keyframes_s=())))
    assert "no keyframes" in browser.text("#panel")
    for key in ("r", "n", "l", "j", "1", "\ue014"):
        browser.press(key)
    browser.open(page_of(tmp_path / "empty"))
    assert "There are no clips." in browser.text(".clips")


CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names_of_controls(browser: Browser, tmp_path: Path, scheme: str):
    """WCAG AA: text at 4.5 to 1, and every control has a name."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.open(page_of(tmp_path, truth_for(tmp_path), clip(tmp_path, "other")))
    views = ["", "#clip=clip"]
    for fragment in views:
        browser.js("location.hash = arguments[0]", fragment)
        browser.until("(review.index >= 0) === arguments[0]", bool(fragment))
        for tab in ("keyframe", "errors", "classes") if fragment else ("",):
            if tab:
                browser.click(f"#tab-{tab}")
            assert browser.driver.execute_script(CONTRAST + "return lowContrast();") == []
            assert browser.driver.execute_script(CONTRAST + "return unnamed();") == []
    browser.click("#tab-keyframe")
    browser.press("1", "l")
    assert browser.driver.execute_script(CONTRAST + "return lowContrast();") == []
    browser.js("review.view.pick(null)")
    browser.press("r", "e")
    assert browser.driver.execute_script(CONTRAST + "return lowContrast();") == []


@pytest.mark.parametrize("goes_on", [1.0, 0.7])
def test_a_label_goes_on_below_its_threshold_as_events_do(browser, tmp_path, goes_on):
    """Stand and sit are one of a group; watch is free. Shown is what events say, where it does."""
    times_s = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    scores = [
        [0.50, 0.00, 0.10],  # nothing has begun
        [0.65, 0.00, 0.61],
        [0.45, 0.55, 0.50],  # stand goes on, sit has not begun
        [0.45, 0.62, 0.41],  # the likelier of the group; watch ends below 0.42
        [0.10, 0.43, 0.55],
        [0.00, 0.41, 0.00],
    ]
    moving = ReviewTrack(4, times_s, [LEFT] * 6, scores, [1.0] * 6)
    page = page_of(
        tmp_path,
        clip(tmp_path, tracks=(moving,), keyframes_s=times_s),
        score_threshold=0.6,
        goes_on=goes_on,
    )
    browser.open(page)
    names = "[...labels].map((c) => review.doc.classes[c].name).sort().join('+')"
    shown = browser.js(
        "review.view.clip.times.map((_, k) => review.view.clip.labelsAt(k, new Map(), "
        f"review.view.thresholds).people.map(({{labels}}) => {names}).join())"
    )
    bars = browser.js(
        "Object.fromEntries(review.view.timeline.rows.filter((row) => row.lane).map(({lane}) => "
        "[review.doc.classes[lane.column].name, lane.spans.map(([k]) => k)]))"
    )
    if goes_on == 1:
        assert shown == ["", "stand+watch", "", "sit", "", ""]
        assert bars == {"stand": [1], "watch": [1], "sit": [3]}
    else:
        assert shown == ["", "stand+watch", "stand+watch", "sit", "sit", ""]
        assert bars == {"stand": [1, 2], "watch": [1, 2], "sit": [3, 4]}
