"""Three hundred generated bad inputs over all commands end well; undamaged ones end with 0."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path

import pytest
from run_cases import load_modules, run_case, run_command_line
from valid_inputs import COMMANDS, make_valid_inputs

import ava_tools

COUNT, BATCHES = 300, 10


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    here = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            make_valid_inputs(folder)
    finally:
        os.chdir(here)
    load_modules()
    return folder


def test_every_command_is_among_them():
    modules = {path.stem for path in Path(ava_tools.__file__).parent.glob("*.py")}
    # These compute for longer than a case may; their bad input is in tests of their own.
    apart = {"teach", "learn_thresholds", "export", "score_tubes", "score_events"}
    apart |= {"__init__", "__main__", "cli", "import_bridges", "import_tools"}  # no commands
    assert {command.module for command in COMMANDS} == modules - apart | {"train_ava"}


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_the_undamaged_input_ends_with_0(valid, tmp_path, number):
    outcome = run_command_line(COMMANDS[number], valid, tmp_path / "case")
    assert outcome.code == (2 if COMMANDS[number].module == "download" else 0), outcome.stderr
    assert not outcome.faults(), outcome.faults()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_bad_input_ends_with_one_line_in_time_and_memory(valid, tmp_path, batch):
    bad = []
    for case in range(batch * COUNT // BATCHES, (batch + 1) * COUNT // BATCHES):
        outcome = run_case(case, 0, valid, tmp_path / str(case))
        shutil.rmtree(tmp_path / str(case))
        if outcome.faults():
            bad.append(f"case {case}: {outcome.what}: {outcome.faults()}\n{outcome.stderr[-2000:]}")
    assert not bad, "\n".join(bad)
