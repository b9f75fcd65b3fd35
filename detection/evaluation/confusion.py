"""Which classes are taken for which: the numbers behind `confusion.png` of a run.

Legend: N labelled people or videos, A classes, R rows and C columns of a table. Pure functions of
arrays, and one that gathers them from detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.evaluator import rows_of
from detection.evaluation.frame_map import score_rows
from detection.evaluation.people import pair_people, scores_and_labels
from detection.structures import Detections, Keyframe, LabelMap

NOTHING, NO_BOX, NOT_READ, NO_PERSON = "(no action)", "(no box)", "(not read)", "(no person)"


@dataclass(frozen=True)
class ConfusionTable:
    """Rows are what is labelled, columns what was scored; the A classes come first in both.

    classes: (A,) names.
    share: (R, C) from 0 to 1; NaN where a row has nothing to be a share of.
    examples: (R,) labelled people, boxes or videos of each row.
    more_columns, more_rows: names of the C - A columns and R - A rows behind the classes.
    several: whether a person or video may be of several classes. Where none is, rows add up to 1.
        Else an entry beside the diagonal is a share of those who are of the row's class and not of
        the column's, so that each is a mistake; all others are shares of the whole row.
    """

    classes: tuple[str, ...]
    share: NDArray[np.float64]
    examples: NDArray[np.int64]
    more_columns: tuple[str, ...] = ()
    more_rows: tuple[str, ...] = ()
    several: bool = True

    def __post_init__(self) -> None:
        rows, columns = len(self.rows), len(self.columns)
        if self.share.shape != (rows, columns) or self.examples.shape != (rows,):
            raise ValueError(
                f"shares {self.share.shape} and examples {self.examples.shape} of {rows} rows and "
                f"{columns} columns"
            )

    @property
    def rows(self) -> tuple[str, ...]:
        """(R,) names."""
        return (*self.classes, *self.more_rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """(C,) names."""
        return (*self.classes, *self.more_columns)

    @property
    def mistakes(self) -> NDArray[np.float64]:
        """(A,) people or videos of each class that were missed or taken for others, about."""
        classes = len(self.classes)
        share = np.nan_to_num(self.share[:classes, :classes])
        diagonal = np.diagonal(share)
        wrong = (1 - diagonal) + share.sum(1) - diagonal
        return np.asarray(wrong * self.examples[:classes], np.float64)

    def select(self, columns: Sequence[int]) -> ConfusionTable:
        """Return the table of some classes, with the rows and columns that are no classes."""
        classes = len(self.classes)
        kept_rows = [*columns, *range(classes, len(self.rows))]
        kept_columns = [*columns, *range(classes, len(self.columns))]
        return ConfusionTable(
            tuple(self.classes[column] for column in columns),
            self.share[np.ix_(kept_rows, kept_columns)],
            self.examples[kept_rows],
            self.more_columns,
            self.more_rows,
            self.several,
        )


def several_label_shares(
    labels: NDArray[np.bool_], above: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """labels, above: (N, A), what holds and what was scored above its threshold.

    Return (A, A): on the diagonal, of those of a class, the share that is above it (recall); beside
    it, of those of the row's class and not of the column's, the share above the column's (each is a
    mistake). NaN where there is none.
    """
    if labels.ndim != 2 or labels.shape != above.shape:
        raise ValueError(f"labels {labels.shape} and scores {above.shape} must be (N, A) both")
    own = labels.astype(np.float64)
    without = own.T @ (1 - own)
    wrong = own.T @ (~labels & above).astype(np.float64)
    np.fill_diagonal(without, own.sum(0))
    np.fill_diagonal(wrong, (labels & above).sum(0))
    return _ratio(wrong, without)


def single_label_shares(
    label: NDArray[np.integer], chosen: NDArray[np.integer], num_columns: int, num_classes: int
) -> NDArray[np.float64]:
    """label, chosen: (N,) columns from 0.

    Return (A, C), of the examples of a row the share for which each column was chosen; NaN in rows
    without an example.
    """
    if label.shape != chosen.shape:
        raise ValueError(f"{len(label)} labels and {len(chosen)} choices must be as many")
    counts = np.zeros((num_classes, num_columns))
    np.add.at(counts, (label, chosen), 1)
    return _ratio(counts, np.repeat(counts.sum(1, keepdims=True), num_columns, axis=1))


def action_confusion(
    found: Sequence[Detections],
    ground_truth: AvaRows,
    label_map: LabelMap,
    *,
    threshold: NDArray[np.floating],
    exclusions: frozenset[Keyframe] = frozenset(),
    times_person_score: bool = False,
) -> ConfusionTable:
    """Compare what was found of people with their labels, whatever the boxes.

    label_map: of the A columns of scores.  threshold: (A,) from which an action is said to be done.
    exclusions: keyframes that do not count.  times_person_score: scores are multiplied by the
    confidence in the person first. A labelled person is judged by the box that overlaps them most,
    from IoU 0.5 on; one without such a box is in the column `(no box)`, one whose box reaches no
    threshold in `(no action)`. Boxes that overlap no labelled person so are the row `(no person)`.
    """
    rows = rows_of(found, label_map, multiply_person_score=times_person_score)
    scored = score_rows(ground_truth, rows, label_map, exclusions=exclusions, protocol="frame-map")
    people = pair_people(scored, ground_truth, rows)
    scores, labels = scores_and_labels(scored, people)
    boxes_above = scores >= np.asarray(threshold, np.float64)
    has_box = people.iou_of_person >= scored.iou_threshold
    above = np.zeros(labels.shape, bool)
    above[has_box] = boxes_above[people.box_of_person[has_box]]
    silent, unseen = has_box & ~above.any(1), ~has_box
    known = scored.keys.in_ground_truth_file[people.boxes.key]
    strangers = boxes_above[known & (people.iou_of_box < scored.iou_threshold)]
    return _table(
        label_map.names,
        labels,
        above,
        columns={NOTHING: silent, NO_BOX: unseen},
        rows={NO_PERSON: strangers},
    )


def clip_confusion(
    labels: NDArray[np.bool_],
    scores: NDArray[np.floating],
    class_names: Sequence[str],
    *,
    has_scores: NDArray[np.bool_],
    threshold: float | None,
) -> ConfusionTable:
    """Compare the scores of whole videos with their labels.

    labels, scores: (N, A).  has_scores: (N,) false for a video that could not be read.
    threshold: from which one of several classes is said to be there; None: there is one, and the
    highest score is it (of equal ones the first).
    """
    names = tuple(class_names)
    if threshold is not None:
        above = (scores >= threshold) & has_scores[:, None]
        none = {NOTHING: has_scores & ~above.any(1), NOT_READ: ~has_scores}
        return _table(names, labels, above, columns=none, rows={})
    label = labels.argmax(1)
    chosen = np.where(has_scores, scores.argmax(1), len(names))
    more = () if has_scores.all() else (NOT_READ,)
    share = single_label_shares(label, chosen, len(names) + len(more), len(names))
    return ConfusionTable(names, share, labels.sum(0).astype(np.int64), more, several=False)


def _table(
    names: tuple[str, ...],
    labels: NDArray[np.bool_],
    above: NDArray[np.bool_],
    *,
    columns: dict[str, NDArray[np.bool_]],
    rows: dict[str, NDArray[np.bool_]],
) -> ConfusionTable:
    """Put together what is there.  columns: (N,) masks.  rows: (boxes, A) of no one's boxes."""
    columns = {name: mask for name, mask in columns.items() if mask.any()}
    rows = {name: mask for name, mask in rows.items() if len(mask)}
    share = np.full((len(names) + len(rows), len(names) + len(columns)), np.nan)
    share[: len(names), : len(names)] = several_label_shares(labels, above)
    counts = labels.sum(0)
    for place, mask in enumerate(columns.values(), start=len(names)):
        share[: len(names), place] = _ratio(labels[mask].sum(0).astype(float), counts.astype(float))
    for place, mask in enumerate(rows.values(), start=len(names)):
        share[place, : len(names)] = mask.mean(0)
    examples = np.array([*counts, *(len(mask) for mask in rows.values())], np.int64)
    return ConfusionTable(names, share, examples, tuple(columns), tuple(rows))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    share = np.full(part.shape, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
