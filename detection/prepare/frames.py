"""Writes one source video as JPEG frames at a constant rate, the form that other projects read.

Frame n is ID/ID_00000n.jpg, counted from 1, and is the source's frame nearest to
start_s + (n - 1) / fps. A whole data set has one start: a video whose span begins later has higher
numbers.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable, Collection, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError
from detection.files import naming, replacing
from detection.prepare.frame_lists import HEADER
from detection.prepare.video import (
    PrepareJob,
    check_window,
    describe_source,
    described,
    repairs_of,
    write_manifest,
)
from detection.unfinished import unfinished_folder
from detection.video.reader import SAME_TIME_S, VideoReader

JPEG_QUALITY = 95
UNFINISHED = ".writing-"


def extract_frames(
    job: PrepareJob, on_progress: Callable[[float], object] = lambda seconds: None
) -> dict[str, Any]:
    """Write the job's folder of frames and its manifest; return the manifest.

    As `prepare_video`, with a folder in the place of the file: it appears when it is whole.
    """
    assert job.options.frames is not None
    fps, start_s = job.options.frames
    source = describe_source(job)
    with naming(job.video):
        job.manifest.unlink(missing_ok=True)
        job.video.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(job.video.parent, UNFINISHED) as building:
            with VideoReader(job.source, damage=job.options.damage) as reader:
                source |= described(reader.info)
                differences_s = _write(job, reader, building, on_progress)
                source["repairs"] = repairs_of(reader)
            if not differences_s:
                raise UserError(f"{job.source}: shows nothing at or after {start_s:g} s")
            own = _describe(building) | {"file": job.video.name, "fps": fps, "start_s": start_s}
            building.chmod(0o755)
            if job.video.is_dir():
                shutil.rmtree(job.video)
            building.rename(job.video)
        times = {
            "own_s": "start_s + (number - 1) / fps",
            "largest_difference_s": max(differences_s),
        }
        return write_manifest(job, source=source, own=own, times=times)


def _write(
    job: PrepareJob, reader: VideoReader, place: Path, on_progress: Callable[[float], object]
) -> list[float]:
    """Write the frames; return how far from its own time each one was shown in the source."""
    assert job.options.frames is not None
    fps, start_s = job.options.frames
    short_side = min(job.options.short_side, *reader.frame_size())
    differences_s: list[float] = []
    shown_s: list[float] = []

    def decoded_frames() -> Iterator[tuple[float, Callable[[], bytes]]]:
        start_s, end_s = job.window_s
        for time_s, frame in reader.decoded_frames(start_s=start_s, end_s=end_s):
            on_progress(time_s - shown_s[-1] if shown_s else 0.0)
            shown_s.append(time_s)
            image = functools.partial(reader.to_rgb, frame, short_side=short_side)
            yield time_s, functools.partial(_jpeg, image)

    number = max(1, math.ceil((job.window_s[0] - start_s) * fps - 1e-6) + 1)
    for (time_s, encoded), (next_s, _) in pairwise(chain(decoded_frames(), [(math.inf, bytes)])):
        if not differences_s:  # a video may begin later than its span
            number = max(number, math.ceil((time_s - start_s) * fps - 0.5) + 1)
        while True:
            own_s = start_s + (number - 1) / fps
            is_last = next_s == math.inf and own_s > time_s + 0.5 / fps + SAME_TIME_S
            if is_last or own_s > job.window_s[1] + SAME_TIME_S:
                break
            if own_s - time_s > next_s - own_s + SAME_TIME_S:
                break
            (place / f"{job.video_id}_{number:06d}.jpg").write_bytes(encoded())
            differences_s.append(abs(own_s - time_s))
            number += 1
    check_window(job, shown_s)
    return differences_s


def _jpeg(image_rgb: Callable[[], NDArray[np.uint8]]) -> bytes:
    bgr = np.ascontiguousarray(image_rgb()[..., ::-1])
    written, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert written
    return data.tobytes()


def _describe(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.iterdir())
    numbers = [int(path.stem.rpartition("_")[2]) for path in paths]
    first = cv2.imread(str(paths[0]))
    assert first is not None
    height, width = first.shape[:2]
    return {
        "codec": "jpeg",
        "width": width,
        "height": height,
        "num_frames": len(paths),
        "first_number": min(numbers),
        "last_number": max(numbers),
        "bytes": sum(path.stat().st_size for path in paths),
    }


def write_frame_list(path: Path, folder: Path, videos: Collection[str]) -> None:
    """Write the list of frames that SlowFast reads (`frame_lists/train.csv`)."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"{HEADER}\n")
        for index, video_id in enumerate(sorted(videos)):
            for position, frame in enumerate(sorted((folder / video_id).iterdir())):
                file.write(f'{video_id} {index} {position} {video_id}/{frame.name} ""\n')
