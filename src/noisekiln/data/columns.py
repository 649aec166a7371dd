"""Further columns of data: numbers or texts for each image, in addition to labels and captions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.encoding import decode_array
from noisekiln.errors import DataError, counted

Columns = Mapping[str, NDArray[Any]]  # by name: (N,) float64, nan where missing, or (N,) texts, "" where missing


def parse_column(cells: Sequence[str]) -> NDArray[Any]:
    """Cells of a table as (N,) float64 if every filled one is a number, else as (N,) texts."""
    numbers = [_number(cell) for cell in cells]
    if any(number is None for number in numbers):
        return np.array(cells, np.str_)
    return np.array(numbers, np.float64)


def from_arrays(arrays: Mapping[str, NDArray[Any]], count: int) -> Columns:
    """The arrays that hold one number, truth value or text for each of `count` images; other kinds are left out.

    Raises:
        DataError: If a list of numbers or texts has another length.
    """
    columns = {}
    for name, array in arrays.items():
        values = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        if values.ndim != 1 or values.dtype.kind not in "biufUS":
            continue
        if len(values) != count:
            raise DataError(
                f"`{name}` has {counted(len(values), 'value')} for {counted(count, 'image')}",
                "a column has one value for each image",
                "Give as many values as images, or omit this array",
            )
        texts = decode_array(name, values)[0] if values.dtype.kind == "S" else values
        columns[name] = texts if texts.dtype.kind == "U" else texts.astype(np.float64)
    return columns


def merge_columns(parts: Sequence[Columns], counts: Sequence[int]) -> list[Columns]:
    """The columns of all parts, with the same names and types in each; cells that a part lacks are missing values."""
    names = sorted({name for columns in parts for name in columns})
    text = {name: any(columns[name].dtype.kind == "U" for columns in parts if name in columns) for name in names}
    return [
        {name: _fill_column(columns.get(name), text=text[name], count=count) for name in names}
        for columns, count in zip(parts, counts, strict=True)
    ]


def select_columns(columns: Columns, rows: NDArray[np.int64]) -> Columns:
    """The rows with these indices, in this order."""
    return {name: values[rows] for name, values in columns.items()}


def columns_note(columns: Columns) -> list[str]:
    """A note that names the columns; no note without columns."""
    if not columns:
        return []
    kinds = (f"{name} ({'text' if values.dtype.kind == 'U' else 'numbers'})" for name, values in columns.items())
    return [f"{len(columns):,} further {'column' if len(columns) == 1 else 'columns'}: {', '.join(kinds)}."]


def _number(cell: str) -> float | None:
    """The number that a cell holds, nan for an empty one; None for a text."""
    if not cell:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        return None
    return None if math.isinf(number) or "_" in cell else number


def _fill_column(values: NDArray[Any] | None, *, text: bool, count: int) -> NDArray[Any]:
    if values is None:
        return np.full(count, "" if text else np.nan)
    if text and values.dtype.kind != "U":
        return np.array(["" if math.isnan(value) else f"{value:g}" for value in values], np.str_)
    return values
