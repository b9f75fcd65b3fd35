"""A report on person boxes as text and as JSON; `boxes_page` makes the HTML."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from detection.evaluation.box_report import AtThreshold, BoxReport
from detection.reports import evaluation_text
from detection.reports.evaluation_text import fraction

_COUNTS = (
    *("num_keyframes", "num_videos", "num_people", "num_boxes", "keyframes_without_boxes"),
    *("videos_without_boxes", "boxes_elsewhere", "keyframes_elsewhere", "partly_labelled"),
)
MANY = 6  # people: keyframes with as many or more share a row


def as_text(boxes: BoxReport) -> str:
    """Return the tables and sentences that the command prints."""
    return "\n".join(
        [
            basis(boxes),
            *(f"note: {remark}" for remark in remarks(boxes)),
            ap_line(boxes),
            evaluation_text.columns(*threshold_table(boxes)),
            evaluation_text.columns(*people_table(boxes)),
            *suggestions(boxes),
            ceiling_line(boxes),
        ]
    )


def basis(boxes: BoxReport) -> str:
    """Return what the figures were computed from."""
    return (
        f"{boxes.num_boxes:,} boxes and {boxes.num_people:,} people at {boxes.num_keyframes:,} "
        f"keyframes of {boxes.num_videos:,} videos"
    )


def remarks(boxes: BoxReport) -> list[str]:
    """Return what a reader must know before believing the figures."""
    found = []
    if boxes.boxes_elsewhere:
        found.append(
            f"{boxes.boxes_elsewhere:,} boxes at {boxes.keyframes_elsewhere:,} keyframes that the "
            "ground truth does not list, or that are excluded, are left out (AVA lists no keyframe "
            "without people: --unlisted-are-empty counts boxes there as wrong)"
        )
    if boxes.videos_without_boxes:
        found.append(
            f"{boxes.videos_without_boxes:,} of the {boxes.num_videos:,} videos have no box at all"
        )
    if boxes.keyframes_without_boxes:
        found.append(
            f"{boxes.keyframes_without_boxes:,} of the {boxes.num_keyframes:,} keyframes have no "
            "box"
        )
    if boxes.partly_labelled:
        found.append(
            "some people are not labelled, and boxes of them count as wrong: precision, F1 and AP "
            "are lower bounds, and suggested thresholds may be too high; recall and the ceiling "
            "hold"
        )
    elif len(boxes.people_per_keyframe) == 2:
        found.append(
            "no keyframe has more than one labelled person: if others are to be seen, precision is "
            "a lower bound (--partly-labelled says so)"
        )
    return found


def ap_line(boxes: BoxReport) -> str:
    """Return COCO's figures."""
    ap = boxes.ap
    return (
        f"AP {fraction(ap.ap)}, AP50 {fraction(ap.ap50)}, AP75 {fraction(ap.ap75)}, "
        f"AR {fraction(ap.ar)} (COCO's, all boxes); recall at IoU 0.5 {fraction(ap.recall50)}"
    )


def suggestions(boxes: BoxReport) -> list[str]:
    """Return what the suggested thresholds and the one in use give, by the scoring each is for."""
    alike, floor = "suggested threshold: none, no box is right", []
    if boxes.best is not None and boxes.floor is not None:
        least, least_kept = boxes.best.threshold, boxes.floor.threshold
        kept = "all boxes" if boxes.floor.num_boxes == boxes.num_boxes else "a floor"
        alike = (
            f"suggested threshold {least:.2f} (highest F1), where boxes count alike "
            f"(data.box_score_threshold={least:g}) and for events (detect_actions --person-score "
            f"{least:g}): {figures(boxes.best)}"
        )
        floor = [
            f"suggested threshold {least_kept:.2f} ({kept}), where action scores are multiplied "
            f"by the person's (data.box_score_threshold={least_kept:g} "
            f"evaluation.multiply_person_score=true): {figures(boxes.floor)}; "
            f"{gain_in_words(boxes.best, boxes.floor, boxes.num_keyframes)}"
        ]
    return [
        alike,
        *floor,
        f"threshold {boxes.asked.threshold:.2f}: {figures(boxes.asked)}",
        "(a threshold for a test split is chosen on other videos than the test's)",
    ]


