"""Weights as other trainers wrap them: under which key they stand, and what is put before names.

One rule for every kind of file. What is taken off, chosen or left out is said in notes; what is
then still unknown is for the network's own check, which refuses it by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from detection.checkpoints.weights_check import check_weights, shown
from detection.errors import UserError

# Where weights stand, the usual ones first: SlowFast, Lightning and mmaction2, DeepSpeed,
# torchvision, and averages of weights, which are taken where there is nothing else.
STATE_KEYS = (
    *("model_state", "state_dict", "model_state_dict", "model", "module"),
    *("net", "network", "weights", "params"),
    *("model_ema", "ema", "ema_state", "ema_state_dict", "state_dict_ema", "ema_model"),
)
_AVERAGED = tuple(key for key in STATE_KEYS if "ema" in key)
PREFIXES = ("module.", "model.", "_orig_mod.")  # DDP and AveragedModel, Lightning, torch.compile
# Put between the parts of a name where only a part of a network was compiled or shared out.
_INNER = re.compile(r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
_BOOKKEEPING = re.compile(r"n_averaged|[^.]*(loss|criterion|metric|accuracy)[^.]*\..+", re.I)
_DEEPEST = 3  # of keys within keys
_MOST_PREFIXES = 8


@dataclass(frozen=True)
class FoundState:
    """Weights by the names of the file, and a sentence on what else might have been meant."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def find_state(path: str, content: Any) -> dict[str, Tensor]:
    """Find the weights in a file of another project, by the names of the file, checked.

    Raises `UserError` where there are none, and for values that no network can compute with.
    """
    return find_noted_state(path, content).state


def find_noted_state(path: str, content: Any) -> FoundState:
    """Do the work of `find_state`, and say which of several sets of weights was taken."""
    found = _search(content, _DEEPEST)
    if found is None:
        raise UserError(f"{path}: holds no weights ({type(content).__name__} without tensors)")
    place, state = found
    check_weights(path, state)
    others = [
        key
        for key in _AVERAGED
        if place and key != place and isinstance(content, Mapping) and _search(content.get(key), 1)
    ]
    note = f"weights of '{place}' are taken; the file has averaged ones too: {', '.join(others)}"
    return FoundState(state, (note,) if others else ())


def _search(content: Any, depth: int) -> tuple[str, dict[str, Tensor]] | None:
    """Return the key (empty: none) and the tensors of the first mapping that holds some."""
    if not isinstance(content, Mapping):
        return None
    if depth:
        for key in STATE_KEYS:
            found = _search(content.get(key), depth - 1)
            if found is not None:
                return key, found[1]
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return ("", state) if state else None


def unwrap(
    path: str, state: Mapping[str, Tensor], *, prefixes: Sequence[str] = PREFIXES
) -> FoundState:
    """Drop what DDP, AveragedModel, torch.compile, FSDP and Lightning add to names.

    A prefix goes only from the names that have it. Buffers of losses and metrics and
    AveragedModel's counter are left out, with a note. Raises `UserError` where two weights would
    then have one name.
    """
    names = {key: _INNER.sub(r"\1", key) for key in state}
    for _ in range(_MOST_PREFIXES):
        prefix = next((p for p in prefixes if any(n.startswith(p) for n in names.values())), None)
        if prefix is None:
            break
        names = {key: name.removeprefix(prefix) for key, name in names.items()}
    beside = {key for key, name in names.items() if _BOOKKEEPING.fullmatch(name)}
    unwrapped: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in beside:
            continue
        if names[key] in unwrapped:
            raise UserError(
                f"{path}: two of its weights are called {shown(names[key])} once wrappers are "
                "taken off their names; a file with one of them is required"
            )
        unwrapped[names[key]] = value
    if not beside:
        return FoundState(unwrapped)
    named = ", ".join(map(shown, sorted(beside)[:3])) + (", ..." if len(beside) > 3 else "")
    return FoundState(unwrapped, (f"left out, no weights of the network: {len(beside)} ({named})",))
