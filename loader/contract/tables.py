"""The contract of the delivery, read from the dbt sources file: the one place where tables are declared."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from loader.contract import customers
from loader.contract.names import OWN_COLUMNS, SQL_WORDS, ColumnName, TableName, taken
from loader.errors import WrongUsage
from loader.project import project

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader written in C takes a tenth of the time."""

DataType = Literal["text", "int", "integer", "bigint", "smallint", "numeric", "boolean", "date"]
"""The types that store values exactly: they round nothing, and the audits can compare every value."""

Encoding = Literal[
    "utf-8", "iso-8859-1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252", "windows-1253",
    "windows-1254", "windows-1257",
]  # fmt: skip
"""ASCII-compatible encodings, by the names that PostgreSQL and Python share."""

Alias = Annotated[str, StringConstraints(min_length=1)]


class Column(BaseModel):
    """One column of a file: its name in the header, its type, whether a file may lack it, whether it is a label.

    `aliases` are its other names in headers; a `retired` column is no longer in the exports.
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
        _refuse_typing_errors(_meta(raw), {"optional", "retired", "label", "aliases"})
        flags = {name: _meta(raw).get(name, False) for name in ("optional", "retired", "label")}
        return {**raw, **flags, "aliases": _meta(raw).get("aliases", [])}

    @property
    def type_name(self) -> str:
        """PostgreSQL's name of its type."""
        return "integer" if self.data_type == "int" else self.data_type

    @property
    def may_be_missing(self) -> bool:
        """Whether a file may lack it."""
        return self.optional or self.retired

    @property
    def names(self) -> list[str]:
        """The names that a header may have for it."""
        return [self.name, *self.aliases]

    @model_validator(mode="after")
    def _is_quoted(self) -> Column:
        if self.name in SQL_WORDS and not self.quote:
            raise ValueError(
                f"{self.name} is a word that SQL reserves: add `quote: true`, so that dbt's tests quote it"
            )
        return self


ONE_OR_SEVERAL = BeforeValidator(lambda texts: (texts,) if isinstance(texts, str) else texts)
Columns = Annotated[tuple[ColumnName, ...], ONE_OR_SEVERAL]
"""One column by its name, or a list of them."""


class Reference(BaseModel, extra="forbid"):
    """The referenced table, and the columns that reference it; by default, those named like its key."""

    table: TableName
    columns: Columns = ()
    key: tuple[str, ...] = ()
    """The key of the referenced table, in the order of `columns`. Set by load_contract."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, raw: object) -> object:
        return {"table": raw} if isinstance(raw, str) else raw


class CsvForm(BaseModel, frozen=True):
    """How a table's files are written: the CSV options of COPY, and texts that stand for a missing value."""

    delimiter: str = Field(default=",", pattern=r"^[\t!#$%&*,/:;<=>?@^_`|~]$")
    quote: Literal['"', "'"] = '"'
    encoding: Encoding = "utf-8"
    nulls: Annotated[tuple[str, ...], ONE_OR_SEVERAL] = ()

    @model_validator(mode="after")
    def _nulls_are_fields(self) -> CsvForm:
        for text in self.nulls:
            if not text.isascii() or not text.isprintable() or not set(text).isdisjoint({self.delimiter, self.quote}):
                raise ValueError(f"{text!r} in nulls must be of printable ASCII, without delimiter and quote")
            if text in {"", "\\."}:
                raise ValueError("an empty field is null anyway, and \\. ends a file: take it out of nulls")
        return self


COMMAS = CsvForm()
MOST_COLUMNS = 800
"""Two rows side by side must fit into a query, which returns at most 1,664 columns."""


