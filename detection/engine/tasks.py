"""The tasks that a configuration can ask for."""

from __future__ import annotations

from detection.config import RunConfig
from detection.engine.action_task import ActionTask
from detection.engine.clip_task import ClipTask
from detection.engine.task import Task


def open_task(config: RunConfig) -> Task:
    """Open the data set of the configuration's task; `UserError` where it is not there."""
    return ActionTask(config) if config.task == "actions" else ClipTask(config)
