"""A data set folder looked through: rows, videos, splits and classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detection.checks.findings import BadRows, Finding, Findings
from detection.checks.rows import Actors, check_rows
from detection.checks.statistics import SplitStatistics, statistics_of
from detection.datasets.actor_table import read_exclusions, read_video_list
from detection.datasets.ava_csv import AvaRows, read_ground_truth_leniently, read_person_boxes
from detection.datasets.folder import DatasetFolder, Split
from detection.datasets.split_joins import listed_elsewhere, times_by_video, videos_of
from detection.errors import UserError
from detection.files import sha256_of_text
from detection.joins import Mismatch, compare_ids, compare_times
from detection.structures import LabelMap

_HASHED_BYTES = 1 << 20


@dataclass
class Check:
    """What was looked at and what was found. rows, actors: by split."""

    folder: DatasetFolder
    label_map: LabelMap | None
    findings: Findings
    rows: dict[str, AvaRows] = field(default_factory=dict)
    statistics: dict[str, SplitStatistics] = field(default_factory=dict)
    videos_checked: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong (warnings do not count)."""
        return not self.findings.total("error")

    def to_json(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return {
            "dataset": str(self.folder.root),
            "ok": self.ok,
            "errors": self.findings.total("error"),
            "warnings": self.findings.total("warning"),
            "videos_checked": self.videos_checked,
            "counts": {kind: times for (kind, _), times in sorted(self.findings.counts.items())},
            "findings": [
                {
                    "kind": f.kind,
                    "level": f.level,
                    "file": f.path,
                    "line": f.line,
                    "message": f.message,
                    "video_id": f.keyframe.video_id if f.keyframe else None,
                    "time_s": f.keyframe.time_s if f.keyframe else None,
                }
                for f in self.findings.kept
            ],
            "splits": {name: stats.to_json() for name, stats in self.statistics.items()},
        }


def check_dataset(
    folder: DatasetFolder,
    *,
    splits: Sequence[str] = (),
    videos: bool = True,
    kept_per_kind: int = 20,
    told: Callable[[int, int], object] = lambda done, total: None,
) -> Check:
    """Look through a data set.

    splits: only these (none: all).  videos: open every video and compare times with its header.
    kept_per_kind: findings in words, of each kind and file.  told: videos done, of how many.
    Raises `UserError` only for what leaves nothing to look at (no folder, an unknown split).
    """
    findings = Findings(kept_per_kind)
    label_map, exclusive = _labels(folder, findings)
    check = Check(folder, label_map, findings, videos_checked=videos)
    parts: dict[str, tuple[Split, Actors]] = {}
    for name in splits or folder.file.splits:
        try:
            split = folder.split(name)
        except UserError as error:
            if name not in folder.file.splits:
                raise
            findings.add(Finding("file", "error", *_place(error)))
            continue
        rows = _read(folder, split, findings)
        if rows is None:
            continue
        actors = check_rows(rows, label_map, exclusive=exclusive, findings=findings)
        check.rows[name] = rows
        check.statistics[name] = statistics_of(rows, actors, label_map)
        parts[name] = (split, actors)
        _check_boxes_files(folder, split, rows, findings)
    _check_classes(check)
    _check_leaks(check)
    _check_names(check)
    if videos:
        _check_videos(check, told)
    return check


def _labels(
    folder: DatasetFolder, findings: Findings
) -> tuple[LabelMap | None, Mapping[str, tuple[int, ...]]]:
    try:
        label_map = folder.read_label_map()
    except (UserError, OSError) as error:
        findings.add(Finding("label map", "error", *_place(error)))
        return None, {}
    try:
        return label_map, folder.exclusive_groups(label_map)
    except UserError as error:
        findings.add(Finding("label map", "error", *_place(error)))
        return label_map, {}


def _read(folder: DatasetFolder, split: Split, findings: Findings) -> AvaRows | None:
    """Read a split's rows as far as they can be read; those of videos it does not list are left."""
    try:
        listed, excluded = read_video_list(split), read_exclusions(split)
        rows = read_ground_truth_leniently(split.annotations, BadRows(findings))
    except (UserError, OSError) as error:
        findings.add(Finding("file", "error", *_place(error)))
        return None
    whole = rows
    if listed is not None:
        rows = _only(rows, listed)
        annotated = videos_of(whole) - (listed_elsewhere(folder, split) - listed)
        sides = {
            "left_name": f"the annotations ({rows.path})",
            "right_name": f"the list of videos ({split.videos})",
        }
        unlisted = compare_ids(annotated, listed, must="left", **sides)
        _tell(unlisted, "video not listed", rows.path, findings)
        if unlisted is None or not unlisted.cause:  # else both sides are named already
            absent = compare_ids(annotated, listed, must="right", **sides)
            _tell(absent, "video without rows", str(split.videos), findings)
    _tell(
        compare_ids(
            {key.video_id for key in excluded}, videos_of(rows), left_name="the exclusions",
            right_name=f"split '{split.name}'", what="excluded videos", must="left",
        ),
        "exclusions", str(split.exclusions), findings,
    )  # fmt: skip
    return rows


def _tell(join: Mismatch | None, kind: str, path: str, findings: Findings) -> None:
    """Add a join whose sides do not agree."""
    if join is not None:
        findings.add(Finding(kind, "warning", path, None, str(join)))


def _only(rows: AvaRows, videos: Collection[str]) -> AvaRows:
    """Return the rows of some videos, and their names only."""
    known = np.array([name in videos for name in rows.video_names], bool)
    kept = rows.select(known[rows.video_index])
    place = np.cumsum(known, dtype=np.int32) - 1
    return replace(
        kept,
        video_names=tuple(name for name in rows.video_names if name in videos),
        video_index=place[kept.video_index],
        empty_keyframes=tuple(key for key in rows.empty_keyframes if key.video_id in videos),
    )


def _check_boxes_files(
    folder: DatasetFolder, split: Split, rows: AvaRows, findings: Findings
) -> None:
    """Person boxes that share no keyframe with the ground truth make every score 0."""
    for name in split.boxes:
        try:
            boxes = read_person_boxes(folder.boxes_path(split, name))
        except (UserError, OSError) as error:
            findings.add(Finding("person boxes", "error", *_place(error)))
            continue
        mine, theirs = times_by_video(rows, set()), times_by_video(boxes, set())
        sides = {"left_name": f"split '{split.name}'", "right_name": f"boxes '{name}'"}
        videos = compare_ids(mine.keys(), theirs.keys(), must="left", **sides)
        times = compare_times(mine, theirs, must="left", **sides)
        common = any(mine[video] & theirs[video] for video in mine.keys() & theirs.keys())
        if mine and not common:
            told = "; ".join(map(str, filter(None, (videos, times))))
            findings.add(
                Finding(
                    "person boxes",
                    "error",
                    boxes.path,
                    None,
                    f"boxes '{name}' share no keyframe with {rows.path}: {told}",
                )  # fmt: skip
            )
            continue
        for join in (videos, times):
            _tell(join, "person boxes", boxes.path, findings)


def _check_classes(check: Check) -> None:
    """Classes that nobody does in a split."""
    if check.label_map is None:
        return
    for name, stats in check.statistics.items():
        missing = [n for n in check.label_map.names if not stats.boxes_per_class.get(n)]
        if len(missing) == len(check.label_map) and stats.num_rows:
            what = "not a single label of a class of the label map in this split"
            check.findings.add(Finding("no label", "error", check.rows[name].path, None, what))
        if missing and len(missing) < len(check.label_map):
            what = "cannot be learned" if "train" in name else "has no average precision"
            check.findings.add(
                Finding(
                    "class without example",
                    "warning",
                    check.rows[name].path,
                    None,
                    f"{len(missing)} of {len(check.label_map)} classes have no example, so each "
                    f"{what}: {_some(missing, 10)}",
                )  # fmt: skip
            )


def _check_leaks(check: Check) -> None:
    """Find videos in two splits that are used together, as train and val are."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in check.rows:
        families[re.sub(r"trainval|train|val(idation)?|test", "*", name)].append(name)
    for members in families.values():
        for position, first in enumerate(members):
            for second in members[position + 1 :]:
                a, b = check.rows[first], check.rows[second]
                for video in sorted(set(a.video_names) & set(b.video_names)):
                    row = int(np.argmax(b.video_index == b.video_names.index(video)))
                    check.findings.add(
                        Finding(
                            "split leak",
                            "error",
                            b.path,
                            int(b.line[row]) or None,
                            f"video '{video}' is in split {first} and in split {second}",
                        )  # fmt: skip
                    )


def _check_names(check: Check) -> None:
    """Ids that differ in what people overlook: case, spaces, dashes, a suffix."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for rows in check.rows.values():
        for name in rows.video_names:
            plain = re.sub(r"\.(mp4|mkv|webm|avi|mov)$", "", name.casefold())
            places[re.sub(r"[\s_.-]+", "", plain)].setdefault(name, rows.path)
    for names in places.values():
        if len(names) > 1:
            (first, path), (second, other) = list(names.items())[:2]
            check.findings.add(
                Finding(
                    "ids nearly the same",
                    "warning",
                    other,
                    None,
                    f"videos '{first}' ({path}) and '{second}' differ in case or marks only: "
                    "one video?",
                )  # fmt: skip
            )


def _check_videos(check: Check, told: Callable[[int, int], object]) -> None:
    """Open every video: there, readable, and long enough for its rows; the same file twice?"""
    from detection.datasets.open_video import open_video  # loads torch, which the rows do not need

    names = sorted({name for rows in check.rows.values() for name in rows.video_names})
    spans: dict[str, tuple[float, float] | None] = {}
    for done, name in enumerate(names, start=1):
        try:
            with open_video(check.folder, name) as video:
                spans[name] = video.span_s()
        except (UserError, OSError) as error:
            spans[name] = None
            check.findings.add(Finding("video", "error", *_place(error)))
        told(done, len(names))
    for rows in check.rows.values():
        _check_times(rows, spans, check.findings)
    readable = [name for name in names if spans[name] is not None]
    _check_copies(check, readable)


def _check_times(
    rows: AvaRows, spans: Mapping[str, tuple[float, float] | None], findings: Findings
) -> None:
    """Find rows whose time lies outside their video (a header tells its end only about)."""
    start = np.full(len(rows.video_names), -np.inf)
    end = np.full(len(rows.video_names), np.inf)
    for position, name in enumerate(rows.video_names):
        span = spans.get(name)
        if span is not None:
            start[position], end[position] = span[0] - 0.05, span[1] + 0.05
    time_s = rows.time_us / 1e6
    bad = np.flatnonzero((time_s < start[rows.video_index]) | (time_s > end[rows.video_index]))
    kind = "time outside the video"
    worded = min(len(bad), findings.room(kind, rows.path))
    for row in bad[:worded].tolist():
        name = rows.video_names[rows.video_index[row]]
        first, last = spans[name] or (0.0, 0.0)
        findings.add(
            Finding(
                kind,
                "error",
                rows.path,
                int(rows.line[row]),
                f"time {time_s[row]:g} s, video '{name}' shows {first:.3f} to {last:.3f} s",
                rows.keyframe(row),
            )  # fmt: skip
        )
    if len(bad) > worded:
        findings.count(kind, "error", len(bad) - worded)


def _check_copies(check: Check, names: Iterable[str]) -> None:
    """Files of one content under two ids: between train and val that is a leak."""
    if check.folder.file.frames is not None:
        return
    by_size: dict[int, list[str]] = defaultdict(list)
    for name in names:
        by_size[check.folder.video_path(name).stat().st_size].append(name)
    splits_of: dict[str, set[str]] = defaultdict(set)
    for split, rows in check.rows.items():
        for name in rows.video_names:
            splits_of[name].add(split)
    for same in by_size.values():
        first_of: dict[str, str] = {}
        for name in same if len(same) > 1 else ():
            path = check.folder.video_path(name)
            try:
                digest = _digest(path)
            except OSError as error:
                check.findings.add(Finding("video", "error", *_place(error)))
                continue
            first = first_of.setdefault(digest, name)
            if first == name:
                continue
            leak = splits_of[first] != splits_of[name]
            where = " and ".join(sorted(splits_of[first] | splits_of[name]))
            check.findings.add(
                Finding(
                    "split leak" if leak else "same video twice",
                    "error" if leak else "warning",
                    str(path),
                    None,
                    f"the same file as '{first}'" + (f" (in {where})" if leak else ""),
                )  # fmt: skip
            )


def _digest(path: Path) -> str:
    """Return a hash of a file's first and last part."""
    with path.open("rb") as file:
        first = file.read(_HASHED_BYTES)
        file.seek(max(0, path.stat().st_size - _HASHED_BYTES))
        return sha256_of_text(first + file.read())


def _place(error: UserError | OSError) -> tuple[str, int | None, str]:
    """Take an error apart: path, line, what."""
    if isinstance(error, OSError):
        return str(error.filename or ""), None, error.strerror or str(error)
    message = str(error)
    match = re.match(r"(?P<path>.+?)(:(?P<line>\d+))?: (?P<what>.*)", message, re.S)
    if match is None:
        return "", None, message
    line = match["line"]
    return match["path"], int(line) if line else None, match["what"]


def _some(names: Sequence[str], count: int = 5) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def keyframes_to_show(
    check: Check, *, count: int, seed: int, suspicious: bool
) -> dict[str, list[tuple[str, float]]]:
    """Return (video, seconds) by split: of random annotated keyframes, or of the findings'."""
    chosen: dict[str, list[tuple[str, float]]] = defaultdict(list)
    if suspicious:
        split_of = {rows.path: name for name, rows in check.rows.items()}
        by_kind: dict[str, list[tuple[str, tuple[str, float]]]] = defaultdict(list)
        for f in check.findings.kept:
            if f.keyframe is not None and f.kind != "time outside the video":
                shown = (f.keyframe.video_id, f.keyframe.time_s)
                by_kind[f.kind].append((split_of[f.path], shown))
        turn = 0
        seen: set[tuple[str, tuple[str, float]]] = set()
        while len(seen) < count and any(len(found) > turn for found in by_kind.values()):
            for found in by_kind.values():
                if turn < len(found) and found[turn] not in seen and len(seen) < count:
                    seen.add(found[turn])
                    chosen[found[turn][0]].append(found[turn][1])
            turn += 1
        return dict(chosen)
    generator = np.random.default_rng(seed)
    pool: list[tuple[str, int]] = []
    for name, rows in check.rows.items():
        some = generator.choice(len(rows), size=min(count, len(rows)), replace=False)
        pool += [(name, int(row)) for row in some]
    order = generator.permutation(len(pool))[:count]
    for position in order.tolist():
        name, row = pool[position]
        key = check.rows[name].keyframe(row)
        if tuple(key) not in chosen[name]:
            chosen[name].append((key.video_id, key.time_s))
    return dict(chosen)
