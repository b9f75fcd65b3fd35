"""A search that is asked to stop ends soon, also while it waits for what another one holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from tiny_data import make_dataset

from detection.errors import EXIT_STOPPED
from detection.expansion.config import load_expand_config
from detection.expansion.folder import begin
from detection.expansion.scheduler import name_of
from detection.files import only_writer

REPOSITORY = Path(__file__).resolve().parents[2]


def test_asked_to_stop_while_a_run_folder_is_held_it_ends_without_it(tmp_path):
    data = make_dataset(tmp_path / "data", train=2, val=1)
    values = {
        "target": 0.35,
        "axes": ["frames"],
        "basis": {"crop_px": 32, "width_factor": 0.5, "step": 6},
        "training": {"data": {"root": str(data), "val_boxes": "ground-truth"}, "workers": 0},
        "output": str(tmp_path / "search"),
    }
    path, folder = tmp_path / "search.yaml", tmp_path / "search"
    path.write_text(yaml.safe_dump(values))
    config = load_expand_config(path)
    begin(config, folder)
    run = folder / "candidates" / name_of(config.basis.describe()) / "seed0"
    command = [sys.executable, "-m", "ava_tools.expand", "--cfg", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with only_writer(run, busy="is held by this test"):
        search = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while not search.stdout.readline().startswith("the videos give"):
                assert search.poll() is None, search.stderr.read()
            time.sleep(1)  # it waits for the folder from now on
            assert search.poll() is None
            search.send_signal(signal.SIGTERM)
            said = search.communicate(timeout=30)[1]  # otherwise it waits for ever
        finally:
            search.kill()
            search.wait()
    assert search.returncode == EXIT_STOPPED
    assert said.splitlines()[-1] == "stopped; the same command goes on from here"
    assert not (run / "run").exists()
