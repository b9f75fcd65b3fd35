"""AVA's own rows, without a header line, and a label map.

`video_id,time,x1,y1,x2,y2,action_id,person_id`,
https://research.google.com/ava/download.html: times in seconds on the video's clock, boxes in
fractions of the frame, actions by their id in the label map.
"""

from __future__ import annotations

from pathlib import Path

from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.label_map import read_label_map
from detection.errors import Problems, first_few, printable
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.source_videos import find_video


def read_ava_rows(
    path: str | Path,
    videos: str | Path,
    label_map: str | Path,
    *,
    val_rows: str | Path | None = None,
    skip_unknown: bool = False,
    leave_out_missing: bool = False,
) -> AnnotatedData:
    """Read rows, and those of val where they are a file of their own; videos lie below `videos`.

    skip_unknown: rows of actions that are not in the label map are left out and counted (their
    persons stay), else they are errors.  leave_out_missing: so are videos that are not there.
    Raises `UserError` naming file and row.
    """
    reader = _Reader(Path(videos), label_map, skip_unknown, leave_out_missing)
    reader.add(path, "train" if val_rows is not None else None)
    if val_rows is not None:
        reader.add(val_rows, "val")
    reader.problems.raise_if_any()
    notes = []
    if reader.unknown:
        notes.append(f"{reader.unknown:,} rows of actions that are not in {label_map} left out")
    if reader.missing:
        listed = first_few([*map(printable, reader.missing)], separator=", ")
        notes.append(f"{len(reader.missing):,} videos that are not in {videos} left out: {listed}")
    return AnnotatedData(list(reader.videos.values()), list(reader.labels.names), {}, notes)


class _Reader:
    def __init__(
        self, folder: Path, label_map: str | Path, skip_unknown: bool, leave_out_missing: bool
    ) -> None:
        self.folder, self.label_map = folder, label_map
        self.labels = read_label_map(label_map)
        self.names = dict(zip(self.labels.ids, self.labels.names, strict=True))
        self.skip_unknown, self.leave_out_missing = skip_unknown, leave_out_missing
        self.problems = Problems()
        self.videos: dict[str, AnnotatedVideo] = {}
        self.missing: list[str] = []
        self.unknown = 0

    def add(self, path: str | Path, split: str | None) -> None:
        """Add the rows of a file to their videos."""
        rows = read_ground_truth(path)
        found = {name: self._video(name, str(path), split) for name in rows.video_names}
        for key in rows.empty_keyframes:
            if key.video_id not in found:
                found[key.video_id] = self._video(key.video_id, str(path), split)
        merged: dict[str, dict[tuple[object, ...], AnnotatedBox]] = {name: {} for name in found}
        index, line = rows.video_index.tolist(), rows.line.tolist()
        times_s, boxes, actions = rows.time_us / 1e6, rows.boxes_01.tolist(), rows.action_id
        people = None if rows.person_id is None else rows.person_id.tolist()
        for row, (time_s, action) in enumerate(
            zip(times_s.tolist(), actions.tolist(), strict=True)
        ):
            name = rows.video_names[index[row]]
            does: tuple[str, ...] = ()
            if action in self.names:
                does = (self.names[action],)
            elif action >= 0:
                self.unknown += 1
                if not self.skip_unknown:
                    message = (
                        f"action {action} is not in {self.label_map} (--skip-unknown-labels leaves "
                        "such rows out)"
                    )
                    self.problems.add(path, line[row], message)
            person = None if people is None else str(people[row])
            x1, y1, x2, y2 = boxes[row]
            before = merged[name].get((time_s, x1, y1, x2, y2, person))
            said = (*before.actions, *does) if before else does
            merged[name][time_s, x1, y1, x2, y2, person] = AnnotatedBox(
                time_s, (x1, y1, x2, y2), said, person, before.line if before else line[row]
            )
        for name, video in found.items():
            if video is not None:
                video.boxes += merged[name].values()
        for key in rows.empty_keyframes:
            video = found[key.video_id]
            if video is not None:
                video.empty.append(key.time_s)

    def _video(self, name: str, path: str, split: str | None) -> AnnotatedVideo | None:
        """Return a video of the rows, None for one that is left out."""
        try:
            file = find_video(self.folder, name)
        except ValueError as error:
            if self.leave_out_missing and name not in self.missing:
                self.missing.append(name)
            elif not self.leave_out_missing:
                self.problems.add(path, None, printable(str(error)))
            return None
        key = file.relative_to(self.folder).as_posix()
        video = self.videos.setdefault(
            key, AnnotatedVideo(key, file, path, False, (1.0, 1.0), split=split)
        )
        if video.split != split:
            self.problems.add(path, None, f"video {name!r:.80} is in train and in val")
        return video
