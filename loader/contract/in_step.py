"""Whether the dbt models have what is declared, and what to do where they lack something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loader.contract.models import LIST, Model, list_of_tables, models
from loader.contract.tables import Table, described_in
from loader.errors import WrongUsage
from loader.project import project


@dataclass(frozen=True)
class Lacking:
    """A file of the dbt project that is not as the declaration has it, why, and the model to write anew for it."""

    path: Path
    reason: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.path}{':' if self.model else ''} {self.reason}"


def out_of_step(tables: Sequence[Table]) -> Iterator[Lacking]:
    """What the models lack of the declaration; what somebody added to them is theirs."""
    listed = project().dbt / LIST
    if not listed.is_file() or listed.read_text(encoding="utf-8") != list_of_tables(tables):
        yield Lacking(LIST, "does not list the declared tables")
    for model in models(tables):
        for path in model.paths:
            if not (project().dbt / path).is_file():
                yield Lacking(path, "is missing")
            elif path.suffix == ".yml":
                reasons = _lacking(project().dbt / path, model)
                yield from (Lacking(path, reason, model.properties["name"]) for reason in reasons)
    declared = {f"{table.name}_snapshots" for table in tables}
    for path in sorted((project().dbt / "models" / "history").glob("*_snapshots.sql")):
        if path.stem not in declared:
            yield Lacking(path.relative_to(project().dbt), "is of a table that is not declared: remove its models")


def into_step(lacking: Iterable[Lacking]) -> str:
    """What to do about models that lack something."""
    names = dict.fromkeys(one.model for one in lacking if one.model)
    edited = f"; edit the others, or have them written anew: `streamflow models {' '.join(names)} --overwrite`"
    return f"`streamflow models` writes what is missing{edited if names else ''}"


def require_models(tables: Sequence[Table]) -> None:
    """Go on only where the models have every declared table and column.

    Raises:
        WrongUsage: they do not; the message says what to do.
    """
    if lacking := list(out_of_step(tables)):
        reasons = "; ".join(map(str, lacking[:5]))
        raise WrongUsage(
            f"the dbt models are out of step with {project().sources.name}: {reasons}. {into_step(lacking)}."
        )


def _lacking(path: Path, model: Model) -> Iterator[str]:
    described = described_in(path, model.properties["name"])
    keys = [(entry.get("config") or {}).get("unique_key") for entry in (described, model.properties)]
    if keys[1] is not None and keys[0] != keys[1]:
        is_there, declared = (key if isinstance(key, str) else ", ".join(key or ["none"]) for key in keys)
        yield f"its unique_key is {is_there}, and declared as {declared}; where there is history, it keeps its key"
    labels = [((entry.get("config") or {}).get("meta") or {}).get("labels") for entry in (described, model.properties)]
    if None not in labels and labels[0] != labels[1]:
        is_there, declared = (", ".join(names or ["none"]) for names in labels)
        yield f"its labels are {is_there}, and declared as {declared}"
    foreign = {"type": "foreign_key"}
    for constraint in model.properties.get("constraints", []):
        known = any(constraint.items() <= one.items() for one in described["constraints"])
        if foreign.items() <= constraint.items() and not known:
            yield f"its reference {constraint['to']} by {', '.join(constraint['columns'])} is declared and not there"
    there = {name: column.get("data_type") for name, column in described["columns"].items()}
    for column in model.properties.get("columns", []):
        if column["name"] not in there:
            yield f"column {column['name']} is declared and not there"
        elif there.pop(column["name"]) != column["data_type"]:
            yield f"column {column['name']} is declared as {column['data_type']}"
