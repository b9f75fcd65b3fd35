"""Identity of a run's results: its options and the content of every file that it reads.

It is stored beside the results, so that a run resumes only its own unfinished work. A file is
identified by content and modification time, never by path: a moved file is the same input, another
file of the same name is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.errors import UserError, printable
from detection.files import identity_of, sha256_of, sha256_of_text
from detection.people.shards import differences
from detection.video.stream import VideoStream

if TYPE_CHECKING:
    import torch

    from detection.people.base import PeopleDetector


@dataclass(frozen=True)
class Input:
    """One input file or source.

    named: for people, as it was given.
    content: what it is known by.
    """

    named: str
    content: Mapping[str, int | str]


@dataclass(frozen=True)
class Decisive:
    """Everything that determines the results.

    options: plain types.
    inputs: by their part in it.
    """

    options: Mapping[str, Any]
    inputs: Mapping[str, Input] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as the plain types that JSON has."""
        inputs = {
            name: {"named": each.named, "content": dict(each.content)}
            for name, each in self.inputs.items()
        }
        content: dict[str, Any] = json.loads(
            json.dumps({"options": dict(self.options), "inputs": inputs})
        )
        return content

    def differences_from(self, theirs: Mapping[str, Any]) -> str:
        """Describe the differences from another run's `as_json`; "" if there are none.

        Inputs are compared by content, whatever their names.
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


def common_key(state: Mapping[str, Any]) -> str:
    """Return a digest of what is the same for all videos of a run.

    state: as `Decisive.as_json`, or what run.json holds.
    """
    options = {name: value for name, value in state["options"].items() if name != "video_id"}
    inputs = {n: each["content"] for n, each in state["inputs"].items() if n != "video"}
    return sha256_of_text(json.dumps([options, inputs], sort_keys=True))


def video_input(stream: VideoStream) -> Input:
    """Identify a source: a file by size, time and samples, any other by name."""
    if not Path(stream.source).is_file():
        return Input(stream.shown_name, {"source": stream.shown_name})
    try:
        return Input(stream.shown_name, identity_of(stream.source))
    except OSError as error:
        raise UserError(f"{stream.shown_name}: cannot be read ({error.strerror})") from error


def weights_input(path: str | Path) -> Input:
    """Identify weights by a digest of the whole file, which is read anyway."""
    try:
        return Input(str(path), {"sha256": sha256_of(path)})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def people_input(people: str | Path | PeopleDetector, device: torch.device) -> Input:
    """Identify a people detector by its weights; an opened one by its name alone.

    device: decides which network `coco` stands for.
    """
    if not isinstance(people, str | Path):
        return Input(people.name, {"name": people.name})
    from detection.people.coco import COCO, coco_network, is_coco
    from detection.people.weights import find_people_file

    if is_coco(people):
        return Input(str(people), {"name": f"{COCO}:{coco_network(people, device=device)}"})
    return weights_input(find_people_file(people))
