"""What is exported once and kept beside the weights: found again, or made by one process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from detection.checkpoints.plain_file import MODEL_CONFIG
from detection.errors import UserError
from detection.export.artefact import find_artefact, place_beside
from detection.export.runtimes import FORM_OF, Runtime
from detection.files import CannotWriteError, only_writer

A = TypeVar("A")  # what lies on disk
N = TypeVar("N")  # what runs


def open_kept(
    weights: str | Path,
    runtime: Runtime,
    *,
    read: Callable[[Path], A],
    is_current: Callable[[A], bool],
    export: Callable[[Path], A],
    opened: Callable[[A], N],
    takes: str,
    on_note: Callable[[str], object],
) -> N:
    """Open what a runtime runs of a file of weights: what was exported before, else exported now.

    read: reads and checks a folder; where it raises `UserError`, that is noted and the weights are
    exported anew.  is_current: whether what it holds was made of these very weights.  export:
    writes a folder.  opened: opens either.  takes: how long an export takes, in words.  on_note:
    told a line before and after it. Several processes wait for the one that exports. Where nothing
    can be written beside the weights, they are exported for this process alone.
    """
    folder = place_beside(weights, FORM_OF[runtime])

    def find() -> A | None:
        if find_artefact(folder) is None:
            return None
        try:
            artefact = read(folder)
        except UserError as error:
            on_note(f"{error}; done now")
            return None
        return artefact if is_current(artefact) else None

    kept = find()
    if kept is not None:
        return opened(kept)
    shown = Path(weights)
    shown = shown.parent if shown.name == MODEL_CONFIG else shown
    on_note(f"exporting {shown} for {runtime}, once; it takes {takes}")
    start = time.monotonic()
    try:
        busy = "another process exports it"
        with only_writer(folder.parent, busy=busy, may_wait=lambda: True):
            made = find()
            made = export(folder) if made is None else made
            on_note(f"exported in {time.monotonic() - start:.0f} s, kept in {folder}")
            return opened(made)
    except CannotWriteError as error:
        on_note(f"{error}; exported for this time alone")
        with tempfile.TemporaryDirectory() as passing:
            return opened(export(Path(passing) / FORM_OF[runtime]))
