"""Which videos files, folders, lists and addresses name; what is wrong with them, row by row."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from detection.archive.run import find_archive
from detection.archive.sources import ArchiveVideo, read_sources
from detection.errors import UserError
from detection.transfer import places


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "v/a.mp4", "v/sub/b.MKV", "v/notes.md", "c.mp4")
    return tmp_path


@pytest.fixture
def bucket():
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").store.clear()
    for name in ("v/a.mp4", "v/sub/b.mkv", "v/notes.md", "out/x/videos/video.mp4"):
        places.write_bytes(f"memory://bucket/{name}", b"x")
    return "memory://bucket"


def named(*sources, root="out"):
    return [(video.name, video.source) for video in read_sources(sources, root)]


def test_files_and_folders_are_named_as_one_by_one():
    assert named("v") == [("a.mp4", "v/a.mp4"), ("sub/b.MKV", "v/sub/b.MKV")]
    assert named("v", "c.mp4") == [
        ("c.mp4", "c.mp4"), ("v/a.mp4", "v/a.mp4"), ("v/sub/b.MKV", "v/sub/b.MKV"),
    ]  # fmt: skip
    assert named("v/a.mp4", "./v/a.mp4") == [("a.mp4", "v/a.mp4")]
    Path("other").symlink_to("v")
    assert named("v/a.mp4", "other/a.mp4") == [("a.mp4", "v/a.mp4")], "one file"
    (video,) = read_sources(["c.mp4"], "out")
    assert video == ArchiveVideo("c.mp4", "c.mp4")
    with pytest.raises(dataclasses.FrozenInstanceError):
        video.name = "x"


def test_results_are_no_videos(here):
    touch(here, "v/out/a/annotated.mp4", "v/out/a/run.json")
    (here / "v" / "link.mp4").symlink_to(here / "v" / "out" / "a" / "annotated.mp4")
    (here / "v" / "linked.mp4").symlink_to(here / "c.mp4")
    assert [name for name, _ in named("v", root="v/out")] == ["a.mp4", "linked.mp4", "sub/b.MKV"]


def test_a_text_list(here):
    absolute = here / "c.mp4"
    (here / "v" / "list.txt").write_text(
        f"\ufeff# of march\r\n\r\n  ./sub/b.MKV \r\na.mp4\n{absolute}\n  #a.mp4\nfile://{here}/v/d.mp4"
    )
    touch(here, "v/d.mp4", "up.mp4")
    assert named("v/list.txt") == [
        ("a.mp4", "v/a.mp4"), ("c.mp4", str(absolute)), ("d.mp4", f"{here}/v/d.mp4"),
        ("sub/b.MKV", "v/sub/b.MKV"),
    ]  # fmt: skip
    (here / "v" / "up.TXT").write_text("../up.mp4\nhttps://h/a/x%20y.mp4?sign=1#z\ns3://b/k/z.mp4")
    assert named("v/up.TXT") == [
        ("up.mp4", "up.mp4"), ("x y.mp4", "https://h/a/x%20y.mp4?sign=1#z"),
        ("z.mp4", "s3://b/k/z.mp4"),
    ]  # fmt: skip
    assert named("v/up.TXT", "up.mp4")[0] == ("up.mp4", "up.mp4")


def test_a_table(here):
    (here / "list.csv").write_text(
        'size, Path ,name\n1,v/a.mp4,\n\n,,\n2,"v/sub/b.MKV",day 1/b.mkv\n3,s3://u:p@b/x,x.mp4\n'
    )
    assert named("list.csv") == [
        ("day 1/b.mkv", "v/sub/b.MKV"), ("v/a.mp4", "v/a.mp4"), ("x.mp4", "s3://u:p@b/x"),
    ]  # fmt: skip
    (here / "one.csv").write_text("video\nc.mp4\n")
    assert named("one.csv") == [("c.mp4", "c.mp4")]


def test_remote_files_folders_and_lists(here, bucket):
    assert named(f"{bucket}/v/") == named(f"{bucket}/v") == [
        ("a.mp4", f"{bucket}/v/a.mp4"), ("sub/b.mkv", f"{bucket}/v/sub/b.mkv"),
    ]  # fmt: skip
    assert named(f"{bucket}/v", "c.mp4") == [
        ("c.mp4", "c.mp4"), ("v/a.mp4", f"{bucket}/v/a.mp4"),
        ("v/sub/b.mkv", f"{bucket}/v/sub/b.mkv"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="given twice, as v/a.mp4 and as a.mp4"):
        named(f"{bucket}/v", f"{bucket}/v/a.mp4")
    names = [name for name, _ in named(bucket, root=f"{bucket}/out")]
    assert names == ["v/a.mp4", "v/sub/b.mkv"]
    places.write_bytes(f"{bucket}/list.csv", f"video,name\nv/a.mp4,\n{here}/c.mp4,x/c\n".encode())
    assert named(f"{bucket}/list.csv") == [
        ("v/a.mp4", f"{bucket}/v/a.mp4"), ("x/c", f"{here}/c.mp4"),
    ]  # fmt: skip


LISTS = [
    ("l.txt", "v/a.mp4\n\n./v/a.mp4", r"l.txt:3: ./v/a.mp4 is in l.txt:1 already"),
    ("l.txt", "a.mp4\n" * 3, r"l.txt:2: a.mp4 is in l.txt:1 already; l.txt:3: a.mp4 is in l.txt:1"),
    ("l.txt", "s3://b/1/x\ns3://b/2/x", r"l.txt:2: s3://b/2/x and s3://b/1/x \(l.txt:1\) have one"),
    ("l.csv", "path,name\nc.mp4,x\nv/a.mp4,x", r"l.csv:3: v/a.mp4 and c.mp4 \(l.csv:2\) have"),
    ("l.txt", "x\n/y/z\nc.mp4\nw\nv", "^l.txt: 4 of 5 videos not found: l.txt:1: x; l.txt:2: /y/z; "
        "l.txt:4: w; and 1 more$"),
    ("l.txt", "", "^l.txt: names no video$"),
    ("l.txt", "# c.mp4\n \n", "^l.txt: names no video$"),
    ("l.csv", "", "^l.csv:1: columns none; one column 'video' or 'path' is required"),
    ("l.csv", "video;name\nc.mp4;x\n", "^l.csv:1: columns video;name; one column"),
    ("l.csv", "video,path\n", "^l.csv:1: columns video, path; one column"),
    ("l.csv", "video,name,name\n", "^l.csv:1: columns video, name, name; one column"),
    ("l.csv", "video\n", "^l.csv: names no video$"),
    ("l.csv", "video,name\nc.mp4\n", "^l.csv:2: 1 columns, 2 are required$"),
    ("l.csv", 'video\n\n"c.mp4', "^l.csv:3: not a row of comma-separated values"),
    ("l.csv", "video,name\n,x\n", "^l.csv:2: a path or an address of a video is required$"),
    ("l.csv", "video,name\nc.mp4,../x\n", "^l.csv:2: '../x' leads out of the folder"),
    ("l.csv", "video,name\nc.mp4,/x\n", "^l.csv:2: '/x' leads out of the folder"),
    ("l.csv", "video,name\nc.mp4,a//x\n", "^l.csv:2: 'a//x' leads out of the folder"),
    ("l.csv", "video,name\nc.mp4,C:x\n", "^l.csv:2: 'C:x' leads out of the folder"),
    ("l.csv", "video,name\nc.mp4,a\x1b[1m\n", "^l.csv:2: .* is not a valid name of a video$"),
    ("l.txt", "0\n-\nrtsp://u:p@h/door", r"^l.txt:1: 0: a camera.*; l.txt:2: -: a camera.*; "
        r"l.txt:3: rtsp://h/door: a camera"),
    ("l.txt", "https://h/live.m3u8?k=1", r"^l.txt:1: https://h/live.m3u8\?...: a camera"),
    ("l.txt", "a\0b", "^l.txt:1: a NUL byte"),
    ("l.txt", "v", "^l.txt: 1 of 1 videos not found: l.txt:1: v$"),
    ("l.txt", "x" * 5000, "^l.txt: 1 of 1 videos not found"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "words"), LISTS)
def test_bad_lists_are_one_line_with_file_and_row(here, name, text, words):
    (here / name).write_text(text)
    with pytest.raises(UserError, match=words) as told:
        read_sources([name], "out")
    assert "\n" not in str(told.value) and "u:p@" not in str(told.value)


def test_bad_sources_are_one_line(here, bucket):
    (here / "empty").mkdir()
    (here / "latin.txt").write_bytes(b"c.mp4\n\xe9.mp4")
    places.write_bytes(f"{bucket}/latin.txt", b"\xe9")
    places.write_bytes(f"{bucket}/odd/a//b.mp4", b"")
    for source, words in (
        ("empty", "^empty: contains no video"),
        ("none", "^none: video file or folder not found$"),
        ("none.txt", "^none.txt: video file or folder not found$"),
        ("latin.txt", "^latin.txt:2: not UTF-8 text"),
        ("0", "^0: a camera, a stream"),
        ("-", "^-: a camera, a stream"),
        ("rtsp://me:secret@h/door", "^rtsp://h/door: a camera, a stream"),
        (f"{bucket}/none", f"^{bucket}/none: not found$"),
        (f"{bucket}/none.csv", f"^{bucket}/none.csv: not found$"),
        (f"{bucket}/latin.txt", f"^{bucket}/latin.txt: not UTF-8 text$"),
        (f"{bucket}/odd", "leads out of the folder of videos"),
        (f"{bucket}/v/notes.md", "notes.md: a file, a folder is required$"),
    ):
        with pytest.raises(UserError, match=words):
            read_sources([source], "out")
    with pytest.raises(UserError, match=r"^v/a.mp4: v/a.mp4 and w/a.mp4 \(w/a.mp4\) have one name"):
        touch(here, "w/a.mp4")
        read_sources(["w/a.mp4", "v/a.mp4"], "out")
    assert read_sources([], "out") == []


def test_a_file_called_as_a_number_is_a_file(here):
    touch(here, "7/a.mp4")
    assert named("7") == [("a.mp4", "7/a.mp4")]


@pytest.mark.parametrize(
    "name", ["keyframes.parquet/x.mp4", ".spans", "Failed.csv", "events.csv/a"]
)
def test_names_of_the_results_own_files_are_refused(tmp_path, name):
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "list.csv").write_text(f"video,name\na.mp4,{name}\n")
    with pytest.raises(UserError, match="results have files of their own"):
        find_archive([str(tmp_path / "list.csv")], str(tmp_path / "out"))


def test_results_that_go_to_a_file_are_refused_at_once(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(UserError, match="out: a file, a folder for the results is required"):
        find_archive([str(tmp_path / "a.mp4")], str(tmp_path / "out"))


def test_a_file_that_two_arguments_name_differently_is_refused(here):
    with pytest.raises(UserError, match=r"v/a\.mp4: given twice, as v/a\.mp4 and as a\.mp4"):
        read_sources(["v", "v/a.mp4"], here / "out")
    (here / "list.txt").write_text("v/a.mp4\n")
    found = read_sources(["v", "list.txt"], here / "out")  # one name for it
    assert [video.name for video in found] == ["v/a.mp4", "v/sub/b.MKV"]


@pytest.mark.parametrize(
    "address",
    ["https://h/a%00b.mp4", "https://h/%0A.mp4", "memory://b/a\nb.mp4", "s3://b/\x1b.mp4"],
)
def test_an_address_whose_name_no_folder_can_have_is_refused(address):
    with pytest.raises(UserError, match="is not a valid name of a video") as told:
        named(address)
    assert str(told.value).startswith(places.shown_address(address)) and "\n" not in str(told.value)


def test_names_stay_below_whatever_an_address_says():
    odd = ("https://h/a%20b.mp4?sig=x", "https://h/x%2Fy.mp4", "https://h/..%2F..%2Fe.mp4")
    assert [named(address)[0][0] for address in odd] == ["a b.mp4", "y.mp4", "e.mp4"]
    assert named("memory://b/x%2Fy.mp4")[0][0] == "x%2Fy.mp4", "a bucket's names are plain"
