"""Weights in anybody's file: found, checked, taken out of wrappers, and under our names.

Three rules for every kind of file. What no network can compute with is refused (`check_weights`).
What DDP, Lightning and the like put before names is taken off, and what is chosen or left out is
said in notes; what is then still unknown is for the network's own check, which refuses it by name.
Names of other projects are translated by one table each, which reads and writes. Ours:
`trunk.stem.spatial.weight`, `trunk.stages.2.0.expand_norm.bias`, `head.hidden.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from detection.errors import UserError, printable

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
_BOOKKEEPING = re.compile(
    r"n_averaged|[^.]*(loss|criterion|metric|accuracy|auroc|confusion|confmat)[^.]*\..+"
    r"|([^.]*_)?(acc|f1|map|top_?\d|precision|recall)(_[^.]*)?\d*\..+",
    re.I,
)
_DEEPEST = 3  # of keys within keys
_MOST_PREFIXES = 8
# What a layer computes with: whole numbers under these names are no weights of a network here.
_LEAVES = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class FoundState:
    """Weights by the names of the file, and a sentence on what else might have been meant."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def find_state(path: str, content: Any) -> FoundState:
    """Find the weights in a file of another project, by the names of the file, checked.

    Notes say which of several sets of weights was taken. Raises `UserError` where there are none,
    and for values that no network can compute with.
    """
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


def unwrap(path: str, state: Mapping[str, Tensor]) -> FoundState:
    """Drop what DDP, AveragedModel, torch.compile, FSDP and Lightning add to names.

    A prefix goes only from the names that have it. Buffers of losses and metrics and
    AveragedModel's counter are left out, with a note. Raises `UserError` where two weights would
    then have one name.
    """
    names = {key: _INNER.sub(r"\1", key) for key in state}
    for _ in range(_MOST_PREFIXES):
        prefix = next((p for p in PREFIXES if any(n.startswith(p) for n in names.values())), None)
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


Naming = Literal["own", "slowfast", "pytorchvideo", "mmaction2"]

HIDDEN_WEIGHT = "head.hidden.weight"
OWN_MARK = "trunk.stem.spatial.weight"
OWN_BLOCK = re.compile(r"trunk\.stages\.(\d+)\.(\d+)\.(.+)")


@dataclass(frozen=True)
class NameTable:
    """One project's names.

    fixed: our prefix -> theirs, outside the blocks.  block: their prefix of a block, with `{stage}`
    counted from `first_stage` for res2.  parts: our part of a block -> theirs.  mark: a key that
    every file of theirs holds and no other project's does.  hidden_is_conv: fc1 is stored as a
    1x1x1 convolution.
    """

    mark: str
    fixed: Mapping[str, str]
    block: str
    first_stage: int
    parts: Mapping[str, str]
    hidden_is_conv: bool
    _block_pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pattern = re.escape(self.block)
        for name in ("stage", "block"):
            pattern = pattern.replace(re.escape(f"{{{name}}}"), rf"(?P<{name}>\d+)")
        object.__setattr__(self, "_block_pattern", re.compile(pattern + r"(?P<part>.+)"))

    def to_theirs(self, key: str) -> str:
        """Translate one of our names; KeyError when they have no weight of this name."""
        match = OWN_BLOCK.fullmatch(key)
        if match is None:
            return replace_prefix(key, self.fixed)
        stage, block = int(match[1]) + self.first_stage, int(match[2])
        prefix = self.block.format(stage=stage, block=block)
        return prefix + replace_prefix(match[3], self.parts)

    def to_ours(self, key: str) -> str | None:
        """Translate one of their names; None for one that is not part of X3D."""
        match = self._block_pattern.fullmatch(key)
        table, start, rest = {v: k for k, v in self.fixed.items()}, "", key
        if match is not None and int(match["stage"]) >= self.first_stage:
            stage = int(match["stage"]) - self.first_stage
            if stage < 4:
                table = {v: k for k, v in self.parts.items()}
                start, rest = f"trunk.stages.{stage}.{int(match['block'])}.", match["part"]
        try:
            return start + replace_prefix(rest, table)
        except KeyError:
            return None


