"""What decides a run's results: its options, and the content of every file that it reads.

Kept beside the results, so that a run knows its own unfinished work, and nobody is given the
results of one video for another's. A file is known by its content and its time, never by its path:
the same file at another place is the same input, another file of the same name is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.errors import UserError, printable
from detection.files import identity_of, sha256_of
from detection.people.base import PeopleDetector
from detection.people.shards import differences
from detection.people.weights import COCO, find_people_file
from detection.video.stream import VideoStream


@dataclass(frozen=True)
class Input:
    """One thing that is read. named: for people, as it was given.  content: what it is known by."""

    named: str
    content: Mapping[str, int | str]


@dataclass(frozen=True)
class Decisive:
    """Everything that decides the results. options: plain types.  inputs: by their part in it."""

    options: Mapping[str, Any]
    inputs: Mapping[str, Input] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it in the types that JSON gives back."""
        inputs = {
            name: {"named": each.named, "content": dict(each.content)}
            for name, each in self.inputs.items()
        }
        content: dict[str, Any] = json.loads(
            json.dumps({"options": dict(self.options), "inputs": inputs})
        )
        return content

    def differences_from(self, theirs: Mapping[str, Any]) -> str:
        """Say in a few words what differs from what `as_json` gave another run; "" where nothing.

        Inputs differ where their content does, whatever they are named.
        """
        ours = self.as_json()
        words = []
        for name in sorted({*theirs["inputs"], *ours["inputs"]}):
            first, second = theirs["inputs"].get(name), ours["inputs"].get(name)
            if (first or {}).get("content") == (second or {}).get("content"):
                continue
            there, here = ((each or {}).get("named", "none") for each in (first, second))
            if there == here:
                words.append(f"the {name} {printable(str(here))} has changed since")
            else:
                words.append(f"the {name} {printable(str(there))} there, {printable(here)} here")
        if theirs["options"] != ours["options"]:
            words.append(printable(differences(theirs["options"], ours["options"])))
        return "; ".join(words)


def video_input(stream: VideoStream) -> Input:
    """Return what a source is known by: a file's size, time and samples; any other's name."""
    if not Path(stream.source).is_file():
        return Input(stream.shown_name, {"source": stream.shown_name})
    try:
        return Input(stream.shown_name, identity_of(stream.source))
    except OSError as error:
        raise UserError(f"{stream.shown_name}: cannot be read ({error.strerror})") from error


def weights_input(path: str | Path) -> Input:
    """Return what weights are known by: a digest of all of them, for they are read whole anyway."""
    try:
        return Input(str(path), {"sha256": sha256_of(path)})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def people_input(people: str | Path | PeopleDetector) -> Input:
    """Return what a people detector is known by: its weights; an opened one by its name alone."""
    if not isinstance(people, str | Path):
        return Input(people.name, {"name": people.name})
    if str(people) == COCO:
        return Input(COCO, {"name": COCO})
    return weights_input(find_people_file(people))
