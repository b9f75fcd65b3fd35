"""One rule for the device, whoever asks: under torchrun, and where GPUs are missing."""

from __future__ import annotations

import pytest
import torch
from tiny_data import make_dataset
from tiny_pipeline import save_tiny_run, write_squares

from ava_tools import detect_actions, detect_people
from detection.build import build_device
from detection.config import config_from_dict
from detection.devices import choose_device
from detection.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Make it look as if there were so many GPUs, and torchrun had started this process."""

    def look(gpus: int, *, local_rank: int | None = None, current: int = 0) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if local_rank is not None:
            monkeypatch.setenv("LOCAL_RANK", str(local_rank))

    return look


@pytest.mark.parametrize(
    ("gpus", "local_rank", "name", "expected"),
    [
        (0, None, "auto", "cpu"),
        (0, 3, "auto", "cpu"),
        (4, 3, "cpu", "cpu"),
        (4, None, "auto", "cuda:1"),  # the current one
        (4, None, "cuda", "cuda:1"),
        (4, 3, "auto", "cuda:3"),
        (4, 3, "cuda", "cuda:3"),
        (4, 0, "cuda", "cuda:0"),
        (2, 3, "cuda", "cuda:1"),  # more processes than GPUs
        (4, 3, "cuda:2", "cuda:2"),
        (4, 3, torch.device("cuda"), "cuda:3"),
        (4, 3, torch.device("cuda:0"), "cuda:0"),
        (1, None, torch.device("cpu"), "cpu"),
    ],
)
def test_a_name_is_one_device(machine, gpus, local_rank, name, expected):
    machine(gpus, local_rank=local_rank, current=1)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("gpus", "name", "words"),
    [
        (0, "cuda", "--device cuda: PyTorch finds no GPU"),
        (0, "cuda:0", "--device cuda:0: PyTorch finds no GPU"),
        (1, "cuda:1", "--device cuda:1: PyTorch finds 1 GPU"),
        (2, "cuda:2", "--device cuda:2: PyTorch finds 2 GPUs"),
        (2, "gpu", "--device 'gpu': auto, cpu, cuda or cuda:N is required"),
        (2, "cuda:-1", "--device 'cuda:-1': auto, cpu, cuda or cuda:N is required"),
    ],
)
def test_what_is_not_there_is_one_line(machine, gpus, name, words):
    machine(gpus)
    with pytest.raises(UserError) as caught:
        choose_device(name)
    assert str(caught.value) == words


def test_a_run_s_option_is_named_in_its_own_words(machine):
    machine(0)
    with pytest.raises(UserError, match="^device=cuda: PyTorch finds no GPU$"):
        build_device(config_from_dict({"data": {"root": "x"}, "device": "cuda"}, "x"))


class Asked(Exception):
    """The device that a command asks its people detector onto."""


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_under_torchrun_commands_spread_over_the_gpus(tmp_path, machine, monkeypatch, name):
    def asked(*_, device, **__):
        raise Asked(str(device))

    def placed(_, device):
        raise Asked(str(device))

    monkeypatch.setattr("detection.pipeline.action_file.place_model", placed)
    monkeypatch.setattr("detection.people.weights.load_people_detector", asked)
    save_tiny_run(tmp_path / "run")
    write_squares(tmp_path / "clip.mp4", seconds=1)
    root, weights = make_dataset(tmp_path / "tiny", train=1, val=1), tmp_path / "people.pt"
    weights.touch()
    machine(4, local_rank=2)
    with pytest.raises(Asked, match="^cuda:2$"):
        detect_actions.main(
            [str(tmp_path / "clip.mp4"), "--checkpoint", str(tmp_path / "run"), "--quiet"]
            + ["--out", str(tmp_path / "out"), "--device", name, "--people", str(weights)]
        )
    with pytest.raises(Asked, match="^cuda:2$"):
        detect_people.main(
            ["--dataset", str(root), "--split", "val", "--weights", str(weights), "--quiet"]
            + ["--out", str(tmp_path / "boxes.csv"), "--device", name, "--workers", "0"]
        )
