"""What other projects call the weights of an X3D network, both ways.

Our names: `trunk.stem.spatial.weight`, `trunk.stages.2.0.expand_norm.bias`, `head.hidden.weight`.
One table per project; the same table reads and writes. Nothing here looks at a file's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

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
        """Translate one of our names; KeyError when they have no such weight."""
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


SLOWFAST = NameTable(
    mark="s1.pathway0_stem.conv_xy.weight",
    fixed={
        "trunk.stem.spatial": "s1.pathway0_stem.conv_xy",
        "trunk.stem.temporal": "s1.pathway0_stem.conv",
        "trunk.stem.norm": "s1.pathway0_stem.bn",
        "trunk.final": "head.conv_5",
        "trunk.final_norm": "head.conv_5_bn",
        "head.hidden": "head.lin_5",
        "head.classes": "head.projection",
    },
    block="s{stage}.pathway0_res{block}.",
    first_stage=2,
    parts={
        "expand": "branch2.a",
        "expand_norm": "branch2.a_bn",
        "depthwise": "branch2.b",
        "depthwise_norm": "branch2.b_bn",
        "squeeze.reduce": "branch2.se.fc1",
        "squeeze.restore": "branch2.se.fc2",
        "project": "branch2.c",
        "project_norm": "branch2.c_bn",
        "shortcut": "branch1",
        "shortcut_norm": "branch1_bn",
    },
    hidden_is_conv=True,
)

# Their conv_t is the spatial convolution and conv_xy the temporal one.
PYTORCHVIDEO = NameTable(
    mark="blocks.0.conv.conv_t.weight",
    fixed={
        "trunk.stem.spatial": "blocks.0.conv.conv_t",
        "trunk.stem.temporal": "blocks.0.conv.conv_xy",
        "trunk.stem.norm": "blocks.0.norm",
        "trunk.final": "blocks.5.pool.pre_conv",
        "trunk.final_norm": "blocks.5.pool.pre_norm",
        "head.hidden": "blocks.5.pool.post_conv",
        "head.classes": "blocks.5.proj",
    },
    block="blocks.{stage}.res_blocks.{block}.",
    first_stage=1,
    parts={
        "expand": "branch2.conv_a",
        "expand_norm": "branch2.norm_a",
        "depthwise": "branch2.conv_b",
        "depthwise_norm": "branch2.norm_b.0",
        "squeeze.reduce": "branch2.norm_b.1.block.0",
        "squeeze.restore": "branch2.norm_b.1.block.2",
        "project": "branch2.conv_c",
        "project_norm": "branch2.norm_c",
        "shortcut": "branch1_conv",
        "shortcut_norm": "branch1_norm",
    },
    hidden_is_conv=True,
)

MMACTION2 = NameTable(
    mark="conv1_s.conv.weight",
    fixed={
        "trunk.stem.spatial": "conv1_s.conv",
        "trunk.stem.temporal": "conv1_t.conv",
        "trunk.stem.norm": "conv1_t.bn",
        "trunk.final": "conv5.conv",
        "trunk.final_norm": "conv5.bn",
        "head.hidden": "cls_head.fc1",
        "head.classes": "cls_head.fc2",
    },
    block="layer{stage}.{block}.",
    first_stage=1,
    parts={
        "expand": "conv1.conv",
        "expand_norm": "conv1.bn",
        "depthwise": "conv2.conv",
        "depthwise_norm": "conv2.bn",
        "squeeze.reduce": "se_module.fc1",
        "squeeze.restore": "se_module.fc2",
        "project": "conv3.conv",
        "project_norm": "conv3.bn",
        "shortcut": "downsample.conv",
        "shortcut_norm": "downsample.bn",
    },
    hidden_is_conv=False,
)

TABLES: dict[Naming, NameTable] = {
    "slowfast": SLOWFAST,
    "pytorchvideo": PYTORCHVIDEO,
    "mmaction2": MMACTION2,
}


def recognise(keys: Iterable[str]) -> Naming | None:
    """Say whose names these are (without wrappers' prefixes); None when they are nobody's X3D."""
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
    nobody is recognised.
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
    for key, value in state.items():
        own_key = table.to_ours(key)
        if own_key is None:
            unknown.append(key)
        elif own_key == HIDDEN_WEIGHT and value.ndim == 5:
            ours[own_key] = value.flatten(1)  # (2048, C, 1, 1, 1)
        else:
            ours[own_key] = value
    return ours, tuple(unknown)


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
