"""If one cause explains the problems, the first line of the refusal names it and says what to do."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from loader.contract.tables import CsvForm
from loader.database import Database
from tests.conftest import TABLES, Result, Streamflow, rejects_of
from tests.files import Rows, copy_month, edit
from tests.reading import KINDS, TABLE, read

Bytes = Callable[[bytes], bytes]


def first_line(result: Result) -> str:
    """The line that refuses the month."""
    assert result.code == 1, result
    return next(line for line in result.err.splitlines() if " refused: " in line)


def as_xlsx(data: bytes) -> bytes:
    """The data in a zip archive: an xlsx file is one."""
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", data)
    return stream.getvalue()


WHOLE_FILES: dict[str, tuple[Bytes, str]] = {
    "semicolons": (
        lambda data: data.replace(b",", b";"),
        "users.csv and 5 more: separated by ';', not by ','. Export it with commas, or declare `delimiter: \";\"`",
    ),
    "tabs": (lambda data: data.replace(b",", b"\t"), "separated by '\\t', not by ','. Export it with commas"),
    "single quotes": (
        lambda data: re.sub(rb"[^,\n]+", rb"'\g<0>'", data),
        """quoted with ', not with ". Export it with ", or declare `quote: "'"` under""",
    ),
    "a comma after the last column": (
        lambda data: data.replace(b"\n", b",\n"), "1 column without a name. Name it in the header, or take out"
    ),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), "encoded as UTF-16. Export it as UTF-8"),
    "UTF-16 without a mark": (lambda data: data.decode().encode("utf-16-be"), "encoded as UTF-16. Export it as UTF-8"),
    "xlsx": (as_xlsx, "a spreadsheet (xlsx) or a zip archive, not CSV. Export the sheet as CSV"),
    "xls": (lambda data: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + data, "a spreadsheet (xls), not CSV. Export the sheet"),
    "a page": (lambda _: b"<!DOCTYPE html><title>Sign in</title>", "a web page or XML, not CSV."),
    "unknown columns": (
        lambda data: data.replace(b"\n", b",x\n"),
        "unknown column. Declare it, or add it to the `aliases` of a column, or have it left out: docs/changes.md",
    ),
    "a blank in the header": (
        lambda data: data.replace(b"user_id", "user_id\u00a0".encode(), 1),
        "a blank or an invisible character in the name of a column. Remove it",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), WHOLE_FILES.values(), ids=WHOLE_FILES)
def test_of_whole_files(january: Streamflow, months: Path, tmp_path: Path, change: Bytes, said: str) -> None:
    folder = copy_month(months, "001", tmp_path)
    for path in folder.iterdir():
        path.write_bytes(change(path.read_bytes()))
    result = january("ingest", "001", "--data-dir", tmp_path)
    assert said in first_line(result).removeprefix("month 001 refused: ")
    assert "\n6 things are wrong in 6 files, nothing was changed\n" in result.err
    assert ('"user_id\\xa0"' in result.err) == (said[:7] == "a blank")
    assert january("ingest", "001", "--data-dir", tmp_path, "--dry-run").out.count(said[-30:]) == 1


def test_of_values(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path)

    def with_commas(rows: Rows) -> None:
        for row in rows[1:]:
            row[6] = row[6].replace(".", ",")

    edit(folder / "subscriptions.csv", with_commas)
    (folder / "payments_agg_90d.csv").open("a").write("Total,120\n")
    for name in ("users", "labels"):  # an id that is not UTF-8: which of its rows elsewhere name nobody is not known
        path = folder / f"{name}.csv"
        path.write_bytes(b"\xff".join(path.read_bytes().split(b"-", 1)))
    result = january("check", "001", "--data-dir", tmp_path)
    line = "a comma where the decimal point belongs (55 times). Export numbers with a point, like 12.50"
    assert first_line(result) == f"month 001 refused: subscriptions.csv: not a number (numeric): {line}"
    assert "\n59 things are wrong in 4 files, nothing was changed\n" in result.err
    assert re.search(r'  subscriptions.csv:2 .* "\d+,\d+" .* \(and 54 more like it\)\n', result.err)
    assert re.search(r'  payments_agg_90d.csv:57 .* "Total" .* a line of totals\n', result.err)
    assert len(rejects_of(january, "001")) == 59


