"""A run that is interrupted outside its updates says in one line how it goes on."""

from __future__ import annotations

import pytest
from tiny_data import make_dataset

import train_ava
from ava_tools.cli import exit_code_of
from detection.engine import runs

CFG = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64}
model: {variant: x2d, head_width: 32, freeze_batch_norm: true}
optim: {epochs: 1, batch_size: 4, lr: 0.01}
workers: 0
device: cpu
"""


@pytest.fixture
def cfg(tmp_path):
    data = make_dataset(tmp_path / "data", train=2, val=1)
    (tmp_path / "cfg.yaml").write_text(f"output: {tmp_path / 'run'}\ndata: {{root: {data}}}\n{CFG}")
    return str(tmp_path / "cfg.yaml")


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def last_line(capsys, *arguments: str) -> str:
    """Run a command that is interrupted; return the last line of stderr."""
    assert exit_code_of(lambda _: train_ava.main(arguments)) == 75
    return capsys.readouterr().err.splitlines()[-1]


def test_before_the_first_checkpoint_it_begins_again(tmp_path, cfg, capsys, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_fit_probe", interrupt)
        begin = (
            "interrupted; nothing was saved yet, begin again with: python train_ava.py "
            f"--resume {run}"
        )
        assert last_line(capsys, "--cfg", cfg) == begin
        assert last_line(capsys, "--resume", str(run)) == begin
    assert train_ava.main(["--resume", str(run)]) == 0
    assert (run / "metrics.json").is_file()


def test_while_it_is_scored_it_goes_on_from_its_last_weights(tmp_path, cfg, capsys, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "evaluate_and_report", interrupt)
        go_on = f"interrupted; go on with: python train_ava.py --resume {run}"
        assert last_line(capsys, "--cfg", cfg) == go_on
        # A checkpoint in it stands for the run.
        assert last_line(capsys, "--resume", str(run / "checkpoints" / "last.pt")) == go_on
    assert train_ava.main(["--resume", str(run)]) == 0
    assert (run / "metrics.json").is_file()


def test_before_there_is_a_run_there_is_nothing_to_go_on_with(cfg, capsys, monkeypatch):
    monkeypatch.setattr(runs, "start", interrupt)
    assert last_line(capsys, "--cfg", cfg) == "interrupted"
