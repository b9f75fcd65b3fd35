"""Torchvision's Faster R-CNN weights: COCO's, by name, and which network a file of them is of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from detection.checkpoints.hub import Published, fetch
from detection.errors import UserError, printable
from detection.files import sha256_of
from detection.people.torchvision_rcnn import NetworkName

COCO = "coco"  # in place of a file: torchvision's weights, fetched once; coco:NETWORK names which
_MODELS: Mapping[NetworkName, str] = {
    "mobile_320": "fasterrcnn_mobilenet_v3_large_320_fpn",
    "mobile": "fasterrcnn_mobilenet_v3_large_fpn",
    "resnet50_v2": "fasterrcnn_resnet50_fpn_v2",
}
# From which score on a box is a person. Not measured: it needs these weights and people with known
# boxes. A score is a softmax over COCO's classes and the background; from one half on "person" is
# likelier than all else together, and no box is lost of which the network is surer than not.
COCO_SCORES: Mapping[NetworkName, float] = dict.fromkeys(_MODELS, 0.5)
_BODY = "backbone.body."


def _published(name: NetworkName) -> Published:
    url: str = get_model_weights(_MODELS[name])["COCO_V1"].url
    found = re.search(r"-([0-9a-f]{8,64})\.pth$", url)  # torch.hub's way of telling a hash
    return Published(url, name, found[1] if found else None)


COCO_FILES: dict[NetworkName, Published] = {name: _published(name) for name in _MODELS}


def is_coco(weights: str | Path) -> bool:
    """Say whether weights are named `coco` or `coco:NETWORK`, in place of a file."""
    return str(weights) == COCO or str(weights).startswith(f"{COCO}:")


def coco_network(
    weights: str | Path, *, network: str | None = None, device: torch.device | str = "cpu"
) -> NetworkName:
    """Return which network `coco` or `coco:NETWORK` means.

    network: named elsewhere; must be the same.  device: where none is named, a GPU gets
    resnet50_v2, anything else mobile_320. Raises `UserError` for a network without COCO weights.
    """
    named = str(weights).partition(":")[2] if ":" in str(weights) else None
    if None not in (named, network) and named != network:
        raise UserError(f"{printable(str(weights))}: another network than '{network}' is named")
    usual = "resnet50_v2" if torch.device(device).type == "cuda" else "mobile_320"
    asked = next(name for name in (named, network, usual) if name is not None)
    for name in _MODELS:
        if name == asked:
            return name
    raise UserError(
        f"there are no COCO weights for the '{printable(str(asked))}' network; there are for "
        f"{', '.join(_MODELS)}"
    )


def fetch_coco(name: NetworkName) -> Path:
    """Return the file of a network's COCO weights in torch.hub's cache; it is fetched once."""
    return fetch(f"{COCO}:{name}", COCO_FILES[name])


def tell_network(
    path: str | Path, state: Mapping[str, Tensor], *, network: str | None = None
) -> tuple[NetworkName, tuple[str, ...]]:
    """Return which of torchvision's networks weights are of, and a note where that was guessed.

    mobile and mobile_320 differ in the size of frames alone: `network`, the file's hash or its name
    tells them apart, else it is mobile_320. Raises `UserError` for other weights, and where
    `network` is another.
    """
    fitting: tuple[NetworkName, ...] = ()
    if f"{_BODY}layer1.0.conv1.weight" in state and "rpn.head.conv.1.0.weight" in state:
        fitting = ("resnet50_v2",)
    elif f"{_BODY}0.0.weight" in state:
        fitting = ("mobile_320", "mobile")
    if not fitting:
        older = f"{_BODY}layer1.0.conv1.weight" in state
        hint = "; of ResNet-50s fasterrcnn_resnet50_fpn_v2 alone is known" if older else ""
        raise UserError(
            f"{path}: weights of another network, not of torchvision's Faster R-CNN "
            f"({', '.join(_MODELS)}){hint}"
        )
    for name in fitting:
        if name == network or len(fitting) == 1 and network is None:
            return name, ()
    if network is not None:
        raise UserError(
            f"{path}: weights of another network, not of '{network}': of {' or '.join(fitting)}"
        )
    digest = sha256_of(path)
    for name in fitting:
        prefix = COCO_FILES[name].sha256_prefix
        if prefix is not None and digest.startswith(prefix):
            return name, ()
    file_name = Path(path).name.lower()
    if "320" in file_name:
        return "mobile_320", ()
    if "mobilenet_v3_large_fpn" in file_name:
        return "mobile", ()
    return "mobile_320", (
        f"{path}: mobile_320 and mobile have the same weights' shapes: taken for mobile_320",
    )


def coco_classes() -> tuple[str, ...]:
    """Return COCO's 90 class names from label 1 on, as torchvision lists them (10 are 'N/A')."""
    categories = get_model_weights(_MODELS["mobile_320"])["COCO_V1"].meta["categories"]
    return tuple(categories[1:])
