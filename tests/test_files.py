"""Files written whole or not at all, also where the disk is full."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from detection.errors import UserError
from detection.files import replacing

REPOSITORY = Path(__file__).resolve().parent.parent
FULL = """
import resource, signal, sys
from detection.files import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(sys.argv[1], "x" * 100000)
except ValueError as error:
    print("refused:", error)
"""


def test_a_disk_that_takes_no_more_is_one_line_and_the_old_file_stays(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == (
        f"refused: {path}: cannot be written (File too large); nothing was changed\n"
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_torch_wraps_is_told_by_its_cause_and_other_errors_are_left_alone(tmp_path):
    path = tmp_path / "weights.pt"
    full = r"weights.pt: cannot be written \(No space left"
    with pytest.raises(UserError, match=full), replacing(path):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("unexpected pos 704 vs 598") from error
    with pytest.raises(RuntimeError, match="a fault"), replacing(path):
        raise RuntimeError("a fault")
    assert list(tmp_path.iterdir()) == []
