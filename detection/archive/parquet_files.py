"""Tables as Parquet files; pyarrow is optional and imported here alone.

A file's bytes depend on its rows and on pyarrow's version alone: no times, no names of machines,
and the options of the writer are all given here.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detection.archive.table_columns import FORMAT, TABLES, Column, TableName
from detection.errors import UserError

ROWS_PER_GROUP = 1 << 17


def has_pyarrow() -> bool:
    """Tell whether Parquet files can be written here."""
    return importlib.util.find_spec("pyarrow") is not None


class ParquetWriter:
    """Writes a table, each block of rows as row groups of its own.

    path: of the new file. classes: (id, name) in the order of score columns, kept in the metadata.
    Raises `UserError` without pyarrow.
    """

    def __init__(self, path: Path, table: TableName, classes: Sequence[tuple[int, str]]) -> None:
        pa, parquet = _pyarrow()
        self._schema = _schema(pa, table, classes)
        self._pa = pa
        self._writer = parquet.ParquetWriter(
            path,
            self._schema,
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=[column.name for column in TABLES[table] if column.kind == "string"],
            write_statistics=True,
            data_page_version="1.0",
            store_schema=True,
        )

    def write(self, columns: Mapping[str, Any]) -> None:
        """Write a block of rows: by column an array, or a list of values or of lists."""
        arrays = [self._array(field, columns[field.name]) for field in self._schema]
        block = self._pa.Table.from_arrays(arrays, schema=self._schema)
        if block.num_rows:
            self._writer.write_table(block, row_group_size=ROWS_PER_GROUP)

    def _array(self, field: Any, values: Any) -> Any:
        if getattr(values, "ndim", 1) == 2:  # lists of one length
            shape = values.shape
            offsets = np.arange(shape[0] + 1, dtype=np.int32) * np.int32(shape[1])
            inner = self._pa.array(values.reshape(-1), field.type.value_type)
            return self._pa.ListArray.from_arrays(offsets, inner, type=field.type)
        return self._pa.array(values, field.type)

    def close(self) -> None:
        """End the file."""
        self._writer.close()


def _schema(pa: Any, table: TableName, classes: Iterable[tuple[int, str]]) -> Any:
    named = [{"id": class_id, "name": name} for class_id, name in classes]
    metadata = {
        "format": str(FORMAT),
        "table": table,
        "classes": json.dumps(named, ensure_ascii=False),
    }
    return pa.schema([_field(pa, column) for column in TABLES[table]], metadata=metadata)


def _field(pa: Any, column: Column) -> Any:
    inner = {"list<float32>": pa.float32(), "list<string>": pa.string()}.get(column.kind)
    if inner is not None:
        kind = pa.list_(pa.field("element", inner, nullable=False))
    else:
        kind = {
            "string": pa.string(),
            "int64": pa.int64(),
            "float64": pa.float64(),
            "float32": pa.float32(),
            "bool": pa.bool_(),
        }[column.kind]
    metadata = {"unit": column.unit, "description": column.description}
    return pa.field(column.name, kind, nullable=column.may_lack, metadata=metadata)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        if error.name not in ("pyarrow", "pyarrow.parquet"):  # it lacks something itself
            raise
        install = 'pip install "x3d-action-detection[parquet]"'
        raise UserError(f"the pyarrow package is required for Parquet: {install}") from error
    return pyarrow, pyarrow.parquet
