"""Action detection in any video: events of who does what, when (docs/pipeline.md)."""

from detection.pipeline.detector import ActionDetectorPipeline
from detection.pipeline.options import PipelineOptions
from detection.tracking.events import ActionEvent

__all__ = ["ActionDetectorPipeline", "ActionEvent", "PipelineOptions"]
