"""The tasks that a configuration can ask for."""

from __future__ import annotations

from detection.config import RunConfig
from detection.engine.tasks.actions import ActionTask
from detection.engine.tasks.base import Task
from detection.engine.tasks.clips import ClipTask


def open_task(config: RunConfig) -> Task:
    """Open the data set of the configuration's task; `UserError` where it is not there."""
    return ActionTask(config) if config.task == "actions" else ClipTask(config)
