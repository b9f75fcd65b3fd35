"""The command from configuration to metrics.json, and what it says about mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny_data import make_dataset

from ava_tools.train_people import main
from detection.config import list_people_options, load_people_config
from detection.engine import loop, runs
from detection.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data", train=4, val=2)


def write_config(folder, root, **optim):
    values = {
        "data": {"root": str(root), "held_out_share": 0.25},
        "output": str(folder / "run"),
        "device": "cpu",
        "workers": 0,
        "picture": {"short_side_px": 64, "long_side_px": 96},
        "optim": {"epochs": 2, "batch_size": 4, "warmup_updates": 1, **optim},
    }
    path = folder / "people_tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_run_folder_and_scoring_again(tiny, tmp_path, capsys):
    config = write_config(tmp_path, tiny)
    assert main(["--cfg", str(config), "optim.lr=0.002"]) == 0
    run = tmp_path / "run"
    for name in ("config.yaml", "environment.json", "log.jsonl", "checkpoints/last.pt"):
        assert (run / name).is_file(), name
    assert len((run / "held_out_videos.txt").read_text().split()) == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["optim"]["lr"] == 0.002
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["made_up"] is True
    assert (metrics["val"]["num_pictures"], metrics["val"]["num_ground_truth"]) == (4, 4)
    assert metrics["held_out"]["num_pictures"] == 2
    for name in ("ap", "ap50", "ar", "recall50"):
        assert 0 <= metrics["val"][name] <= 1
    events = [json.loads(line)["event"] for line in (run / "log.jsonl").open()]
    assert events.count("update") == 4  # 6 keyframes are 2 batches, twice
    assert "AP50" in capsys.readouterr().out

    assert main(["--eval-only", "--checkpoint", str(run), f"output={tmp_path / 'again'}"]) == 0
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    for part in ("val", "held_out"):
        for result in (metrics, again):
            result[part].pop("pictures_per_second")
        assert again[part] == metrics[part]

    with pytest.raises(UserError, match="exists; go on with --resume"):
        main(["--cfg", str(config)])


def test_any_weights_can_be_scored(tiny, tmp_path):
    config = write_config(tmp_path, tiny)
    assert main(["--cfg", str(config), "optim.epochs=1"]) == 0
    weights = tmp_path / "run" / "checkpoints" / "last.pt"
    where = f"output={tmp_path / 'scored'}"
    assert main(["--eval-only", "--checkpoint", str(weights), "--cfg", str(config), where]) == 0
    metrics = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert metrics["held_out"] is None  # no one knows what other weights were trained on
    with pytest.raises(UserError, match="no class 'pig'"):
        main(
            ["--eval-only", "--checkpoint", str(weights), "--cfg", str(config), where]
            + ["--actor-class", "pig"]
        )


def test_signal_saves_and_resume_finishes(tiny, tmp_path):
    config = write_config(tmp_path, tiny, epochs=500)
    command = [sys.executable, "-m", "ava_tools.train_people"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--cfg", str(config)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and '"update"' in log.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 75, printed
    assert f"--resume {tmp_path / 'run'}" in printed
    assert not list((tmp_path / "run" / "checkpoints").glob(".writing*"))

    with pytest.raises(UserError, match="only workers, threads, device"):
        main(["--resume", str(tmp_path / "run"), "optim.epochs=1"])
    (tmp_path / "run" / "checkpoints" / "last.pt").rename(tmp_path / "run/checkpoints/best.pt")
    with pytest.raises(UserError, match=r"no checkpoints/last\.pt .*best\.pt"):
        main(["--resume", str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--cfg FILE is required"),
        (["--eval-only"], "go together"),
        (["--checkpoint", "x"], "go together"),
        (["--resume", "x", "--overwrite"], "takes its configuration from the run"),
        (["--resume", "/nowhere"], "this folder is not a run"),
        (["--cfg", "none.yaml"], "none.yaml: configuration file not found"),
        (["--cfg", "CFG", "optim.lrr=1"], "unknown option 'optim.lrr', did you mean 'optim.lr'"),
        (["--cfg", "CFG", "picture.scale_jitter=[2,1]"], r"scale_jitter must be \[low, high\]"),
        (["--cfg", "CFG", "data.source_pattern=("], "no regular expression"),
        (["--cfg", "CFG", "data.source_pattern=abc"], r"needs a group"),
        (["--cfg", "CFG", "data.root=/nowhere"], "dataset.yaml: file not found"),
        # The data set comes first: no weights should be fetched for one that is not there.
        (
            ["--cfg", "CFG", "data.root=/no", "model.start_from=none.pt"],
            "dataset.yaml: file not found",
        ),
        (["--cfg", "CFG", "data.train_split=night"], "split 'night' not found"),
        (
            ["--cfg", "CFG", "model.start_from=none.pt"],
            "none.pt: file of weights or run folder not found",
        ),
        (["--cfg", "CFG", "model.start_from=coco"], "no COCO weights for the 'small' network"),
        (["--eval-only", "--checkpoint", "none"], "none: file of weights or run folder not found"),
        (["--cfg", "CFG", "--actor-class", "pig"], "goes with --eval-only"),
    ],
)
def test_mistakes_are_one_line(tiny, tmp_path, arguments, message):
    config = str(write_config(tmp_path, tiny))
    with pytest.raises(UserError, match=message) as caught:
        main([config if word == "CFG" else word for word in arguments])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_exit_code_of_a_mistake():
    command = [sys.executable, "-m", "ava_tools.train_people", "--cfg", "none.yaml"]
    wrong = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: none.yaml: configuration file not found\n"


def test_help_needs_no_torch():
    program = (
        "import sys; from ava_tools.train_people import main\n"
        "try: main(['--help'])\nexcept SystemExit: assert 'torch' not in sys.modules"
    )
    helped = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "examples:\n  python -m ava_tools.train_people --cfg" in helped.stdout


@pytest.mark.parametrize("name", sorted(p.name for p in (REPOSITORY / "configs").glob("people_*")))
def test_every_configuration_is_valid(name):
    config = load_people_config(REPOSITORY / "configs" / name)
    assert config.output == f"runs/{name.removesuffix('.yaml')}"


def test_every_option_has_a_sentence():
    for key, _, _, sentence in list_people_options():
        assert sentence.endswith("."), key


def test_minutes_between_checkpoints_are_minutes(tiny, tmp_path, monkeypatch):
    """By this clock 10 s go by between two looks at it; an update takes one, a save another."""
    saved = []
    real = runs.save_checkpoint

    def note(path, **options):
        saved.append((path.stem, options["progress"].update))
        real(path, **options)

    monkeypatch.setattr(runs, "save_checkpoint", note)
    for minutes, expected in ((1000, [2]), (0.1, [1, 2, 2])):
        now = iter(range(0, 10**6, 10))
        monkeypatch.setattr(
            loop, "time", SimpleNamespace(monotonic=lambda now=now: float(next(now)))
        )
        saved.clear()
        config = write_config(tmp_path, tiny, epochs=1)
        main(["--cfg", str(config), "--overwrite", f"checkpoint_minutes={minutes}"])
        assert [update for name, update in saved if name == "last"] == expected
