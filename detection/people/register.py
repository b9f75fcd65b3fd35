"""Names a box file in `dataset.yaml`, so that `data.val_boxes=NAME` finds it.

The line is put into the file's own text: a person's comments and order stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from detection.datasets.folder import (
    FILE_NAME,
    DatasetFile,
    DatasetFolder,
    PeoplePart,
    write_dataset_file,
)
from detection.errors import UserError
from detection.files import only_writer, write_text
from detection.structures import GROUND_TRUTH_BOXES


def check_box_name(
    folder: DatasetFolder, split_name: str, name: str, path: Path, *, overwrite: bool
) -> str:
    """Return `path` as dataset.yaml would hold it; `UserError` where it cannot be registered."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name) or name == GROUND_TRUTH_BOXES:
        raise UserError(
            f"'{name}' cannot name boxes: letters, digits and _ . + - are required, "
            f"and '{GROUND_TRUTH_BOXES}' means the annotations' own"
        )
    root = folder.root.resolve()
    whole = path.parent.resolve() / path.name
    if not whole.is_relative_to(root):
        raise UserError(
            f"{path}: lies outside the data set folder {folder.root}, so {FILE_NAME} cannot name it"
        )
    relative = whole.relative_to(root).as_posix()
    part = folder.file.splits[split_name]
    if part.boxes.get(name, relative) != relative and not overwrite:
        raise UserError(
            f"{folder.root / FILE_NAME}: split '{split_name}' has boxes '{name}' already "
            f"({part.boxes[name]}); choose another name, or add --overwrite"
        )
    annotations = [part.annotations, part.exclusions, part.videos, folder.file.label_map]
    if relative in [FILE_NAME, *annotations]:
        raise UserError(f"{path}: would replace a file of the data set")
    return relative


def register_boxes(
    folder: DatasetFolder,
    split_name: str,
    name: str,
    relative: str,
    *,
    people: PeoplePart | None = None,
) -> None:
    """Write `boxes: {name: relative}` into a split of `dataset.yaml`, whole or not at all.

    people: the detector that found the boxes, which becomes the data set's own.
    """
    with only_writer(folder.root, busy="another process names boxes", may_wait=lambda: True):
        now = DatasetFolder.open(folder.root).file  # as it is now: others may have written it
        part = now.splits[split_name]
        boxes = {**part.boxes, name: relative}
        known = now.people if people is None else people
        if boxes == part.boxes and known == now.people:
            return
        splits = {**now.splits, split_name: part.model_copy(update={"boxes": boxes})}
        required = now.model_copy(update={"splits": splits, "people": known})
        path = folder.root / FILE_NAME
        text = path.read_text(encoding="utf-8")
        if boxes != part.boxes:
            text = _with_boxes(text, split_name, name, relative)
        if known is not None and known != now.people:
            text = _with_people(text, known)
        if _holds(folder.root, text, required):
            write_text(path, text)
        else:  # an unusual way to write YAML: its comments are lost, its content is not
            write_dataset_file(folder.root, required)


def _holds(root: Path, text: str, required: DatasetFile) -> bool:
    """Say whether the text, read back, is the content that is required."""
    try:
        return DatasetFile.model_validate(yaml.safe_load(text)) == required
    except (yaml.YAMLError, ValueError):
        return False


def _with_boxes(text: str, split_name: str, name: str, relative: str) -> str:
    """Return the text with one more line (or a changed path) in the split."""
    split = _value(_value(yaml.compose(text, Loader=yaml.SafeLoader), "splits"), split_name)
    boxes = _value(split, "boxes")
    name, relative = _scalar(name), _scalar(relative)
    known = _value(boxes, yaml.safe_load(name))
    if known is not None:
        return text[: known.start_mark.index] + relative + text[known.end_mark.index :]
    if boxes is not None:
        return _insert(text, boxes, f"{name}: {relative}", [f"{name}: {relative}"])
    lines = ["boxes:", f"  {name}: {relative}"]
    return _insert(text, split, f"boxes: {{{name}: {relative}}}", lines)


def _with_people(text: str, people: PeoplePart) -> str:
    """Return the text with the data set's detector, in place of another or as its last line."""
    values = people.model_dump(exclude_none=True)
    flow = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10**6).strip()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    known = _value(root, "people")
    if known is None:
        return _insert(text, root, f"people: {flow}", [f"people: {flow}"])
    tail = text[known.start_mark.index : known.end_mark.index]
    end = known.start_mark.index + len(tail.rstrip())
    return text[: known.start_mark.index] + flow + text[end:]


def _insert(text: str, mapping: yaml.Node | None, flow: str, lines: list[str]) -> str:
    """Return the text with one more entry at the end of a mapping, in the mapping's own style."""
    if not isinstance(mapping, yaml.MappingNode):
        return text
    if mapping.flow_style:
        end = mapping.end_mark.index - 1
        return text[:end].rstrip() + (", " if mapping.value else "") + flow + text[end:]
    leaf: yaml.Node = mapping
    while isinstance(leaf, yaml.MappingNode) and leaf.value and not leaf.flow_style:
        leaf = leaf.value[-1][1]
    end = text.find("\n", leaf.end_mark.index)
    end = len(text) if end < 0 else end
    indent = " " * mapping.value[0][0].start_mark.column
    return text[:end] + "".join(f"\n{indent}{line}" for line in lines) + text[end:]


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            if key_node.value == key:
                found: yaml.Node = value
                return found
    return None


def _scalar(value: str) -> str:
    """Return a string as YAML, quoted where it must be."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()[1:-1]
