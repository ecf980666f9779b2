"""The dbt models that follow from the contract: history, production and marts, with their contracts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from loader.contract.tables import LOADER, SOURCES_FILE, Column, Table
from loader.errors import SurroundingsFailed
from loader.settings import DBT_PROJECT

HEADER = "# Written by `streamflow models` from models/staging/_sources.yml. Change that file, not this one.\n"
AS_OF = {"name": "as_of", "data_type": "date", "description": "The date whose state of knowledge this row belongs to."}
OBSERVED_AS_OF = {
    "name": "observed_as_of",
    "data_type": "date",
    "description": "The as_of of the delivery that this row came from; older than as_of where it was carried forward.",
}
LABEL_AS_OF = {"name": "label_as_of", "data_type": "date", "description": "The date that delivered the label."}
EVENT_TIMESTAMP = {
    "name": "event_timestamp",
    "data_type": "timestamp",
    "description": "as_of as a timestamp: when the features held, under the name that feature stores use.",
}
VALIDITY = [
    {"name": "valid_from", "data_type": "date", "description": "The as_of of the delivery that brought these values."},
    {"name": "valid_to", "data_type": "date", "description": "The as_of of the next version; null for the newest one."},
    {"name": "is_current", "data_type": "boolean", "description": "Whether no later delivery brought other values."},
]
GENERATED = re.compile(r"(-- depends_on: {{ ref\('\w+'\) }}\n)?{{ (history_of|newest_of|scd2_of)\('\w+'\) }}\n")
NOT_NULL = {"type": "not_null", "warn_unsupported": False}


Content = str | list[dict[str, Any]]
"""The text of a file, or the models that a YAML file describes."""


def expected_models(tables: Sequence[Table]) -> dict[Path, Content]:
    """Path below dbt_project -> content, for every file that follows from the contract."""
    names = ", ".join(f"'{table.name}'" for table in tables)
    files: dict[Path, Content] = {
        Path("macros/contract/declared_tables.sql"): (
            "{#- Written by `streamflow models` from models/staging/_sources.yml. Change that file, not this one. -#}\n"
            f"{{% macro declared_tables() %}}{{{{ return([{names}]) }}}}{{% endmacro %}}\n"
        ),
        Path("models/history/_history.yml"): [_history(table) for table in tables],
        Path("models/production/_production.yml"): [_production(table) for table in tables],
        Path("models/marts/_training_set.yml"): [_training_set(tables)],
        Path("models/marts/_scd2.yml"): [_scd2(table) for table in tables if table.slowly_changing],
    }
    for table in tables:
        after = _depends_on(f"{table.references}_snapshots") if table.references else ""
        files[Path(f"models/history/{table.name}_snapshots.sql")] = f"{after}{{{{ history_of('{table.name}') }}}}\n"
        after = _depends_on("published")
        files[Path(f"models/production/{table.name}.sql")] = f"{after}{{{{ newest_of('{table.name}') }}}}\n"
        if table.slowly_changing:
            files[Path(f"models/marts/{table.name}_scd2.sql")] = f"{{{{ scd2_of('{table.name}') }}}}\n"
    return files


def stale_models(tables: Sequence[Table], project: Path = DBT_PROJECT) -> dict[Path, str | None]:
    """The files that are out of step: path below the project -> the text that belongs there, None where none does."""
    expected = expected_models(tables)
    stale: dict[Path, str | None] = {
        path: content if isinstance(content, str) else _properties(content)
        for path, content in expected.items()
        if not (project / path).is_file() or not _says((project / path).read_text(encoding="utf-8"), content)
    }
    for folder in ("models/history", "models/production", "models/marts"):
        for file in (project / folder).glob("*.sql"):
            path = file.relative_to(project)
            if path not in expected and GENERATED.fullmatch(file.read_text(encoding="utf-8")):
                stale[path] = None
    return stale


def _says(text: str, content: Content) -> bool:
    """Whether a file has that content. YAML is read for it, which takes a tenth of the time of writing it."""
    if isinstance(content, str):
        return text == content
    return text.startswith(HEADER) and yaml.load(text, LOADER) == {"version": 2, "models": content}  # noqa: S506


def write_models(tables: Sequence[Table], project: Path = DBT_PROJECT) -> list[Path]:
    """Bring the files on disk in step with the contract; returns those that were written or taken away.

    Raises:
        SurroundingsFailed: the project cannot be written to.
    """
    stale = stale_models(tables, project)
    try:
        for path, text in stale.items():
            if text is None:
                (project / path).unlink()
            else:
                (project / path).parent.mkdir(parents=True, exist_ok=True)
                (project / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SurroundingsFailed(
            f"the dbt models are out of step with {SOURCES_FILE.name} and cannot be written: {error}. Run"
            " `streamflow models` where the project can be written to."
        ) from None
    return list(stale)


def _depends_on(model: str) -> str:
    return f"-- depends_on: {{{{ ref('{model}') }}}}\n"


def _history(table: Table) -> dict[str, Any]:
    description = (
        f"History of {table.name}: the full state on each as_of, never rewritten. One row per customer and as_of."
    )
    key = [table.primary_key, "as_of"]
    return _model(table, f"{table.name}_snapshots", description, [AS_OF, OBSERVED_AS_OF], key)


def _production(table: Table) -> dict[str, Any]:
    model = _model(table, table.name, f"Newest data: {table.description}", [OBSERVED_AS_OF], [table.primary_key])
    if table.references:
        model["config"]["meta"]["references"] = table.references
        model["constraints"].append(
            {
                "type": "foreign_key",
                "columns": [table.primary_key],
                "to": f"ref('{table.references}')",
                "to_columns": [table.primary_key],
                "warn_unsupported": False,
            }
        )
    return model


def _scd2(table: Table) -> dict[str, Any]:
    description = (
        f"Versions of {table.name}, slowly changing dimension type 2. One row per customer and valid_from; it holds"
        " from valid_from until the day before valid_to."
    )
    columns = [*map(_declared, table.columns), *VALIDITY]
    config = {"meta": {"key": table.primary_key}}
    return {"name": f"{table.name}_scd2", "description": description, "config": config, "columns": columns}


def _training_set(tables: Sequence[Table]) -> dict[str, Any]:
    everyone = _everyone_first(tables)[0]
    return {
        "name": "training_set",
        "description": (
            "Training data without a look into the future: every customer known on as_of, the features as they were"
            " known then, and the label that was delivered on label_as_of. One row per as_of, label_as_of and customer;"
            " name both dates in the WHERE clause."
        ),
        "config": {"meta": {"tables": [_joined(table) for table in _everyone_first(tables)]}},
        "columns": [
            _declared(everyone.column(everyone.primary_key)),
            AS_OF,
            LABEL_AS_OF,
            EVENT_TIMESTAMP,
            *_features_and_labels(tables),
        ],
    }


def _joined(table: Table) -> dict[str, Any]:
    return {"name": table.name, "key": table.primary_key, **({"label": True} if table.has_label else {})}


def _everyone_first(tables: Sequence[Table]) -> list[Table]:
    """The tables, the first one being that which the others reference: it has every customer."""
    referenced = {table.references for table in tables}
    return sorted(tables, key=lambda table: (table.name not in referenced, table.references is not None))


def training_columns(tables: Sequence[Table]) -> list[tuple[str, Table, Column]]:
    """Name in the training set, table and column of each feature, and then of each label."""
    columns = [
        (table, column)
        for table in sorted(_everyone_first(tables), key=lambda table: table.has_label)
        for column in table.columns
        if column.name != table.primary_key and (column.label or not table.has_label)
    ]
    names = Counter(column.name for _, column in columns)
    return [
        (column.name if names[column.name] == 1 else f"{table.name}_{column.name}", table, column)
        for table, column in columns
    ]


def _features_and_labels(tables: Sequence[Table]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "data_type": column.data_type,
            "description": column.description,
            "config": {"meta": {"table": table.name, "column": column.name}},
        }
        for name, table, column in training_columns(tables)
    ]


def _declared(column: Column) -> dict[str, Any]:
    return {"name": column.name, "data_type": column.data_type, "description": column.description}


def _model(table: Table, name: str, description: str, added: list[dict[str, str]], key: list[str]) -> dict[str, Any]:
    columns: list[dict[str, Any]] = [dict(column) for column in [*map(_declared, table.columns), *added]]
    for column in columns:
        if column["name"] in {table.primary_key, "as_of", "observed_as_of"}:
            column["constraints"] = [NOT_NULL]
    return {
        "name": name,
        "description": description,
        "config": {"meta": {"table_name": table.name}},
        "constraints": [{"type": "primary_key", "columns": key, "warn_unsupported": False}],
        "columns": columns,
    }


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key and repeats what is repeated, so that the file reads like a hand-written one."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _properties(models: list[dict[str, Any]]) -> str:
    body = yaml.dump({"version": 2, "models": models}, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return HEADER + body
