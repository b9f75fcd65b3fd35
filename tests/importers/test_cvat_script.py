"""The script that is written beside CVAT's files: what it asks of CVAT's command line."""

import json
import os
import stat
import subprocess
import sys

import pytest
from numbered_video import write_numbered

from ava_tools import export_cvat, import_dataset
from detection import files
from detection.errors import UserError
from detection.importers import cvat_script

FAKE = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path({here!r})
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
state = here / "server.json"
tasks = json.loads(state.read_text()) if state.exists() else []
words = sys.argv[sys.argv.index("task") + 1:]
if words[0] == "ls":
    print(json.dumps(tasks))
elif words[0] == "create":
    name = words[words.index("--") + 1]
    if name == os.environ.get("FAILS"):
        sys.exit(1)
    state.write_text(json.dumps([*tasks, {{"id": 40 + len(tasks), "name": name, "size": 5}}]))
elif words[0] == "export-dataset":
    path = pathlib.Path(words[-1])
    assert not path.exists()
    path.write_text("export of " + words[-2])
"""


@pytest.fixture
def out(tmp_path):
    """Files for CVAT of two videos, one of an awkward name; and `cvat-cli` that notes all."""
    (tmp_path / "films").mkdir()
    for name in ("歩く $(touch x); 'a'.mp4", "b.mp4"):
        write_numbered(tmp_path / "films" / name, [i / 10 for i in range(12)], fps=10)
    raw = tmp_path / "raw"
    import_dataset.main(["videos", "--source", str(tmp_path / "films"), "--out", str(raw)])
    ids = (raw / "annotations" / "all_videos.txt").read_text(encoding="utf-8").splitlines()
    table = "".join(f"{name},{t},.2,.2,.6,.8,,0.9\n" for name in ids for t in (0, 0.5, 1.1))
    (raw / "annotations" / "people.csv").write_text(table, encoding="utf-8")
    export(tmp_path)
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "cvat-cli"
    fake.write_text(FAKE.format(python=sys.executable, here=str(tmp_path)))
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return tmp_path / "cvat"


def export(place, *more):
    raw = place / "raw"
    return export_cvat.main(
        ["--dataset", str(raw), "--split", "all", "--boxes", str(raw / "annotations/people.csv"),
         "--actions", "wave", "--out", str(place / "cvat"), *more]
    )  # fmt: skip


def run(out, *arguments, **more):
    paths = os.pathsep.join([str(out.parent / "bin"), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, str(out / "tasks.py"), *arguments], capture_output=True, text=True,
        env={**os.environ, "PATH": paths, "PYTHONUTF8": "1", **more}, cwd=out.parent,
    )  # fmt: skip


def calls(out):
    path = out.parent / "calls.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [json.loads(line) for line in lines]


def test_every_video_becomes_a_task_once_and_comes_back(out):
    raw = out.parent / "raw"
    odd, *_ = (path.stem for path in out.glob("*.xml") if path.stem != "b")
    done = run(out, "upload", "--", "--server-host", "http://x", "--auth", "me")
    assert done.returncode == 0, done.stderr
    server = ["--server-host", "http://x", "--auth", "me", "task"]
    made = [
        [*server, "create", "--labels", str(out / "labels.json"), "--annotation_path",
         str(out / f"{name}.xml"), "--annotation_format", "CVAT 1.1", "--", name, "local",
         str(raw / "videos" / f"{name}.mp4")]
        for name in sorted((odd, "b"))
    ]  # fmt: skip
    assert calls(out) == [[*server, "ls", "--json"], *made]
    again = run(out, "upload")
    assert again.stdout.count("is there already") == 2 and calls(out) == [["task", "ls", "--json"]]
    (out / "exports").mkdir()
    (out / "exports" / "b.part").write_text("of a download that was cut")
    for _ in range(2):
        assert run(out, "download").returncode == 0
        _, first, second = calls(out)
        assert first[:5] == ["task", "export-dataset", "--format", "CVAT for video 1.1", "40"]
        assert second[4] == "41"
        fetched = sorted((out / "exports").iterdir())
        assert [path.name for path in fetched] == sorted([f"{odd}.zip", "b.zip"])
    assert {path.read_text() for path in fetched} == {"export of 40", "export of 41"}
    assert not (out.parent / "x").exists()


def test_what_fails_is_named_and_the_rest_is_taken_up_again(out):
    failed = run(out, "upload", FAILS="b")
    assert failed.returncode == 1 and "b: not uploaded whole" in failed.stderr
    assert "Traceback" not in failed.stderr
    missing = run(out, "download")
    assert missing.returncode == 1 and "0 tasks of this name in CVAT" in missing.stderr
    assert run(out, "upload").returncode == 0 and run(out, "download").returncode == 0
    state = out.parent / "server.json"
    tasks = json.loads(state.read_text())
    state.write_text(json.dumps([*tasks, {**tasks[0], "id": 99}]))
    twice = run(out, "download")
    assert twice.returncode == 1 and "2 tasks of this name" in twice.stderr
    state.write_text(json.dumps([{**task, "size": 0} for task in tasks]))
    assert run(out, "upload").stdout.count("WITHOUT FRAMES") == 2


def test_a_missing_client_video_or_verb_is_one_line(out):
    done = run(out, "upload", PATH=str(out))
    assert done.returncode == 2 and done.stderr == (
        "cvat-cli is not installed: pip install cvat-cli\n"
    )
    for words in ((), ("send",), ("upload", "--auth", "me")):
        assert cvat_script.main(list(words)) == 2
    (out.parent / "raw" / "videos" / "b.mp4").unlink()
    done = run(out, "upload")
    assert done.returncode == 1 and "b.mp4: not found, b was not uploaded" in done.stderr


def test_a_second_export_adds_its_tasks_and_other_files_stay(out, tmp_path):
    raw = tmp_path / "raw"
    (out / "b.xml").unlink()
    (out / "exports").mkdir()
    (out / "exports" / "b.zip").write_text("an hour of work")
    table = raw / "annotations" / "people.csv"
    rows = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(row for row in rows if row.startswith("b,")))
    assert export(tmp_path) == 0
    tasks = json.loads((out / "tasks.json").read_text(encoding="utf-8"))["tasks"]
    assert [task["name"] for task in tasks] == sorted(path.stem for path in out.glob("*.xml"))
    assert len(tasks) == 2 and (out / "exports" / "b.zip").read_text() == "an hour of work"


@pytest.mark.parametrize("there", [False, True])
def test_an_export_that_fails_half_way_leaves_everything_as_it_was(
    out, tmp_path, monkeypatch, there
):
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    place = tmp_path / "cvat" if there else tmp_path / "new"
    if not there:
        out.rename(tmp_path / "aside")
        out = tmp_path / "aside"

    real = files.write_text

    def full(path, text):
        if path.name == "labels.json":
            raise UserError("no room")
        real(path, text)

    monkeypatch.setattr("detection.importers.cvat_export.write_text", full)
    with pytest.raises(UserError, match="no room"):
        export(tmp_path, "--overwrite", "--out", str(place))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert place.exists() == there
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_files_that_cannot_be_put_in_place_leave_the_folder_as_it_was(tmp_path):
    out = tmp_path / "out"
    with files.adding_to_folder(out) as building:
        (building / "a").write_text("1")
        (building / "b").write_text("1")
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]
    (out / "c").mkdir()
    refused = pytest.raises(files.CannotWriteError, match="out: cannot be written .*is a folder")
    with refused, files.adding_to_folder(out) as building:
        for name in ("a", "aa", "b", "c"):
            (building / name).write_text("2")
    assert {path.name for path in out.iterdir()} == {"a", "b", "c"}
    assert (out / "a").read_text() == (out / "b").read_text() == "1"
    with files.adding_to_folder(out) as building:
        (building / "b").write_text("2")
    assert (out / "a").read_text() == "1" and (out / "b").read_text() == "2"
    with files.adding_to_folder(tmp_path / "empty"):
        pass
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
