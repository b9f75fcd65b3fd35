"""How many batches go through the networks at a time, on this machine's cores and memory."""

from __future__ import annotations

from collections.abc import Callable

# What a network keeps of a forward pass on a CPU, in bytes a pixel of its input: about the largest
# of those measured (X3D-XS 215, X3D-M 105, mobile_320 463).
BYTES_PER_CLIP_PX = 250
BYTES_PER_PEOPLE_PX = 500
SHARE_OF_MEMORY = 0.5  # the rest is for weights, kept frames, the encoder and others


def group_size(batch_size: int, workers: int) -> int:
    """Return how many keyframes a batch has: one more batch is gathered while others compute."""
    return max(1, batch_size // (workers + 1))


def most_workers(batch_size: int, *, cores: int, threads: int) -> int:
    """Return how many batches are in the networks at a time where memory is plenty, on a CPU."""
    return max(1, min(cores, max(2, threads), batch_size - 1))


def choose_workers(
    batch_size: int,
    *,
    cores: int,
    threads: int,
    memory_bytes: int | None,
    batch_bytes: Callable[[int], int],
) -> int:
    """Return how many batches of keyframes are best in the networks at a time, on a CPU.

    As many as there are cores, with a thread each. They are fewer where `batch_size` keyframes
    under way make fewer batches, where PyTorch has fewer `threads` (of two or more: it was told to
    leave cores to others), and where the batches would together keep more than half of
    `memory_bytes` (None: not known) and more than the one batch of one worker. The cores that are
    left over are threads of each.

    batch_bytes: what the networks keep for a batch of so many keyframes.
    """
    most = most_workers(batch_size, cores=cores, threads=threads)
    if memory_bytes is None:
        return most
    allowed = max(SHARE_OF_MEMORY * memory_bytes, batch_bytes(group_size(batch_size, 1)))
    fitting = (
        workers
        for workers in range(most, 0, -1)
        if workers * batch_bytes(group_size(batch_size, workers)) <= allowed
    )
    return next(fitting, 1)