def figures(at: AtThreshold) -> str:
    """Return the figures at one threshold as a sentence's end."""
    return (
        f"precision {fraction(at.precision)}, recall {fraction(at.recall)}, "
        f"F1 {fraction(at.f1)}, AP {fraction(at.ap)}, ceiling {fraction(at.ceiling)}"
    )


def gain_in_words(best: AtThreshold, floor: AtThreshold, num_keyframes: int) -> str:
    """Say what the floor gives and costs beside the threshold of best F1."""
    if floor.num_boxes == best.num_boxes:
        return "the same boxes"
    more, per = (
        floor.num_boxes - best.num_boxes,
        [at.num_boxes / num_keyframes for at in (best, floor)],
    )
    return (
        f"{floor.recall - best.recall:+.4f} recall and {floor.ap - best.ap:+.4f} AP for {more:+,} "
        f"boxes ({per[1]:.2f} a keyframe, not {per[0]:.2f})"
    )


def ceiling_line(boxes: BoxReport) -> str:
    """Return the ceiling with all that another number must share to be comparable."""
    asked = f"{fraction(boxes.asked.ceiling)} from {boxes.asked.threshold:.2f} on"
    return (
        f"highest frame-mAP with these boxes, whatever the classifier: "
        f"{fraction(boxes.ceiling.mean_ap)} with all of them, {asked} "
        f"({evaluation_text.num_scored(boxes.ceiling)} of {len(boxes.ceiling.per_class)} classes, "
        f"{boxes.ceiling.protocol})"
    )


def threshold_table(boxes: BoxReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return heads and rows of the table by threshold."""
    precision = "precision >=" if boxes.partly_labelled else "precision"
    heads = ("score from", "boxes", "a keyframe", precision, "recall", "F1", "AP", "ceiling")
    rows = [
        (
            f"{at.threshold:.2f}",
            f"{at.num_boxes:,}",
            f"{at.num_boxes / boxes.num_keyframes:.2f}",
            *map(evaluation_text.fraction, (at.precision, at.recall, at.f1, at.ap, at.ceiling)),
        )
        for at in boxes.table
    ]
    return heads, rows


def people_table(boxes: BoxReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return heads and rows of the table of people per keyframe."""
    heads = ("people", "keyframes", f"keyframes by boxes from {boxes.asked.threshold:.2f}")
    people, found = (_grouped(h) for h in (boxes.people_per_keyframe, boxes.boxes_per_keyframe))
    rows: list[tuple[str, ...]] = [
        (f"{count} or more" if count == MANY else str(count), f"{people[count]:,}", f"{here:,}")
        for count, here in enumerate(found)
    ]
    mean = (boxes.num_people, boxes.asked.num_boxes)
    rows.append(("mean", *(f"{total / boxes.num_keyframes:.2f}" for total in mean)))
    return heads, rows


def as_json(boxes: BoxReport) -> dict[str, Any]:
    """Return the report as plain values; NaN becomes null."""
    return {
        **{name: getattr(boxes, name) for name in _COUNTS},
        "remarks": remarks(boxes),
        "person_ap": _plain(asdict(boxes.ap)),
        "thresholds": [_plain(asdict(at)) for at in boxes.table],
        "suggested": None if boxes.best is None else _plain(asdict(boxes.best)),
        "suggested_multiplied": None if boxes.floor is None else _plain(asdict(boxes.floor)),
        "in_use": _plain(asdict(boxes.asked)),
        "ceiling": evaluation_text.as_json(boxes.ceiling),
        "people_per_keyframe": list(boxes.people_per_keyframe),
        "boxes_per_keyframe": list(boxes.boxes_per_keyframe),
    }


def _grouped(histogram: tuple[int, ...]) -> list[int]:
    """Return keyframes with 0, 1, ... and with MANY or more."""
    counts = [0] * (MANY + 1)
    for people, keyframes in enumerate(histogram):
        counts[min(people, MANY)] += keyframes
    return counts


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: evaluation_text.or_none(v) if isinstance(v, float) else v for k, v in values.items()}