# Ours -> SlowFast's, pytorchvideo's (whose conv_t is the spatial convolution and conv_xy the
# temporal one) and mmaction2's.
_FIXED = {
    "trunk.stem.spatial": ("s1.pathway0_stem.conv_xy", "blocks.0.conv.conv_t", "conv1_s.conv"),
    "trunk.stem.temporal": ("s1.pathway0_stem.conv", "blocks.0.conv.conv_xy", "conv1_t.conv"),
    "trunk.stem.norm": ("s1.pathway0_stem.bn", "blocks.0.norm", "conv1_t.bn"),
    "trunk.final": ("head.conv_5", "blocks.5.pool.pre_conv", "conv5.conv"),
    "trunk.final_norm": ("head.conv_5_bn", "blocks.5.pool.pre_norm", "conv5.bn"),
    "head.hidden": ("head.lin_5", "blocks.5.pool.post_conv", "cls_head.fc1"),
    "head.classes": ("head.projection", "blocks.5.proj", "cls_head.fc2"),
}
_PARTS = {
    "expand": ("branch2.a", "branch2.conv_a", "conv1.conv"),
    "expand_norm": ("branch2.a_bn", "branch2.norm_a", "conv1.bn"),
    "depthwise": ("branch2.b", "branch2.conv_b", "conv2.conv"),
    "depthwise_norm": ("branch2.b_bn", "branch2.norm_b.0", "conv2.bn"),
    "squeeze.reduce": ("branch2.se.fc1", "branch2.norm_b.1.block.0", "se_module.fc1"),
    "squeeze.restore": ("branch2.se.fc2", "branch2.norm_b.1.block.2", "se_module.fc2"),
    "project": ("branch2.c", "branch2.conv_c", "conv3.conv"),
    "project_norm": ("branch2.c_bn", "branch2.norm_c", "conv3.bn"),
    "shortcut": ("branch1", "branch1_conv", "downsample.conv"),
    "shortcut_norm": ("branch1_bn", "branch1_norm", "downsample.bn"),
}


def _table(column: int, block: str, *, first_stage: int, hidden_is_conv: bool = True) -> NameTable:
    fixed, parts = ({k: v[column] for k, v in table.items()} for table in (_FIXED, _PARTS))
    mark = f"{fixed['trunk.stem.spatial']}.weight"
    return NameTable(mark, fixed, block, first_stage, parts, hidden_is_conv)


TABLES: dict[Naming, NameTable] = {
    "slowfast": _table(0, "s{stage}.pathway0_res{block}.", first_stage=2),
    "pytorchvideo": _table(1, "blocks.{stage}.res_blocks.{block}.", first_stage=1),
    "mmaction2": _table(2, "layer{stage}.{block}.", first_stage=1, hidden_is_conv=False),
}


def recognise(keys: Iterable[str]) -> Naming | None:
    """Say whose names these are (without wrappers' prefixes); None: of no known X3D."""
    found = set(keys)
    if OWN_MARK in found:
        return "own"
    for naming, table in TABLES.items():
        if table.mark in found:
            return naming
    return None


def recognise_wrapped(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Naming | None]:
    """Say whose names these are, also where all of the network stands behind one prefix.

    mmaction2's recogniser keeps its trunk in `backbone.`, and not its head; a trainer's own module
    may call the network anything (`net.`). The prefix is dropped from the names that have it,
    unless two weights would then have one name; where networks stand behind several prefixes,
    none is recognised.
    """
    naming = recognise(state)
    if naming is not None:
        return dict(state), naming
    marks = (OWN_MARK, *(table.mark for table in TABLES.values()))
    prefixes = {k.removesuffix(mark) for k in state for mark in marks if k.endswith(f".{mark}")}
    if len(prefixes) == 1:
        (prefix,) = prefixes
        bare = {key.removeprefix(prefix): value for key, value in state.items()}
        if len(bare) == len(state):
            return bare, recognise(bare)
    return dict(state), None


def to_own_names(
    state: Mapping[str, Tensor], naming: Naming
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Translate a state dict; also return the keys that are no weights of an X3D network."""
    if naming == "own":
        return dict(state), ()
    table = TABLES[naming]
    ours: dict[str, Tensor] = {}
    unknown = []
    inner = _class_layer_within(state, table.fixed["head.classes"])
    for key, value in state.items():
        own_key = table.to_ours(inner.get(key, key))
        if own_key is None:
            unknown.append(key)
        elif own_key == HIDDEN_WEIGHT and value.ndim == 5:
            ours[own_key] = value.flatten(1)  # (2048, C, 1, 1, 1)
        else:
            ours[own_key] = value
    return ours, tuple(unknown)


def _class_layer_within(state: Mapping[str, Tensor], layer: str) -> dict[str, str]:
    """Return the names of a class layer that stands in a Sequential -> the layer's own.

    Whoever trains on other classes may put a dropout before it (`blocks.5.proj.1.weight`). Where a
    Sequential has several layers, none of them alone is the class layer.
    """
    within = re.compile(rf"{re.escape(layer)}\.(\d+)\.(weight|bias)")
    found = {key: match for key in state if (match := within.fullmatch(key)) is not None}
    if f"{layer}.weight" in state or len({match[1] for match in found.values()}) != 1:
        return {}
    return {key: f"{layer}.{match[2]}" for key, match in found.items()}


def to_their_names(state: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """Translate our state dict into another project's names and shapes."""
    if naming == "own":
        return dict(state)
    table = TABLES[naming]
    theirs = {}
    for key, value in state.items():
        if key == HIDDEN_WEIGHT and table.hidden_is_conv:
            value = value[:, :, None, None, None]
        theirs[table.to_theirs(key)] = value
    return theirs


def replace_prefix(key: str, table: Mapping[str, str]) -> str:
    """Replace all but the last part of a dotted name by its entry in `table` (else KeyError)."""
    prefix, _, leaf = key.rpartition(".")
    return f"{table[prefix]}.{leaf}"
