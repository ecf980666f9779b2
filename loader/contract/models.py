"""The dbt models of declared tables: `streamflow models` writes those that are missing, and leaves the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from loader.contract.customers import per_customer, training_columns
from loader.contract.names import in_sql
from loader.contract.tables import Column, Table
from loader.errors import SurroundingsFailed, WrongUsage
from loader.project import project

LIST = Path("macros/declared_tables.sql")
NOT_NULL = {"type": "not_null"}


def _added(name: str, data_type: str, description: str) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "description": description}


AS_OF = _added("as_of", "date", "The date as of which this row was known.")
OBSERVED_AS_OF = _added(
    "observed_as_of",
    "date",
    "The as_of of the delivery that this row came from; older than as_of if it was carried forward.",
)
NEWEST_OBSERVED_AS_OF = _added("observed_as_of", "date", "The as_of of the newest delivery that contained this row.")
LABEL_DATES = [
    _added("label_as_of", "date", "The date of the delivery that contained the label."),
    _added("event_timestamp", "timestamp", "as_of as a timestamp: the name that feature stores use."),
]
VALIDITY = [
    _added("valid_from", "date", "The as_of of the delivery that brought these values."),
    _added("valid_to", "date", "The as_of of the next version; null for the newest one."),
    _added("is_current", "boolean", "Whether no later delivery brought other values."),
]


@dataclass(frozen=True)
class Model:
    """One dbt model that follows from the declaration: where it lives, its SQL, and its entry in a YAML file."""

    folder: str
    template: str
    values: dict[str, Any]
    properties: dict[str, Any]

    @property
    def paths(self) -> tuple[Path, Path]:
        """Where its SQL and its YAML are, below dbt_project."""
        path = Path(self.folder) / self.properties["name"]
        return path.with_suffix(".sql"), path.with_suffix(".yml")

    @property
    def files(self) -> dict[Path, str]:
        """Path below dbt_project -> text, for the SQL and the YAML file."""
        text = yaml.dump({"models": [self.properties]}, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)
        return dict(zip(self.paths, (_render(self.template, **self.values), text), strict=True))


def write_models(tables: Sequence[Table], names: Sequence[str] = (), *, overwrite: bool = False) -> list[Path]:
    """Write the missing models, and the macro that lists the tables; with `overwrite`, also existing models.

    Args:
        names: only these models, if any are given.

    Returns:
        The paths below dbt_project that were written.

    Raises:
        SurroundingsFailed: the project cannot be written to.
        WrongUsage: no model of that name follows from the declaration.
    """
    wanted = {model.properties["name"]: model for model in models(tables)}
    if unknown := set(names) - wanted.keys():
        raise WrongUsage(f"no model {min(unknown)} follows from the declaration: it is one of {', '.join(wanted)}.")
    texts, written = {LIST: list_of_tables(tables)}, []
    for name in names or wanted:
        texts |= wanted[name].files
    try:
        for path, text in texts.items():
            target = project().dbt / path
            there = target.read_text(encoding="utf-8") if target.is_file() else None
            if there is None or (there != text and (overwrite or path == LIST)):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
                written.append(path)
    except OSError as error:
        raise SurroundingsFailed(f"the dbt models cannot be written: {error}.") from None
    return written


def models(tables: Sequence[Table]) -> Iterator[Model]:
    """Every model that follows from the declaration: history, production, latest and scd2; the training set."""
    for table in tables:
        of_table = {"table": table}
        yield Model("models/history", "history", of_table, _history(table))
        yield Model("models/production", "production", of_table, _production(table))
        yield Model("models/marts/latest", "latest", of_table, _latest(table))
        if table.slowly_changing:
            yield Model("models/marts", "scd2", of_table, _scd2(table))
    everyone, *others = per_customer(tables)
    values = {"everyone": everyone, "others": others, "columns": training_columns(tables)}
    yield Model("models/marts", "training_set", values, _training_set(tables))


def list_of_tables(tables: Iterable[Table]) -> str:
    """The macro that tells streamflow's dbt package the declared tables."""
    names = ", ".join(f"'{table.name}'" for table in tables)
    return (
        "{#- Written by `streamflow models` from models/staging/_sources.yml. Change that file, not this one. -#}\n"
        f"{{% macro declared_tables() %}}{{{{ return([{names}]) }}}}{{% endmacro %}}\n"
    )


