"""Which videos several arguments name, and the folders of their results."""

from __future__ import annotations

import json

import pytest

from detection.errors import UserError
from detection.pipeline.video_folders import find_videos, name_folders


def held(folder, named):
    folder.mkdir(parents=True)
    state = {"format": 2, "options": {}, "inputs": {"video": {"named": named, "content": {}}}}
    (folder / "run.json").write_text(json.dumps(state))


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"a.mp4": "a", "B.MOV": "B", "sub/a.mp4": "sub/a", "walk.v2.mp4": "walk.v2"},
        {"a.mp4": "a.mp4", "a.mkv": "a.mkv", "sub/a.mp4": "sub/a"},  # two of one stem
        {"a.mp4": "a.mp4", "A.mkv": "A.mkv"},  # one folder where case does not count
        {"sub.mp4": "sub.mp4", "sub/a.mp4": "sub/a"},  # a folder is called so
        {"x/y.mp4": "x/y.mp4", "x/y/z/a.mp4": "x/y/z/a"},
        {"a.mp4.mkv": "a.mp4.mkv", "a.mp4": "a"},  # another video is called so
        {"...mp4": "...mp4", "..mp4": "..mp4", "sub/...mp4": "sub/...mp4"},  # leads up
        {".lock.mp4": ".lock.mp4", "index.mp4": "index"},
        {"index.html.mp4": "index.html.mp4", "Events.CSV.mp4": "Events.CSV.mp4"},
        {"keyframes.parquet.mp4": "keyframes.parquet.mp4", "Failed.CSV.mp4": "Failed.CSV.mp4"},
        {"sub/index.html.mp4": "sub/index.html"},  # the index is not there
        {'it\'s <b> "é\u4e16".mp4': 'it\'s <b> "é\u4e16"', "#?%.mkv": "#?%"},
    ],
)
def test_folders_have_no_suffix_where_that_is_unambiguous(tmp_path, names):
    assert name_folders(tmp_path, list(names)) == names
    folded = {folder.casefold() for folder in names.values()}
    assert len(folded) == len(names)
    for name, folder in names.items():
        held(tmp_path / folder, f"/films/{name}")
    assert name_folders(tmp_path, list(names)) == names, "a second run finds the same"


def test_results_that_are_there_are_used_on(tmp_path):
    held(tmp_path / "a.mp4", "films/a.mp4")  # of the version that kept the suffix
    (tmp_path / "old.mp4").mkdir()
    (tmp_path / "old.mp4" / "run.json").write_text('{"format": 1, "options": {}}')
    held(tmp_path / "b", "films/b.mp4")  # made when it was alone
    names = ["a.mp4", "old.mp4", "b.mp4", "b.mkv"]
    wanted = {"a.mp4": "a.mp4", "old.mp4": "old.mp4", "b.mp4": "b", "b.mkv": "b.mkv"}
    assert name_folders(tmp_path, names) == wanted


def test_folders_of_something_else_are_not_taken(tmp_path):
    held(tmp_path / "a", "films/a.mov")  # whose video has gone since
    touch(tmp_path, "b/thesis.tex", "c")
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "run.json").write_text("[]")
    held(tmp_path / "f.mp4", "films/f.mp4.mkv")
    names = ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4", "f.mp4.mkv"]
    assert name_folders(tmp_path, names) == {
        "a.mp4": "a.mp4", "b.mp4": "b.mp4", "c.mp4": "c.mp4", "d.mp4": "d", "e.mp4": "e.mp4",
        "f.mp4": "f", "f.mp4.mkv": "f.mp4",
    }  # fmt: skip


def test_folders_at_an_address_go_by_names_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a", "b/c")
    names = {"a.mp4": "a", "b/c.mp4": "b/c", "b.mp4": "b.mp4"}
    assert name_folders(None, list(names)) == names


def test_files_and_folders_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.mp4", "films/a.mp4", "films/sub/b.mkv", "films/notes.txt")
    found = find_videos(["films", "a.mp4"], tmp_path / "out")
    assert [(v.name, v.source, v.folder.relative_to(tmp_path).as_posix()) for v in found] == [
        ("a.mp4", "a.mp4", "out/a"),
        ("films/a.mp4", "films/a.mp4", "out/films/a"),
        ("films/sub/b.mkv", "films/sub/b.mkv", "out/films/sub/b"),
    ]
    alone = find_videos(["films"], tmp_path / "out")
    assert [v.name for v in alone] == ["a.mp4", "sub/b.mkv"]
    (one,) = find_videos(["a.mp4"], tmp_path / "out")
    assert one.folder == tmp_path / "out", "one video has the folder to itself"
    assert find_videos(["0"], tmp_path / "out")[0].source == "0"
    assert [v.name for v in find_videos(["a.mp4", "./a.mp4"], tmp_path)] == ["a.mp4"]


@pytest.mark.parametrize(
    "sources, words",
    [
        (["none.mp4"], "none.mp4: video file or folder not found"),
        (["films", "none.mp4"], "none.mp4: video file or folder not found"),
        (["films", "0"], "0: a camera, an address or standard input is run alone"),
        (["-", "films"], "-: a camera"),
        (["films", "rtsp://host/door"], "is run alone"),
        (["films/a.mp4", "films/sub/a.mp4"], "films/sub/a.mp4 have one name"),
        (["empty"], "empty: contains no video"),
        (["films", "empty"], "empty: contains no video"),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path, monkeypatch, sources, words):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "films/a.mp4", "films/sub/a.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=words) as caught:
        find_videos(sources, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("out", ["films/found", "films", "."])
def test_results_among_the_videos_are_no_videos(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "films/a.mp4", "films/sub/b.mp4")
    for folder, name in (("a", "a.mp4"), ("sub/b", "sub/b.mp4")):
        place = "films" if out == "." else out
        held(tmp_path / place / folder, f"films/{name}")
        touch(tmp_path / place / folder, "annotated.mp4", "videos/video.mp4")
    if out == ".":
        found = find_videos(["films"], tmp_path)
        assert [v.name for v in found] == ["a.mp4", "sub/b.mp4"]
        return
    found = find_videos(["films"], tmp_path / out)
    assert [v.name for v in found] == ["a.mp4", "sub/b.mp4"]
