"""Imports folders of JPEG frames without a video, in which people are then detected.

The form that SlowFast's AVA, MOTChallenge (`SEQUENCE/img1/000001.jpg`) and `prepare --frames` have
(https://github.com/facebookresearch/SlowFast/blob/main/slowfast/datasets/DATASET.md): a folder for
each video, whose files end in the frame's number. They are the data set's `frames`.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from detection.datasets.folder import DatasetFile, FramesPart, SplitPart, write_dataset_file
from detection.errors import UserError, first_few, printable
from detection.files import new_dataset_folder, write_text
from detection.importers.source_videos import (
    copy_or_link,
    rename_notes,
    video_ids,
    write_video_sources,
)
from detection.importers.unlabelled import SPLIT
from detection.importers.write import ImportReport
from detection.video.frame_folder import FRAME_NAME, MOST_FRAMES, FrameFolder

_OTHER_IMAGES = (".png", ".bmp", ".webp", ".tif", ".tiff")
_INNER = ("img1", "img", "images", "frames")  # named alike in each video's folder


def import_frame_folders(
    source: str | Path,
    out: str | Path,
    *,
    fps: float,
    start_s: float = 0.0,
    first_frame: int | None = None,
    overwrite: bool = False,
    link: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out` of every folder of frames below `source`, in the split `all`.

    fps: frames a second, of all videos alike.  start_s: time of the first frame.  first_frame: its
    number; None: 0 where a folder has a frame 0, else 1.  Missing numbers stay missing: the nearest
    frame is read.  Raises `UserError` for images that are no JPEG, a number twice or too low,
    and a first frame that cannot be decoded; then `out` is not written.
    """
    source = Path(source)
    videos = _folders(source)
    ids = video_ids(list(videos))
    lowest = min(min(frames) for frames in videos.values())
    origin = int(lowest > 0) if first_frame is None else first_frame
    if lowest < origin:
        name = next(name for name, frames in videos.items() if min(frames) < origin)
        raise UserError(f"{videos[name][lowest]}: frame {lowest}, from {origin} on is required")
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        for name in tqdm(videos, desc="importing", unit="video", disable=not show_progress):
            target = folder / "frames" / ids[name]
            target.mkdir(parents=True)
            for number, path in videos[name].items():
                file = target / f"{ids[name]}_{number - origin + 1:06d}.jpg"
                try:
                    copy_or_link(path, file, link=link)
                except OSError as error:
                    raise UserError(f"{path}: cannot be copied ({error.strerror})") from error
            _check_first(target, videos[name], fps, start_s)
        part = SplitPart(annotations="annotations/all.csv", videos="annotations/all_videos.txt")
        write_text(folder / "annotations/all.csv", "")
        write_text(folder / "annotations/all_videos.txt", "".join(f"{i}\n" for i in ids.values()))
        frames = FramesPart(folder="frames", fps=fps, start_s=start_s)
        made = DatasetFile(name=Path(out).name, frames=frames, splits={SPLIT: part})
        write_dataset_file(folder, made)
        write_video_sources(folder, ids)
    return ImportReport(len(videos), {}, (), notes=(*rename_notes(ids), *_notes(videos, origin)))


def _notes(videos: dict[str, dict[int, Path]], origin: int) -> list[str]:
    number = sum(map(len, videos.values()))
    notes = [f"{number:,} frames, numbered from {origin} (--first-frame says otherwise)"]
    gaps = [
        f"{printable(name)}: {max(frames) - origin + 1 - len(frames):,}"
        for name, frames in videos.items()
        if max(frames) - origin + 1 > len(frames)
    ]
    if gaps:
        notes.append(
            f"{len(gaps):,} videos lack frames, the nearest stands in for them: {first_few(gaps)}"
        )
    return notes


def _folders(source: Path) -> dict[str, dict[int, Path]]:
    """Return the frames by number of each folder below that holds some, by its name."""
    if not source.is_dir():
        raise UserError(f"{source}: folder of frames not found")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    found: dict[str, dict[int, Path]] = {}
    others: Counter[str] = Counter()
    for place, folders, files in os.walk(source, onerror=refuse):
        folders.sort()
        frames: dict[int, Path] = {}
        for name in sorted(files):
            path = Path(place, name)
            others[path.suffix.lower()] += path.suffix.lower() in _OTHER_IMAGES
            match = FRAME_NAME.search(name)
            if match is None:
                continue
            number = int(match[1]) if len(match[1]) <= 20 else MOST_FRAMES + 1
            if number > MOST_FRAMES:
                raise UserError(f"{path}: a frame number above {MOST_FRAMES}")
            if number in frames:
                raise UserError(f"{path}: a second frame {number} beside {frames[number].name}")
            frames[number] = path
        if frames:
            found[_name(Path(place), source)] = frames
    images = {suffix: count for suffix, count in others.items() if count}
    if images:
        suffix, count = next(iter(images.items()))
        raise UserError(f"{source}: {count:,} images are {suffix}, frames are read from JPEG alone")
    if not found:
        raise UserError(f"{source}: contains no frames named like NAME_000001.jpg")
    return found


def _name(place: Path, source: Path) -> str:
    """Return the video's name: its folder below the source, the source's own where it is that."""
    parts = list(place.relative_to(source).parts)
    while parts and parts[-1].lower() in _INNER:
        parts.pop()
    if parts:
        return "/".join(parts)
    whole = source.resolve()
    return whole.parent.name if whole.name.lower() in _INNER else whole.name


def _check_first(target: Path, frames: dict[int, Path], fps: float, start_s: float) -> None:
    try:
        FrameFolder(target, fps=fps, start_s=start_s).frame_size()
    except UserError as error:
        first = frames[min(frames)]
        raise UserError(f"{first}: not a readable JPEG") from error