def _render(template: str, **values: Any) -> str:
    """A model's SQL. The templates use square brackets because dbt's own Jinja uses braces."""
    environment = jinja2.Environment(  # noqa: S701 (SQL, not HTML)
        loader=jinja2.PackageLoader("loader.contract"),
        variable_start_string="[[", variable_end_string="]]", block_start_string="[%", block_end_string="%]",
        comment_start_string="[#", comment_end_string="#]", trim_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["identifier"] = in_sql
    environment.filters["identifiers"] = lambda names: map(in_sql, names)
    return environment.get_template(f"{template}.sql.j2").render(**values)


def _history(table: Table) -> dict[str, Any]:
    description = (
        f"History of {table.name}: the full state on each as_of, guarded against changes. One row per {_row(table)} and"
        " as_of."
    )
    columns = _columns(table, AS_OF, OBSERVED_AS_OF)
    return _guarded(f"{table.name}_snapshots", description, [*table.key, "as_of"], columns)


def _production(table: Table) -> dict[str, Any]:
    foreign: dict[str, Any] = {}
    if other := table.references:
        foreign = {"type": "foreign_key", "columns": list(other.columns), "to": f"ref('{other.table}')"}
        foreign["to_columns"] = list(other.key)
    description = f"Newest data: {table.description}"
    return _guarded(table.name, description, list(table.key), _columns(table, NEWEST_OBSERVED_AS_OF), foreign)


def _guarded(
    name: str, description: str, key: list[str], columns: list[dict[str, Any]], foreign: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The properties of history or production, whose keys the database enforces."""
    required = {*key, "observed_as_of"}
    return {
        "name": name,
        "description": description,
        "config": {"unique_key": key[0] if len(key) == 1 else key},
        "constraints": [{"type": "primary_key", "columns": key}, *([foreign] if foreign else [])],
        "data_tests": ["streamflow.keys_are_enforced"],
        "columns": [{**one, "constraints": [NOT_NULL]} if one["name"] in required else one for one in columns],
    }


def _latest(table: Table) -> dict[str, Any]:
    return {
        "name": f"latest_{table.name}",
        "description": (
            f"{table.name} as of the newest published month; all views in the schema latest show the same month. One"
            f" row per {_row(table)} known by then; its columns are those of {table.name}_snapshots."
        ),
    }


def _scd2(table: Table) -> dict[str, Any]:
    return {
        "name": f"{table.name}_scd2",
        "description": (
            f"Versions of {table.name}, slowly changing dimension type 2. One row per {_row(table)} and valid_from;"
            " it holds from valid_from until the day before valid_to."
        ),
        "columns": _columns(table, *VALIDITY),
    }


def _training_set(tables: Sequence[Table]) -> dict[str, Any]:
    everyone, *others = per_customer(tables)
    left_out = [table.name for table in tables if table not in [everyone, *others]]
    of_others = f" Without {', '.join(left_out)}, whose key is not the customer." if left_out else ""
    return {
        "name": "training_set",
        "description": (
            "Point-in-time training data: every customer known on as_of, with the features known then and the label"
            " delivered on label_as_of. One row per as_of, label_as_of and customer; give both dates in the WHERE"
            f" clause.{of_others}"
        ),
        "config": {"meta": {"labels": [name for name, _, column in training_columns(tables) if column.label]}},
        "columns": [
            *(_declared(everyone.column(name)) for name in everyone.key),
            AS_OF,
            *LABEL_DATES,
            *({**_declared(column), "name": name} for name, _, column in training_columns(tables)),
        ],
    }


def _row(table: Table) -> str:
    """What a row stands for, in words: a customer, or the columns of its key."""
    return "customer" if table.is_per_customer else ", ".join(table.key)


def _declared(column: Column) -> dict[str, Any]:
    return {"name": column.name, "data_type": column.data_type, "description": column.description}


def _columns(table: Table, *added: dict[str, Any]) -> list[dict[str, Any]]:
    return [*map(_declared, table.columns), *added]


class Dumper(yaml.SafeDumper):
    """Indents lists below their key and writes no YAML aliases, so that the file reads like a hand-written one."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)
