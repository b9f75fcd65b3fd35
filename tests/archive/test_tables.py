"""One table of all videos: what it holds, in which order, byte for byte whoever writes it."""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from made_results import CLASSES, make_results

from detection.archive import table_rows, tables
from detection.archive.ending import write_tables
from detection.archive.table_columns import TABLES
from detection.archive.table_files import only_tables_writer
from detection.errors import UserError
from detection.structures import LabelMap
from detection.transfer import places

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

NAMES = {"b/two.mp4": "b/two", "a.mp4": "a", "none.mp4": "none", "c.mkv": "c.mkv"}


@pytest.fixture
def made(tmp_path):
    """A root with two videos with people, one without and one that is not begun; what they hold."""
    results = {
        "a.mp4": make_results(tmp_path / "a", seed=1),
        "b/two.mp4": make_results(tmp_path / "b" / "two", people=3, keyframes=2, seed=2),
        "none.mp4": make_results(tmp_path / "none", people=0, seed=3),
    }
    return tmp_path, results


def digests(root):
    files = [p for t in ("keyframes", "events", "videos") for p in root.glob(f"{t}.*")]
    files = [p for place in files for p in ([place] if place.is_file() else place.iterdir())]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def expected_people(results):
    for name in sorted(results):
        for keyframe in results[name].keyframes:
            for row in range(len(keyframe)):
                sides = zip(("x1", "y1", "x2", "y2"), keyframe.boxes_01[row].tolist(), strict=True)
                yield {
                    "video": name,
                    "time_s": keyframe.time_s,
                    "track": int(keyframe.tracks[row]),
                    **dict(sides),
                    "person_score": float(keyframe.person_scores[row]),
                    "seen": bool(keyframe.seen[row]),
                    "scores": keyframe.scores[row].tolist(),
                    "doing": list(keyframe.doing[row]),
                }


def expected_events(results):
    for name in sorted(results):
        for e in sorted(results[name].events, key=lambda e: (e.start_s, e.track, e.action_id)):
            yield {
                "video": name, "track": e.track, "action": e.action, "action_id": e.action_id,
                "start_s": e.start_s, "end_s": e.end_s, "peak_score": e.peak_score,
            }  # fmt: skip


def test_the_tables_hold_what_the_folders_hold(made):
    root, results = made
    assert write_tables(root, NAMES, failed=["c.mkv"]) == [
        "events.parquet/part-00000.parquet", "keyframes.parquet/part-00000.parquet",
        "videos.parquet",
    ]  # fmt: skip
    people = pq.read_table(root / "keyframes.parquet").to_pylist()
    assert people == list(expected_people(results)) and len(people) == 14
    events = pq.read_table(root / "events.parquet").to_pylist()
    assert events == list(expected_events(results)) and len(events) == 30
    videos = pq.read_table(root / "videos.parquet").to_pylist()
    assert [tuple(row.values()) for row in videos] == [
        ("a.mp4", "a", 12.5, 5, 8, 2, 12, "done"),
        ("b/two.mp4", "b/two", 12.5, 3, 6, 3, 18, "done"),
        ("c.mkv", "c.mkv", None, None, None, None, None, "failed"),
        ("none.mp4", "none", 12.5, 5, 0, 0, 0, "done"),
    ]
    left = {path.name for path in root.iterdir()}
    assert left == {"a", "b", "none", "manifest.json", *(f"{table}.parquet" for table in TABLES)}


def test_another_run_that_ends_is_waited_for(made):
    root, _ = made
    with ThreadPoolExecutor(1) as pool:
        with only_tables_writer(root):
            names = pool.submit(write_tables, root, NAMES)
            assert not wait([names], timeout=0.3).done
            assert not list(root.glob("*.parquet"))
        assert len(names.result(timeout=60)) == 3
    new = root / "new"
    write_tables(new, {})
    assert len(list(new.iterdir())) == 4


def test_columns_say_their_units_and_the_classes(made):
    root, _ = made
    write_tables(root, NAMES)
    schema = pq.read_schema(root / "keyframes.parquet" / "part-00000.parquet")
    assert json.loads(schema.metadata[b"classes"]) == [
        {"id": 11, "name": "sit"}, {"id": 5, "name": "wave; é"}, {"id": 80, "name": 'say "x"'},
    ]  # fmt: skip
    assert (schema.metadata[b"format"], schema.metadata[b"table"]) == (b"1", b"keyframes")
    kinds = {field.name: str(field.type) for field in schema}
    assert kinds == {
        "video": "string", "time_s": "double", "track": "int64", "x1": "float", "y1": "float",
        "x2": "float", "y2": "float", "person_score": "float", "seen": "bool",
        "scores": "list<element: float not null>", "doing": "list<element: string not null>",
    }  # fmt: skip
    assert schema.field("time_s").metadata[b"unit"] == b"s"
    assert schema.field("x1").metadata[b"unit"] == b"fraction of the width"
    assert all(field.metadata[b"description"] and not field.nullable for field in schema)