def test_of_a_line_of_totals(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """A word for totals is found even if the line is otherwise sound; sums without a key fail the key's audit."""
    folder = copy_month(months, "001", tmp_path)
    (folder / "users.csv").open("a").write("Summe:,,,,,")
    (folder / "payments_agg_90d.csv").open("a").write(",120\n")
    result = january("check", "001", "--data-dir", tmp_path)
    assert first_line(result) == "month 001 refused: users.csv: a line of totals. Export the file without it"
    assert "payments_agg_90d.csv: is empty. Export each row with its key, and no line of totals\n" in result.err
    assert [row["line"] for row in rejects_of(january, "001")] == ["57", "57"]


def test_of_files_that_are_one_folder_deeper(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path)
    (folder / "export").mkdir()
    for path in folder.glob("*.csv"):
        path.rename(folder / "export" / path.name)
    line = first_line(january("ingest", "001", "--data-dir", tmp_path))
    said = "one folder deeper, in export. Move the files up into month_001"
    assert line == f"month 001 refused: {TABLES[0]}.csv and 5 more: {said}"


GOOD = b"a,1,1.5,t,2024-01-31\n"
VALUES: dict[str, tuple[str, str]] = {
    "12,50": ("amount", "a comma where the decimal point belongs"),
    "1.234,5": ("amount", "a comma where the decimal point belongs"),
    "1,234.50": ("amount", "thousands are separated"),
    "1,234": ("number", "thousands are separated"),
    "1\u202f234": ("number", "thousands are separated"),
    "31.01.2024": ("day", "a date in another order or form"),
    "01/31/24": ("day", "a date in another order or form"),
    "20240131": ("day", "a date in another order or form"),
    "2024-01-31 00:00:00": ("day", "a date with a time"),
}


def test_of_forms_of_values(csv_database: Database, tmp_path: Path) -> None:
    header = ",".join(list(KINDS)[:5]).encode() + b"\n"
    places = {name: place for place, name in enumerate(KINDS)}
    for value, (column, cause) in VALUES.items():
        fields = GOOD.decode().strip().split(",")
        fields[places[column]] = f'"{value}"'
        [problem] = read(csv_database, tmp_path, header + GOOD + ",".join(fields).encode()).problems
        assert (problem.line, problem.column, problem.value) == (3, column, value)
        assert problem.reason.endswith(f": {cause}")
        assert problem.remedy
    for value in ("1,2,3", "x,5", "12,", "2024-02-30", "yesterday"):
        fields[places["amount"]] = fields[places["day"]] = f'"{value}"'
        problems = read(csv_database, tmp_path, header + GOOD + ",".join(fields).encode()).problems
        assert {problem.remedy for problem in problems} == {None}


def test_who_is_called_total_is_a_customer(csv_database: Database, tmp_path: Path) -> None:
    """A line of totals has nothing but numbers beside the word; in a sound file, only the last line can be one."""
    header = b"user_id,number,amount,flag,note\n"
    assert read(csv_database, tmp_path, header + b"Total,1,2.5,,\na,1,1,t,\n").taken
    assert read(csv_database, tmp_path, header + b"Total,1,2.5,t,\n").taken
    assert read(csv_database, tmp_path, header + b'"x\nTotal",1,,,\n').taken
    [problem] = read(csv_database, tmp_path, header + b'a,1,1,t,"x\ny"\n"Total",1,2.5,,').problems
    assert (problem.line, problem.column, problem.value) == (4, "user_id", "Total")
    table = TABLE.model_copy(update={"form": CsvForm(nulls=("NULL",))})
    [problem] = read(csv_database, tmp_path, header + b"a,1,1,t,NULL\nSumme,1,NULL,NULL,NULL\n", table=table).problems
    assert (problem.line, problem.value) == (3, "Summe")


def of_others(months: Path, month: str, to: Path) -> Path:
    """A copy of the month with other customers."""
    folder = copy_month(months, month, to)
    for path in folder.iterdir():
        edit(path, lambda rows: [row.__setitem__(0, f"other-{row[0]}") for row in rows[1:]])
    return folder


def test_of_other_customers_altogether(january: Streamflow, months: Path, tmp_path: Path) -> None:
    before = january.state()
    of_others(months, "000", tmp_path)
    of_others(months, "001", tmp_path)
    published = january("ingest", "000", "--data-dir", tmp_path)
    said = "month 000 refused: users.csv and 5 more: other customers: it has 0 of the "
    assert first_line(published).startswith(said)
    said = "month 000 is published already for 2024-01-31, with other rows; nothing was changed:"
    assert f'\n{said} to replace it, use --restate --reason "..."\n' in published.err
    newer = january("ingest", "001", "--data-dir", tmp_path)
    said = "month 001 refused: users.csv: 100 % of the customers of the month before are not in it. Are these files of"
    assert first_line(newer).startswith(said)
    assert january.state() == before
    january.ok("ingest", "001", "--data-dir", months)
