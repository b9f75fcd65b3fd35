"""How a run over a data set knows its videos again: by content and time, never by path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError, printable
from detection.files import identity_of, sha256_of_text
from detection.structures import Keyframe

MISSING = "missing"
# There may be 200,000 videos: their two ends, where the table of frame sizes is, are enough.
_SAMPLES = 2


def video_digests(folder: DatasetFolder, video_ids: Iterable[str]) -> dict[str, str]:
    """Return a short digest of each video's size, time and ends; `MISSING` of one not there."""
    ids = sorted(set(video_ids))

    def digest_of(video_id: str) -> str:
        try:
            identity = identity_of(folder.video_path(video_id), samples=_SAMPLES)
        except (UserError, OSError):  # whoever reads it says what is wrong
            return MISSING
        text = json.dumps(identity, sort_keys=True)
        return sha256_of_text(text)[:16]

    return {video_id: digest_of(video_id) for video_id in ids}


def batch_digests(batches: Sequence[Sequence[Keyframe]], digests: Mapping[str, str]) -> list[str]:
    """Return for each batch a digest of the videos that it is read from."""
    found = []
    for batch in batches:
        names = sorted({keyframe.video_id for keyframe in batch})
        text = json.dumps([(name, digests[name]) for name in names])
        found.append(sha256_of_text(text)[:16])
    return found


def changed_videos(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Say how many videos differ, three of them by name; "" where none does."""
    changed = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    if not changed:
        return ""
    named = ", ".join(map(printable, changed[:3])) + (", ..." if len(changed) > 3 else "")
    return f"{len(changed):,} of {len(ours):,} have changed since: {named}"
