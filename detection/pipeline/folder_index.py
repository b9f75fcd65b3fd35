"""What a run over several videos ends with: one page, and the events of all videos in one table.

`index.html` has a row for each video, `events.csv` and `events.jsonl` have the events of all that
are finished, `index.json` says the same as the page. Every process of a run writes them anew at its
end, from what stands in the videos' folders: who ends last has all. Only what is nowhere else is
taken from the `index.json` before: why a video failed in another process.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

import cv2
import numpy as np

from detection.errors import UserError, printable
from detection.files import only_writer, read_text, replacing, write_text
from detection.pipeline.segments import STATE_NAME
from detection.pipeline.stored import stored_events
from detection.pipeline.summary import counted, duration_text, read_summary, rounded_down
from detection.pipeline.video_folders import INDEX_NAMES, VideoFolder
from detection.pipeline.writers import ANNOTATED_NAME, event_line
from detection.reports.evaluation_page import document, html_table, text
from detection.tracking.events import ActionEvent
from detection.video.reader import VideoReader

FORMAT = 1
THUMBNAIL_NAME = "thumbnail.jpg"
_THUMBNAIL_PX = 144  # short side
_MOST_CLASSES = 4  # named in a row
_FILES = (
    ("review page", "review.html"),
    ("annotated video", ANNOTATED_NAME),
    ("events", "events.jsonl"),
    ("tracks", "tracks.jsonl"),
    ("detections", "detections.csv"),
)
# What a row is made of; of the other files only whether they are there.
ROW_NAMES = (STATE_NAME, "summary.json", "events.jsonl")
_STYLE = """
td { vertical-align: top; padding-top: 8px; padding-bottom: 8px; }
td img { max-width: 260px; max-height: 146px; display: block; border-radius: 4px; }
td:nth-child(2), td:nth-child(6) { overflow-wrap: anywhere; min-width: 150px; }
td:nth-child(4) { white-space: nowrap; }
td a { white-space: nowrap; display: block; } .bad { color: #a3281e; }
"""

State = Literal["done", "unfinished", "failed", "waiting"]


@dataclass(frozen=True)
class IndexRow:
    """A video of the index.

    folder: of its results, relative to the index, parts separated by `/`.
    state: "waiting": not begun.
    error: why it failed; None unless it did.
    summary: values of summary.json; empty where there is none.
    events: by start, track and class; of finished ones and of those that go on.
    files: that its folder has.
    """

    name: str
    folder: str
    state: State
    error: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[ActionEvent] = ()
    files: frozenset[str] = frozenset()

    @property
    def classes(self) -> dict[str, int]:
        """Return the number of events by class, the commonest first."""
        counts = Counter(event.action for event in self.events)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def number(self, key: str) -> float | None:
        """Return a number of the summary; None where it is none."""
        value = self.summary.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if abs(value) < 1e15 else None


def check_index(root: Path) -> None:
    """Raise `UserError` where an index would replace files of something else."""
    if (root / STATE_NAME).exists():
        raise UserError(f"{root}: holds the results of one video; another --out is required")
    if _read_index(root) is not None:
        return
    for name in INDEX_NAMES:
        if (root / name).exists() or (root / name).is_symlink():
            raise UserError(f"{root / name}: not of this command; another --out is required")


def write_index(
    root: Path, videos: Sequence[VideoFolder], outcomes: Mapping[str, str | None]
) -> list[IndexRow]:
    """Write index.html, index.json, events.csv and events.jsonl; return the rows of all videos.

    videos: of the whole run, the shares of other processes included.
    outcomes: by the name of each video that this process has run, the error that ended it.

    Finished videos of earlier runs into the same folder keep their rows. One process writes at a
    time; raises `UserError` where that fails.
    """
    for video in videos:
        if video.name in outcomes and outcomes[video.name] is None:
            place_thumbnail(video)
    with only_writer(root, busy="another process writes here", may_wait=lambda: True):
        check_index(root)
        rows = _rows(root, videos, outcomes)
        # First, for it tells that the others may be replaced.
        write_text(root / "index.json", _index_json(rows))
        _write_events(root, rows)
        write_text(root / "index.html", index_page(root.resolve().name, rows))
    return rows


def failed_before(root: Path) -> set[str]:
    """Return the names of the videos that failed as the index of earlier runs says."""
    return {entry["video"] for entry in _read_index(root) or () if entry.get("error") is not None}


def _rows(
    root: Path, videos: Sequence[VideoFolder], outcomes: Mapping[str, str | None]
) -> list[IndexRow]:
    before = {entry["video"]: entry for entry in _read_index(root) or ()}
    folders = {video.name: video.folder.relative_to(root).as_posix() for video in videos}
    errors = {
        name: outcomes[name] if name in outcomes else before.get(name, {}).get("error")
        for name in folders
    }
    rows = [_row(root, name, folder, errors[name]) for name, folder in folders.items()]
    for name, entry in before.items():
        if name not in folders and entry["folder"] not in folders.values():
            row = _row(root, name, entry["folder"], None)
            rows += [row] if row.state == "done" else []
    return sorted(rows, key=lambda row: row.name)


def _row(root: Path, name: str, folder: str, error: str | None) -> IndexRow:
    """Read a video's folder."""
    if error is not None:
        return IndexRow(name, folder, "failed", error)
    place = root / folder
    state = state_of(place)
    if state == "waiting":
        return IndexRow(name, folder, state)
    names = (*(file for _, file in _FILES), THUMBNAIL_NAME)
    files = frozenset(file for file in names if (place / file).is_file())
    try:
        events = sorted(
            _events_of(place, name) if "events.jsonl" in files else (),
            key=lambda event: (event.start_s, event.track, event.action_id, event.end_s),
        )
    except UserError as problem:
        return IndexRow(name, folder, "failed", str(problem))
    return IndexRow(name, folder, state, None, read_summary(place), events, files)


def state_of(folder: Path) -> State:
    """Tell how far the results in a video's folder are."""
    try:
        complete = json.loads(read_text(folder / STATE_NAME)).get("complete") is True
    except (UserError, ValueError, AttributeError, RecursionError):
        return "waiting"
    return "done" if complete else "unfinished"


def _events_of(folder: Path, name: str) -> Iterator[ActionEvent]:
    """Yield the events of a finished video, under the name that it has in the index."""
    return (replace(event, video_id=name) for event in stored_events(folder))


def _read_index(root: Path) -> list[dict[str, Any]] | None:
    """Return the entries of index.json that are whole; None where it is absent or another's."""
    try:
        values = json.loads(read_text(root / "index.json"))
    except (UserError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        return None
    entries = values.get("videos")
    return [e for e in entries if _is_entry(e)] if isinstance(entries, list) else None


def _is_entry(entry: Any) -> bool:
    """Tell whether an entry names a video, and a folder that does not lead out of the index's."""
    if not isinstance(entry, dict) or not isinstance(entry.get("error"), str | None):
        return False
    if not all(isinstance(entry.get(key), str) for key in ("video", "folder")):
        return False
    folder = PurePosixPath(entry["folder"])
    parts = entry["folder"].replace("\\", "/").split("/")
    return not folder.is_absolute() and not {"", ".", ".."} & set(parts)


def _index_json(rows: Sequence[IndexRow]) -> str:
    entries = [
        {
            "video": row.name,
            "folder": row.folder,
            "state": row.state,
            "error": row.error,
            "events": len(row.events),
            "classes": row.classes,
            "summary": dict(row.summary),
        }
        for row in rows
    ]
    return json.dumps({"format": FORMAT, "videos": entries}, indent=1) + "\n"


def _write_events(root: Path, rows: Sequence[IndexRow]) -> None:
    """Write the events of finished videos: by video, then start, track and class."""
    columns = ["video", "track", "action", "action_id", "start_s", "end_s", "peak_score"]
    with (
        replacing(root / "events.csv") as csv_path,
        replacing(root / "events.jsonl") as lines_path,
        csv_path.open("w", encoding="utf-8", newline="") as csv_file,
        lines_path.open("w", encoding="utf-8") as lines,
    ):
        table_writer = csv.writer(csv_file, lineterminator="\n")
        table_writer.writerow(columns)
        for event in (event for row in rows if row.state == "done" for event in row.events):
            lines.write(event_line(event))
            values = list(asdict(event).values())
            table_writer.writerow([printable(v) if isinstance(v, str) else v for v in values])


def place_thumbnail(video: VideoFolder) -> None:
    """Write thumbnail.jpg: the first event, else the highest score, else the middle."""
    path = video.folder / THUMBNAIL_NAME
    if path.exists() or state_of(video.folder) != "done":
        return
    annotated = video.folder / ANNOTATED_NAME
    try:
        events = list(stored_events(video.folder))
        with VideoReader(annotated if annotated.is_file() else video.source) as reader:
            info, shape = reader.info, reader.pixel_shape
            first = min(events, key=lambda event: event.start_s, default=None)
            best = read_summary(video.folder).get("best") or {}
            time_s = best.get("time_s", info.start_s + info.duration_s / 2)
            if first is not None:
                time_s = first.start_s + min(0.5, (first.end_s - first.start_s) / 2)
            frame = reader.read([float(time_s)], short_side=_THUMBNAIL_PX).frames[0]
    except (UserError, ValueError, TypeError, AttributeError):
        return  # the row is without one
    pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy()[..., ::-1])
    if shape is not None:
        width = max(1, round(pixels.shape[1] * shape))
        pixels = np.asarray(cv2.resize(pixels, (width, pixels.shape[0])), np.uint8)
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())


