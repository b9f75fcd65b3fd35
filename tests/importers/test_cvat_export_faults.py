"""Files for CVAT: what they cannot say is refused before the first of them is written."""

import re

import numpy as np
import pytest
from numbered_video import write_numbered

from ava_tools import export_cvat, import_dataset
from detection.errors import UserError
from detection.importers.cvat_export import (
    ActionChoices,
    TrackBox,
    VideoHeader,
    cvat_text,
    is_xml_text,
)
from detection.importers.unlabelled import import_unlabelled


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two videos of different sizes and lengths."""
    folder = tmp_path_factory.mktemp("films")
    write_numbered(folder / "a.mp4", [i / 10 for i in range(40)], fps=10)
    write_numbered(folder / "b.mp4", [i / 10 for i in range(20)], fps=10, width=320, height=240)
    out = folder / "raw"
    assert import_dataset.main(["videos", "--source", str(folder), "--out", str(out)]) == 0
    return out


def export(raw, out, rows, *more):
    table = out.parent / "people.csv"
    table.write_text("".join(f"{row},,0.9\n" for row in rows))
    return export_cvat.main(
        ["--dataset", str(raw), "--split", "all", "--boxes", str(table), "--out", str(out), *more]
    )


WAVE = ("--actions", "wave")
BOX = ".25,.25,.75,.75"


def test_each_video_has_its_own_size(raw, tmp_path):
    assert export(raw, tmp_path / "o", [f"a,1,{BOX}", f"b,1,{BOX}"], *WAVE) == 0
    assert 'xtl="40.00" ytl="24.00"' in (tmp_path / "o/a.xml").read_text()
    assert 'xtl="80.00" ytl="60.00"' in (tmp_path / "o/b.xml").read_text()


@pytest.mark.parametrize(
    "row, message",
    [
        (f"b,3,{BOX}", "'b': 1 boxes at times outside it, the first at 3 s; it shows 0.000 to 1.9"),
        (f"b,77777,{BOX}", "boxes at times outside it"),
        (f"../b,1,{BOX}", "cannot be a video id: it would be a path that leads away"),
        (f"c,1,{BOX}", "c.mp4|video 'c'"),
    ],
)  # fmt: skip
def test_nothing_is_written_where_one_video_is_wrong(raw, tmp_path, row, message):
    """The first video is right; it is not written either."""
    with pytest.raises(UserError, match=message):
        export(raw, tmp_path / "o", [f"a,1,{BOX}", row], *WAVE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["people.csv"]


def test_a_name_that_leads_out_is_refused(raw, tmp_path):
    with pytest.raises(UserError, match=r"people\.csv:1: '\.\./x' cannot be a video id"):
        export(raw, tmp_path / "o", [f"../x,1,{BOX}"], *WAVE)


def test_two_times_in_one_frame_are_said(raw, tmp_path, capsys):
    assert export(raw, tmp_path / "o", [f"a,1.00,{BOX}", f"a,1.02,{BOX}"], *WAVE) == 0
    assert "warning: 1 boxes left out, a person's second at one frame" in capsys.readouterr().out


def test_labels_of_other_actions_are_kept_unless_asked(raw, tmp_path):
    out = tmp_path / "o"
    assert export(raw, out, [f"a,1,{BOX}"], *WAVE) == 0
    assert export(raw, out, [f"b,1,{BOX}"], *WAVE) == 0  # the same labels
    (out / "a.xml").unlink()
    with pytest.raises(UserError, match="labels.json: holds other actions; --overwrite"):
        export(raw, out, [f"a,1,{BOX}"], "--actions", "run")
    assert not (out / "a.xml").exists()
    assert export(raw, out, [f"a,1,{BOX}"], "--actions", "run", "--overwrite") == 0


@pytest.mark.parametrize(
    "more, message",
    [
        (("--actions", "a\x7fb"), r"'a\\x7fb' is an invalid name of an action"),
        (("--actions", "a\x9bb"), "is an invalid name of an action"),
        (("--actions", "a\ufffeb"), "is an invalid name of an action"),
        (("--actions", "a\ud800b"), "is an invalid name of an action"),
        (("--actions", "pose", "--one-of", "pose=sit,lie"), "an action and the name of a group"),
        (("--one-of", "pose=sit,None"), "'None' in group 'pose' means no action"),
        (("--one-of", "pose=sit,-"), "'-' in group 'pose' means no action"),
    ],
)
def test_choices_that_would_be_lost_or_break_the_file(raw, tmp_path, more, message):
    with pytest.raises(UserError, match=message) as caught:
        export(raw, tmp_path / "o", [f"a,1,{BOX}"], *more)
    assert "\n" not in str(caught.value) and not (tmp_path / "o").exists()


def test_an_option_that_is_no_number_ends_with_one_line(raw, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        export(raw, tmp_path / "o", [f"a,1,{BOX}"], *WAVE, "--every", "nan")
    assert caught.value.code == 2 and not (tmp_path / "o").exists()
    said = capsys.readouterr().err
    assert said.startswith("error: argument --every: 'nan'") and said.count("\n") == 1


def test_two_actions_of_one_group_are_not_halved():
    choices = ActionChoices(("wave",), {"pose": ("sit", "lie", "stand")})
    with pytest.raises(
        UserError, match="does 'sit' and 'stand' at once, which exclude each other in group 'pose'"
    ):
        choices.values(("stand", "sit"))
    assert choices.values(("stand", "wave")) == {"pose": "stand", "wave": "true"}


def test_names_of_videos_that_xml_cannot_hold():
    choices = ActionChoices(("wave",))
    track = [[TrackBox(0, np.array([0, 0, 1, 1.0]))]]
    for name in ("a\x1b", "a\x00", "a\ud800", "a\nb"):
        assert not is_xml_text(name)
        with pytest.raises(UserError, match="the video's name is invalid in XML"):
            cvat_text(VideoHeader(name, "a.mp4", 9, (4, 4)), track, choices, 1)
        with pytest.raises(UserError, match="the video's name is invalid in XML"):
            cvat_text(VideoHeader("a", name, 9, (4, 4)), track, choices, 1)
    text, count = cvat_text(VideoHeader("é & <漢字> 🎬", "a.mp4", 9, (4, 4)), track, choices, 1)
    assert count == 1 and "é &amp; &lt;漢字&gt; 🎬" in text


def test_of_two_times_in_one_frame_the_first_is_kept(raw, tmp_path):
    rows = [f"a,1.00,{BOX}", "a,1.02,.26,.25,.75,.75"]
    assert export(raw, tmp_path / "o", rows, *WAVE) == 0
    text = (tmp_path / "o/a.xml").read_text()
    assert 'xtl="40.00"' in text and 'xtl="41.60"' not in text


def people_of(path):
    """Return the frames at which each person of a file is there."""
    tracks = re.findall(r"<track.*?</track>", path.read_text(), re.S)
    return [
        [int(n) for n, gone in re.findall(r'<box frame="(\d+)" outside="(\d)"', t) if gone == "0"]
        for t in tracks
    ]


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A data set of one video: 12 s, 2 frames a second."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "videos").mkdir()
    write_numbered(folder / "videos" / "s.mp4", [i / 2 for i in range(24)], fps=2)
    import_unlabelled(folder / "videos", folder / "data")
    return folder / "data"


def export_scored(slow, tmp_path, scores, *more):
    """Export a person who stands still, found with a score at each time of `scores`."""
    table = tmp_path / "people.csv"
    table.write_text("".join(f"s,{time},{BOX},,{score}\n" for time, score in scores.items()))
    common = ["--dataset", str(slow), "--split", "all", "--boxes", str(table), *WAVE]
    out = ["--out", str(tmp_path / "o"), "--overwrite", "--keep-iou", "1.1"]
    assert export_cvat.main([*common, *out, *more]) == 0
    return people_of(tmp_path / "o" / "s.xml")


def test_a_person_goes_on_at_lower_scores_than_one_begins(slow, tmp_path):
    """From --min-score on a person begins, from six tenths of it on one goes on."""
    scores = {0: 0.29, 1: 0.51, 2: 0.31, 3: 0.31, 4: 0.51, 5: 0.29}
    assert export_scored(slow, tmp_path, scores) == [[2, 4, 6, 8]]


@pytest.mark.parametrize(("every", "people"), [("1", 2), ("4", 1)])
def test_a_person_may_be_missed_for_two_keyframes(slow, tmp_path, every, people):
    """A gap of 5 s: two people where keyframes are 1 s apart, one where they are 4 s apart."""
    found = export_scored(slow, tmp_path, {1: 0.9, 6: 0.9}, "--every", every)
    assert len(found) == people


def test_the_shortest_people_are_those_of_min_length(slow, tmp_path):
    scores = {1: 0.9, 2: 0.9}
    assert len(export_scored(slow, tmp_path, scores, "--min-length", "2")) == 1
