"""Review documents: what is refused, and what the page is given."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest

from detection.review.document import (
    ReviewDocument,
    ReviewTrack,
    ReviewTruth,
    ReviewVideo,
    TruePerson,
)
from detection.review.encoding import encode_document
from detection.review.errors import ERROR_KINDS, UNSURE, find_errors
from detection.review.media import place_playable_video
from detection.review.page import page_pieces, write_review
from detection.structures import LabelMap
from detection.video.writer import VideoWriter

MAP = LabelMap(("stand", "sit", "</script><b>x"), (12, 11, 70))


def track(track_id: int = 4, times_s: tuple[float, ...] = (1.0, 2.0)) -> ReviewTrack:
    n = len(times_s)
    return ReviewTrack(
        track_id,
        np.array(times_s),
        np.tile([0.1, 0.2, 0.5, 0.9], (n, 1)),
        np.tile([0.25, 0.9, 0.001], (n, 1)),
        np.ones(n),
    )


def video(source: str = "videos/a.mp4", **more) -> ReviewVideo:
    given = {"keyframes_s": (1.0, 2.0, 3.5), "tracks": (track(),), "duration_s": 4.0} | more
    return ReviewVideo("a,b", source, 640, 360, **given)


def write_clip(path):
    with VideoWriter(path, width=64, height=48, fps=10) as writer:
        for number in range(5):
            writer.write(np.full((48, 64, 3), 40 * number, np.uint8), number / 10)


def test_what_the_page_is_given():
    person = TruePerson(7, [2.0], [[0.1, 0.2, 0.3, 0.4]], [[True, False, True]])
    clip = video(truth=ReviewTruth((2.0, 3.5), (person,)))
    value, [data] = encode_document(
        ReviewDocument("t", MAP, (clip,), exclusive={"pose": (0, 1)}, class_thresholds={70: 0.5})
    )
    assert value["exclusive"] == [[0, 1]]
    assert value["classThresholds"] == {2: 0.5} and value["videos"][0]["keyframes"] == 3
    assert data["us"] == [1_000_000, 2_000_000, 3_500_000]
    assert list(data["tracks"]) == [
        {
            "id": 4,
            "k": [0, 1],
            "b": [0.1, 0.2, 0.5, 0.9] * 2,
            "s": [[1, 900, 0, 250]] * 2,  # likeliest first; 0.001 is left out
            "p": [1000, 1000],
        }
    ]
    assert data["truth"] == {
        "k": [1, 2],
        "people": [{"id": 7, "k": [1], "b": [0.1, 0.2, 0.3, 0.4], "l": [[0, 2]]}],
    }


def test_nothing_at_all_is_a_page(tmp_path):
    assert ReviewDocument("none", MAP, ()).videos == ()
    empty = ReviewVideo("v", "v.mp4", 1, 1, 0.0)
    path = write_review(tmp_path / "new", ReviewDocument("nobody", MAP, (empty,)))
    assert path == tmp_path / "new" / "review.html" and path.is_file()


def test_edits_outlive_new_predictions_but_not_another_ground_truth():
    def key(**more) -> str:
        return encode_document(ReviewDocument("t", MAP, (video(**more),)))[0]["key"]

    assert key() == key(tracks=(track(5),))
    assert key() != key(truth=ReviewTruth((1.0,)))
    assert key() != key(keyframes_s=(1.0, 2.0))


def test_without_ground_truth_the_least_sure_come_first():
    """Against a plain loop over everything; ties in order of tracks, keyframes, classes."""
    generator = np.random.default_rng(5)
    scores = np.round(generator.random((2, 3, 3)), 1).astype(np.float32)
    times_s = (1.0, 2.0, 3.5)
    tracks = [
        ReviewTrack(number, times_s, [[0, 0, 1, 1]] * 3, of_track, [1.0] * 3)
        for number, of_track in zip((9, 2), scores, strict=True)
    ]
    document = ReviewDocument("t", MAP, (), score_threshold=0.5, class_thresholds={70: 0.2})
    wanted = []
    for one in tracks:
        for k, row in enumerate(one.action_scores):
            for column, score in enumerate(row):
                margin = abs(score - (0.2 if column == 2 else 0.5))
                if margin < 0.15:
                    thousandths = round(1000 * float(score))
                    entry = (k, ERROR_KINDS.index(UNSURE), column, thousandths, one.track_id)
                    wanted.append((margin, entry))
    wanted = [entry for _, entry in sorted(wanted, key=lambda pair: pair[0])]
    place = {round(1e6 * time_s): k for k, time_s in enumerate(times_s)}
    found = find_errors(video(tracks=tracks), document, place)
    assert len(found) >= 4 and found == wanted
    assert find_errors(video(tracks=()), document, place) == []


def scored(*rows, track_id=1, times_s=(1.0, 2.0)):
    n = len(rows)
    return ReviewTrack(track_id, times_s[:n], [[0, 0, 1, 1]] * n, rows, [1.0] * n)


def opening(*videos, labels=MAP, **more):
    document = ReviewDocument("t", labels, videos, **({"score_threshold": 0.5} | more))
    head, _ = encode_document(document)
    assert head["threshold"] == document.score_threshold
    return head["slider"], head["notes"]


def test_the_slider_starts_at_the_threshold_if_any_score_reaches_it():
    assert opening(video(tracks=(scored([0.1, 0.5, 0.0]),))) == (0.5, [])
    assert opening(video(tracks=())) == opening() == (0.5, [])
    by_class = {"class_thresholds": {70: 0.2}}
    assert opening(video(tracks=(scored([0.1, 0.1, 0.2]),)), **by_class) == (0.5, [])


@pytest.mark.parametrize(
    ("best", "slider"), [(0.176, 0.17), (0.17, 0.17), (0.4996, 0.5), (0.01, 0.01)]
)
def test_else_it_starts_where_the_best_score_shows_and_a_line_says_so(best, slider):
    tracks = scored([0.001, 0.001, 0.002]), scored([0, 0, 0], [0, best, 0], track_id=4)
    start, notes = opening(video(tracks=tracks), notes=("One line.", ""))
    assert start == slider <= round(best, 3)
    assert notes[0] == "One line."
    if slider < 0.5:
        assert notes[1:] == [
            f"No score reaches its threshold of 0.50: the slider starts at {slider:.2f}, where the "
            f"best one shows ({best:.2f}, sit; person 4, 2.0 s)."
        ]


def test_the_best_score_is_that_nearest_to_its_own_threshold():
    """Class 70 needs 0.9: 0.6 is further from it than 0.4 from 0.5; moved together, 0.4 shows."""
    tracks = (scored([0.0, 0.4, 0.6]),)
    start, [line] = opening(video(tracks=tracks), class_thresholds={70: 0.9})
    assert start == 0.4 and "0.40, sit" in line
    tracks = (scored([0.0, 0.1, 0.85]),)
    start, [line] = opening(video(tracks=tracks), class_thresholds={70: 0.9})
    assert start == 0.45 and "of 0.90" in line and "0.85" in line


def test_of_several_videos_the_best_is_named_and_nothing_above_nothing_is_said_too():
    other = dataclasses.replace(video(tracks=(scored([0.3, 0, 0]),)), video_id="other")
    start, [line] = opening(video(tracks=(scored([0.2, 0, 0]),)), other)
    assert start == 0.3 and "; other, person 1, 1.0 s" in line
    assert opening(video(tracks=(scored([0, 0.004, 0]),))) == (0.5, ["No score reaches 0.01."])
    long = LabelMap(("stand " * 400, "sit", "b"), (12, 11, 70))
    _, [line] = opening(video(tracks=(scored([0.2, 0, 0]),)), labels=long)
    assert len(line) < 250


def test_labels_are_unsure_about_where_the_slider_starts():
    clip = video(tracks=(scored([0.2, 0.01, 0.0]),))
    document = ReviewDocument("t", MAP, (clip,), score_threshold=0.5)
    place = {1_000_000: 0, 2_000_000: 1, 3_500_000: 2}
    assert (0, ERROR_KINDS.index(UNSURE), 0, 200, 1) in find_errors(clip, document, place)


def test_the_page_has_the_colours_of_annotated_videos():
    from detection.drawing.palette import css_color, track_color

    palette = encode_document(ReviewDocument("t", MAP, ()))[0]["palette"]
    assert palette == [css_color(track_color(number + 1)) for number in range(len(palette))]


def test_texts_cannot_end_the_script_element():
    page = "".join(page_pieces(ReviewDocument("<i>&</title><script>", MAP, (video(),))))
    inside = re.search(r'<script type="application/json" id="review-data">(.*?)</script>', page)
    value = json.loads(inside.group(1))
    assert value["title"] == "<i>&</title><script>"
    assert value["classes"][2]["name"] == "</script><b>x"
    assert "<i>" not in page and "<b>x" not in page


HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "&lt;b&gt;",
    "]]>",
    "a\u2028b\u2029c",
    "</title><script>alert(1)</script>",
    "\"'`${alert(1)}",
    "\x1b]0;title\x07\x9b31m",
]


class _Page(HTMLParser):
    """What a browser would make of a page: its elements, and the texts inside them."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts = [], {}

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        key = attributes.get("id") or tag
        self.texts[key] = self.texts.get(key, "") + data


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_names_are_they_reach_the_page_as_text_alone(text):
    labels = LabelMap(("stand", text, "sit"), (12, 11, 70), ("PERSON_POSE", text, ""))
    clip = video(source=f"videos/{text}.mp4".replace("\\", ""), thumbnail="a/" + text)
    clip = dataclasses.replace(clip, video_id=text)
    document = ReviewDocument(text, labels, (clip,), note=text, notes=(text,))
    page = _Page()
    page.feed("".join(page_pieces(document)))
    plain = _Page()
    plain.feed("".join(page_pieces(ReviewDocument("t", MAP, (video(),)))))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.elements == plain.elements, "the same elements with the same attributes"
    assert page.texts["title"].rstrip("\n") == text
    value = json.loads(page.texts["review-data"])
    assert value["notes"] == [text]
    assert value["title"] == value["note"] == value["videos"][0]["id"] == text
    assert value["classes"][1] == {"id": 11, "name": text, "group": text}
    assert value["videos"][0]["thumbnail"] == "a/" + text
    assert json.loads(page.texts["clip-0"])["us"] == [1_000_000, 2_000_000, 3_500_000]
    raw = "".join(page_pieces(document))
    assert "\u2028" not in raw.split("</head>")[1] and "\u2029" not in raw.split("</head>")[1]


