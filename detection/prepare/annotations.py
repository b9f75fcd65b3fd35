"""The annotations and `dataset.yaml` of a prepared data set: copies of the source's.

Prepared videos keep their sources' clocks and boxes are fractions of the frame, so no row changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from detection.datasets.folder import (
    FILE_NAME,
    DatasetFile,
    DatasetFolder,
    FramesPart,
    SplitPart,
    inside,
    write_dataset_file,
)
from detection.errors import UserError
from detection.files import replacing, write_text
from detection.prepare.frames import write_frame_list
from detection.prepare.required_spans import required_videos


def write_prepared_dataset(
    folder: DatasetFolder,
    out: Path,
    *,
    videos: Collection[str],
    is_part: bool = False,
    before: DatasetFile | None = None,
    frames: FramesPart | None = None,
    how_to_get: str | None = None,
) -> None:
    """Copy the annotations of `folder` to `out` and write its dataset.yaml.

    videos: those that are in `out`.
    is_part: the splits require others too, so they get lists of videos, and a split of which no
        video is there is left out.
    before: the content of an earlier dataset.yaml there; box files added to it since stay known.
    frames: set where frames were extracted.
    how_to_get: the command that makes the data set again.
    Raises `UserError` naming a file that lies outside.
    """
    splits: dict[str, SplitPart] = {}
    paths = [folder.file.label_map]
    for name, part in folder.file.splits.items():
        paths += [part.annotations, *filter(None, (part.exclusions, part.videos))]
        paths += part.boxes.values()
        earlier = before.splits.get(name) if before else None
        added = {
            box_name: path
            for box_name, path in (earlier.boxes if earlier else {}).items()
            if box_name not in part.boxes and (out / path).is_file()
        }
        splits[name] = part.model_copy(update={"boxes": part.boxes | added})
    for path in [*dict.fromkeys(paths), *_beside(folder, paths)]:
        _copy(folder.root, out, path)
    for name in list(splits) if is_part else ():
        named = _named(folder, name)
        if named <= set(videos):
            continue
        place = f"annotations/{name}_videos.txt"
        listed = "".join(f"{video_id}\n" for video_id in sorted(named & set(videos)))
        write_text(inside(out, place, what="a list of videos"), listed)
        splits[name] = splits[name].model_copy(update={"videos": place})
        if not listed:
            del splits[name]
    if frames is not None:
        for name in splits:
            listing = inside(out, f"frame_lists/{name}.csv", what="a list of frames")
            write_frame_list(listing, out / frames.folder, _named(folder, name) & set(videos))
    changes: dict[str, Any] = {"videos": None if frames else "videos", "frames": frames}
    changes |= {"splits": splits, "how_to_get": how_to_get}
    write_dataset_file(out, folder.file.model_copy(update=changes))


def _beside(folder: DatasetFolder, paths: Collection[str]) -> list[str]:
    """Return other tables in the folders of annotations: a run's options may name them."""
    places = {str(Path(path).parent) for path in paths} - {".", folder.file.videos}
    return [
        str(path.relative_to(folder.root))
        for place in sorted(places)
        for path in sorted((folder.root / place).iterdir())
        if path.suffix in (".csv", ".pbtxt", ".txt") and path.is_file()
        if str(path.relative_to(folder.root)) not in paths
    ]


def _copy(root: Path, out: Path, path: str) -> None:
    source, place = root / path, inside(out, path, what=f"a file that {root / FILE_NAME} names")
    if not source.is_file():
        raise UserError(f"{source}: not found, {root / FILE_NAME} names it")
    with replacing(place) as temporary:
        shutil.copyfile(source, temporary)


def _named(folder: DatasetFolder, split_name: str) -> set[str]:
    return {video.video_id for video in required_videos(folder, [split_name])}