def test_a_video_is_whole_in_a_part_and_alone_in_its_row_groups(made, monkeypatch):
    root, results = made
    monkeypatch.setattr(tables, "MOST_ROWS", 8)
    monkeypatch.setattr("detection.archive.parquet_files.ROWS_PER_GROUP", 3)
    write_tables(root, NAMES)
    parts = sorted((root / "keyframes.parquet").iterdir())
    assert [path.name for path in parts] == ["part-00000.parquet", "part-00001.parquet"]
    groups = []
    for path in parts:
        file = pq.ParquetFile(path)
        read = [file.read_row_group(n).to_pylist() for n in range(file.num_row_groups)]
        assert all(len({row["video"] for row in rows}) == 1 for rows in read)
        groups.append([(rows[0]["video"], len(rows)) for rows in read])
    assert groups == [
        [("a.mp4", 3), ("a.mp4", 3), ("a.mp4", 2)], [("b/two.mp4", 3), ("b/two.mp4", 3)]
    ]  # fmt: skip
    assert pq.read_table(root / "keyframes.parquet").to_pylist() == list(expected_people(results))
    assert len(list((root / "events.parquet").iterdir())) == 2
    monkeypatch.setattr(tables, "MOST_ROWS", 10**6)
    write_tables(root, NAMES)
    assert len(list((root / "keyframes.parquet").iterdir())) == 1, "stale parts are removed"
    monkeypatch.setattr(tables, "MOST_VIDEOS", 1)
    assert len(tables.plan_tables(root, NAMES).parts) == 3


def test_the_bytes_are_the_same_whoever_writes(made, monkeypatch):
    root, _ = made
    monkeypatch.setattr(tables, "MOST_ROWS", 8)
    write_tables(root, NAMES)
    first = digests(root)
    assert len(first) == 5
    plan = tables.plan_tables(str(root), dict(reversed(NAMES.items())))
    code = "import pickle, sys; from detection.archive.tables import write_part; "
    code += "write_part(pickle.load(sys.stdin.buffer))"
    for part in reversed(plan.parts):
        subprocess.run([sys.executable, "-c", code], input=pickle.dumps(part), check=True)
    tables.finish_tables(plan)
    assert digests(root) == first


def test_tables_wait_for_all_parts(made, monkeypatch):
    root, _ = made
    monkeypatch.setattr(tables, "MOST_ROWS", 8)
    write_tables(root, NAMES)
    first = digests(root)
    plan = tables.plan_tables(root, NAMES)
    tables.write_part(plan.parts[0])
    with pytest.raises(UserError, match="keyframes.parquet/part-00001.parquet: not found"):
        tables.finish_tables(plan)
    assert digests(root) == first, "what was there stays"
    tables.write_part(plan.parts[1])
    plan = tables.plan_tables(root, NAMES)
    with pytest.raises(UserError, match="keyframes.parquet/part-00000.parquet: not found"):
        tables.finish_tables(plan)  # of a plan before this one


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
@pytest.mark.parametrize("names", [{}, {"none.mp4": "none", "c.mkv": "c.mkv"}, {"c.mkv": "c.mkv"}])
def test_nothing_makes_empty_tables_with_columns(made, names, table_format):
    root, _ = made
    write_tables(root, names, table_format=table_format)
    if table_format == "csv":
        for name, length in (("keyframes", 1), ("events", 1), ("videos", 1 + len(names))):
            assert len((root / f"{name}.csv").read_text().splitlines()) == length
        return
    assert pq.read_table(root / "keyframes.parquet").num_rows == 0
    assert "scores" in pq.read_table(root / "keyframes.parquet").column_names
    assert pq.read_table(root / "events.parquet").num_rows == 0
    assert pq.read_table(root / "videos.parquet").num_rows == len(names)


