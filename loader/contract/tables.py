"""The contract of the delivery, read from the dbt sources file: the one place where tables are declared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from loader.contract.names import OWN_COLUMNS, SQL_WORDS, ColumnName, TableName, taken
from loader.errors import WrongUsage
from loader.settings import DBT_PROJECT

SOURCES_FILE = DBT_PROJECT / "models" / "staging" / "_sources.yml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one written in C takes a tenth of the time."""

DataType = Literal["text", "int", "integer", "bigint", "smallint", "numeric", "boolean", "date"]
"""The types that keep what was delivered: no rounding, no value that the audits cannot compare."""

Alias = Annotated[str, StringConstraints(min_length=1)]


class Column(BaseModel):
    """One column of a file: its name in the header, its type, whether a file may lack it, whether it is a label.

    `aliases` are other names of it in headers; `retired` is one that exports no longer bring.
    """

    name: ColumnName
    data_type: DataType
    description: str = ""
    optional: bool = False
    retired: bool = False
    aliases: list[Alias] = []
    label: bool = False
    quote: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_dbt(cls, raw: dict[str, Any]) -> dict[str, Any]:
        flags = {name: _meta(raw).get(name, False) for name in ("optional", "retired", "label")}
        return {**raw, **flags, "aliases": _meta(raw).get("aliases", [])}

    @property
    def may_be_missing(self) -> bool:
        """Whether a file may lack it."""
        return self.optional or self.retired

    @property
    def names(self) -> list[str]:
        """What a header may call it."""
        return [self.name, *self.aliases]

    @model_validator(mode="after")
    def _is_quoted(self) -> Column:
        if self.name in SQL_WORDS and not self.quote:
            raise ValueError(
                f"{self.name} is a word that SQL reserves: add `quote: true`, so that dbt's tests quote it"
            )
        return self


class Table(BaseModel):
    """One file of the delivery and the table it becomes. Columns are in the order of declaration."""

    name: TableName
    description: str = ""
    primary_key: ColumnName
    references: TableName | None = None
    slowly_changing: bool = False
    columns: list[Column] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_dbt(cls, raw: dict[str, Any]) -> dict[str, Any]:
        return {**raw, **_meta(raw)}

    @model_validator(mode="after")
    def _is_sound(self) -> Table:
        names = [column.name for column in self.columns]
        if self.primary_key not in names:
            raise ValueError(f"primary_key {self.primary_key} is not one of the columns")
        if clash := OWN_COLUMNS.intersection(names):
            raise ValueError(f"{', '.join(sorted(clash))} is a column that streamflow or PostgreSQL adds itself")
        if len(set(names)) < len(names):
            raise ValueError("a column is declared twice")
        spelled = [name for column in self.columns for name in column.names]
        if twice := [name for name, count in Counter(spelled).items() if count > 1]:
            raise ValueError(f"{twice[0]} is a name of two columns, or twice among the aliases of one")
        return self

    @property
    def has_label(self) -> bool:
        """Whether the table brings what a model learns to predict."""
        return any(column.label for column in self.columns)

    @property
    def column_names(self) -> list[str]:
        """The names of all declared columns."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """The declared column of that name, or with that alias."""
        return next(column for column in self.columns if name in column.names)


def _meta(raw: dict[str, Any]) -> dict[str, Any]:
    return (raw.get("config") or {}).get("meta") or {}


def load_contract(path: Path = SOURCES_FILE) -> list[Table]:
    """The declared tables, in the order of declaration.

    Raises:
        WrongUsage: the file is not YAML or a declaration in it is unsound; the message names the table.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), LOADER)  # noqa: S506 (a safe loader)
        staging = next(source for source in document["sources"] if source["name"] == "staging")
        tables = [_table(raw) for raw in staging["tables"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise WrongUsage(f"{path} does not declare the source `staging`: {error}. See docs/data-contract.md.") from None
    names = {table.name for table in tables}
    for table in tables:
        if table.references is not None and table.references not in names - {table.name}:
            raise WrongUsage(f"{path}: table {table.name} references {table.references}, which is not declared.")
    for reason in taken(tables):
        raise WrongUsage(f"{path}: {reason}: give it another name.")
    return tables


def model_columns(model: str) -> set[str]:
    """The columns that a dbt model's properties name, as in `production/users`; none where there is no such file."""
    path = (DBT_PROJECT / "models" / model).with_suffix(".yml")
    if not path.is_file():
        return set()
    document = yaml.load(path.read_text(encoding="utf-8"), LOADER) or {}  # noqa: S506 (a safe loader)
    return {column["name"] for entry in document.get("models", []) for column in entry.get("columns", [])}


def _table(raw: dict[str, Any]) -> Table:
    try:
        return Table.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))} {item['msg']}".strip() for item in error.errors())
        raise WrongUsage(f"{SOURCES_FILE}: table {raw.get('name')} cannot be used: {wrong}.") from None
