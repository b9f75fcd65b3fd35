"""The tables of what the pipeline itself has written."""

from __future__ import annotations

import pytest
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection import VideoResults
from detection.archive.ending import write_tables
from detection.archive.table_rows import look_up_video
from detection.pipeline import ActionDetectorPipeline, PipelineOptions

parquet = pytest.importorskip("pyarrow.parquet")


def test_runs_of_several_videos_in_one_table(tmp_path):
    detector = ActionDetectorPipeline.from_checkpoint(
        save_tiny_run(tmp_path / "run"),
        people=SquareDetector(),
        options=PipelineOptions(threshold=0.6, workers=1),
    )
    root, results = tmp_path / "out", {}
    for name, values in (("b", {"seconds": 4}), ("a", {"seconds": 2, "empty": (0, 9)})):
        source = write_squares(tmp_path / f"{name}.mp4", **values)
        detector.analyse(source, out=root / name, film=False, page=False)
        results[f"{name}.mp4"] = VideoResults.open(root / name)
    write_tables(root, {"a.mp4": "a", "b.mp4": "b"}, table_format="parquet")
    people = parquet.read_table(root / "keyframes.parquet").to_pylist()
    shown = [(k, row) for k in results["b.mp4"].keyframes for row in range(len(k))]
    assert len(people) == len(shown) == look_up_video(str(root), "b.mp4", "b", failed=False).rows
    for row, (keyframe, position) in zip(people, shown, strict=True):
        assert (row["video"], row["time_s"]) == ("b.mp4", keyframe.time_s)
        assert row["track"] == keyframe.tracks[position]
        assert row["scores"] == keyframe.scores[position].tolist()
        assert tuple(row["doing"]) == keyframe.doing[position]
    events = parquet.read_table(root / "events.parquet").to_pylist()
    assert len(events) == len(results["b.mp4"].events) > 0
    videos = parquet.read_table(root / "videos.parquet").to_pylist()
    assert [(row["video"], row["people"], row["state"]) for row in videos] == [
        ("a.mp4", 0, "done"), ("b.mp4", len(people), "done"),
    ]  # fmt: skip
    assert videos[1]["length_s"] == pytest.approx(4.0) and videos[1]["events"] == len(events)
