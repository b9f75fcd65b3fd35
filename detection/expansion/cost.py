"""Cost of a network: multiply-adds, parameters, or milliseconds on this machine.

Every cost is measured on the network itself, which `build` constructs.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from detection.checkpoints.load import Network
from detection.errors import UserError
from detection.expansion.axes import Cost
from detection.expansion.scheduler import Stopped, name_of
from detection.files import write_text
from detection.models.action_detector import ActionDetector
from detection.models.counting import count_macs, count_parameters
from detection.models.inference import prepare_for_inference
from detection.models.timing import time_and_memory
from detection.models.x3d import X3DDescription

_POLL_S = 0.3
Build = Callable[[X3DDescription], Network]


def macs_cost(build: Build) -> Cost:
    """Count multiply-adds of one clip at the train crop, as the paper does.

    With an actor head for one person.
    """

    @functools.cache
    def cost(description: X3DDescription) -> float:
        with torch.device("meta"):
            model = build(description).eval()
        inputs = _inputs(model, description, "meta")
        return float(sum(count_macs(model, lambda: model(*inputs)).values()))

    return cost


def parameter_cost(build: Build) -> Cost:
    """Count parameters without those of BatchNorm, as the paper does."""

    @functools.cache
    def cost(description: X3DDescription) -> float:
        with torch.device("meta"):
            return float(count_parameters(build(description)).without_norm)

    return cost


def milliseconds_cost(build: Build, *, device: torch.device, repeats: int = 7) -> Cost:
    """Measure the median milliseconds of one clip at the train crop on this machine.

    Every network is measured once, with the noise of the machine.
    """

    @functools.cache
    def cost(description: X3DDescription) -> float:
        model = prepare_for_inference(build(description).to(device))
        inputs = [part.to(device) for part in _inputs(model, description, "cpu")]

        @torch.inference_mode()
        def run() -> None:
            model(*inputs)

        return 1e3 * time_and_memory(run, device=device, repeats=repeats)[0]

    return cost


def remembered(
    cost: Cost,
    path: Path,
    *,
    of: Mapping[str, Any],
    first: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> Cost:
    """Return `cost` with a cache on disk.

    Measured milliseconds vary, but a resumed search, and all processes that share one, must make
    the same choices.

    of: the search; costs of another one are ignored.
    first: whether this process computes costs; the others wait for them.

    Raises `Stopped` while waiting, when `should_stop` says so.
    """
    costs: dict[str, float] = _read_costs(path, of)

    def known_or_new(description: X3DDescription) -> float:
        name = name_of(description)
        while not first and name not in costs:
            if should_stop():
                raise Stopped
            time.sleep(_POLL_S)
            costs.update(_read_costs(path, of))
        if name not in costs:
            costs[name] = cost(description)
            write_text(path, json.dumps({"search": of, "costs": costs}, indent=1) + "\n")
        return costs[name]

    return known_or_new


def _read_costs(path: Path, of: Mapping[str, Any]) -> dict[str, float]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON; remove it to count costs again") from error
    same = isinstance(values, dict) and values.get("search") == json.loads(json.dumps(of))
    return values["costs"] if same else {}


def _inputs(model: Network, description: X3DDescription, device: str) -> list[torch.Tensor]:
    side = description.train_crop
    shape = (1, 3, description.num_frames, side, side)
    frames = torch.zeros(shape, dtype=torch.uint8, device=device)
    if not isinstance(model, ActionDetector):
        return [frames]
    return [frames, torch.tensor([[0.0, 0.0, 0.0, side, side]], device=device)]