def test_the_pages_script_makes_no_element_from_text():
    """Names reach the page through text nodes, and attributes of fixed names."""
    folder = resources.files("detection.review") / "assets"
    scripts = [entry for entry in folder.iterdir() if entry.name.endswith(".js")]
    assert len(scripts) > 5
    for script in scripts:
        text = script.read_text("utf-8")
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
            r"|createContextualFragment|DOMParser|srcdoc|setTimeout\(['\"`]|javascript:",
            text,
        )
        assert not found, (script.name, found)


@pytest.mark.parametrize(
    "name", ["a b", "a#b?c%20d", "a\\b", "c:d", "x\ny", "-x", "日本", "a'\"<i>"]
)
def test_a_video_beside_a_page_has_a_plain_name_whatever_its_own_is(tmp_path, name):
    source = tmp_path / "from" / f"{name}.mp4"
    source.parent.mkdir()
    write_clip(source)
    place = place_playable_video(source, tmp_path / "page")
    assert re.fullmatch(r"videos/[\w .,+@()-]+\.mp4", place)
    assert (tmp_path / "page" / place).read_bytes() == source.read_bytes()
    video(source=place)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: video(source="/etc/a.mp4"), "relative path"),
        (lambda: video(source="http://x/a.mp4"), "relative path"),
        (lambda: video(source="a\\b.mp4"), "relative path"),
        (lambda: video(keyframes_s=(2.0, 1.0)), "must ascend"),
        (lambda: video(keyframes_s=(1.0,)), "track 4 is at 2.0 s, which is no keyframe"),
        (lambda: video(truth=ReviewTruth((9.0,))), "ground truth is at 9.0 s"),
        (lambda: video(tracks=(track(), track())), "a track id occurs twice"),
        (lambda: ReviewTruth((1.0,), (TruePerson(1, [2.0], [[0, 0, 1, 1]], [[True]]),)), "at 2.0"),
        (lambda: ReviewDocument("t", MAP, (video(), video())), "a video id occurs twice"),
        (lambda: ReviewDocument("t", MAP, (), exclusive={"pose": (3,)}), "not in the label map"),
        (lambda: ReviewDocument("t", MAP, (), exclusive={"a": (1,), "b": (1,)}), "two exclusive"),
        (lambda: ReviewDocument("t", LabelMap(("a",), (1,)), (video(),)), "must have 1 classes"),
        (lambda: ReviewDocument("t", MAP, (), score_threshold=1.5), "from 0 to 1"),
        (lambda: ReviewDocument("t", MAP, (), notes="one line"), "a sequence of lines"),
        (lambda: ReviewTrack(1, [1.0], [[0, 0, np.nan, 1]], [[0.5]], [1]), "finite"),
        (lambda: ReviewTrack(1, [1.0], [[0, 0, 1]], [[0.5]], [1]), "of shape"),
        (lambda: ReviewTrack(1, [1.0], [[0, 0, 1, 1]], [[0.5], [0.5]], [1]), "action_scores"),
    ],
)
def test_what_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
