"""Several videos end with one page and joined tables, whoever runs them and however often."""

from __future__ import annotations

import csv
import json
import threading
from html.parser import HTMLParser
from itertools import count
from urllib.parse import unquote

import pytest
from tiny_pipeline import save_tiny_run, use_squares, write_squares

from detection.errors import UserError
from detection.pipeline.folder_index import IndexRow, index_page, write_index
from detection.pipeline.video_folders import VideoFolder, find_videos
from detection.unfinished import hold, let_go
from detection.video.reader import VideoReader

ODD = 'it\'s <img src=x onerror=alert(1)> "é 世" #1?.mp4'
FILES = ("index.html", "index.json", "events.csv", "events.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    save_tiny_run(folder / "run")
    write_squares(folder / "walk.mp4", seconds=3)
    return folder


@pytest.fixture
def films(tmp_path, place):
    """Four videos: two of one stem, one of an odd name, one in a folder; and one that is none."""
    films = tmp_path / "films"
    (films / "sub").mkdir(parents=True)
    for name in ("a.mp4", "a.mov", ODD, "sub/b.mp4"):
        (films / name).write_bytes((place / "walk.mp4").read_bytes())
    (films / "c.mkv").write_text("no film")
    return films


@pytest.fixture
def command(place, monkeypatch):
    """Run the command on videos; returns its exit code."""
    from ava_tools import detect_actions

    use_squares(monkeypatch)

    def run(*arguments, rank=0, processes=1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        given = ["--checkpoint", str(place / "run"), "--people", "coco", "--quiet"]
        blue = ["--threshold", "0.3", "--threshold", "be red=1"]
        return detect_actions.main([*map(str, arguments), *given, *blue])

    return run


class Page(HTMLParser):
    """What a browser would see: links, pictures, elements, text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.pictures, self.tags, self.words = [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert not any(name.startswith("on") for name in values)
        self.tags.append(tag)
        self.links += [values["href"]] if tag == "a" else []
        self.pictures += [values["src"]] if tag == "img" else []

    def handle_data(self, data):
        self.words += data


def entries(root):
    return {e["video"]: e for e in json.loads((root / "index.json").read_text())["videos"]}


def test_one_detection_is_no_plural_and_pictures_load_as_they_are_seen():
    files = frozenset({"thumbnail.jpg"})
    row = IndexRow("a.mp4", "a", "done", summary={"people": 1, "persons": 1}, files=files)
    page = index_page("found", [row])
    assert "1 detection<" in page and '<img alt="" loading="lazy" src="./a/thumbnail.jpg">' in page


def test_a_folder_ends_with_a_page_and_joined_events(films, tmp_path, command, capsys):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="1 of 5 videos failed; the others are done"):
        command(films, "--out", out)
    said = capsys.readouterr().err
    assert f"5 videos, 16 events, 1 failed -> {out}/index.html" in said
    assert "[1/5] " in said and "[5/5] " in said
    found = entries(out)
    folders = {name: entry["folder"] for name, entry in found.items()}
    assert folders == {
        "a.mov": "a.mov", "a.mp4": "a.mp4", "c.mkv": "c", ODD: ODD[:-4], "sub/b.mp4": "sub/b",
    }  # fmt: skip
    assert found["c.mkv"]["state"] == "failed" and "not a video" in found["c.mkv"]["error"]
    assert found["a.mp4"]["summary"]["persons"] == 2 and found["a.mp4"]["events"] == 4

    page = Page(out / "index.html")
    assert "script" not in page.tags and page.tags.count("tr") == 1 + 5
    assert len(page.pictures) == 4 and len(page.links) == 2 + 4 * 6
    for address in page.links + page.pictures:
        assert "://" not in address and (out / unquote(address)).is_file(), address
    for words in (ODD, "be <b>blue</b> ×", "3.0 s", "failed: ", "12 detections", "1 failed"):
        assert words in page.words, words

    rows = list(csv.DictReader((out / "events.csv").open(encoding="utf-8")))
    lines = [json.loads(line) for line in (out / "events.jsonl").open(encoding="utf-8")]
    assert [{k: str(v) for k, v in line.items()} for line in lines] == rows and len(rows) == 16
    keys = [(r["video"], float(r["start_s"]), int(r["track"]), int(r["action_id"])) for r in rows]
    assert keys == sorted(keys) and {key[0] for key in keys} == set(found) - {"c.mkv"}
    own = [json.loads(line) for line in (out / "sub/b/events.jsonl").open(encoding="utf-8")]
    of_b = [{**line, "video": "b"} for line in lines if line["video"] == "sub/b.mp4"]
    assert sorted(map(str, of_b)) == sorted(map(str, own)) and own


def test_every_process_writes_what_is_there_and_the_last_has_all(films, tmp_path, command):
    one, many = tmp_path / "one", tmp_path / "many"
    options = "--no-film", "--no-page"
    with pytest.raises(UserError):
        command(films, "--out", one, *options)
    with pytest.raises(UserError, match="1 of 3 videos failed"):
        command(films, "--out", many, *options, rank=0, processes=2)  # the failed one is its own
    states = {name: entry["state"] for name, entry in entries(many).items()}
    assert states == {
        "a.mov": "done", "a.mp4": "waiting", "c.mkv": "failed", ODD: "waiting", "sub/b.mp4": "done",
    }  # fmt: skip
    assert "2 not begun" in Page(many / "index.html").words
    assert command(films, "--out", many, *options, rank=1, processes=2) == 0
    for name in ("index.json", "events.csv", "events.jsonl"):
        assert (one / name).read_bytes() == (many / name).read_bytes(), name
    pages = [Page(folder / "index.html").words.split("events.csv")[1] for folder in (one, many)]
    assert pages[0] == pages[1]


def test_what_was_stopped_is_called_unfinished_and_a_second_run_ends_it(
    films, tmp_path, command, monkeypatch
):
    from contextlib import contextmanager

    (films / "c.mkv").unlink()
    out = tmp_path / "out"

    @contextmanager
    def stop_soon():
        asked = count()
        yield lambda: next(asked) > 45

    options = ["--out", out, "--no-film", "--no-page", "--every", "0.1", "--batch-size", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("detection.signals.stop_signals", stop_soon)
        assert command(films, *options) == 75
    states = [entry["state"] for entry in entries(out).values()]
    assert "unfinished" in states and states[-1] == "waiting"
    assert "not finished (until " in Page(out / "index.html").words
    pictures = {path.parent.name for path in out.rglob("thumbnail.jpg")}
    done = {name for name, entry in entries(out).items() if entry["state"] == "done"}
    assert len(pictures) == len(done), "what is unfinished may come to another first event"
    joined = {row["video"] for row in csv.DictReader((out / "events.csv").open(encoding="utf-8"))}
    assert joined == done
    assert command(films, *options) == 0
    assert {entry["state"] for entry in entries(out).values()} == {"done"}
    assert command(films, "--out", tmp_path / "whole", *options[2:]) == 0
    for name in ("index.json", "events.csv", "events.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_rows_stay_while_their_results_do(films, tmp_path, command, place):
    """A second command into the same folder, a video that is mended, one that is gone."""
    out = tmp_path / "out"
    options = "--out", out, "--no-film", "--no-page"
    with pytest.raises(UserError):
        command(films, *options)
    (films / "c.mkv").write_bytes((place / "walk.mp4").read_bytes())
    (films / "a.mov").unlink()  # its results stay
    assert command(films, *options) == 0
    assert {e["state"] for e in entries(out).values()} == {"done"} and len(entries(out)) == 5
    (films / "c.mkv").write_text("no film")
    (films / "d.mkv").write_text("no film")
    with pytest.raises(UserError, match="2 of 5 videos failed"):
        command(films, *options)
    (films / "d.mkv").unlink()
    (films / "c.mkv").unlink()
    other = tmp_path / "other.mp4"
    other.write_bytes((place / "walk.mp4").read_bytes())
    assert command(films, other, *options) == 0
    named = {f"films/{name}" for name in ("a.mp4", ODD, "sub/b.mp4")}
    # Of `films` alone the names were others; its row for a.mov has results and no newer name.
    assert set(entries(out)) >= {"a.mov", "other.mp4", *named}
    assert "d.mkv" not in entries(out), "it failed, and is gone"


def test_one_bad_video_of_a_folder_is_named_and_listed(tmp_path, command, capsys):
    films = tmp_path / "films"
    films.mkdir()
    (films / "c.mkv").write_text("no film")
    with pytest.raises(UserError, match="1 of 1 videos failed"):
        command(films, "--out", tmp_path / "out")
    assert "c.mkv: not a video" in capsys.readouterr().err
    assert entries(tmp_path / "out")["c.mkv"]["state"] == "failed"
    header = "video,track,action,action_id,start_s,end_s,peak_score\n"
    assert (tmp_path / "out" / "events.csv").read_text() == header
    assert (tmp_path / "out" / "events.jsonl").read_text() == ""


@pytest.mark.parametrize("name", [*FILES, "run.json"])
def test_files_of_something_else_are_not_replaced(films, tmp_path, command, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    words = "holds the results of one video" if name == "run.json" else "not of this command"
    with pytest.raises(UserError, match=words):
        command(films, "--out", out)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "mine"


def test_other_files_beside_are_left_alone(films, tmp_path, command):
    out = tmp_path / "out"
    (out / "a.mp4").mkdir(parents=True)
    (out / "a.mp4" / "thesis.tex").write_text("mine")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="2 of 5 videos failed"):
        command(films, "--out", out, "--no-film", "--no-page")
    assert "contains other files" in entries(out)["a.mp4"]["error"]
    assert (out / "a.mp4" / "thesis.tex").read_text() == (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("folder", ["../secret", "/tmp", "a/../../secret", "", ".", "a\\..\\b"])
def test_entries_that_lead_out_of_the_folder_are_dropped(tmp_path, folder):
    out = tmp_path / "out"
    write_index(out, [], {})
    finished(tmp_path / "secret", events=1)
    entry = {"video": "x.mp4", "folder": folder, "error": None}
    (out / "index.json").write_text(json.dumps({"format": 1, "videos": [entry, 3, {}, [entry]]}))
    assert write_index(out, [], {}) == []
    assert "secret" not in (out / "index.html").read_text()


def finished(folder, *, events, summary=None):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"complete": true}')
    values = {"track": 1, "action": "wave", "action_id": 3, "start_s": 0, "end_s": 1.5}
    line = json.dumps({"video": "x", **values, "peak_score": 0.5}) + "\n"
    (folder / "events.jsonl").write_text(line * events)
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def test_joined_events_are_by_video_start_track_and_class(tmp_path):
    keys = [("a.mp4", 0, 1, 3), ("a.mp4", 0, 1, 7), ("a.mp4", 0, 2, 3), ("a.mp4", 2, 1, 3)]
    keys += [("b.mp4", 0, 9, 9)]
    for name in "ba":
        finished(tmp_path / name, events=0)
        with (tmp_path / name / "events.jsonl").open("w") as file:
            # As a run writes them: in the order of their ends, here the latest start first.
            for video, start_s, track, action_id in reversed(keys):
                values = {"track": track, "action": "x", "action_id": action_id, "peak_score": 1}
                event = {"video": name, **values, "start_s": start_s, "end_s": 9 - start_s}
                file.write(json.dumps(event) + "\n" if video == f"{name}.mp4" else "")
    videos = [VideoFolder(f"{name}.mp4", "none", tmp_path / name) for name in "ba"]
    write_index(tmp_path, videos, {})
    rows = csv.DictReader((tmp_path / "events.csv").open())
    read = [(r["video"], float(r["start_s"]), int(r["track"]), int(r["action_id"])) for r in rows]
    assert read == keys


def test_results_of_a_version_without_a_summary_have_a_row(tmp_path):
    finished(tmp_path / "a", events=2)
    video = VideoFolder("a.mp4", str(tmp_path / "gone.mp4"), tmp_path / "a")
    (row,) = write_index(tmp_path, [video], {"a.mp4": None})
    assert (row.state, len(row.events), row.number("length_s")) == ("done", 2, None)
    assert "wave ×2" in Page(tmp_path / "index.html").words


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"track": 1}', "[" * 9999, '{"track": "x"}'])
def test_damaged_events_are_named_and_joined_nowhere(tmp_path, line):
    finished(tmp_path / "a", events=1)
    finished(tmp_path / "b", events=1)
    with (tmp_path / "a" / "events.jsonl").open("a") as file:
        file.write(line + "\n")
    videos = [VideoFolder(f"{n}.mp4", "none", tmp_path / n) for n in "ab"]
    rows = write_index(tmp_path, videos, {})
    assert [row.state for row in rows] == ["failed", "done"]
    assert "events.jsonl:2: " in rows[0].error
    assert (tmp_path / "events.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize(
    "summary",
    [
        {"length_s": "<b>", "people": True, "persons": None, "best": "<b>"},
        {"length_s": float("nan"), "people": 1e300, "best": {"action": "<b>", "score": "<i>"}},
        {"best": {"action": "<b>", "score": 0.9999, "time_s": 3}, "length_s": -1},
        {"best": None, "end_s": []},
        {"best": {"action": "<b>", "score": float("inf"), "time_s": 3}},
    ],
)
def test_a_summary_of_anything_makes_a_page_of_text(tmp_path, summary):
    finished(tmp_path / "a", events=0, summary=summary)
    write_index(tmp_path, [VideoFolder("a.mp4", "none", tmp_path / "a")], {"a.mp4": None})
    page = Page(tmp_path / "index.html")
    assert "i" not in page.tags and page.tags.count("b") == 1, "the video's name alone is bold"
    if summary.get("length_s") == -1:
        assert "nothing reached its threshold; highest: <b> 0.99 at 3.0 s" in page.words


def test_a_page_of_nothing_is_whole():
    page = index_page("<none>", [])
    assert "&lt;none&gt;" in page and "0 videos, 0 events" in page and page.endswith("</html>\n")
    row = IndexRow("a\x1b\udcff.mp4", "a\udcff", "failed", "bad\n\x1b[1m")
    page = index_page("x", [row])
    assert page.encode() and "\x1b" not in page


def test_one_process_writes_at_a_time(tmp_path):
    finished(tmp_path / "a", events=1)
    handle = hold(tmp_path)
    videos = [VideoFolder("a.mp4", "none", tmp_path / "a")]
    writer = threading.Thread(target=write_index, args=(tmp_path, videos, {}))
    writer.start()
    writer.join(0.3)
    assert writer.is_alive() and not (tmp_path / "index.json").exists()
    let_go(handle)
    writer.join(20)
    assert (tmp_path / "index.html").is_file()


def test_a_killed_writer_leaves_each_file_as_it_was(tmp_path, monkeypatch):
    finished(tmp_path / "a", events=1)
    videos = [VideoFolder("a.mp4", "none", tmp_path / "a")]
    write_index(tmp_path, videos, {})
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    finished(tmp_path / "b", events=3)
    videos.append(VideoFolder("b.mp4", "none", tmp_path / "b"))
    written = count()

    def killed(event):
        if next(written) == 2:
            raise KeyboardInterrupt
        return "{}\n"

    monkeypatch.setattr("detection.pipeline.folder_index.event_line", killed)
    with pytest.raises(KeyboardInterrupt):
        write_index(tmp_path, videos, {})
    for name in FILES[2:]:
        assert (tmp_path / name).read_bytes() == before[name]
    monkeypatch.undo()
    assert len(write_index(tmp_path, videos, {})) == 2
    assert (tmp_path / "events.csv").read_text().count("\n") == 5
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "a", "b"}


def test_the_picture_is_of_the_first_event(tmp_path, place, command):
    films = tmp_path / "films"
    films.mkdir()
    write_squares(films / "late.mp4", seconds=6, empty=(0, 4))
    assert command(films, "--out", tmp_path / "out") == 0
    with VideoReader(films / "late.mp4") as reader:
        shown = reader.read([5.0]).frames[0]
    assert shown[0].float().mean() > 0
    import cv2

    picture = cv2.imread(str(tmp_path / "out" / "late" / "thumbnail.jpg"))
    assert picture.shape[0] == 144
    blue, _, red = picture[88:124, 126:154].reshape(-1, 3).T.astype(int)
    assert ((blue - red) > 100).mean() > 0.3, "the blue square, which comes at 4 s"
    again = find_videos([str(films)], tmp_path / "out")
    assert [video.name for video in again] == ["late.mp4"]
