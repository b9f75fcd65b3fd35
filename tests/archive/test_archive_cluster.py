"""A Ray cluster of two nodes on one machine, one of which is taken away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_people import save_tiny_people
from tiny_pipeline import save_tiny_run, write_squares

from ava_tools import detect_actions

ray = pytest.importorskip("ray", reason="needs ray")
pytestmark = pytest.mark.ray
REPOSITORY = Path(__file__).resolve().parents[2]


def has_span(out: Path) -> bool:
    """Tell whether a span's file is there; os.walk bears folders that go away meanwhile."""
    return any(name.endswith(".npz") for _, _, names in os.walk(out) for name in names)


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def test_two_nodes_give_the_results_of_one_process_though_one_is_lost(tmp_path, cluster):
    save_tiny_run(tmp_path / "run")
    save_tiny_people(tmp_path / "people.pt")
    for number in range(5):
        write_squares(tmp_path / f"videos/short{number}.mp4", seconds=1.5, speed=4 + number)
    write_squares(tmp_path / "videos/long.mp4", seconds=27)
    options = [
        *(str(tmp_path / "videos"), "--checkpoint", str(tmp_path / "run"), "--device", "cpu"),
        *("--people", str(tmp_path / "people.pt"), "--person-score", "0.3", "--quiet"),
        *("--no-film", "--no-page", "--runtime", "torch", "--span", "6"),
    ]
    assert detect_actions.main([*options, "--out", str(tmp_path / "one"), "--engine", "here"]) == 0
    second = cluster.add_node(num_cpus=1)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "ava_tools.detect_actions", *options, "--out", str(out)]
        + ["--engine", "ray", "--address", cluster.address],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    try:
        while process.poll() is None and not has_span(out):
            time.sleep(0.1)
        assert process.poll() is None, "it ended before the node could be taken away"
        cluster.remove_node(second, allow_graceful=False)
        said = process.communicate(timeout=240)[1].decode()
    finally:
        process.kill()
    assert process.returncode == 0, said
    for path in sorted((tmp_path / "one").rglob("*.parquet")):
        if path.is_file():
            other = out / path.relative_to(tmp_path / "one")
            assert other.read_bytes() == path.read_bytes()
    assert not (out / "failed.csv").exists()
