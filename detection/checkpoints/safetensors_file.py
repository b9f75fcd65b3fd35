"""safetensors: weights and text, no pickle at all. The only importer of the safetensors package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from detection.checkpoints.weights_check import shown
from detection.errors import UserError
from detection.files import replacing

HOW_TO_INSTALL = "pip install safetensors"
METADATA_KEY = "x3d_action_detection"


def recognise(start: bytes) -> bool:
    """Say whether a file that begins so is safetensors: eight bytes of length, then JSON."""
    return len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30


def read(path: Path) -> dict[str, Any]:
    """Return the tensors under `model_state`, and whatever `write` put beside them."""
    package = load_package()
    try:
        with package.safe_open(str(path), framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        values = json.loads(metadata.get(METADATA_KEY, "{}"))
    except RecursionError as error:
        raise UserError(f"{path}: damaged safetensors: its metadata is nested too deep") from error
    except (package.SafetensorError, ValueError, TypeError, RuntimeError) as error:
        reason = shown(str(error), 200)
        raise UserError(f"{path}: truncated or damaged safetensors ({reason})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: its metadata is not an object")
    return {**values, "model_state": state}


def write(path: str | Path, state: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write tensors and, as JSON in the metadata, `values` (plain types)."""
    load_package()
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    content = save(tensors, metadata={METADATA_KEY: json.dumps(dict(values))})
    with replacing(path) as temporary:  # the package's own writer hides what the disk says
        temporary.write_bytes(content)


def load_package() -> Any:
    """Import safetensors, or say how to get it."""
    try:
        import safetensors
    except ImportError as error:
        raise UserError(f"safetensors files need a package: {HOW_TO_INSTALL}") from error
    return safetensors
