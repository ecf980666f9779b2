"""Whether the dbt models have what is declared, and what to do if they lack something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader.contract.models import LIST, Model, list_of_tables, models
from loader.contract.tables import Table, described_in
from loader.errors import WrongUsage
from loader.project import project


@dataclass(frozen=True)
class ModelFault:
    """A file of the dbt project that differs from the declaration, why, and the model to overwrite, if any."""

    path: Path
    reason: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.path}{':' if self.model else ''} {self.reason}"


def model_faults(tables: Sequence[Table]) -> Iterator[ModelFault]:
    """What the models lack of the declaration. Additions by users are no difference."""
    listed = project().dbt / LIST
    if not listed.is_file() or listed.read_text(encoding="utf-8") != list_of_tables(tables):
        yield ModelFault(LIST, "does not list the declared tables")
    for model in models(tables):
        for path in model.paths:
            if not (project().dbt / path).is_file():
                yield ModelFault(path, "is missing")
            elif path.suffix == ".yml":
                reasons = _differences(project().dbt / path, model)
                yield from (ModelFault(path, reason, model.properties["name"]) for reason in reasons)
    yield from _left_over(f"{table.name}_snapshots" for table in tables)


def _left_over(declared: Iterable[str]) -> Iterator[ModelFault]:
    """Yield the models of history that are not among the `declared` ones; the reason names all models of that table."""
    declared = set(declared)
    for path in sorted((project().dbt / "models" / "history").glob("*_snapshots.sql")):
        if path.stem not in declared:
            name = path.stem.removesuffix("_snapshots")
            its = sorted((project().dbt / "models").rglob("*.*"))
            others = [one.name for one in its if one.stem in {name, path.stem, f"latest_{name}", f"{name}_scd2"}]
            reason = f"is of a table that is not declared: remove {', '.join(others)}"
            yield ModelFault(path.relative_to(project().dbt), reason)


def remedy_for(lacking: Iterable[ModelFault]) -> str:
    """What to do about models that lack something."""
    names = dict.fromkeys(one.model for one in lacking if one.model)
    edited = f"; edit the others, or have them rewritten: `streamflow models {' '.join(names)} --overwrite`"
    return f"`streamflow models` writes what is missing{edited if names else ''}"


def require_models(tables: Sequence[Table]) -> None:
    """Require that the models have every declared table and column.

    Raises:
        WrongUsage: one is missing or differs; the message says what to do.
    """
    if lacking := list(model_faults(tables)):
        reasons = "; ".join(map(str, lacking[:5]))
        raise WrongUsage(
            f"the dbt models are out of step with {project().sources.name}: {reasons}. {remedy_for(lacking)}."
        )


def _differences(path: Path, model: Model) -> Iterator[str]:
    described = described_in(path, model.properties["name"])
    (its_key, its_labels), (key, labels) = map(_configured, (described, model.properties))
    if key not in (None, its_key):
        more = "; where there is history, it keeps its key"
        yield f"its unique_key is {_listed(its_key)}, but is declared as {_listed(key)}{more}"
    if None not in (its_labels, labels) and its_labels != labels:
        yield f"its labels are {_listed(its_labels)}, but are declared as {_listed(labels)}"
    for constraint in model.properties.get("constraints", []):
        known = any(constraint.items() <= one.items() for one in described["constraints"])
        if constraint["type"] == "foreign_key" and not known:
            yield f"its reference to {constraint['to']} by {', '.join(constraint['columns'])} is declared but missing"
    for column in model.properties.get("columns", []):
        there = described["columns"].get(column["name"])
        if there is None:
            yield f"column {column['name']} is declared but missing"
        elif there.get("data_type") != column["data_type"]:
            yield f"column {column['name']} is declared as {column['data_type']}"


def _configured(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    """The unique_key and the labels in a model's config."""
    config = entry.get("config") or {}
    return config.get("unique_key"), (config.get("meta") or {}).get("labels")


def _listed(names: str | Sequence[str] | None) -> str:
    return names if isinstance(names, str) else ", ".join(names or ["none"])
