"""`detect_actions --engine`: the results of plain runs, whatever is killed, damaged or cut."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from damaged_videos import damage
from tiny_people import save_tiny_people
from tiny_pipeline import save_tiny_run, write_squares

from ava_tools import detect_actions
from detection.archive.manifest import read_archive_manifest
from detection.archive.run import is_of_shard
from detection.errors import EXIT_SOME_FAILED, UserError
from detection.people.shards import Shard
from detection.transfer import places

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ("events.jsonl", "tracks.jsonl", "detections.csv", "summary.json", "label_map.pbtxt")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    save_tiny_run(folder / "run")
    save_tiny_people(folder / "people.pt")
    for number in range(4):
        write_squares(folder / f"videos/short{number}.mp4", seconds=1.5, speed=4 + number)
    write_squares(folder / "videos/deep/long.mp4", seconds=27)
    write_squares(folder / "videos/reset.mp4", seconds=24, size=(256, 192))
    damage(folder / "videos/reset.mp4", 6.0, 9.5)
    return folder


def options_of(place, out, *more):
    return [
        *(str(place / "videos"), "--checkpoint", str(place / "run"), "--out", str(out)),
        *("--people", str(place / "people.pt"), "--person-score", "0.3", "--device", "cpu"),
        *("--no-film", "--no-page", "--quiet", "--batches-at-once", "1", "--runtime", "torch"),
        *map(str, more),
    ]


@pytest.fixture(scope="module")
def plain(place, tmp_path_factory):
    """The results without an engine."""
    out = tmp_path_factory.mktemp("plain") / "out"
    assert detect_actions.main(options_of(place, out, "--threads", "1")) == 0
    return out


@pytest.fixture(scope="module")
def here(place, tmp_path_factory):
    """The results of one process, no video cut."""
    out = tmp_path_factory.mktemp("here") / "out"
    options = options_of(place, out, "--engine", "here", "--span", "inf")
    assert detect_actions.main(options) == 0
    return out


def folders_of(out):
    return sorted(path.parent.relative_to(out) for path in out.rglob("run.json"))


def assert_same_results(ours, theirs):
    assert folders_of(ours) == folders_of(theirs)
    for folder in folders_of(theirs):
        for name in NAMES:
            one, other = ours / folder / name, theirs / folder / name
            assert one.read_bytes() == other.read_bytes(), f"{folder}/{name}"


def tables_of(out):
    files = [out / "events.csv", out / "events.jsonl"]
    for name in ("keyframes.parquet", "events.parquet"):
        files += sorted((out / name).iterdir())
    files += [path for path in (out / "videos.parquet",) if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_one_process_gives_the_results_of_plain_runs(plain, here):
    assert len(folders_of(here)) == 6
    assert_same_results(here, plain)


@pytest.mark.parametrize("span", ["6", "inf"])
def test_what_is_to_be_known_of_the_networks_is_told_once(place, tmp_path, capsys, span):
    shutil.copytree(place / "run", tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    content["model_state"]["head.classes.bias"][2] = 500
    norm = next(key for key in content["model_state"] if key.endswith("running_var"))
    content["model_state"][norm][0] = 0
    torch.save(content, path)
    (tmp_path / "videos").symlink_to(place / "videos")
    (tmp_path / "people.pt").symlink_to(place / "people.pt")
    out = tmp_path / "out"
    assert detect_actions.main(options_of(tmp_path, out, "--engine", "here", "--span", span)) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert sum("runtime torch" in line for line in said) == 1
    assert sum(norm.removesuffix(".running_var") in line for line in said) == 1
    assert sum("a logit of" in line for line in said) == 1


def test_processes_and_spans_give_the_same(place, here, tmp_path, capsys):
    out = tmp_path / "out"
    engine = ("--engine", "processes", "--workers", "2", "--span", "6")
    assert detect_actions.main(options_of(place, out, *engine)) == 0
    said = capsys.readouterr().err
    assert "reset.mp4: its clock falls back" in said and "it is not cut into spans" in said
    assert_same_results(out, here)
    assert tables_of(out) == tables_of(here)
    assert not list((out / ".spans").rglob("*.npz")), "spans are removed once they are joined"
    capsys.readouterr()
    assert detect_actions.main(["--status", str(out)]) == 0
    assert "6 of 6" in capsys.readouterr().out


def test_the_same_command_again_does_nothing_twice(place, here, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(here, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*/detections.csv")}
    (out / "short1" / "run.json").unlink()
    shutil.rmtree(out / "short1")
    engine = ("--engine", "here", "--span", "inf")
    assert detect_actions.main(options_of(place, out, *engine)) == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*/detections.csv")}
    assert {path.parent.name for path in before if before[path] != after[path]} == {"short1"}
    assert tables_of(out) == tables_of(here)


def test_a_changed_video_is_no_finished_one(place, here, tmp_path):
    """Its results are another file's: refused by name, the others stay."""
    out, videos = tmp_path / "out", tmp_path / "videos"
    shutil.copytree(place / "videos", videos)
    shutil.copytree(here, out)
    write_squares(videos / "short2.mp4", seconds=1.5, speed=20)
    options = [str(videos), *options_of(place, out, "--engine", "here", "--retries", "0")[1:]]
    assert detect_actions.main(options) == EXIT_SOME_FAILED
    rows = (out / "failed.csv").read_text().splitlines()
    assert rows[0] == "video,attempts,error" and len(rows) == 2
    assert rows[1].startswith("short2.mp4,1,") and "holds results of other files" in rows[1]
    assert "short2" not in (out / "events.csv").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*/detections.csv")}
    assert detect_actions.main([*options, "--overwrite"]) == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*/detections.csv")}
    assert {path.parent.name for path in before if before[path] != after[path]} == {"short2"}


