"""Which people detector made a box file, or is in use: what relevance is fitted to, and held by.

`detect_people` notes beside a table which weights made it (OUT.made_by.json). Box files from
elsewhere come without: there the name that `dataset.yaml` gives them has to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.files import sha256_of
from detection.formats.json_text import read_json_object
from detection.relevance import BoxOrigin

if TYPE_CHECKING:
    import torch

    from detection.people.base import PeopleDetector

_COCO = "coco"  # as `detection.people.coco` has it, which loads torchvision's detectors


def origin_of_table(table: str | Path, name: str) -> BoxOrigin:
    """Return which detector made a box file that `dataset.yaml` calls `name`.

    Raises `UserError` for a damaged note beside it.
    """
    notes = Path(table).with_suffix(".made_by.json")
    if not notes.is_file():
        return BoxOrigin(name)
    options = read_json_object(notes).get("options")
    if not isinstance(options, Mapping) or not isinstance(options.get("weights"), str):
        return BoxOrigin(name)
    return BoxOrigin(name, _detector_of(options))


def _detector_of(options: Mapping[str, Any]) -> str:
    """Return what decides boxes, less what changes their last digits alone (runtime, half)."""
    weights, network = options["weights"], options.get("network")
    of_coco = weights == _COCO and network and not options.get("detectron2_config")
    words = [f"{_COCO}:{network}" if of_coco else f"weights {weights}"]
    if network and not of_coco:
        words.append(f"network {network}")
    for key, word in (("detectron2_config", "configuration"), ("actor_classes", "classes")):
        if options.get(key):
            words.append(f"{word} {options[key]}")
    if options.get("short_side"):
        words.append(f"short side {options['short_side']} px")
    return ", ".join(words)


def origin_of_detector(people: str | Path | PeopleDetector, device: torch.device) -> BoxOrigin:
    """Return a detector as `load_people_detector` takes it, in the words of `origin_of_table`.

    device: decides which network `coco` stands for. Of an opened detector only the name is known.
    """
    from detection.people.coco import coco_network, is_coco
    from detection.people.weights import find_people_file

    if not isinstance(people, str | Path):
        return BoxOrigin(people.name)
    if is_coco(people):
        return BoxOrigin(str(people), f"{_COCO}:{coco_network(people, device=device)}")
    return BoxOrigin(str(people), f"weights {sha256_of(find_people_file(people))}")
