"""The rules under which "AVA mAP" has been computed, by name.

The revisions of the official script differ, and so do the copies; see docs/evaluation.md for the
table and how each was checked against the script it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

from detection.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """One set of rules.

    whole_seconds: keyframes are keyed by whole seconds; fractional times are refused.
    rows_per_keyframe: only so many of the highest-scored rows of a keyframe count.
    match_by_score: detections choose their ground truth from the highest score down, else in the
        order of the file.
    ignore_keyframes_without: detections count only where the ground-truth file has the keyframe
        ("rows": also as an unlabelled or two-column row; "labels": with a known class); None: they
        are false positives everywhere.
    min_score: lower scores do not count.
    unpredicted_is_zero: a class that is never predicted has AP 0, else it is left out of the mean.
    drop_empty_boxes: detections without area do not count at all.
    excluded_count_in_recall: ground truth on excluded keyframes still counts in recall.
    single_precision: boxes and scores are compared as float32.
    """

    name: str
    source: str
    whole_seconds: bool = True
    rows_per_keyframe: int | None = None
    match_by_score: bool = True
    ignore_keyframes_without: str | None = None
    min_score: float | None = None
    unpredicted_is_zero: bool = True
    drop_empty_boxes: bool = True
    excluded_count_in_recall: bool = False
    single_precision: bool = False


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("activitynet-2018", "ActivityNet be7854e; SlowFast's and X3D's papers"),
        Protocol("activitynet-2019", "ActivityNet 3fee089", rows_per_keyframe=50),
        Protocol(
            "activitynet-2020",
            "ActivityNet c070fdb and af461c3, today's",
            whole_seconds=False,
            rows_per_keyframe=50,
            ignore_keyframes_without="rows",
        ),
        Protocol("pyslowfast", "SlowFast's copy", match_by_score=False),
        Protocol(
            "mmaction2",
            "mmaction2 1.x",
            ignore_keyframes_without="labels",
            min_score=0.002,
            unpredicted_is_zero=False,
            drop_empty_boxes=False,
            excluded_count_in_recall=True,
            single_precision=True,
        ),
        Protocol("frame-map", "the 2018 rules with times to the microsecond", whole_seconds=False),
    )
}
DEFAULT_WHOLE, DEFAULT_FRACTIONAL = "activitynet-2018", "frame-map"


def protocol_named(name: str) -> Protocol:
    """Return the rules of that name; raises `UserError` for a name that is none."""
    if name not in PROTOCOLS:
        raise UserError(f"no protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
