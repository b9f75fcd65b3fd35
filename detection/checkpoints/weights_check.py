"""The one rule on what may be weights, whoever's file they come from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from detection.errors import UserError, printable

# What a layer computes with: whole numbers under these names are no weights of a network here.
_LEAVES = ("weight", "bias", "running_mean", "running_var")


def check_weights(path: str, state: Mapping[str, Tensor]) -> None:
    """Raise `UserError` for tensors that no network can compute with; `path` is named in it.

    Every kind of file goes through here: a value that is not finite (also one that does not fit
    into float32, and a negative running variance, whose root is taken), complex numbers, whole
    numbers in place of a layer's, tensors without storage, sparse or quantised ones, and ones that
    claim more numbers than the file holds.
    """
    bad: list[tuple[str, int, int]] = []
    for name, value in state.items():
        problem = _unusable(name, value)
        if problem is not None:
            raise UserError(f"{path}: weight {shown(name)} {problem}")
        count = count_not_finite(value)
        if count:
            bad.append((name, count, value.numel()))
        elif name.endswith("running_var") and value.numel() and float(value.min()) < 0:
            raise UserError(
                f"{path}: weight {shown(name)} holds a negative variance ({float(value.min()):g})"
            )
    if bad:
        first = "; ".join(f"{shown(name)}: {count} of {size}" for name, count, size in bad[:3])
        more = f"; and {len(bad) - 3} more tensors" if len(bad) > 3 else ""
        raise UserError(
            f"{path}: weights hold values that are not finite (NaN or infinite), in {len(bad)} of "
            f"{len(state)} tensors: {first}{more}; finite ones are required"
        )


def count_not_finite(value: Tensor) -> int:
    """Count the values that are not finite in float32, which networks compute in."""
    if not value.is_floating_point():
        return 0
    return value.numel() - int(torch.isfinite(value.detach().float()).sum())


def shown(name: str, longest: int = 120) -> str:
    """Return a name of a stranger's file, fit to be printed."""
    name = printable(name)
    return name if len(name) <= longest else f"{name[:longest]}..."


def _unusable(name: str, value: Tensor) -> str | None:
    """Say why no network can compute with a tensor; None: it can."""
    if value.is_meta:
        return "has a shape but no values (it was saved from the meta device)"
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        return "is sparse, nested or quantised, a plain tensor is required"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"claims {value.numel():,} numbers, more than the file holds"
    if value.is_complex():
        return "holds complex numbers, real ones are required"
    if name.rpartition(".")[2] in _LEAVES and not value.is_floating_point():
        dtype = str(value.dtype).removeprefix("torch.")
        return f"holds whole numbers ({dtype}), floating point is required"
    return None
