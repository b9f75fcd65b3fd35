"""People at every keyframe of a split, as a file of person boxes in AVA's form.

The work is cut into numbered batches, always the same ones; each is kept on the disk when it is
done (`detection.people.shards`), so that a run which was killed goes on where it stopped, and
several processes can share one run. Beside the table OUT.csv lie `OUT.made_by.json` and, where
some keyframes could not be read, `OUT.unreadable.csv`.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detection.datasets.ava_csv import format_time, write_person_boxes
from detection.datasets.folder import DatasetFolder
from detection.errors import ProcessLostError, UserError
from detection.files import sha256_of_text, write_text
from detection.jobs.base import Open, Workers
from detection.jobs.run_all import run_all
from detection.people.base import PeopleDetector
from detection.people.box_workers import FoundBatch, KeyframeBatch, open_box_worker
from detection.people.detect_batch import decoded_sides_px, detect_batch
from detection.people.keyframe_frames import Unreadable, batches_of, read_batches
from detection.people.shards import Options, Parts, Record, Shard, differences
from detection.people.video_identity import batch_digests, changed_videos, video_digests
from detection.structures import ActorBoxes, Keyframe

Spread = Callable[[Open[KeyframeBatch, FoundBatch]], Workers[KeyframeBatch, FoundBatch]]


@dataclass(frozen=True)
class Summary:
    """What a table holds.

    keyframes: all of them.  boxes: of all.  empty: keyframes at which no person was found.
    unreadable: keyframes that could not be read, of `unreadable_videos` videos.
    complete: False where other shards are still at work; the counts are then this process's own,
    and all but `keyframes` are of what it did just now.
    kept: the table was there.
    new_keyframes: processed by this process just now, in `seconds`.
    outdated: batches of an earlier run that were done again, for their videos have changed since.
    """

    keyframes: int
    boxes: int
    empty: int
    unreadable: int
    unreadable_videos: int
    complete: bool = True
    kept: bool = False
    new_keyframes: int = 0
    seconds: float = 0.0
    outdated: int = 0


def make_box_table(
    folder: DatasetFolder,
    keyframes: Sequence[Keyframe],
    out: str | Path,
    *,
    open_detector: Callable[[], PeopleDetector],
    options: Options,
    notes: Mapping[str, str] | None = None,
    batch_size: int = 8,
    short_side_px: int | None = None,
    workers: int = 0,
    spread: Spread | None = None,
    shard: Shard | None = None,
    overwrite: bool = False,
    began_s: float | None = None,
    progress: bool = False,
) -> Summary:
    """Look for people at the keyframes and write `out`, the boxes sorted by video and time.

    keyframes: sorted, each once.  open_detector: called when there is work left.  options: what
    else decides the result (weights, thresholds), by which a run knows its own unfinished work and
    its own table.  notes: go into OUT.made_by.json as they are.  short_side_px: larger frames are
    decoded at it; None: at the detector's own (`sides_px`, where it has that).  workers: processes
    that read ahead.  spread: opens workers that read and detect in this one's place, to which
    `open_detector` travels; None: this one does.  shard: this process's share of the work; the last
    to finish writes the table.  overwrite: replace a table (or unfinished work) of other options.
    began_s: `time.time()` when this process began; a table of the same options that is younger is
    its siblings' work and kept.  Unfinished work of videos that have changed is done again. Raises
    `UserError` where the table is another run's or of other videos than they are now, where another
    process is writing it, where a video changes meanwhile, and where no keyframe at all can be
    read; `ProcessLostError` where a worker was ended from outside (what is done is kept).
    """
    out, shard = Path(out), shard or Shard()
    batches = batches_of(keyframes, batch_size)
    digest = keyframes_digest(keyframes)
    sizes = {"short_side": short_side_px, "batch_size": batch_size, "keyframes": digest}
    options = {**options, **sizes, **_frames_option(folder)}
    videos = video_digests(folder, (keyframe.video_id for keyframe in keyframes))
    inputs = batch_digests(batches, videos)
    files = _TableFiles(out, notes or {})
    with Parts(out, shard=shard, options=options, inputs=inputs, overwrite=overwrite) as parts:
        outdated = parts.outdated()
        left = bool(outdated or parts.records())
        kept = files.existing(
            options, None if left else videos, overwrite=overwrite, younger_than_s=began_s
        )
        if kept is not None and not left:
            return kept
        share = _Share(parts, batches, shard)
        if share.todo:
            found = _found(share, open_detector, folder, short_side_px, workers, spread)
            share.keep(found, progress=progress)
        records = parts.claim_merge(len(batches))
        if records is None:
            return replace(share.summary(), outdated=len(outdated))
        _check_unchanged(out, videos, video_digests(folder, videos))
        return replace(
            files.write(parts, records, batches, options, videos, share), outdated=len(outdated)
        )


def _found(
    share: _Share,
    open_detector: Callable[[], PeopleDetector],
    folder: DatasetFolder,
    short_side_px: int | None,
    workers: int,
    spread: Spread | None,
) -> Iterator[Any]:
    """Yield the batches of a share with their people, from here or from other processes."""
    if spread is None:
        return share.found_here(open_detector(), folder, short_side_px, workers=workers)
    return share.found_apart(spread, partial(open_box_worker, folder, open_detector, short_side_px))


def _check_unchanged(out: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    if changed := changed_videos(before, now):
        raise UserError(f"{out}: not written: of its videos {changed}; give the same command again")


def _frames_option(folder: DatasetFolder) -> dict[str, str]:
    """Say how frames that were extracted lie in time; nothing of videos."""
    frames = folder.file.frames
    if frames is None:
        return {}
    return {"frames": f"{frames.fps:g} a second from {frames.start_s:g} s"}


def keyframes_digest(keyframes: Iterable[Keyframe]) -> str:
    """Return a checksum of which keyframes these are."""
    text = "\n".join(f"{key.video_id},{format_time(key.time_s)}" for key in keyframes)
    return sha256_of_text(text)


class _Share:
    def __init__(self, parts: Parts, batches: Sequence[tuple[Keyframe, ...]], shard: Shard) -> None:
        self._parts = parts
        self._batches = batches
        self._own = shard.numbers(len(batches))
        done = parts.done()
        self.todo = [number for number in self._own if number not in done]
        self.new_keyframes = self.boxes = self.empty = 0
        self.unreadable: list[Unreadable] = []
        self.seconds = 0.0

    def found_here(
        self,
        detector: PeopleDetector,
        folder: DatasetFolder,
        short_side_px: int | None,
        *,
        workers: int,
    ) -> Iterator[FoundBatch]:
        """Yield what this process finds in what is left, in order."""
        sides_px = decoded_sides_px(detector, short_side_px)
        frames = read_batches(folder, self._batches, self.todo, sides_px=sides_px, workers=workers)
        for batch in frames:
            found = tuple(detect_batch(detector, batch))
            yield FoundBatch(batch.number, batch.keyframes, found, batch.unreadable)

    def found_apart(
        self, spread: Spread, open_: Open[KeyframeBatch, FoundBatch]
    ) -> Iterator[FoundBatch]:
        """Yield what workers find in what is left, in any order; a lost batch is done once more."""
        pieces = (KeyframeBatch(number, self._batches[number]) for number in self.todo)
        with spread(open_) as workers:
            for ended in run_all(workers, pieces, retries=1):
                if ended.error is not None:
                    raise ended.error
                assert ended.result is not None
                yield ended.result

    def keep(self, found: Iterator[FoundBatch], *, progress: bool) -> None:
        """Keep each batch as it comes."""
        started = time.monotonic()
        with self._shown(progress=progress) as on_frames:
            try:
                for batch in found:
                    self._keep(batch)
                    on_frames(len(self._batches[batch.number]))
            except ProcessLostError as error:
                kept = "what was done is kept, give the same command again"
                raise ProcessLostError(f"{error}; {kept}") from error
        self.seconds = time.monotonic() - started

    @contextmanager
    def _shown(self, *, progress: bool) -> Iterator[Callable[[int], object]]:
        """Show a bar of frames; yield what takes the number of frames done since the last call."""
        total = sum(len(self._batches[number]) for number in self._own)
        left = sum(len(self._batches[number]) for number in self.todo)
        off: dict[str, Any] = {} if progress else {"disable": True}  # else TQDM_DISABLE decides
        with tqdm(
            total=total, initial=total - left, unit="frame", desc="people", smoothing=0.05,
            dynamic_ncols=True, leave=False, **off,
        ) as bar:  # fmt: skip
            yield bar.update

    def _keep(self, batch: FoundBatch) -> None:
        self._parts.append(
            batch.number,
            len(batch.unreadable),
            _pack(batch.keyframes, batch.found, batch.unreadable),
        )
        self.unreadable += batch.unreadable
        self.new_keyframes += len(self._batches[batch.number])
        self.boxes += sum(map(len, batch.found))
        self.empty += sum(not len(boxes) for boxes in batch.found)

    def summary(self) -> Summary:
        """Return what this process did, where others have yet to do theirs."""
        return Summary(
            keyframes=sum(len(self._batches[number]) for number in self._own),
            boxes=self.boxes,
            empty=self.empty,
            unreadable=len(self.unreadable),
            unreadable_videos=len({item.keyframe.video_id for item in self.unreadable}),
            complete=False,
            new_keyframes=self.new_keyframes,
            seconds=self.seconds,
        )


class _TableFiles:
    def __init__(self, out: Path, notes: Mapping[str, str]) -> None:
        self.table = out
        self._notes = dict(notes)
        self.made_by = out.with_suffix(".made_by.json")
        self.unreadable = unreadable_path(out)

    def existing(
        self,
        options: Options,
        videos: Mapping[str, str] | None,
        *,
        overwrite: bool,
        younger_than_s: float | None,
    ) -> Summary | None:
        """Return what is known of a finished table of these options, None where none is to be kept.

        videos: their digests as they are now; None: work is left over that knows its own.
        Raises `UserError` for a table of anything else.
        """
        if not self.table.exists():
            return None
        theirs: dict[str, Any] | None
        summary: Summary | None
        try:
            content = json.loads(self.made_by.read_text(encoding="utf-8"))
            theirs, summary = dict(content["options"]), Summary(**content["summary"])
            known = content.get("videos")
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            theirs = summary = known = None
        same = theirs == options and (videos is None or known == videos)
        young = younger_than_s is not None and self.table.stat().st_mtime > younger_than_s
        if overwrite and not (same and young):
            return None
        if not same:
            if theirs == options and videos is not None:
                of = "nothing says of which it was made"
                of = changed_videos(known, videos) if isinstance(known, dict) else of
                other = f"of other videos ({of})"
            else:
                of = differences(theirs, options) if theirs else "nothing says with which"
                other = f"made with other options ({of})"
            raise UserError(
                f"{self.table}: there already, {other}; name another file, or add --overwrite"
            )
        assert summary is not None
        return Summary(**{**asdict(summary), "kept": True, "new_keyframes": 0, "seconds": 0.0})

    def write(
        self,
        parts: Parts,
        records: dict[int, Record],
        batches: Sequence[tuple[Keyframe, ...]],
        options: Options,
        videos: Mapping[str, str],
        share: _Share,
    ) -> Summary:
        """Write the table from all parts; the boxes pass through one batch at a time."""
        counts = {"boxes": 0, "empty": 0}
        unreadable: list[Unreadable] = []

        def rows() -> Iterator[tuple[Keyframe, ActorBoxes]]:
            for number, batch in enumerate(batches):
                found, failed = _unpack(parts.read(records[number]), batch)
                unreadable.extend(failed)
                for keyframe, boxes in found:
                    counts["boxes"] += len(boxes)
                    counts["empty"] += not len(boxes)
                    yield keyframe, boxes

        total = sum(map(len, batches))
        if sum(record.unreadable for record in records.values()) == total:
            number = next(iter(sorted(records)))
            _, failed = _unpack(parts.read(records[number]), batches[number])
            parts.remove()
            raise UserError(f"no keyframe can be read; the first: {failed[0].reason}")
        self.made_by.unlink(missing_ok=True)
        write_person_boxes(self.table, rows())
        if unreadable:
            write_text(self.unreadable, _unreadable_csv(unreadable))
        else:
            self.unreadable.unlink(missing_ok=True)
        summary = Summary(
            keyframes=total,
            boxes=counts["boxes"],
            empty=counts["empty"],
            unreadable=len(unreadable),
            unreadable_videos=len({item.keyframe.video_id for item in unreadable}),
            new_keyframes=share.new_keyframes,
            seconds=share.seconds,
        )
        content = {
            "notes": self._notes,
            "options": options,
            "summary": asdict(summary),
            "videos": dict(videos),
        }
        write_text(self.made_by, json.dumps(content, indent=2) + "\n")
        if not unreadable:
            parts.remove()
        return summary


def unreadable_path(out: Path) -> Path:
    """Return where the keyframes are listed that could not be read."""
    return out.with_suffix(".unreadable.csv")


def _unreadable_csv(unreadable: Iterable[Unreadable]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for item in unreadable:
        key = item.keyframe
        writer.writerow((key.video_id, format_time(key.time_s), item.reason))
    return text.getvalue()


def _pack(
    keyframes: Sequence[Keyframe], found: Sequence[ActorBoxes], unreadable: Sequence[Unreadable]
) -> list[Any]:
    """Return a batch as JSON: for each keyframe rows of four edges and a score, or the reason."""
    answers: dict[Keyframe, Any] = {item.keyframe: item.reason for item in unreadable}
    for keyframe, boxes in zip(keyframes, found, strict=True):
        answers[keyframe] = np.column_stack([boxes.xyxy_01, boxes.score]).astype(float).tolist()
    return [answers[keyframe] for keyframe in sorted(answers)]


def _unpack(
    content: list[Any], batch: Sequence[Keyframe]
) -> tuple[list[tuple[Keyframe, ActorBoxes]], list[Unreadable]]:
    """Return who is at the keyframes of a batch, and which could not be read."""
    found, unreadable = [], []
    for keyframe, answer in zip(batch, content, strict=True):
        if isinstance(answer, str):
            unreadable.append(Unreadable(keyframe, answer))
        else:
            rows = np.array(answer, np.float32).reshape(-1, 5)
            found.append((keyframe, ActorBoxes(rows[:, :4], rows[:, 4])))
    return found, unreadable