def test_csv_where_there_is_no_parquet(made, monkeypatch):
    root, results = made
    monkeypatch.setattr(tables, "has_pyarrow", lambda: False)
    monkeypatch.setattr(tables, "MOST_ROWS", 8)
    assert write_tables(root, NAMES) == ["events.csv", "keyframes.csv", "videos.csv"]
    rows = list(csv.DictReader((root / "keyframes.csv").open(newline="")))
    for row, person in zip(rows, expected_people(results), strict=True):
        assert list(row) == list(person)
        assert row["video"] == person["video"] and row["seen"] == str(person["seen"])
        assert [np.float32(x) for x in row["scores"].split(";")] == person["scores"]
        assert row["doing"] == ";".join(person["doing"])
        for name in ("time_s", "track", "x1", "y2", "person_score"):
            assert np.float32(row[name]) == np.float32(person[name])
    videos = list(csv.reader((root / "videos.csv").open(newline="")))
    assert videos[3] == ["c.mkv", "c.mkv", "", "", "", "", "", "waiting"]
    assert not (root / tables.UNFINISHED).exists()
    write_tables(root, {"a\nb\x1b.mp4": "x"})
    assert (root / "videos.csv").read_text().splitlines()[1:] == ["a b\\x1b.mp4,x,,,,,,waiting"]


def test_the_events_as_csv_are_those_of_the_index(made):
    from detection.pipeline.folder_index import write_index
    from detection.pipeline.video_folders import VideoFolder

    root, _ = made
    videos = [VideoFolder(name, name, root / folder) for name, folder in NAMES.items()]
    write_index(root, videos, {})
    of_index = (root / "events.csv").read_bytes()
    write_tables(root, NAMES, table_format="csv")
    assert (root / "events.csv").read_bytes() == of_index
    write_tables(root, NAMES, table_format="parquet")
    assert (root / "events.csv").read_bytes() == of_index, "the index has it"
    assert not (root / "keyframes.csv").exists() and not (root / "videos.csv").exists()
    (root / "index.json").unlink()
    write_tables(root, NAMES, table_format="csv")
    assert not [path for path in root.iterdir() if "parquet" in path.name]
    write_tables(root, NAMES, table_format="parquet")
    assert not list(root.glob("*.csv"))


