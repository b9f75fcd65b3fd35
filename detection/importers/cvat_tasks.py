"""Assigns a CVAT file's tracks to its tasks, with the frame numbers of each task's video.

CVAT numbers a task's frames as its video does. In a project the tasks of a subset are numbered
consecutively, in the order in which the file lists them
(`ProjectData._init_task_frame_offsets` of CVAT's dataset manager):
`offset += start_frame + step * size`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from detection.errors import Problems, UserError, at_row, printable
from detection.importers.cvat_shapes import CvatBox
from detection.importers.cvat_xml import CvatFile, CvatTask, CvatTrack


@dataclass(frozen=True)
class TaskTracks:
    """A task and its tracks.

    task: the task.
    tracks: with frame numbers of the task's video, from 0.
    num_beyond: boxes at frames that the task does not cover; CVAT does not show them.
    """

    task: CvatTask
    tracks: list[CvatTrack]
    num_beyond: int = 0


def tracks_by_task(file: CvatFile) -> list[TaskTracks]:
    """Return the tracks of each task; in a file of one task, tracks name no task.

    Raises `UserError` where frame numbers contradict the file's description of its tasks.
    """
    for task in file.tasks:
        _check_size(file, task)
    if len(file.tasks) <= 1:
        task = file.tasks[0] if file.tasks else CvatTask()
        beyond = sum(not _has(task, box) for track in file.tracks for box in track.boxes)
        return [TaskTracks(task, file.tracks, beyond)]
    problems = Problems()
    found = [
        TaskTracks(task, _on_video(file, task, tracks, offset, problems))
        for task, tracks, offset in zip(file.tasks, _by_task(file), _offsets(file), strict=True)
    ]
    problems.raise_if_any()
    return found


def annotated_frames(task: CvatTask) -> tuple[int, int | None]:
    """Return the first and the last frame of the video that a task covers (None: unknown)."""
    first, stop, size = (task.number(name) for name in ("start_frame", "stop_frame", "size"))
    if stop is None and size:
        stop = (first or 0) + (size - 1) * task.step
    return first or 0, stop


def _check_size(file: CvatFile, task: CvatTask) -> None:
    first, stop, size = (task.number(name) for name in ("start_frame", "stop_frame", "size"))
    if first is None or stop is None or size is None:
        return
    counted = len(range(first, stop + 1, task.step))
    if counted != size:
        raise UserError(
            f"{file.path}: {_named(task)} has size {size}, but frames {first} to {stop} by "
            f"{task.step} are {counted}"
        )


def _by_task(file: CvatFile) -> list[list[CvatTrack]]:
    ids = [task.fields.get("id", "") for task in file.tasks]
    if len(set(ids)) < len(ids):
        raise UserError(f"{file.path}: two tasks with one id; different ids are required")
    shared: dict[str, list[CvatTrack]] = {task_id: [] for task_id in ids}
    for track in file.tracks:
        if track.task_id not in shared:
            message = f"track of task '{printable(track.task_id)}', which is not listed above"
            raise at_row(file.path, track.line, message)
        shared[track.task_id].append(track)
    return list(shared.values())


def _offsets(file: CvatFile) -> list[int]:
    """Return the offset of the frame numbers of each task of a project."""
    next_of: dict[str, int | None] = {}
    unsized: dict[str, CvatTask] = {}
    offsets = []
    for task in file.tasks:
        subset = task.fields.get("subset", "").casefold() or "default"
        offset = next_of.get(subset, 0)
        if offset is None:
            raise UserError(
                f"{file.path}: {_named(unsized[subset])} has no size, which the frame numbers of "
                f"{_named(task)} depend on; export the tasks one by one"
            )
        offsets.append(offset)
        size = task.number("size")
        if size is None:
            next_of[subset], unsized[subset] = None, task
        else:
            next_of[subset] = offset + (task.number("start_frame") or 0) + task.step * size
    return offsets


def _on_video(
    file: CvatFile, task: CvatTask, tracks: Sequence[CvatTrack], offset: int, problems: Problems
) -> list[CvatTrack]:
    """Return the tracks with the video's frame numbers; report frames outside the task."""
    first, last = annotated_frames(task)
    moved = []
    for track in tracks:
        boxes = [replace(box, frame=box.frame - offset) for box in track.boxes]
        strange = next((box for box in boxes if not _has(task, box)), None)
        if strange is not None:
            end = "its end" if last is None else last + offset
            outside = f"frame {strange.frame + offset} is outside {_named(task)}"
            own = f"frames {first + offset} to {end} by {task.step}"
            message = f"{outside}, which in this project has {own}"
            problems.add(file.path, strange.line, message)
        moved.append(replace(track, boxes=boxes))
    return moved


def _has(task: CvatTask, box: CvatBox) -> bool:
    """Return whether a task has a box's frame; an `outside` box may be listed one step later."""
    first, last = annotated_frames(task)
    late = last is not None and box.frame > last + (task.step if box.outside else 0)
    return box.frame >= first and not late and (box.frame - first) % task.step == 0


def _named(task: CvatTask) -> str:
    words = [task.fields.get("id", ""), task.fields.get("name", "")]
    return "the task " + (" ".join(f"'{printable(word[:80])}'" for word in words if word) or "here")
