"""What the training set is made of: one row per customer, so of the tables that have one row per customer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loader.contract.customers import customers_first
from loader.contract.tables import Column, Table


def per_customer(tables: Sequence[Table]) -> list[Table]:
    """The tables whose key is the customer, that which has the customers first."""
    return [table for table in customers_first(tables) if table.is_per_customer]


def training_columns(tables: Sequence[Table]) -> list[tuple[str, Table, Column]]:
    """Name in the training set, table and column of each feature, and then of each label.

    What a table of labels has besides is no feature, unless it is the one that has the customers.
    """
    everyone, *_ = joined = per_customer(tables)
    values = [(table, column) for table in joined for column in table.columns if column.name not in table.key]
    features = [(table, column) for table, column in values if not column.label]
    columns = [(table, column) for table, column in features if table.customers or not table.has_label]
    columns += [(table, column) for table, column in values if column.label]
    names = Counter([*everyone.key, *(column.name for _, column in columns)])
    return [
        (column.name if names[column.name] == 1 else f"{table.name}_{column.name}", table, column)
        for table, column in columns
    ]
