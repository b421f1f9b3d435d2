"""Columns of a table as numbers, coded once and applied to other people alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError


@dataclass(frozen=True)
class Coding:
    """How the columns of a table become numbers.

    Numbers stay as they are. A factor gets one 0/1 column per level but the first, its reference.
    """

    columns: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]  # levels of those that are factors, reference first

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column of numbers."""
        return tuple(
            name
            for column in self.columns
            for name in (
                [f"{column}[{level}]" for level in self.levels[column][1:]]
                if column in self.levels
                else [column]
            )
        )

    def sentences(self) -> tuple[str, ...]:
        """Say how each factor is coded."""
        return tuple(
            f"{column}: {' and '.join(levels[1:])} against {levels[0]}"
            for column, levels in self.levels.items()
        )

    def matrix(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """(n, p) numbers of `table`; a missing cell or a level never seen is refused."""
        blocks = [np.empty((len(table), 0))]
        for column in self.columns:
            _require_known(table, column)
            if column not in self.levels:
                blocks.append(table[column].to_numpy(dtype=float)[:, None])
                continue
            labels = table[column].astype(str)
            unseen = labels[~labels.isin(self.levels[column])]
            if len(unseen):
                raise NotEstimableError(
                    f"{column} of {unseen.index[0]} is {unseen.iloc[0]}, which nobody has among "
                    f"those that the model was fitted to ({', '.join(self.levels[column])})"
                )
            blocks.append(np.column_stack([labels == level for level in self.levels[column][1:]]))
        return np.hstack(blocks).astype(float)


def learn_coding(table: pd.DataFrame) -> Coding:
    """Coding of all columns of `table`: text, categories and truth values are factors."""
    levels = {}
    for column in table:
        values = table[column]
        if values.dtype == bool or not pd.api.types.is_numeric_dtype(values):
            levels[str(column)] = tuple(sorted(values.dropna().astype(str).unique()))
    return Coding(tuple(map(str, table.columns)), levels)


def aligned(values: pd.Series, table: pd.DataFrame) -> pd.Series:
    """`values` in the order of `table`; refuses people without one, and those who stand twice."""
    for index in (values.index, table.index):
        if index.has_duplicates:
            person = index[index.duplicated()][0]
            raise BadInputError(f"{person} stands in the table more than once: one row per person")
    absent = table.index.difference(values.index)
    if len(absent):
        raise BadInputError(f"{absent[0]} has no {values.name or 'label'}")
    return values.loc[table.index]


def _require_known(table: pd.DataFrame, column: str) -> None:
    if column not in table:
        raise BadInputError(f"the table has no column {column}")
    unknown = table.index[table[column].isna()]
    if len(unknown):
        raise BadInputError(
            f"{column} of {unknown[0]} is not known ({len(unknown)} such people); leave them out "
            "before the model is fitted"
        )
