"""Whether the files of a split name the same videos, keyframes and classes; no torch.

What is in one file only is left out of training and scoring, so it is reported in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows, read_video_list
from detection.datasets.ava_csv import AvaRows, read_ground_truth, read_person_boxes, time_us_of
from detection.datasets.folder import DatasetFolder, Split
from detection.errors import UserError
from detection.joins import Mismatch, compare_ids, compare_times
from detection.structures import Keyframe, LabelMap

# Of the keyframes that a box file has, as many should keep a box under the threshold in use.
_FEWEST_KEPT = 0.5


def split_mismatches(
    folder: DatasetFolder,
    split_name: str,
    label_map: LabelMap,
    *,
    boxes: str | None = None,
    score_threshold: float = 0.0,
) -> list[str]:
    """Return a sentence for every join of a split whose sides do not agree.

    boxes: the name of a box file that is used with it, from `score_threshold` on.
    Raises `UserError` for files that cannot be read.
    """
    split = folder.split(split_name)
    rows = read_ground_truth_rows(split)
    found = [str(join) for join in _videos(folder, split, rows) if join is not None]
    if len(rows) and not np.isin(rows.action_id, label_map.ids).any():
        found.append(f"split '{split_name}': not a single label in it ({split.annotations})")
    if boxes is not None:
        table = read_person_boxes(folder.boxes_path(split, boxes))
        found += box_mismatches(split, rows, table, name=f"boxes '{boxes}'", at=score_threshold)
    return found


def require_labels(folder: DatasetFolder, split_name: str, label_map: LabelMap) -> None:
    """Raise `UserError` where no label of a split is a class of the label map."""
    rows = read_ground_truth_rows(folder.split(split_name))
    ids = np.unique(rows.action_id[rows.action_id >= 0])
    if not np.isin(ids, label_map.ids).any():
        what = ", ".join(map(str, ids[:3].tolist())) or "none at all"
        raise UserError(
            f"{rows.path}: split '{split_name}' has no label of a class of the label map (class "
            f"ids there: {what}): nothing can be learned from it"
        )


def _videos(folder: DatasetFolder, split: Split, rows: AvaRows) -> Iterator[Mismatch | None]:
    name = f"the annotations of split '{split.name}'"
    annotated, listed = videos_of(rows), read_video_list(split)
    if listed is not None:
        whole = videos_of(read_ground_truth(split.annotations))
        yield compare_ids(
            whole - (listed_elsewhere(folder, split) - listed), listed,
            left_name=f"the annotations ({split.annotations.name})",
            right_name=f"the list of videos ({split.videos and split.videos.name})",
        )  # fmt: skip
    if on_disk := files_of(folder):
        yield compare_ids(
            annotated, on_disk, left_name=name, right_name="the files on disk", must="left"
        )
    excluded = {key.video_id for key in read_exclusions(split)}
    yield compare_ids(
        excluded, annotated, left_name="the exclusions", right_name=name, must="left",
        what="excluded videos",
    )  # fmt: skip


def keyframe_mismatches(
    split: Split, rows: AvaRows, keyframes: Iterable[Keyframe], *, name: str
) -> list[str]:
    """Compare the keyframes of a split with those at which people are looked for.

    rows: the split's ground truth.  name: what the keyframes are called in the sentences.
    """
    theirs: dict[str, set[int]] = {}
    for keyframe in keyframes:
        theirs.setdefault(keyframe.video_id, set()).add(time_us_of(keyframe.time_s))
    return [*keyframe_joins(times_by_video(rows, _excluded(split)), theirs, split, name)]


def keyframe_joins(
    mine: Mapping[str, set[int]], theirs: Mapping[str, set[int]], split: Split, name: str
) -> Iterator[str]:
    """Compare the keyframes of a split (microseconds by video) with those of a file `name`."""
    ours = f"split '{split.name}'"
    for join in (
        compare_ids(mine.keys(), theirs.keys(), left_name=ours, right_name=name, must="left"),
        compare_times(mine, theirs, left_name=ours, right_name=name, must="left"),
    ):
        if join is not None:
            yield str(join)


def _excluded(split: Split) -> set[tuple[str, int]]:
    return {(key.video_id, time_us_of(key.time_s)) for key in read_exclusions(split)}


def box_mismatches(
    split: Split, rows: AvaRows, table: AvaRows, *, name: str, at: float
) -> Iterator[str]:
    """Compare the keyframes of a split with those of a box file; look at its scores.

    rows: the split's ground truth.  name: what the box file is called in the sentences.
    at: the score from which boxes are in use.
    """
    excluded = _excluded(split)
    mine, theirs = (times_by_video(one, excluded) for one in (rows, table))
    yield from keyframe_joins(mine, theirs, split, name)
    yield from score_mismatches(table, name=name, at=at)


def score_mismatches(table: AvaRows, *, name: str, at: float) -> Iterator[str]:
    """Yield what is unlikely about the scores of a box file, used from the score `at` on."""
    score = table.score
    if score is None or not len(score):
        return
    kept = table.select(score >= at)
    before, after = (len(one.keyframes()) for one in (table, kept))
    if after < _FEWEST_KEPT * before:
        yield (
            f"{name}: at {after:,} of {before:,} keyframes a box scores {at:g} or more "
            f"(the highest score is {score.max():g}); likely cause: the threshold is that of "
            "another detector"
        )


def videos_of(rows: AvaRows) -> set[str]:
    """Return the videos that have rows or keyframes without persons."""
    used = {rows.video_names[i] for i in np.unique(rows.video_index).tolist()}
    return used | {key.video_id for key in rows.empty_keyframes}


def files_of(folder: DatasetFolder) -> set[str]:
    """Return the ids of the videos (or folders of frames) that lie there; empty where none does."""
    if folder.file.frames is not None:
        place = folder.root / folder.file.frames.folder
        return {path.name for path in place.iterdir()} if place.is_dir() else set()
    place = folder.root / (folder.file.videos or "")
    files = place.iterdir() if place.is_dir() else ()
    return {path.stem for path in files if path.is_file()}


def listed_elsewhere(folder: DatasetFolder, split: Split) -> frozenset[str]:
    """Return the videos that other splits list, which read the same annotation file."""
    found: frozenset[str] = frozenset()
    for name, part in folder.file.splits.items():
        if name != split.name and folder.root / part.annotations == split.annotations:
            try:
                found |= read_video_list(folder.split(name)) or frozenset()
            except (UserError, OSError):
                continue  # told where that split is used
    return found


def times_by_video(rows: AvaRows, excluded: set[tuple[str, int]]) -> dict[str, set[int]]:
    """Return the keyframes with persons (microseconds by video), less the excluded ones."""
    both: NDArray[np.int64] = np.stack([rows.video_index.astype(np.int64), rows.time_us], axis=1)
    found: dict[str, set[int]] = {}
    for video, time_us in np.unique(both, axis=0).tolist():
        if (rows.video_names[video], time_us) not in excluded:
            found.setdefault(rows.video_names[video], set()).add(time_us)
    return found
