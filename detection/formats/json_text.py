"""Writes standard JSON: NaN and infinity, which JSON does not have, become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(values: Any, *, indent: int = 2, ensure_ascii: bool = True) -> str:
    """Return values (also in mappings, lists and tuples) as JSON, ending in a newline."""
    text = json.dumps(_plain(values), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    return text + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
