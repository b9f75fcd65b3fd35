"""Named evaluation protocols: the rules under which "AVA mAP" has been computed.

The revisions of the official script differ, and so do its copies; docs/evaluation.md has the table,
and how each was checked against its script.
"""

from __future__ import annotations

from dataclasses import dataclass

from detection.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """One set of evaluation rules.

    whole_seconds: keyframes are whole seconds; fractional times are an error.
    rows_per_keyframe: only this many of the highest-scored rows of a keyframe count.
    match_by_score: detections are matched from the highest score down, else in file order.
    ignore_keyframes_without: detections count only on keyframes that the ground-truth file has
        ("rows": with any row, unlabelled ones too; "labels": with a known class); None: on all, as
        false positives.
    min_score: lower scores do not count.
    unpredicted_is_zero: a class that is never predicted has AP 0, else it is left out of the mean.
    drop_empty_boxes: detections without area do not count.
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
    """Return the protocol of that name; raises `UserError` for an unknown name."""
    if name not in PROTOCOLS:
        raise UserError(f"no protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
