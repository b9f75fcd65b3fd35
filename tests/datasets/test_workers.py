"""Worker processes are gone when they should be, also where a traceback holds their loader."""

import gc
import multiprocessing
import os
import subprocess
import sys
import time

import pytest
from torch.utils.data import DataLoader

from detection.datasets.workers import ManagedLoader, start_worker


def make(workers=2):
    return ManagedLoader(
        DataLoader(
            range(8),
            num_workers=workers,
            worker_init_fn=start_worker,
            persistent_workers=workers > 0,
        )
    )


def test_workers_stay_between_passes_and_end_when_closed():
    before = set(multiprocessing.active_children())
    readers = make()
    assert [int(n) for n in readers] == list(range(8))
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    assert [int(n) for n in readers] == list(range(8))
    assert set(multiprocessing.active_children()) - before == started
    readers.close()
    assert not any(worker.is_alive() for worker in started)
    assert [int(n) for n in readers] == list(range(8))
    readers.close()
    readers.close()


def test_workers_of_a_loader_in_a_garbage_cycle_end_at_once():
    before = set(multiprocessing.active_children())
    readers = make()
    iterator = iter(readers)
    next(iterator)
    started = set(multiprocessing.active_children()) - before
    cycle = [readers, iterator]
    cycle.append(cycle)
    del readers, iterator, cycle
    start = time.monotonic()
    gc.collect()
    assert len(started) == 2 and not any(worker.is_alive() for worker in started)
    # Torch gives a lost message twice five seconds a worker; a busy machine takes some for two.
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("workers", [1, 2])
def test_a_program_that_fails_while_it_reads_ends(workers):
    program = f"""
from torch.utils.data import DataLoader
from detection.datasets.workers import ManagedLoader
from detection.datasets.workers import start_worker

def read():
    loader = DataLoader(range(8), num_workers={workers}, worker_init_fn=start_worker,
                        persistent_workers=True)
    readers = ManagedLoader(loader)
    for number in readers:
        raise KeyError(int(number))

try:
    read()
except KeyError as error:
    kept = error  # and with it the frame that holds the loader
raise kept
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "KeyError: 0" in done.stderr


def test_a_forked_process_leaves_the_workers_alone():
    readers = make(1)
    next(iter(readers))
    if (child := os.fork()) == 0:
        readers.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [int(n) for n in readers] == list(range(8))
    readers.close()


def test_no_workers_and_workers_without_owner():
    readers = make(0)
    assert [int(n) for n in readers] == list(range(8))
    readers.close()
    with pytest.raises(ValueError, match="must be persistent"):
        ManagedLoader(DataLoader(range(8), num_workers=1))
