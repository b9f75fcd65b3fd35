"""Shared fixtures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ava_tools.cli import SHARED

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each, also for the programs that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has SIGINT ignored, by all that they start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _no_exports_unasked() -> None:
    """Let commands run networks by PyTorch where a test does not say by what.

    Where OpenVINO is installed each tiny network would be exported first, which takes seconds.
    """
    SHARED["--runtime"]["default"] = "torch"


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Put SIGINT and SIGTERM back: a command run in this process leaves them ignored.

    Programs started by later tests would inherit that.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def find_real_data() -> Path | None:
    """Return the folder of real clips and labels, or None where there is none."""
    for candidate in (os.environ.get("ACTION_DATA"), REPOSITORY.parent / "shared" / "data"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips and labels; the test is skipped where there is none."""
    folder = find_real_data()
    if folder is None:
        pytest.skip("no real data: set ACTION_DATA to its folder")
    return folder
