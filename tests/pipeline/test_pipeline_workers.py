"""How many batches go through the networks at a time, on made-up machines."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_pipeline import SquareDetector, save_tiny_run, write_squares

from detection.pipeline import ActionDetectorPipeline, PipelineOptions, detector
from detection.pipeline.workers import choose_workers, group_size

MB = 10**6


def choose(batch_size=8, *, cores=2, threads=None, memory=64_000 * MB, keyframe=100 * MB):
    return choose_workers(
        batch_size,
        cores=cores,
        threads=cores if threads is None else threads,
        memory_bytes=memory,
        batch_bytes=lambda keyframes: keyframes * keyframe,
    )


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"cores": 1}, 1),
        ({"cores": 2}, 2),
        ({"cores": 4}, 4),
        ({"cores": 16}, 7),  # of 8 keyframes under way one is being gathered
        ({"cores": 16, "batch_size": 17}, 16),
        ({"cores": 16, "batch_size": 1}, 1),
        ({"cores": 16, "threads": 4}, 4),  # OMP_NUM_THREADS, --threads
        ({"cores": 2, "threads": 1}, 2),
        ({"cores": 1, "threads": 4}, 1),
        ({"cores": 16, "memory": None}, 7),
        ({"cores": 16, "memory": 1_000 * MB}, 5),  # half of it: five batches of one
        ({"cores": 16, "memory": 1_000 * MB, "batch_size": 3}, 2),
        ({"cores": 2, "memory": 100 * MB}, 2),  # two batches of 2, no more than one of 4
        ({"cores": 16, "memory": 100 * MB}, 4),
    ],
)
def test_workers_follow_cores_threads_keyframes_and_memory(how, expected):
    assert choose(**how) == expected


@given(
    batch_size=st.integers(1, 40),
    cores=st.integers(1, 128),
    threads=st.integers(1, 128),
    memory=st.none() | st.integers(1, 10**11),
    keyframe=st.integers(1, 10**10),
)
def test_no_choice_keeps_more_than_is_allowed(batch_size, cores, threads, memory, keyframe):
    workers = choose(batch_size, cores=cores, threads=threads, memory=memory, keyframe=keyframe)
    in_networks = workers * group_size(batch_size, workers)
    assert 1 <= workers <= cores and in_networks <= batch_size
    if memory is not None:
        one = group_size(batch_size, 1)
        assert in_networks * keyframe <= max(memory / 2, one * keyframe)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    save_tiny_run(folder / "run")
    write_squares(folder / "walk.mp4", seconds=6)
    return folder


@pytest.fixture
def machine(monkeypatch):
    """Make it look as if there were so many cores."""

    def look(cores: int, *, memory: int | None = None) -> None:
        monkeypatch.setattr(detector, "usable_cores", lambda: cores)
        monkeypatch.setattr(detector, "memory_limit_bytes", lambda: memory)
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)

    return look


def detector_of(place, **options):
    return ActionDetectorPipeline.from_checkpoint(
        place / "run",
        people=SquareDetector(),
        options=PipelineOptions(threshold=0.7, **options),
        device="cpu",
    )


def test_live_sources_and_gpus_have_two_at_most_and_who_asks_gets_what_is_asked(place, machine):
    machine(16)
    pipeline = detector_of(place)
    assert pipeline.workers() == 7 and pipeline.workers(live=True) == 2
    pipeline.networks = dataclasses.replace(pipeline.networks, device=torch.device("cuda"))
    assert pipeline.workers() == 2
    assert detector_of(place, workers=3).workers() == 3
    assert detector_of(place, workers=3).workers(live=True) == 3
    machine(1)
    assert pipeline.workers() == pipeline.workers(live=True) == 1


def test_little_memory_makes_fewer_workers(place, machine):
    pipeline = detector_of(place)
    machine(16, memory=2 * 5 * pipeline._batch_bytes(1))
    assert pipeline.workers() == 5
    larger = detector_of(place, people_per_keyframe=4)
    assert larger._batch_bytes(1) > pipeline._batch_bytes(1)
    assert pipeline._batch_bytes(3) == pytest.approx(3 * pipeline._batch_bytes(1), abs=3)


@pytest.mark.parametrize("cores", [2, 5, 16])
def test_events_are_the_same_whatever_the_cores(place, machine, cores):
    machine(1)
    alone = list(detector_of(place).run(place / "walk.mp4"))
    machine(cores)
    found = list(detector_of(place).run(place / "walk.mp4"))
    assert alone
    for one, other in zip(alone, found, strict=True):
        assert dataclasses.replace(one, peak_score=0) == dataclasses.replace(other, peak_score=0)
        assert one.peak_score == pytest.approx(other.peak_score, abs=1e-4)