class Table(BaseModel):
    """A declared table, and the files that it is made from: usually one. Columns are in the order of declaration."""

    name: TableName
    description: str = ""
    key: Columns = Field(alias="primary_key", min_length=1)
    references: Reference | None = None
    customers: bool = False
    customer: tuple[str, ...] = ()
    """The columns that say which customer a row belongs to; none if it belongs to no customer. Set by load_contract;
    until then, the key."""
    slowly_changing: bool = False
    files: str = Field(default="", pattern=r"^[^/\\\x00-\x1f]*$")
    form: CsvForm = COMMAS
    columns: list[Column] = Field(min_length=1, max_length=MOST_COLUMNS)

    @model_validator(mode="before")
    @classmethod
    def _from_dbt(cls, raw: dict[str, Any]) -> dict[str, Any]:
        _refuse_typing_errors(_meta(raw), {"primary_key", *cls.model_fields, *CsvForm.model_fields})
        return {**raw, **_meta(raw), "form": _meta(raw)}

    @model_validator(mode="after")
    def _is_sound(self) -> Table:
        names = [column.name for column in self.columns]
        for place, name in enumerate(self.key):
            if name not in names or name in self.key[:place]:
                wrong = "named twice" if name in names else "not one of the columns"
                raise ValueError(f"primary_key {name} is {wrong}")
            if self.column(name).may_be_missing:
                raise ValueError(f"primary_key {name} is optional or retired, and each row needs it: take that out")
        if clash := OWN_COLUMNS.intersection(names):
            raise ValueError(f"{', '.join(sorted(clash))} is a column that streamflow or PostgreSQL adds itself")
        if len(set(names)) < len(names):
            raise ValueError("a column is declared twice")
        if twice := [name for name, count in Counter(self.header_names).items() if count > 1]:
            raise ValueError(f"{twice[0]} is a name of two columns, or twice among the aliases of one")
        self.customer = self.key
        return self

    @property
    def wanted(self) -> str:
        """The name of its file, or the pattern of the names of its files, without .gz."""
        return self.files or f"{self.name}.csv"

    def takes(self, file: str) -> bool:
        """Whether a file of that name, compressed or not, is one of its files.

        As in a shell, a pattern takes no hidden files: an archive that a Mac made has one beside each file.
        """
        is_hidden = file.startswith(".") and not self.wanted.startswith(".")
        return not is_hidden and fnmatchcase(file.removesuffix(".gz"), self.wanted)

    @property
    def has_label(self) -> bool:
        """Whether a column is a label: what a model learns to predict."""
        return any(column.label for column in self.columns)

    @property
    def is_per_customer(self) -> bool:
        """Whether the table has at most one row per customer."""
        return set(self.key) == set(self.customer)

    @property
    def column_names(self) -> list[str]:
        """The names of all declared columns."""
        return [column.name for column in self.columns]

    @property
    def header_names(self) -> list[str]:
        """The names that headers may have for the columns."""
        return [name for column in self.columns for name in column.names]

    def declared(self, header: Sequence[str]) -> list[str]:
        """The declared names of a header's columns."""
        return [self.column(name).name for name in header]

    def read_as(self, header: Iterable[str]) -> str:
        """What decides which values the bytes mean: the form of the files, and which columns of a header are text."""
        texts = sorted(name for name in header if self.column(name).data_type == "text")
        return f"{self.form.model_dump_json()} {texts}"

    def key_in(self, header: Sequence[str]) -> str:
        """The header's name of the first key column."""
        return header[self.declared(header).index(self.key[0])]

    def column(self, name: str) -> Column:
        """The declared column of that name, or with that alias."""
        return next(column for column in self.columns if name in column.names)


def _refuse_typing_errors(meta: dict[str, Any], known: set[str]) -> None:
    """Refuse a key of config.meta that is nearly one of ours; any other unknown key is the user's own."""
    for name in meta.keys() - known:
        if near := difflib.get_close_matches(name, known, 1, 0.8):
            raise ValueError(f"config.meta has {name}: did you mean {near[0]}?")


def _meta(raw: Any) -> dict[str, Any]:
    for key in ("config", "meta"):
        raw = raw.get(key) or {} if isinstance(raw, dict) else raw
    if not isinstance(raw, dict):
        raise ValueError(f"{raw!r} stands where `key: value` belongs")
    return raw


def load_contract() -> list[Table]:
    """The tables that the project's sources file declares, in that order.

    Raises:
        WrongUsage: the file is not YAML or a declaration in it is unsound; the message names the table.
    """
    path = project().sources
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), LOADER)  # noqa: S506 (a safe loader)
        staging = next(source for source in document["sources"] if source["name"] == "staging")
        tables = [_table(path, raw) for raw in staging["tables"]]
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise WrongUsage(f"{path} does not declare the source `staging`: {error}. See docs/data-contract.md.") from None
    if not tables:
        raise WrongUsage(f"{path} declares no table under the source `staging`. See docs/data-contract.md.")
    for reason in [*customers.faults_across(tables), *(f"{why}: give it another name" for why in taken(tables))]:
        raise WrongUsage(f"{path}: {reason}.")
    return customers.found(tables)


def described_in(path: Path, model: str) -> dict[str, Any]:
    """The properties of a dbt model in a YAML file, its `columns` by name; none if the file or the model is missing.

    Raises:
        WrongUsage: the file is not YAML, or no properties file of dbt models.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), LOADER) if path.is_file() else None  # noqa: S506 (safe)
        entries = (document or {}).get("models") or []
        found: dict[str, Any] = next((entry for entry in entries if entry["name"] == model), {})
        columns = {column["name"]: column for column in found.get("columns") or []}
    except (UnicodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise WrongUsage(f"{path} cannot be read as properties of dbt models: {error}.") from None
    return {**found, "columns": columns, "constraints": found.get("constraints") or []}


def model_columns(model: str) -> set[str]:
    """The columns in the properties of a dbt model such as `production/users`; none if the file is missing."""
    path = (project().dbt / "models" / model).with_suffix(".yml")
    return set(described_in(path, path.stem)["columns"])


def _table(path: Path, raw: Any) -> Table:
    try:
        return Table.model_validate(raw)
    except ValidationError as error:
        found = ((_place(raw, item["loc"]), item["msg"].removeprefix("Value error, ")) for item in error.errors())
        wrong = "; ".join(f"{place} {said}".strip() for place, said in found)
        name = raw.get("name") if isinstance(raw, dict) else raw
        raise WrongUsage(f"{path}: table {name} cannot be used: {wrong}.") from None


def _place(raw: Any, location: Sequence[int | str]) -> str:
    """Where in a table's declaration an error is: pydantic's location, with a column's name instead of its number."""
    place = list(location)
    if place[:1] == ["columns"] and len(place) > 1:
        column = raw["columns"][place[1]]
        place[1] = column.get("name", place[1]) if isinstance(column, dict) else place[1]
    return ".".join(map(str, place))