def test_bad_videos_are_written_down_and_the_rest_goes_on(place, here, tmp_path, capsys):
    videos = tmp_path / "videos"
    shutil.copytree(place / "videos", videos)
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("no video")
    out = tmp_path / "out"
    engine = ("--engine", "processes", "--workers", "2", "--retries", "1", "--span", "inf")
    assert detect_actions.main([str(videos), *options_of(place, out, *engine)[1:]]) == 3
    rows = [line.split(",", 2) for line in (out / "failed.csv").read_text().splitlines()[1:]]
    assert [(row[0], row[1]) for row in rows] == [("empty.mp4", "2"), ("text.mp4", "2")]
    assert "failed: empty.mp4" in capsys.readouterr().err
    assert_same_results(out, here)
    states = [e["state"] for e in json.loads((out / "index.json").read_text())["videos"]]
    assert sorted(states) == ["done"] * 6 + ["failed"] * 2
    (videos / "empty.mp4").unlink()
    (videos / "text.mp4").unlink()
    assert detect_actions.main([str(videos), *options_of(place, out, *engine)[1:]]) == 0
    assert not (out / "failed.csv").exists() and tables_of(out) == tables_of(here)


def test_other_options_are_refused_before_any_video(place, here, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(here, out)
    options = options_of(place, out, "--engine", "here", "--span", "inf")
    with pytest.raises(
        UserError, match=r"tables of other options .*keyframe_interval_s 0\.5 there"
    ):
        detect_actions.main([*options, "--every", "0.25"])
    assert tables_of(out) == tables_of(here) and not (out / "failed.csv").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1}', b"\xff", b'{"counts": 3}'])
