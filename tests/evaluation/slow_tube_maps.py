"""Scores of tubes in plain loops: the second opinion, written from the rules and not from the code.

Detections are dictionaries of `place` (video, or video and frame), `score` and `shape` (a box, or
rows of frame and box); so is ground truth, without a score.
"""

from __future__ import annotations

import math


def box_iou(a, b, pixel):
    width = min(a[2], b[2]) - max(a[0], b[0]) + pixel
    height = min(a[3], b[3]) - max(a[1], b[1]) + pixel
    common = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + pixel) * (c[3] - c[1] + pixel) for c in (a, b)]
    return common / (sum(areas) - common)


def space(a, b, pixel):
    by_frame = {row[0]: row[1:] for row in a}
    ious = [box_iou(by_frame[row[0]], row[1:], pixel) for row in b if row[0] in by_frame]
    return sum(ious) / len(ious) if ious else 0.0


def time(a, b, last):
    common = min(a[-1][0], b[-1][0]) - max(a[0][0], b[0][0]) + last
    joint = max(a[-1][0], b[-1][0]) - min(a[0][0], b[0][0]) + last
    return max(common, 0) / joint if joint else 0.0


def tube_iou(pixel, last):
    return lambda a, b: space(a, b, pixel) * time(a, b, last)


def suppressed(found, iou, most):
    kept = []
    for one in sorted(found, key=lambda d: -d["score"]):
        near = [other for other in kept if other["place"] == one["place"]]
        if all(iou(one["shape"], other["shape"]) <= most for other in near):
            kept.append(one)
    return kept


def hits(truth, found, iou, threshold, *, among_unmatched):
    """Return right or wrong for each detection, by falling score."""
    taken, out = set(), []
    for one in sorted(found, key=lambda d: -d["score"]):
        best, number = 0.0, None
        for i, other in enumerate(truth):
            if other["place"] == one["place"] and not (among_unmatched and i in taken):
                overlap = iou(other["shape"], one["shape"])
                if number is None or overlap > best:
                    best, number = overlap, i
        right = number is not None and number not in taken and best >= threshold
        out.append(right)
        if right:
            taken.add(number)
    return out


def lines(values, recall, first):
    points = [(0.0, first), *zip(recall, values, strict=True)]
    return sum(
        (r2 - r1) * (v1 + v2) / 2
        for (r1, v1), (r2, v2) in zip(points[:-1], points[1:], strict=True)
    )


def steps(values, recall):
    total, before = 0.0, 0.0
    for i, r in enumerate(recall):
        total += (r - before) * max(values[i:])
        before = r
    return total


def shares(marks):
    """Return the share of marks among the first 1, 2, ... of them."""
    return [sum(marks[: i + 1]) / (i + 1) for i in range(len(marks))]


def recalls(marks, total):
    return [sum(marks[: i + 1]) / max(total, 1) for i in range(len(marks))]


def tube_kind(one, column, truth_by_class, right, threshold):
    """Return MultiSports' kind of one tube."""
    iou = tube_iou(0, 0)
    if right:
        return "right"

    def best(columns):
        options = [
            (iou(other["shape"], one["shape"]), c, other["shape"])
            for c in columns
            for other in truth_by_class.get(c, [])
            if other["place"] == one["place"]
        ]
        return max(options, key=lambda option: option[0], default=(0.0, None, None))

    if best([column])[0] >= threshold:
        return "repeat"
    if best([c for c in truth_by_class if c != column])[0] >= threshold:
        return "class"
    overlap, other_column, shape = best(list(truth_by_class))
    if overlap <= 0:
        return "extra"
    in_time = time(shape, one["shape"], 0) >= math.sqrt(threshold)
    in_space = space(shape, one["shape"], 0) >= math.sqrt(threshold)
    short = "location" if in_time else "time" if in_space else "time and location"
    if other_column == column:
        return short
    return "class, time and location" if short == "time and location" else f"class and {short}"
