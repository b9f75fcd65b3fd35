"""Imports a folder of videos without labels, in which people are then detected."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.errors import UserError
from detection.files import new_dataset_folder, write_text
from detection.importers.source_videos import (
    copy_or_link_video,
    list_videos,
    rename_notes,
    skipped_files,
    video_ids,
    write_video_sources,
)
from detection.importers.write import ImportReport
from detection.video.reader import VideoReader

SPLIT = "all"


def import_unlabelled(
    source: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    link: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out` with every video below `source` in the split `all`.

    The annotation file is empty and there is no label map: `detect_people --every-second` and
    `export_cvat` need neither. Raises `UserError` for an unreadable video.
    """
    source = Path(source)
    names = list_videos(source)
    ids = video_ids(names)
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        (folder / "videos").mkdir()
        for name in tqdm(names, desc="importing", unit="video", disable=not show_progress):
            with VideoReader(source / name) as video:
                if not len(video.frame_times_s()):
                    raise UserError(f"{source / name}: contains no frame")
            copy_or_link_video(source / name, folder / "videos", ids[name], link=link)
        part = SplitPart(annotations="annotations/all.csv", videos="annotations/all_videos.txt")
        write_text(folder / "annotations/all.csv", "")
        write_text(folder / "annotations/all_videos.txt", "".join(f"{i}\n" for i in ids.values()))
        file = DatasetFile(name=Path(out).name, videos="videos", splits={SPLIT: part})
        write_dataset_file(folder, file)
        write_video_sources(folder, ids)
    return ImportReport(len(names), {}, (), notes=(*rename_notes(ids), *skipped_files(source)))
