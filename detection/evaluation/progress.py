"""A progress bar if tqdm is installed: the evaluator itself needs numpy alone."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TypeVar

ItemT = TypeVar("ItemT")


def progress_bar(items: Iterable[ItemT], *, what: str, unit: str, shown: bool) -> Iterable[ItemT]:
    """Return the items; if `shown`, with a progress bar on stderr while they are iterated."""
    if not shown or find_spec("tqdm") is None:
        return items
    from tqdm import tqdm

    bar: Iterable[ItemT] = tqdm(items, desc=what, unit=unit)
    return bar
