"""The same tables as CSV, where Parquet cannot be written."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.archive.table_columns import TABLES, TableName
from detection.errors import printable


class CsvWriter:
    """Writes a table. has_head: with the names of the columns first.

    The values of a list are joined by `;`; what is unknown is empty. Numbers are the shortest that
    read back as the same ones.
    """

    def __init__(self, path: Path, table: TableName, *, has_head: bool) -> None:
        self._names = [column.name for column in TABLES[table]]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(csv_head(table) if has_head else "")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, columns: Mapping[str, Any]) -> None:
        """Write a block of rows: by column an array, or a list of values or of lists."""
        values = [columns[name] for name in self._names]
        for row in zip(*values, strict=True):
            self._writer.writerow([_cell(value) for value in row])

    def close(self) -> None:
        """End the file."""
        self._file.close()


def csv_head(table: TableName) -> str:
    """Return the line with the names of the columns."""
    return ",".join(column.name for column in TABLES[table]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    if getattr(value, "ndim", 0) == 1 or isinstance(value, list | tuple):
        return ";".join(map(_cell, value))
    return str(value)
