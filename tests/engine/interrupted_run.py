"""train_ava.py that stops itself as by a signal: `interrupted_run.py UPDATES arguments...`."""

from __future__ import annotations

import sys

import train_ava
from ava_tools.cli import run_command
from detection.engine import runs
from detection.errors import EXIT_STOPPED

real = runs.train_epochs
updates = iter(range(1, 1000))


def stopped(*arguments, **options):
    # Of two processes only one is told to stop, as where a signal reaches only one of them.
    limit = int(sys.argv[1]) if arguments[0].processes.rank == 1 else 1000
    options["should_stop"] = lambda: next(updates) >= limit
    return real(*arguments, **options)


runs.train_epochs = stopped
# torchrun takes any other exit code for a failure and shouts.
run_command(lambda _: int(train_ava.main(sys.argv[2:]) != EXIT_STOPPED))
