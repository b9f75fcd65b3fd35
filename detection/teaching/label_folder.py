"""Label files as what is decided in each video of a data set.

Legend: R decided people at keyframes of one video, A classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detection.datasets.label_file import LabelFile, join_label_files, read_label_file
from detection.datasets.labelling_task import TASK_FILE
from detection.errors import UserError, printable
from detection.teaching.features import People
from detection.teaching.labelled import Decided, Labelled, find_on_page
from detection.teaching.session import Session


def read_labelled(
    session: Session, files: Sequence[Path], *, prefer: Path | None = None
) -> dict[str, Labelled]:
    """Read label files, and find their people on the page of the data set.

    prefer: the file that counts where annotators disagree. Raises `UserError` for a file of other
    videos, classes or boxes, and for all that `join_label_files` refuses.
    """
    read = [read_label_file(path) for path in files]
    for file in read:
        _check_classes(session, file)
        _check_people(session, file)
    return {}


def _check_classes(session: Session, file: LabelFile) -> None:
    """Refuse a file of other classes: what it does not say was not looked for."""
    ours, theirs = session.label_map.names, file.classes.names
    odd = [name for name in theirs if name not in ours]
    lacking = [name for name in ours if name not in theirs]
    if odd or lacking:
        what = f"has '{odd[0]}'" if odd else f"lacks '{lacking[0]}'"
        raise UserError(
            f"{file.path}: labelled with other classes: it {printable(what)}, those of "
            f"{session.folder.root / TASK_FILE} are required"
        )


def _check_people(session: Session, file: LabelFile) -> None:
    """Refuse a file of another data set's videos, and one of whose boxes none is on the page."""
