"""The device that networks run on."""

from __future__ import annotations

import os

import torch

from detection.errors import UserError


def choose_device(name: str | torch.device = "auto", *, option: str = "--device ") -> torch.device:
    """Return the device of a name: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:N.

    Under torchrun auto and cuda are another GPU for each process of a machine (LOCAL_RANK); more
    processes than GPUs share them. option: what stands before the name in errors. Raises
    `UserError` for a GPU that is not there and for a name that PyTorch does not know.
    """
    try:
        device = torch.device("cuda" if name == "auto" else name)
    except RuntimeError as error:
        raise UserError(f"{option}'{name}': auto, cpu, cuda or cuda:N is required") from error
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto" and not count:
        return torch.device("cpu")
    if (device.index or 0) >= count:
        raise UserError(f"{option}{name}: PyTorch finds {count or 'no'} GPU{'s' * (count > 1)}")
    if device.index is None:
        local_rank = os.environ.get("LOCAL_RANK")
        index = torch.cuda.current_device() if local_rank is None else int(local_rank) % count
        return torch.device("cuda", index)
    return device
