"""A progress bar where one is asked for and tqdm is there: the evaluator needs numpy alone."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TypeVar

ItemT = TypeVar("ItemT")


def progress_bar(items: Iterable[ItemT], *, what: str, unit: str, shown: bool) -> Iterable[ItemT]:
    """Return the items, with a bar on stderr as they are taken where it is shown."""
    if not shown or find_spec("tqdm") is None:
        return items
    from tqdm import tqdm

    bar: Iterable[ItemT] = tqdm(items, desc=what, unit=unit)
    return bar
