"""Action detection in any video: events of who does what, when (docs/pipeline.md).

Its names are loaded when they are asked for: what only lists results and videos takes no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detection.pipeline.detector import ActionDetectorPipeline
    from detection.pipeline.options import PipelineOptions
    from detection.tracking.events import ActionEvent

__all__ = ["ActionDetectorPipeline", "ActionEvent", "PipelineOptions"]
_MODULES = {
    "ActionDetectorPipeline": "detection.pipeline.detector",
    "ActionEvent": "detection.tracking.events",
    "PipelineOptions": "detection.pipeline.options",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