def index_line(root: str | Path, rows: Sequence[IndexRow]) -> str:
    """Return what a run over several videos ends with, in a line."""
    return f"{_counts(rows)} -> {printable(str(root).rstrip('/'))}/index.html"


def _counts(rows: Sequence[IndexRow]) -> str:
    counts = Counter(row.state for row in rows)
    events = sum(len(row.events) for row in rows)
    words = [counted(len(rows), "video"), counted(events, "event")]
    shown: dict[State, str] = {
        "failed": "failed",
        "unfinished": "not finished",
        "waiting": "not begun",
    }
    words += [f"{counts[state]:,} {word}" for state, word in shown.items() if counts[state]]
    return ", ".join(words)


def index_page(title: str, rows: Sequence[IndexRow]) -> str:
    """Return the page: a row for each video, nothing loaded from elsewhere, all text escaped."""
    heads = ("", "video", "length", "persons", "events", "actions", "")
    parts = [
        f"<style>{_STYLE}</style>",
        f"<h1>{text(title)}</h1>",
        f'<p class="soft">{text(_counts(rows))}. All events of finished videos: '
        '<a href="events.csv">events.csv</a>, <a href="events.jsonl">events.jsonl</a></p>',
        html_table(heads, [_cells(row) for row in rows], frozenset({1, 5, 6})),
    ]
    return document(title, parts)


