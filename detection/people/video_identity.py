"""Identity of a data set's videos, by content and modification time, never by path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError, printable
from detection.files import identity_of, sha256_of_text
from detection.structures import Keyframe

MISSING = "missing"
# There may be 200,000 videos: the two ends, with the table of frame sizes, are enough.
_SAMPLES = 2


def video_digests(folder: DatasetFolder, video_ids: Iterable[str]) -> dict[str, str]:
    """Return a short digest of each video's size, time and ends; `MISSING` if not found."""
    ids = sorted(set(video_ids))

    def digest_of(video_id: str) -> str:
        try:
            identity = identity_of(folder.video_path(video_id), samples=_SAMPLES)
        except (UserError, OSError):  # reported when it is read
            return MISSING
        text = json.dumps(identity, sort_keys=True)
        return sha256_of_text(text)[:16]

    return {video_id: digest_of(video_id) for video_id in ids}


def batch_digests(batches: Sequence[Sequence[Keyframe]], digests: Mapping[str, str]) -> list[str]:
    """Return a digest of the videos of each batch."""
    found = []
    for batch in batches:
        names = sorted({keyframe.video_id for keyframe in batch})
        text = json.dumps([(name, digests[name]) for name in names])
        found.append(sha256_of_text(text)[:16])
    return found


def changed_videos(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Describe how many videos differ, with three names; "" if none does."""
    changed = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    if not changed:
        return ""
    named = ", ".join(map(printable, changed[:3])) + (", ..." if len(changed) > 3 else "")
    return f"{len(changed):,} of {len(ours):,} have changed since: {named}"