def test_a_damaged_manifest_is_none(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    assert read_archive_manifest(str(tmp_path)) is None


def states_of(out):
    entries = json.loads((out / "index.json").read_text())["videos"]
    return {entry["video"]: entry["state"] for entry in entries}


def test_a_video_that_failed_and_was_mended_is_done(place, here, tmp_path):
    """In the index, the tables and failed.csv alike; also where another share is run after it."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(place / "videos", videos)
    shutil.copytree(here, out)
    shutil.rmtree(out / "short1")
    (videos / "short1.mp4").write_bytes(b"")
    options = [str(videos), *options_of(place, out, "--engine", "here", "--retries", "0")[1:]]
    assert detect_actions.main(options) == EXIT_SOME_FAILED
    shutil.copy2(place / "videos" / "short1.mp4", videos / "short1.mp4")
    (other,) = (s for s in ("1/2", "2/2") if not is_of_shard("short1.mp4", Shard.parse(s)))
    (its,) = {"1/2", "2/2"} - {other}
    assert detect_actions.main([*options, "--shard", other]) == 0
    assert states_of(out)["short1.mp4"] == "failed" and (out / "failed.csv").exists()
    assert detect_actions.main([*options, "--shard", its]) == 0
    assert set(states_of(out).values()) == {"done"} and not (out / "failed.csv").exists()
    assert tables_of(out) == tables_of(here)


def test_shards_together_are_the_whole(place, here, tmp_path):
    out = tmp_path / "out"
    for shard in ("2/3", "1/3", "3/3"):
        engine = ("--engine", "here", "--shard", shard, "--span", "inf")
        assert detect_actions.main(options_of(place, out, *engine)) == 0
    assert_same_results(out, here)
    assert tables_of(out) == tables_of(here)


def test_by_addresses_and_back(place, here, tmp_path, monkeypatch):
    """Videos from an address, results to one: the bytes are those of files."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(place / "videos") + "/", "/bucket/videos", recursive=True)
    options = options_of(place, "memory://bucket/found", "--engine", "here", "--span", "6")
    assert detect_actions.main(["memory://bucket/videos", *options[1:]]) == 0
    memory.get("/bucket/found", str(tmp_path) + "/", recursive=True)
    assert_same_results(tmp_path / "found", here)
    assert tables_of(tmp_path / "found") == tables_of(here)
    before = memory.modified("/bucket/found/short1/run.json")
    assert detect_actions.main(["memory://bucket/videos", *options[1:]]) == 0
    assert memory.modified("/bucket/found/short1/run.json") == before


def test_places_with_odd_names(place, tmp_path, monkeypatch, capsys):
    """Nothing lands beside DEST; what is wrong is said of the address, one line each."""
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.store.clear()
    content = (place / "videos" / "short0.mp4").read_bytes()
    for name in ("a b.mp4", "x%2Fy.mp4", "sub/ä€.mp4"):
        memory.pipe_file(f"/odd/{name}", content)
    memory.pipe_file("/odd/text.mp4", b"no video")
    monkeypatch.chdir(tmp_path)
    engine = ("--engine", "here", "--retries", "0")
    bad = "memory://odd/text.mp4: not a video, or cut short"
    for root in (f"file://{tmp_path}/in%20here/", "memory://o ü%2F/here/"):
        options = ["memory://odd/", *options_of(place, root, *engine)[1:]]
        assert detect_actions.main(options) == EXIT_SOME_FAILED
        (row,) = places.read_bytes(f"{root}failed.csv", 999).decode().splitlines()[1:]
        assert row.startswith(f'text.mp4,1,"{bad}')
        names = {n.rpartition("/")[0] for n, _, _ in places.list_files(root) if "run.json" in n}
        assert names == {"a b", "x%2Fy", "sub/ä€"}
    assert [path.name for path in tmp_path.iterdir()] == ["in here"]
    state = places.read_bytes(f"{root}a b/run.json", 99_999)
    places.remove(f"{root}manifest.json")
    memory.rm("/odd/text.mp4")
    assert detect_actions.main([*options, "--every", "0.25"]) == EXIT_SOME_FAILED
    assert (
        "failed: a b.mp4: memory://o ü%2F/here/a b: holds results of other options (keyframe"
        in (capsys.readouterr().err)
    )
    assert places.read_bytes(f"{root}a b/run.json", 99_999) == state
    assert detect_actions.main([*options, "--every", "0.25", "--overwrite"]) == 0
    assert places.read_bytes(f"{root}a b/run.json", 99_999) != state


KILLED = """
import os, signal, sys, threading, time
from glob import glob  # which bears folders that go away meanwhile
from ava_tools import detect_actions

def kill_soon(out, count):
    while len(glob(out + "/**/detections.csv", recursive=True)) < count:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)

count, *arguments = sys.argv[1:]
out = arguments[arguments.index("--out") + 1]
if __name__ == "__main__":  # worker processes import this file
    threading.Thread(target=kill_soon, args=(out, int(count)), daemon=True).start()
    raise SystemExit(detect_actions.main(arguments))
"""


def test_a_killed_driver_goes_on_and_its_workers_end(place, here, tmp_path):
    out = tmp_path / "out"
    options = options_of(place, out, "--engine", "processes", "--workers", "2", "--span", "6")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    for count in (1, 3):
        done = subprocess.run(
            [sys.executable, script, str(count), *options],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert 3 <= len(list(out.rglob("detections.csv"))) < 6
    assert detect_actions.main(options) == 0
    assert_same_results(out, here)
    assert tables_of(out) == tables_of(here)


def test_killed_workers_cost_the_pieces_under_way(place, here, tmp_path):
    out = tmp_path / "out"
    options = options_of(place, out, "--engine", "processes", "--workers", "2", "--span", "6")
    process = subprocess.Popen(
        [sys.executable, "-m", "ava_tools.detect_actions", *options, "--retries", "9"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    killed = 0
    while process.poll() is None and killed < 3:
        # os.walk bears folders that go away meanwhile.
        done = sum(
            name.endswith(".npz") or name == "detections.csv"
            for _, _, names in os.walk(out)
            for name in names
        )
        if done > 2 * killed and (workers := workers_of(process.pid)):
            os.kill(workers[0], signal.SIGKILL)
            killed += 1
        time.sleep(0.1)
    said = process.communicate(timeout=240)[1].decode()
    assert process.returncode == 0 and killed == 3, said
    assert tables_of(out) == tables_of(here) and not (out / "failed.csv").exists()


KILLS_ITS_WORKER = """
import os, signal, sys
from ava_tools import detect_actions
from detection.archive.work import Worker

do = Worker.__call__

def call(self, piece, tell):
    if getattr(getattr(piece, "video", None), "name", "") == "short2.mp4":
        os.kill(os.getpid(), signal.SIGKILL)
    return do(self, piece, tell)

Worker.__call__ = call  # worker processes import this file
if __name__ == "__main__":
    raise SystemExit(detect_actions.main(sys.argv[1:]))
"""


def test_a_video_that_kills_its_worker_is_written_down_and_the_rest_is_done(place, here, tmp_path):
    out = tmp_path / "out"
    script = tmp_path / "kills.py"
    script.write_text(KILLS_ITS_WORKER)
    engine = ("--engine", "processes", "--workers", "2", "--retries", "1", "--span", "inf")
    done = subprocess.run(
        [sys.executable, script, *options_of(place, out, *engine)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == EXIT_SOME_FAILED, done.stderr.decode()
    (row,) = (out / "failed.csv").read_text().splitlines()[1:]
    assert row == "short2.mp4,2,its process ended by signal 9 (out of memory?)"
    states = states_of(out)
    assert states.pop("short2.mp4") == "failed" and set(states.values()) == {"done"}


def workers_of(pid):
    """Return the processes below one that have loaded PyTorch: the workers."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in below} - below
        below, grown = below | more, bool(more)
    return [each for each in sorted(below - {pid}) if "libtorch" in maps_of(each)]


def maps_of(pid):
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


@pytest.mark.ray
def test_ray_gives_the_same(place, here, tmp_path):
    pytest.importorskip("ray", reason="needs ray")
    out = tmp_path / "out"
    options = options_of(place, out, "--engine", "ray", "--workers", "2", "--span", "6")
    assert detect_actions.main(options) == 0
    assert_same_results(out, here)
    assert tables_of(out) == tables_of(here)


def test_what_gives_out_work_loads_no_network():
    code = (
        "import sys, detection.archive.run, detection.jobs.processes, ava_tools.detect_actions; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--workers", "2"], "--workers is of runs with --engine"),
        (["--shard", "1/2"], "--shard is of runs with --engine"),
        (["--engine", "here", "--live"], "--live sources are run one by one"),
        (["--engine", "here", "--shard", "3/2"], "K/N with K from 1 to N is required"),
        (["--engine", "here", "--checkpoint", "nowhere.pt"], "nowhere.pt"),
        (["--engine", "here", "--address", "auto"], "the engine ray is required"),
        (["--status", "found"], "--status DEST is given alone"),
        (["--out", "memory://b/found"], "--out memory://b/found: an address is of runs with --eng"),
        (["--engine", "here", "--out", "s3://"], "--out s3://: names no folder; one is required"),
    ],
)
def test_bad_options_are_one_line(place, tmp_path, more, line):
    with pytest.raises(UserError, match=line):
        detect_actions.main([*options_of(place, tmp_path / "out"), *more])


def test_no_video_given():
    with pytest.raises(UserError, match="no video: files, folders, an address or a list"):
        detect_actions.main(["--engine", "here"])
