"""Writes the synthetic data set: videos by worker processes, and annotations; all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from detection.datasets.ava_csv import write_ground_truth, write_keyframe_list
from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.demo.actions import CLASSES
from detection.demo.annotate import (
    PEOPLE_COLUMNS,
    PersonNote,
    ground_truth,
    is_excluded,
    notes_of,
    tell_stories,
)
from detection.demo.casting import Story
from detection.demo.looks import Split
from detection.demo.parameters import DemoParameters
from detection.demo.scene import StoryScene
from detection.errors import UserError
from detection.files import new_dataset_folder, write_text
from detection.structures import LabelMap
from detection.video.writer import VideoWriter

PARAMETERS_FILE = "made_up.json"
VERSION = 6  # of the drawing: raise it when the same parameters give another data set
SPLITS: tuple[Split, ...] = ("train", "val")


def generate_demo(
    out: str | Path,
    parameters: DemoParameters | None = None,
    *,
    workers: int = 2,
    overwrite: bool = False,
    on_progress: Callable[[int, int], object] | None = None,
) -> bool:
    """Write the data set to the folder `out`; returns False if the same one exists already.

    workers: processes that draw (0: this one).
    overwrite: replace an existing folder.
    on_progress: called with the numbers of finished and of all videos.

    Raises `UserError` if `out` is another folder.
    """
    parameters = parameters or DemoParameters()
    out = Path(out)
    if not overwrite and _made_already(out, parameters):
        return False
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        (folder / "videos").mkdir()
        kept: dict[Split, list[list[PersonNote]]] = {split: [] for split in SPLITS}
        total = parameters.num_train + parameters.num_val
        seed, slots = parameters.seed, parameters.keyframes
        aspect = parameters.width / parameters.height
        jobs = chain.from_iterable(
            tell_stories(split, parameters.count(split), seed=seed, slots=slots, aspect=aspect)
            for split in SPLITS
        )
        for done, (split, notes) in enumerate(_drawn(folder, jobs, parameters, workers), start=1):
            kept[split] += notes
            if on_progress is not None:
                on_progress(done, total)
        _write_annotations(folder, kept)
        write_text(folder / PARAMETERS_FILE, _parameters_text(parameters))
    return True


def label_map() -> LabelMap:
    """Return the classes, with AVA's names and ids."""
    return LabelMap(
        names=tuple(action.name for action in CLASSES),
        ids=tuple(action.action_id for action in CLASSES),
        groups=tuple(action.group for action in CLASSES),
    )


def draw_video(story: Story, path: Path, parameters: DemoParameters) -> list[list[PersonNote]]:
    """Write one video and return the notes of its keyframes."""
    cv2.setNumThreads(1)
    size = (parameters.width, parameters.height)
    times = np.arange(parameters.duration_s * parameters.fps) / parameters.fps
    scene = StoryScene(story, times, size_px=size)
    with VideoWriter(
        path, width=size[0], height=size[1], fps=parameters.fps, crf=23, preset="ultrafast"
    ) as writer:
        for index in range(len(times)):
            writer.write(scene.frame(index))
    return notes_of(story, slots=parameters.keyframes, size_px=size)


def _drawn(
    folder: Path, stories: Iterator[Story], parameters: DemoParameters, workers: int
) -> Iterator[tuple[Split, list[list[PersonNote]]]]:
    """Yield the annotations of each video in order, while workers draw ahead."""

    def path_of(story: Story) -> Path:
        return folder / "videos" / f"{story.video_id}.mp4"

    if workers <= 0:
        for story in stories:
            yield story.split, draw_video(story, path_of(story), parameters)
        return
    # Forked from a fresh process: a fork of this one could inherit a lock held by a thread.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: list[tuple[Split, Future[list[list[PersonNote]]]]] = []
        try:
            for story in stories:
                task = pool.submit(draw_video, story, path_of(story), parameters)
                waiting.append((story.split, task))
                if len(waiting) > 4 * workers:
                    split, task = waiting.pop(0)
                    yield split, task.result()
            for split, task in waiting:
                yield split, task.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_annotations(folder: Path, kept: dict[Split, list[list[PersonNote]]]) -> None:
    annotations = folder / "annotations"
    write_label_map(annotations / "label_map.pbtxt", label_map())
    people = [",".join(PEOPLE_COLUMNS)]
    parts: dict[str, SplitPart] = {}
    for split, keyframes in kept.items():
        fair = [note for notes in keyframes if not is_excluded(notes) for note in notes]
        write_ground_truth(annotations / f"{split}.csv", ground_truth(fair))
        write_keyframe_list(
            annotations / f"excluded_{split}.csv",
            (notes[0].keyframe for notes in keyframes if is_excluded(notes)),
        )
        videos = dict.fromkeys(notes[0].keyframe.video_id for notes in keyframes)
        write_text(annotations / f"{split}_videos.txt", "".join(f"{v}\n" for v in videos))
        people += [note.row() for notes in keyframes for note in notes]
        parts[split] = SplitPart(
            annotations=f"annotations/{split}.csv",
            exclusions=f"annotations/excluded_{split}.csv",
            videos=f"annotations/{split}_videos.txt",
        )
    write_text(annotations / "people.csv", "\n".join(people) + "\n")
    write_dataset_file(
        folder,
        DatasetFile(
            name="demo",
            description=(
                "Made up: people drawn by a program, in the form of AVA and with names and ids "
                "of its classes. Nothing here was filmed."
            ),
            videos="videos",
            splits=parts,
            made_up=True,
            how_to_get="python -m ava_tools.make_demo --out DIR",
        ),
    )


def _parameters_text(parameters: DemoParameters) -> str:
    return json.dumps({"version": VERSION, **asdict(parameters)}, indent=2) + "\n"


def _made_already(out: Path, parameters: DemoParameters) -> bool:
    """Whether `out` is this data set, complete; raises `UserError` if it is another one."""
    written = out / PARAMETERS_FILE
    if not written.is_file():
        return False
    if written.read_text(encoding="utf-8") != _parameters_text(parameters):
        raise UserError(
            f"{out}: holds a made data set of other parameters (see {written.name}); "
            "--overwrite replaces it"
        )
    for split in SPLITS:
        names = (out / "annotations" / f"{split}_videos.txt").read_text(encoding="utf-8").split()
        for name in names:
            if not (out / "videos" / f"{name}.mp4").is_file():
                raise UserError(f"{out}: videos/{name}.mp4 is gone; --overwrite makes it all anew")
    return True
