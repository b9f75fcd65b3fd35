"""The check of a data set folder: files, rows, splits and classes, and the headers of its videos.

`checks.videos` decodes the videos, `checks.run` looks at what a training run asks for. No torch
unless the videos are looked at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from detection.checks.findings import OUTSIDE, BadRows, Findings
from detection.checks.rows import Actors, check_rows
from detection.checks.statistics import SplitStatistics, statistics_of
from detection.datasets.actor_table import read_exclusions, read_video_list
from detection.datasets.ava_csv import (
    AvaRows,
    read_ground_truth_leniently,
    read_person_boxes,
    time_us_of,
)
from detection.datasets.folder import DatasetFolder, Split
from detection.datasets.split_joins import (
    keyframe_joins,
    listed_elsewhere,
    score_mismatches,
    times_by_video,
    videos_of,
)
from detection.files import sha256_of_text
from detection.joins import Mismatch, compare_ids
from detection.structures import Keyframe, LabelMap

_HASHED_BYTES = 1 << 20


@dataclass
class Check:
    """What was looked at and what was found.

    folder: the data set.
    findings: everything that was found.
    label_map: None where it cannot be read.
    rows: ground truth by split.
    statistics: counts by split.
    videos_checked: whether the videos were opened.
    readable: the videos that could be opened.
    not_looked_at: what was left out, and the option that includes it.
    """

    folder: DatasetFolder
    findings: Findings
    label_map: LabelMap | None = None
    rows: dict[str, AvaRows] = field(default_factory=dict)
    statistics: dict[str, SplitStatistics] = field(default_factory=dict)
    videos_checked: bool = False
    readable: list[str] = field(default_factory=list)
    not_looked_at: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no error (warnings do not count)."""
        return not self.findings.total("error")

    def to_json(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return {
            "dataset": str(self.folder.root),
            "ok": self.ok,
            "errors": self.findings.total("error"),
            "warnings": self.findings.total("warning"),
            "videos_checked": self.videos_checked,
            "not_looked_at": self.not_looked_at,
            "counts": {kind: times for (kind, _), times in sorted(self.findings.counts.items())},
            "findings": [finding.to_json() for finding in self.findings.kept],
            "splits": {name: asdict(stats) for name, stats in self.statistics.items()},
        }


def check_dataset(
    folder: DatasetFolder,
    *,
    splits: Sequence[str] = (),
    videos: bool = True,
    clip_span_s: float = 0.0,
    box_threshold: float = 0.0,
    kept_per_kind: int = 20,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Check:
    """Check a data set.

    splits: only these (none: all).
    videos: open every video and compare times with its header.
    clip_span_s: length of the clips that a run reads; prepared videos must have been cut for it.
    box_threshold: score from which a run takes person boxes.
    kept_per_kind: findings with a message, of each kind and file.
    on_progress: called with the number of videos done, and of how many.
    Raises `UserError` only where there is nothing to check (no folder, an unknown split).
    """
    check = Check(folder, Findings(kept_per_kind), videos_checked=videos)
    findings, exclusive = check.findings, dict[str, tuple[int, ...]]()
    with findings.catching("label map"):
        check.label_map = folder.read_label_map()
        exclusive = folder.exclusive_groups(check.label_map)
    for name in splits or folder.file.splits:
        if name not in folder.file.splits:
            folder.split(name)  # raises
        with findings.catching("file"):
            split = folder.split(name)
            check.rows[name] = rows = _read(folder, split, findings)
            actors = check_rows(rows, check.label_map, exclusive=exclusive, findings=findings)
            check.statistics[name] = statistics_of(rows, actors, check.label_map)
            excluded = {(k.video_id, time_us_of(k.time_s)) for k in read_exclusions(split)}
            _check_not_empty(name, rows, actors, excluded, findings)
            for boxes in split.boxes:
                with findings.catching("person boxes"):
                    _check_boxes(folder, split, boxes, rows, box_threshold, findings)
    _check_classes(check)
    _check_leaks(check)
    _check_names(check)
    if videos:
        from detection.checks.headers import check_headers  # loads torch

        check.readable = check_headers(
            folder,
            check.rows,
            findings,
            splits=splits or tuple(folder.file.splits),
            clip_span_s=clip_span_s,
            on_progress=on_progress,
        )
        _check_copies(check)
    return check


def _read(folder: DatasetFolder, split: Split, findings: Findings) -> AvaRows:
    """Read the rows of a split that can be read, of the videos that it lists."""
    listed, excluded = read_video_list(split), read_exclusions(split)
    rows = read_ground_truth_leniently(split.annotations, BadRows(findings))
    whole = rows
    if listed is not None:
        rows = _only(rows, listed)
        annotated = videos_of(whole) - (listed_elsewhere(folder, split) - listed)
        sides = {
            "left_name": f"the annotations ({rows.path})",
            "right_name": f"the list of videos ({split.videos})",
        }
        unlisted = compare_ids(annotated, listed, must="left", **sides)
        _warn(unlisted, "video not listed", rows.path, findings)
        if unlisted is None or not unlisted.cause:  # else both sides are named already
            absent = compare_ids(annotated, listed, must="right", **sides)
            _warn(absent, "video without rows", str(split.videos), findings)
    join = compare_ids(
        {key.video_id for key in excluded}, videos_of(rows), left_name="the exclusions",
        right_name=f"split '{split.name}'", what="excluded videos", must="left",
    )  # fmt: skip
    _warn(join, "exclusions", str(split.exclusions), findings)
    return rows


def _warn(join: Mismatch | str | None, kind: str, path: str, findings: Findings) -> None:
    if join is not None:
        findings.warning(kind, path, str(join))


def _only(rows: AvaRows, videos: Collection[str]) -> AvaRows:
    known = np.array([name in videos for name in rows.video_names], bool)
    kept = rows.select(known[rows.video_index])
    place = np.cumsum(known, dtype=np.int32) - 1
    return replace(
        kept,
        video_names=tuple(name for name in rows.video_names if name in videos),
        video_index=place[kept.video_index],
        empty_keyframes=tuple(key for key in rows.empty_keyframes if key.video_id in videos),
    )


def _check_not_empty(
    split: str,
    rows: AvaRows,
    actors: Actors,
    excluded: Collection[tuple[str, int]],
    findings: Findings,
) -> None:
    """Require a person at a keyframe that is not excluded."""
    first_rows = actors.keyframe_row.tolist()
    names, times_us = rows.video_names, rows.time_us
    if all((names[rows.video_index[row]], int(times_us[row])) in excluded for row in first_rows):
        why = f": all {len(first_rows)} of them are excluded" if first_rows else ""
        message = f"no keyframe with a person in it for split '{split}'{why}"
        findings.error("empty split", rows.path, message)


def _check_boxes(
    folder: DatasetFolder,
    split: Split,
    name: str,
    rows: AvaRows,
    threshold: float,
    findings: Findings,
) -> None:
    boxes, title = read_person_boxes(folder.boxes_path(split, name)), f"boxes '{name}'"
    mine, theirs = times_by_video(rows, set()), times_by_video(boxes, set())
    joins = list(keyframe_joins(mine, theirs, split, title))
    if mine and not any(mine[video] & theirs[video] for video in mine.keys() & theirs.keys()):
        message = f"{title} share no keyframe with {rows.path}: {'; '.join(joins)}"
        findings.error("person boxes", boxes.path, message)
        return
    for sentence in (*joins, *score_mismatches(boxes, name=title, at=threshold)):
        findings.warning("person boxes", boxes.path, sentence)


def _check_classes(check: Check) -> None:
    """Find classes without an example in a split."""
    if check.label_map is None:
        return
    for name, stats in check.statistics.items():
        missing = [n for n in check.label_map.names if not stats.boxes_per_class.get(n)]
        path, count = check.rows[name].path, len(check.label_map)
        if len(missing) == count and stats.num_rows:
            message = "not a single label of a class of the label map in this split"
            check.findings.error("no label", path, message)
        elif missing and len(missing) < count:
            what = "cannot be learned" if "train" in name else "has no average precision"
            some = ", ".join(missing[:10])
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            message = (
                f"{len(missing)} of {count} classes have no example, so each {what}: {some}{more}"
            )
            check.findings.warning("class without example", path, message)


def _check_leaks(check: Check) -> None:
    """Find videos in two splits that are used together, as train and val are."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in check.rows:
        families[re.sub(r"trainval|train|val(idation)?|test", "*", name)].append(name)
    for first, second in (pair for names in families.values() for pair in combinations(names, 2)):
        a, b = check.rows[first], check.rows[second]
        for video in sorted(set(a.video_names) & set(b.video_names)):
            row = int(np.argmax(b.video_index == b.video_names.index(video)))
            message = f"video '{video}' is in split {first} and in split {second}"
            check.findings.error("split leak", b.path, message, line=int(b.line[row]) or None)


def _check_names(check: Check) -> None:
    """Find ids that differ in what is easily overlooked: case, spaces, dashes, a suffix."""
    paths: dict[str, dict[str, str]] = defaultdict(dict)
    for rows in check.rows.values():
        for name in rows.video_names:
            plain = re.sub(r"\.(mp4|mkv|webm|avi|mov)$", "", name.casefold())
            paths[re.sub(r"[\s_.-]+", "", plain)].setdefault(name, rows.path)
    for names in paths.values():
        if len(names) > 1:
            (first, path), (second, other) = list(names.items())[:2]
            pair = f"videos '{first}' ({path}) and '{second}'"
            message = f"{pair} differ in case or marks only: one video?"
            check.findings.warning("ids nearly the same", other, message)


def _check_copies(check: Check) -> None:
    """Find files of one content under two ids: between train and val that is a leak."""
    if check.folder.file.frames is not None:
        return
    by_size: dict[int, list[str]] = defaultdict(list)
    for name in check.readable:
        by_size[check.folder.video_path(name).stat().st_size].append(name)
    splits_of: dict[str, set[str]] = defaultdict(set)
    for split, rows in check.rows.items():
        for name in rows.video_names:
            splits_of[name].add(split)
    for same in by_size.values():
        first_of: dict[str, str] = {}
        for name in same if len(same) > 1 else ():
            path = check.folder.video_path(name)
            with check.findings.catching("video"):
                first = first_of.setdefault(_digest(path), name)
                if first == name:
                    continue
                message = f"the same file as '{first}'"
                if splits_of[first] == splits_of[name]:
                    check.findings.warning("same video twice", str(path), message)
                else:
                    both = " and ".join(sorted(splits_of[first] | splits_of[name]))
                    check.findings.error("split leak", str(path), f"{message} (in {both})")


def _digest(path: Path) -> str:
    """Return a hash of a file's first and last part."""
    with path.open("rb") as file:
        first = file.read(_HASHED_BYTES)
        file.seek(max(0, path.stat().st_size - _HASHED_BYTES))
        return sha256_of_text(first + file.read())


def keyframes_to_show(
    check: Check, *, count: int, seed: int, suspicious: bool
) -> dict[str, list[tuple[str, float]]]:
    """Return (video, seconds) by split: of random annotated keyframes, or of the findings'."""
    if suspicious:
        split_of = {rows.path: name for name, rows in check.rows.items()}
        by_kind: dict[str, list[tuple[str, Keyframe]]] = defaultdict(list)
        for f in check.findings.kept:
            if f.keyframe is not None and f.kind != OUTSIDE:
                by_kind[f.kind].append((split_of[f.path], f.keyframe))
        turns = zip_longest(*by_kind.values())  # one of each kind, then the next of each
        shown = list(dict.fromkeys(found for turn in turns for found in turn if found))[:count]
    else:
        generator = np.random.default_rng(seed)
        pool: list[tuple[str, int]] = []
        for name, rows in check.rows.items():
            some = generator.choice(len(rows), size=min(count, len(rows)), replace=False)
            pool += [(name, int(row)) for row in some]
        order = generator.permutation(len(pool))[:count].tolist()
        drawn = (pool[position] for position in order)
        shown = [(name, check.rows[name].keyframe(row)) for name, row in drawn]
    chosen: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for name, key in dict.fromkeys(shown):
        chosen[name].append((key.video_id, key.time_s))
    return dict(chosen)
