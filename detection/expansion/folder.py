"""The folder of a search: its options, and the network that it chose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from detection.errors import UserError
from detection.expansion.config import ExpandConfig, to_values
from detection.expansion.report import Units
from detection.expansion.scheduler import name_of, with_network
from detection.expansion.search import Candidate
from detection.files import write_text
from detection.yaml_files import read_yaml

# Options that do not affect what a search finds.
_CHANGEABLE = ("jobs", "threads", "output")
_BEFORE_IT_BEGINS = ("lock", "costs.json")


def settings_of(config: ExpandConfig) -> dict[str, Any]:
    """Return the options that affect what a search finds."""
    return {key: value for key, value in to_values(config).items() if key not in _CHANGEABLE}


def refuse_another(config: ExpandConfig, folder: Path, *, first: bool) -> None:
    """Raise `UserError` for a folder of another search, naming the differences, or of other files.

    first: whether this is the first process of the search; the others may find it started.
    """
    path = folder / "search.yaml"
    if path.is_file():
        theirs = read_yaml(path, what="search").values
        differences = [
            f"{key}: {theirs_value!r} there, {mine_value!r} here"
            for key, theirs_value, mine_value in differing(theirs, settings_of(config))
        ]
        if differences:
            raise UserError(
                f"{path}: the folder holds another search ({'; '.join(differences)}); choose "
                "another with output=FOLDER"
            )
    elif first and any(found.name not in _BEFORE_IT_BEGINS for found in folder.iterdir()):
        raise UserError(f"{folder}: holds files but no search, choose another output=FOLDER")


def begin(config: ExpandConfig, folder: Path) -> None:
    """Write the search's options into its folder, if missing."""
    if not (folder / "search.yaml").is_file():
        write_text(folder / "search.yaml", yaml.safe_dump(settings_of(config), sort_keys=False))


def write_chosen(config: ExpandConfig, chosen: Candidate, folder: Path, units: Units) -> None:
    """Write the chosen network as a configuration for train_ava.py."""
    values = with_network(config.training, chosen.description)
    values["output"] = str(folder / "chosen")
    failure = chosen.outcome.failure
    score = f"{units.score} {chosen.outcome.mean:.4f}" if failure is None else "training failed"
    head = (
        f"# {name_of(chosen.description)}: {chosen.cost / units.scale:.4g} {units.cost}, "
        f"{score} in the search.\n"
        f"#   python train_ava.py --cfg {folder / 'chosen.yaml'}\n"
    )
    write_text(folder / "chosen.yaml", head + yaml.safe_dump(values, sort_keys=False))


def differing(
    theirs: Mapping[str, Any], mine: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, theirs, mine) of every value that differs."""
    found = []
    for key in dict.fromkeys([*theirs, *mine]):
        one, other = theirs.get(key), mine.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += differing(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append((f"{prefix}{key}", one, other))
    return found