def _cells(row: IndexRow) -> tuple[str, ...]:
    """Return the cells of a row as HTML."""
    name = f"<b>{text(row.name)}</b>"
    if row.state == "failed":
        return ("", f'{name}<br><span class="bad">failed: {text(row.error)}</span>', *[""] * 5)
    if row.state == "waiting":
        return ("", f'{name}<br><span class="soft">not begun</span>', *[""] * 5)
    if row.state == "unfinished":
        end_s = row.number("end_s")
        reached = "" if end_s is None else f" (until {duration_text(end_s)})"
        name += f'<br><span class="bad">not finished{reached}</span>'
    thumbnail = ""
    if THUMBNAIL_NAME in row.files:
        thumbnail = f'<img alt="" loading="lazy" src="{_address(row, THUMBNAIL_NAME)}">'
        if "review.html" in row.files:
            thumbnail = f'<a href="{_address(row, "review.html")}">{thumbnail}</a>'
    length_s, people, persons = map(row.number, ("length_s", "people", "persons"))
    shown = "" if persons is None else f"{persons:,.0f}"
    if people is not None:
        shown += f'<br><span class="soft">{counted(round(people), "detection")}</span>'
    links = "".join(
        f'<a href="{_address(row, file)}">{text(label)}</a>'
        for label, file in _FILES
        if file in row.files
    )
    length = "" if length_s is None else text(duration_text(length_s))
    return thumbnail, name, length, shown, f"{len(row.events):,}", _actions(row), links


def _actions(row: IndexRow) -> str:
    """Return the commonest classes with counts, or the highest score where there is no event."""
    classes = row.classes
    if classes:
        most = list(classes.items())[:_MOST_CLASSES]
        named = [f"{text(name)} \N{MULTIPLICATION SIGN}{count:,}" for name, count in most]
        more = len(classes) - len(most)
        return "<br>".join(named) + (f"<br>and {more:,} more" if more else "")
    best = row.summary.get("best")
    if not isinstance(best, dict):
        return ""
    try:
        said = f"highest: {best['action']} {rounded_down(best['score'])} at {best['time_s']:.1f} s"
    except (TypeError, LookupError, ValueError, OverflowError):
        return ""
    return f'<span class="soft">nothing reached its threshold; {text(said)}</span>'


def _address(row: IndexRow, file: str) -> str:
    """Return a file's address relative to the page; `./`, for a name may look like a scheme."""
    return "./" + quote(os.fsencode(f"{row.folder}/{file}"))
