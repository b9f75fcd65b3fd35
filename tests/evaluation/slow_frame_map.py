"""A second, slow and obvious implementation of frame-mAP: the oracle of property tests.

One loop per rule, dictionaries and lists; nothing is shared with the package.
"""

from __future__ import annotations

import math


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def average_precision(ranked, num_ground_truth: int) -> float:
    """ranked: (score, is right) in any order; equal scores are one point of the curve."""
    if num_ground_truth == 0:
        return math.nan
    points = []
    for level in sorted({score for score, _ in ranked}, reverse=True):
        above = [right for score, right in ranked if score >= level]
        points.append((sum(above) / num_ground_truth, sum(above) / len(above)))
    area, last = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - last) * max(precision for _, precision in points[i:])
        last = recall
    return area


def frame_map(truth, found, class_ids, *, excluded=(), protocol="activitynet-2018"):
    """truth: (key, box, class); found: (key, box, class, score). Returns AP by class id."""
    found = [(*row, i) for i, row in enumerate(found) if row[2] in class_ids]
    if protocol in ("activitynet-2019", "activitynet-2020"):
        kept = []
        for key in {row[0] for row in found}:
            here = [row for row in found if row[0] == key]
            kept += sorted(here, key=lambda row: (-row[3], row[4]))[:50]
        found = sorted(kept, key=lambda row: row[4])
    found = [row for row in found if row[0] not in excluded]
    if protocol == "activitynet-2020":
        keys = {row[0] for row in truth}
        found = [row for row in found if row[0] in keys]
    found = [row for row in found if row[1][0] < row[1][2] and row[1][1] < row[1][3]]
    truth = [row for row in truth if row[0] not in excluded]
    out = {}
    for one in class_ids:
        mine = [row for row in found if row[2] == one]
        theirs = [row for row in truth if row[2] == one]
        taken = set()
        ranked = []
        if protocol != "pyslowfast":
            mine.sort(key=lambda row: (-row[3], row[4]))
        for key, box, _, score, _ in mine:
            best, best_iou = None, -1.0
            for number, (other_key, other, _) in enumerate(theirs):
                if other_key == key and iou(box, other) > best_iou:
                    best, best_iou = number, iou(box, other)
            right = best is not None and best_iou >= 0.5 and best not in taken
            if right:
                taken.add(best)
            ranked.append((score, right))
        out[one] = average_precision(ranked, len(theirs))
    return out