def test_files_of_something_else_are_not_replaced(made):
    root, _ = made
    (root / "keyframes.parquet").mkdir()
    (root / "keyframes.parquet" / "mine.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="keyframes.parquet: holds mine.parquet, not of this comm"):
        write_tables(root, NAMES)
    (root / "keyframes.parquet" / "mine.parquet").unlink()
    (root / "videos.csv").write_text("my,own\n")
    with pytest.raises(UserError, match="videos.csv: not of this command"):
        write_tables(root, NAMES)
    assert (root / "videos.csv").read_text() == "my,own\n"


def test_damaged_results_and_other_classes_are_named(made):
    root, _ = made
    (root / "b" / "two" / "tracks.jsonl").write_text('{"track": 1, "classes": ["x"]}\n')
    with pytest.raises(UserError, match=r"b/two/tracks.jsonl:1: not a track"):
        write_tables(root, NAMES)
    make_results(root / "z", classes=LabelMap(("sit", "jump"), (11, 5)))
    with pytest.raises(UserError, match=r"z: has other classes than the videos before"):
        write_tables(root, {"a.mp4": "a", "z.mp4": "z"})
    assert not (root / "keyframes.parquet").exists()


def test_results_without_a_summary_are_counted(made):
    root, _ = made
    make_results(root / "old", people=2, keyframes=4, summary=False)
    found = table_rows.look_up_video(str(root), "old.mp4", "old", failed=False)
    row = found.row
    assert (row.state, row.events, row.length_s, found.rows) == ("done", None, None, 8)
    (root / "old" / "summary.json").write_text('{"events": -1, "keyframes": true, "length_s": "x"}')
    found = table_rows.look_up_video(str(root), "old.mp4", "old", failed=False)
    row = found.row
    assert (row.events, row.keyframes, row.length_s, found.rows) == (None, None, None, 8)


def test_results_of_other_options_or_weights_are_named(made):
    root, _ = made
    for name in "defghij":
        make_results(root / name, seed=7)
    names = {f"{name}.mp4": name for name in "adefghij"}
    state = json.loads((root / "a" / "run.json").read_text())
    state["inputs"]["checkpoint"]["named"] = "elsewhere/a"
    state["inputs"]["video"]["content"] = {"bytes": 77}
    (root / "a" / "run.json").write_text(json.dumps(state))
    write_tables(root, names)
    for name, digest in (("a", "a"), ("e", "e"), ("g", "a"), ("h", "h")):
        state["options"]["threshold"] = 0.6 if name == "a" else 0.5
        state["inputs"]["checkpoint"]["content"]["sha256"] = digest * 64
        (root / name / "run.json").write_text(json.dumps(state))
    with pytest.raises(UserError) as told:
        write_tables(root, names)
    assert str(told.value) == (
        f"{root}: 4 of 8 videos have results of other options or weights than d.mp4: "
        "a.mp4 (threshold 0.6 there, 0.5 here; checkpoint), e.mp4 (checkpoint), "
        "g.mp4 (checkpoint), and 1 more; run them again"
    )


def test_classes_left_out_of_a_track_score_0(made):
    root, _ = made
    (root / "a" / "tracks.jsonl").write_text(
        '{"track": 1, "classes": ["wave; é"], "keyframes": [{"time_s": 1, "box_01": [0, 0, 1, 1], '
        '"person_score": 0.5, "scores": [0.25], "doing": []}]}\n'
    )
    write_tables(root, {"a.mp4": "a"})
    (row,) = pq.read_table(root / "keyframes.parquet").to_pylist()
    assert row["scores"] == [0, 0.25, 0] and row["doing"] == [] and row["seen"] is True


@pytest.mark.parametrize("table_format", ["parquet", "csv"])
def test_a_bucket_has_the_same_tables(made, monkeypatch, table_format):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").store.clear()
    root, _ = made
    monkeypatch.setattr(tables, "MOST_ROWS", 8)
    for folder in ("a", "b/two", "none"):
        places.put_folder(root / folder, f"memory://all/{folder}", "run.json")
    for number in range(2):
        places.write_bytes(f"memory://all/keyframes.parquet/part-{number + 6:05d}.parquet", b"old")
    for place in (root, "memory://all/"):
        names = write_tables(place, NAMES, table_format=table_format)
    there = {name for name, _, _ in places.list_files("memory://all")}
    names.append("manifest.json")
    assert {name for name in there if name.split("/")[0] not in ("a", "b", "none")} == set(names)
    for name in names:
        assert places.read_bytes(f"memory://all/{name}", 1 << 20) == (root / name).read_bytes()


def test_other_packages_read_the_tables(made):
    root, results = made
    write_tables(root, NAMES)
    people = list(expected_people(results))
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(root / "keyframes.parquet")
    assert frame["time_s"].tolist() == [row["time_s"] for row in people]
    assert [s.tolist() for s in frame["scores"]] == [row["scores"] for row in people]
    assert [list(d) for d in frame["doing"]] == [row["doing"] for row in people]


def test_polars_and_duckdb_read_the_tables(made):
    root, results = made
    write_tables(root, NAMES)
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    people, events = list(expected_people(results)), list(expected_events(results))
    assert polars.read_parquet(root / "keyframes.parquet" / "*.parquet").to_dicts() == people
    assert polars.read_parquet(root / "events.parquet" / "*.parquet").to_dicts() == events
    found = duckdb.sql(f"from '{root}/keyframes.parquet/*.parquet'")
    assert [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()] == people
    found = duckdb.sql(
        f"select video, count(*) from '{root}/events.parquet/*.parquet' group by video order by 1"
    )
    assert found.fetchall() == [("a.mp4", 12), ("b/two.mp4", 18)]


def test_without_pyarrow_parquet_says_how_to_install_it(made, monkeypatch):
    root, _ = made
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r'pip install "x3d-action-detection\[parquet\]"'):
        write_tables(root, NAMES, table_format="parquet")
    assert not tables.has_pyarrow()
    assert write_tables(root, NAMES)[0] == "events.csv"


def test_classes_of_the_made_results_are_not_in_order_of_their_ids():
    assert sorted(CLASSES.ids) != list(CLASSES.ids), "else the order of events is not tested"


BLOCKS = re.findall(
    r"^```python tables\n(.*?)^```$",
    (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_pages_examples_read_the_tables(made, tmp_path, monkeypatch, block):
    root, results = made
    for package in re.findall(r"^import (\w+)", block, re.MULTILINE):
        pytest.importorskip(package)
    write_tables(root, NAMES)
    (tmp_path / "found").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    values: dict[str, object] = {}
    exec(compile(block, "docs/scaling.md", "exec"), values)
    if "scores" in values:
        assert list(values["scores"].columns) == list(CLASSES.names)
        assert len(values["people"]) == 8 and values["hours"] == 37.5 / 3600


def test_the_page_names_every_column():
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    named = {name for row in re.findall(r"^\| (`.*?) \|", page, re.M) for name in row.split("`")}
    for columns in TABLES.values():
        assert {column.name for column in columns} <= named
