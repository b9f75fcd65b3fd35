"""Processor time of `--help` of every command; the limit is 0.3 s.

python benchmarks/help_speed.py [--rounds 3]

The least of some rounds, each a fresh program. Ends with 1 where a command is over the limit.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from ava_tools.__main__ import verb_modules  # noqa: E402

LIMIT_S = 0.3


def help_s(module: str) -> float:
    """Return the processor time that one `--help` takes, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", module, "--help"], cwd=REPOSITORY, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of which the least counts (3)")
    rounds = parser.parse_args().rounds
    slow = 0
    for verb, module in {"(list)": "ava_tools", **verb_modules()}.items():
        least = min(help_s(module) for _ in range(rounds))
        slow += least > LIMIT_S
        print(f"{verb:16}{least:7.3f} s")
    print(f"{slow} commands above {LIMIT_S:g} s")
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
