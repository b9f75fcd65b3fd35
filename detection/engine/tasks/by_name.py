"""The tasks that a configuration can ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detection.checkpoints.file import read_checkpoint
from detection.config import AnyConfig, PeopleConfig, RunConfig
from detection.engine.tasks.actions import ActionTask
from detection.engine.tasks.base import Task
from detection.engine.tasks.clips import ClipTask

if TYPE_CHECKING:
    from detection.engine.tasks.base import SavedRun


def open_task(config: AnyConfig) -> Task:
    """Open the data set of the configuration's task; `UserError` where it is not there."""
    if isinstance(config, PeopleConfig):
        from detection.engine.tasks.people import PeopleTask  # torchvision's detectors load slowly

        return PeopleTask(config)
    return open_x3d_task(config)


def open_x3d_task(config: RunConfig) -> ActionTask | ClipTask:
    """Open the data set of a task that an X3D network learns; as `open_task`."""
    return ActionTask(config) if config.task == "actions" else ClipTask(config)


def read_saved_run(config: AnyConfig, file_or_run: str | Path) -> SavedRun:
    """Read a checkpoint, or a run folder's last one, in the form that the task writes."""
    if isinstance(config, PeopleConfig):
        from detection.engine.tasks.people import read_people_checkpoint

        return read_people_checkpoint(file_or_run)
    return read_checkpoint(file_or_run)
