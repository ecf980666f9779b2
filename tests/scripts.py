"""Random scripts: months in any order, with gaps, repeats, restatements, defects, archived and restored."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests.conftest import TABLES
from tests.files import Rows, set_value, write_month

Row = tuple[str, ...]
Files = dict[str, dict[str, Row]]
"""Table -> customer -> the rest of the row."""


class Change(NamedTuple):
    """A defect: the function that makes it, and the file and line that the rejects must name (line 0: any line)."""

    file: str
    line: int
    make: Callable[[Path], object]


@dataclass
class Step:
    """One ingest: its month, the number that sets each customer's values, the form of its files, and their defects."""

    number: int
    customers: dict[str, int]
    form: str = "plain"
    defects: list[Change] = field(default_factory=list)
    restate: bool = False


class Archive(NamedTuple):
    """Archive the months before this one; with None, restore all that are archived."""

    before: int | None


class Forget(NamedTuple):
    """Forget a customer."""

    customer: str


VALUES = [
    ("usage_agg_30d", "watch_hours_30d", "12,5"),
    ("usage_agg_30d", "watch_hours_30d", "NaN"),
    ("usage_agg_30d", "avg_session_mins_7d", "-0.5"),
    ("usage_agg_30d", "skips_7d", "1.5"),
    ("users", "signup_date", "yesterday"),
    ("users", "signup_date", "2024-13-01"),
    ("users", "signup_date", "2031-01-01"),
    ("users", "user_gender", "F"),
    ("users", "user_id", "   "),
    ("subscriptions", "monthly_fee", "-1"),
    ("subscriptions", "contract_type", "Lifelong"),
    ("subscriptions", "total_paid", "1e999999"),
    ("payments_agg_90d", "failed_payments_90d", "2147483648"),
    ("support_agg_90d", "user_id", "stranger"),
    ("support_agg_90d", "support_tickets_90d", "many"),
    ("labels", "churn_label", "maybe"),
    ("labels", "user_id", ""),
]


def as_folder(path: Path) -> None:
    """Replace the file by a folder."""
    path.unlink()
    path.mkdir()


WHOLE_FILES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "header only": lambda path: path.write_bytes(path.read_bytes().splitlines(keepends=True)[0]),
    "misspelt column": lambda path: path.write_bytes(path.read_bytes().replace(b"user_id", b"userid", 1)),
    "one more column": lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b",1\n")),
    "a folder": as_folder,
}


def rewritten(change: Callable[[Rows], Rows], **dialect: object) -> Callable[[Path], object]:
    """Return a function that rewrites a file with changed rows or in another dialect of CSV."""

    def rewrite(path: Path) -> None:
        text = io.StringIO(newline="")
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        csv.writer(text, **{"lineterminator": "\n", **dialect}).writerows(change(rows))  # type: ignore[arg-type]
        path.write_bytes(text.getvalue().encode())

    return rewrite


def packed(path: Path) -> None:
    """Replace the file by its gzip."""
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


WORDS = {"True": "Yes", "False": "no"}
FORMS: dict[str, Callable[[Path], object]] = {
    "plain": Path.stat,
    "gzip": packed,
    "with a byte-order mark": lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    "with CRLF": rewritten(lambda rows: rows, lineterminator="\r\n"),
    "all quoted": rewritten(lambda rows: rows, quoting=csv.QUOTE_ALL),
    "columns turned round": rewritten(lambda rows: [row[::-1] for row in rows]),
    "yes and no": rewritten(lambda rows: [[WORDS.get(value, value) for value in row] for row in rows]),
}

customers = st.sampled_from([f"customer-{letter}" for letter in "abcdefghijklm"])
# Six to nine customers: the audit of row counts refuses a change of more than 50 %.
months = st.dictionaries(customers, st.integers(0, 99), min_size=6, max_size=9).map(
    lambda month: dict(sorted(month.items()))
)


@st.composite
def defects(draw: st.DrawFn) -> list[Change]:
    """One to three wrong values, each in another table; at times also a defect of a whole file in one more table."""
    chosen = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique_by=lambda value: value[0]))
    found = []
    for table, column, value in chosen:
        line = draw(st.integers(2, 7))
        found.append(Change(f"{table}.csv", line, lambda path, at=(line, column, value): set_value(path, *at)))  # type: ignore[misc]
    free = [table for table in ("payments_agg_90d", "labels") if table not in {table for table, _, _ in chosen}]
    if free and draw(st.sampled_from([True, False])):
        spoil = WHOLE_FILES[draw(st.sampled_from(sorted(WHOLE_FILES)))]
        found.append(Change(f"{draw(st.sampled_from(free))}.csv", 0, spoil))
    return found


@st.composite
def scripts(draw: st.DrawFn) -> list[Step | Archive | Forget]:
    """Months in any order, with gaps: some defective at first, some again, in another form or with other rows.

    Between them, months are archived and restored, and a customer is forgotten, after whom no month is defective.
    """
    script: list[Step | Archive | Forget] = []
    numbers: list[int] = draw(st.lists(st.integers(0, 5), min_size=2, max_size=4, unique=True))
    if draw(st.booleans()):
        numbers.sort()  # only months that the newest one carries forward can be archived
    for place, number in enumerate(numbers):
        step = Step(number, draw(months), draw(st.sampled_from(sorted(FORMS))))
        is_anyone_forgotten = any(isinstance(step, Forget) for step in script)
        if not is_anyone_forgotten and draw(st.sampled_from([True, False])):
            script.append(Step(number, draw(months), defects=draw(defects())))
        script.append(step)
        newest = max(numbers[: place + 1])
        script += draw(st.lists(st.builds(Archive, st.sampled_from([newest, newest, None])), max_size=1))
        sound = [step for step in script if isinstance(step, Step) and not step.defects]
        earlier = draw(st.sampled_from(sound))
        if not is_anyone_forgotten and draw(st.sampled_from([True, False, False])):
            script.append(Forget(draw(st.sampled_from(sorted(earlier.customers)))))
            is_anyone_forgotten = True
        ways = ["on", "again", "in another form", "other rows", "restate"]
        match draw(st.sampled_from(ways if is_anyone_forgotten else [*ways, "broken"])):
            case "again":
                script.append(Step(earlier.number, earlier.customers, earlier.form))
            case "in another form":
                script.append(Step(earlier.number, earlier.customers, draw(st.sampled_from(sorted(FORMS)))))
            case "other rows":
                script.append(Step(earlier.number, draw(months)))
            case "broken":
                script.append(Step(earlier.number, draw(months), defects=draw(defects())))
            case "restate":
                script.append(Step(earlier.number, draw(months), restate=True))
    return script


def deliver(step: Step, data: Path) -> Files:
    """Write the files of a step. Returns their rows without the defects, spelled as PostgreSQL spells them."""
    folder = data / f"month_{step.number:03d}"
    shutil.rmtree(data, ignore_errors=True)
    write_month(folder, step.customers)
    files: Files = {}
    for table in TABLES:
        with (folder / f"{table}.csv").open(newline="") as stream:
            rows = list(csv.reader(stream))[1:]
        files[table] = {key: tuple({"True": "true", "False": "false"}.get(v, v) for v in rest) for key, *rest in rows}
    for defect in step.defects:
        defect.make(folder / defect.file)
    if not step.defects:
        for path in sorted(folder.iterdir()):
            FORMS[step.form](path)
    if step.form == "gzip":
        step.form = "plain"  # a gzip counts as the file inside it
    return files
