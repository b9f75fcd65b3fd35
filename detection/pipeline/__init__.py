"""Any video in, events out: who does what, when. `docs/pipeline.md` opens with three lines."""

from detection.pipeline.detector import ActionDetectorPipeline
from detection.pipeline.options import PipelineOptions
from detection.tracking.events import ActionEvent

__all__ = ["ActionDetectorPipeline", "ActionEvent", "PipelineOptions"]
