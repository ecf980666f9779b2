"""The change report: its numbers against months made by hand and direct SQL, its page as a browser sees it."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loader.readers.report import Bar, _column_findings, environment
from loader.readers.report_columns import ColumnReport, psi
from tests.conftest import Streamflow, kept
from tests.files import copy_month, edit, set_value, write_month
from tests.servers import Server, connect


@pytest.fixture(scope="module")
def three_months_published(server: Server, dbt_target: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database to copy: January a-h, February without h and with i, March with h again, all published."""
    folder = tmp_path_factory.mktemp("three_months")
    names = "abcdefgh"
    write_month(folder / "month_000", {name: number for number, name in enumerate(names)})
    write_month(folder / "month_001", {name: number for number, name in enumerate("abcdefg")} | {"i": 7})
    write_month(folder / "month_002", {name: number + 1 for number, name in enumerate("abcdefg")} | {"i": 7, "h": 9})
    # in February two customers have another fee
    fees = folder / "month_001" / "subscriptions.csv"
    set_value(fees, 2, "monthly_fee", "90.5")
    set_value(fees, 3, "monthly_fee", "91.5")
    with kept(server, dbt_target, folder, "three_months") as streamflow:
        for month in ("000", "001", "002"):
            streamflow.ok("ingest", month, "--data-dir", folder)
    return "three_months"


@pytest.fixture
def three_months(new_database: Callable[..., Streamflow], three_months_published: str) -> Streamflow:
    """The command line on a database with three months."""
    return new_database(three_months_published)


def numbers(streamflow: Streamflow, month: str) -> Any:
    """What `report --json` says of a month."""
    return streamflow.ok("report", month, "--json").json["report"]


def column_of(report: Any, table: str, column: str) -> Any:
    """One column of a report."""
    return next(c for c in report["columns"] if (c["now"]["table_name"], c["now"]["column_name"]) == (table, column))


def page_of(streamflow: Streamflow, name: str) -> Path:
    """The default path of a page."""
    return Path(streamflow.environment["STREAMFLOW_HOME"]) / "reports" / name


def test_who_came_went_and_came_back(three_months: Streamflow) -> None:
    people = {
        month: next(row for row in numbers(three_months, month)["customers"] if row["table_name"] == "users")
        for month in ("000", "001", "002")
    }
    what = ("delivered", "known", "new", "departed", "returned")
    counts = {month: [row[f"customers_{name}"] for name in what] for month, row in people.items()}
    assert counts == {"000": [8, 8, 8, 0, 0], "001": [8, 9, 1, 1, 0], "002": [9, 9, 0, 0, 1]}

    # the same over all months
    trend = numbers(three_months, "002")["trend"]
    assert [(month["month"], month["delivered"], month["growth"], month["carried_forward"]) for month in trend] == [
        ("000", 8, None, 0),
        ("001", 8, 1, 1),
        ("002", 9, 0, 0),
    ]
    assert [month["updated"] for month in trend] == [
        three_months.value("select sum(rows_updated)::bigint from ops.history where as_of = %s", month["as_of"])
        for month in trend
    ]


@pytest.mark.long
def test_who_departed_may_be_in_no_newer_history(three_months: Streamflow, tmp_path: Path) -> None:
    """A restatement of February brings a customer; the history of March was written before, and stays without them."""
    write_month(tmp_path / "month_001", {name: number for number, name in enumerate("abcdefgiz")})
    three_months.ok("ingest", "001", "--data-dir", tmp_path, "--restate", "--reason", "z was missing")
    users = numbers(three_months, "002")["customers"][0]
    assert [users[f"customers_{name}"] for name in ("delivered", "departed", "new")] == [9, 1, 0]


def test_changed_rows_count_those_known_before(three_months: Streamflow) -> None:
    report = numbers(three_months, "001")
    fee = column_of(report, "subscriptions", "monthly_fee")["changes"]
    assert (fee["compared_rows"], fee["changed_rows"]) == (7, 2)
    assert column_of(report, "subscriptions", "total_paid")["changes"]["changed_rows"] == 0
    assert [(age["observed_as_of"], age["customers"]) for age in report["ages"] if age["table_name"] == "labels"] == [
        ("2024-02-29", 8),
        ("2024-01-31", 1),
    ]


@pytest.mark.long
def test_profile_is_what_sql_says_of_the_delivery(three_months: Streamflow) -> None:
    profile = column_of(numbers(three_months, "001"), "subscriptions", "monthly_fee")["now"]
    [(rows, mean, quantiles)] = three_months.rows(
        "select count(*), avg(monthly_fee)::float8, percentile_cont(array[0.05, 0.25, 0.5, 0.75, 0.95])"
        " within group (order by monthly_fee::float8) from subscriptions_snapshots"
        " where as_of = '2024-02-29' and observed_as_of = as_of"
    )
    assert profile["delivered_rows"] == rows == 8
    assert profile["mean"] == pytest.approx(mean)
    assert profile["quantiles"] == pytest.approx(quantiles)
    assert profile["null_rows"] == 0
    assert column_of(numbers(three_months, "001"), "subscriptions", "add_on_backup")["now"]["null_rows"] == 8


@pytest.mark.long
def test_psi_of_a_known_distribution(streamflow: Streamflow, tmp_path: Path) -> None:
    before = {f"c{number:02d}": number for number in range(20)}
    write_month(tmp_path / "month_000", before)
    write_month(tmp_path / "month_001", before)

    def half_of_them_male(rows: list[list[str]]) -> None:
        for row in rows[1:11]:
            row[2] = "Male"

    edit(tmp_path / "month_000" / "users.csv", lambda rows: rows[1].__setitem__(2, "Male"))
    edit(tmp_path / "month_001" / "users.csv", half_of_them_male)
    for month in ("000", "001"):
        streamflow.ok("ingest", month, "--data-dir", tmp_path)
    report = numbers(streamflow, "001")
    gender = column_of(report, "users", "user_gender")
    by_hand = (0.5 - 0.95) * math.log(0.5 / 0.95) + (0.5 - 0.05) * math.log(0.5 / 0.05)
    assert gender["psi"] == pytest.approx(by_hand)
    assert {b["category"]: (b["rows_before"], b["rows_now"]) for b in gender["bins"]} == {
        "Female": (19, 10),
        "Male": (1, 10),
    }
    fee = column_of(report, "subscriptions", "monthly_fee")
    assert [(b["rows_before"], b["rows_now"]) for b in fee["bins"]] == [(2, 2)] * 10, "deciles of twenty values"
    assert fee["psi"] == 0
    assert report["findings"][1] == {
        "level": "alert",
        "text": f"users.user_gender has another distribution: PSI {by_hand:.2f}",
        "anchor": "users.user_gender",
    }
    assert "has another distribution" in page_of(streamflow, "month_001_2024-02-29.html").read_text()


@pytest.mark.long
def test_what_only_one_customer_has_is_not_named(streamflow: Streamflow, tmp_path: Path) -> None:
    for month in ("000", "001"):
        write_month(tmp_path / f"month_{month}", {"a": 1, "b": 2, "c": 3})
        edit(tmp_path / f"month_{month}" / "users.csv", lambda rows: rows[1].__setitem__(2, "Male"))
        streamflow.ok("ingest", month, "--data-dir", tmp_path)
    gender = column_of(numbers(streamflow, "001"), "users", "user_gender")
    assert {b["category"]: (b["rows_before"], b["rows_now"]) for b in gender["bins"]} == {
        "Female": (2, 2),
        None: (1, 1),
    }
    assert "Male" not in page_of(streamflow, "month_001_2024-02-29.html").read_text()


def test_psi_with_an_empty_bin_is_finite() -> None:
    floor = 0.0001
    assert psi([10, 0], [0, 10]) == pytest.approx(2 * (1 - floor) * math.log(1 / floor))
    assert psi([1, 1], [5, 5]) == 0
    assert psi([], []) is None
    assert psi([3], [0]) is None


@pytest.mark.parametrize(("before", "now", "found"), [(0.25, 0.3, 1), (0.3, 0.25, 1), (0.25, 0.2999, 0)])
def test_five_percentage_points_more_empty_values_are_found(before: float, now: float, found: int) -> None:
    shares = [{"column_name": "fee", "table_name": "users", "null_share": share} for share in (now, before)]
    column = ColumnReport(shares[0], shares[1], None, [], None)
    assert len(list(_column_findings([column]))) == found


def test_audits_are_shown_month_by_month(three_months: Streamflow) -> None:
    report = numbers(three_months, "002")
    assert report["audit_months"] == ["000", "001", "002"]
    audits = three_months.value("select count(distinct audit_id) from ops.audits")
    assert len(report["audits"]) == audits
    assert all(len(audit["verdicts"]) == 3 for audit in report["audits"])


def test_page_is_self_contained_and_escapes_values(streamflow: Streamflow, tmp_path: Path) -> None:
    hostile = tmp_path / "<script>alert(1)</script>"
    write_month(hostile / "month_000", {"a": 1, "b": 2})
    streamflow.ok("ingest", "000", "--data-dir", hostile)
    path = Path(streamflow.ok("report", "000").out.strip())
    assert path == page_of(streamflow, "month_000_2024-01-31.html")
    text = path.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r'(src|href)\s*=\s*"(?!#|index\.html)', text)
    assert "url(" not in text
    assert "@import" not in text

    # the page begins with what an engineer on call needs
    passed = streamflow.value("select count(*) from ops.audits where status = 'pass'")
    [(level, said)] = re.findall(r'<p class="headline (\w+)" id="worry">(.*?)</p>', text)
    assert (level, said) == (
        "calm",
        f"Nothing to do: month 000 is published, with 2 customers; {passed} audits passed.",
    )
    assert f"<summary>{passed} audits passed in this month</summary>" in text
    assert "avg_<wbr>session_<wbr>mins_<wbr>7d" in text, "a name is broken where a word ends"


@pytest.mark.parametrize("data_type", ["text", "numeric"])
def test_plots_escape_what_they_show(data_type: str) -> None:
    plot = environment().get_template("report_plots.html.j2").module.plot  # type: ignore[attr-defined]
    drawn = str(plot("<b>", data_type, [Bar('<img src="x">&', 0.5, 0.5)]))
    assert "<img" not in drawn
    assert "<b>" not in drawn
    assert "&lt;img" in drawn


def test_index_lists_all_months(three_months: Streamflow, tmp_path: Path) -> None:
    three_months.ok("report", "002")
    index = Path(three_months.ok("report", "--index").out.strip())
    assert index == page_of(three_months, "index.html")
    text, before = index.read_text(), index.stat().st_ino
    three_months.ok("report", "--index")
    assert index.stat().st_ino != before, "it may be read meanwhile, so it is replaced as a whole"
    assert re.findall(r'<a href="([^"]+)"', text) == ["month_002_2024-03-31.html"]
    assert re.findall(r'<th scope="row">(?:<a[^>]*>)?(\d+)', text) == ["002", "001", "000"]
    listed = three_months.ok("report", "--index", "--json", "--out", tmp_path / "other.html").json
    assert [(entry["delivered"], entry["growth"], entry["warned"]) for entry in listed["months"]] == [
        (entry["delivered"], entry["growth"], entry["warned"])
        for entry in reversed(numbers(three_months, "002")["trend"])
    ]
    assert [entry["delivered"] for entry in listed["months"]] == [9, 8, 8]
    assert (tmp_path / "other.html").is_file()


def test_out_names_another_file(three_months: Streamflow, tmp_path: Path) -> None:
    path = tmp_path / "new" / "february.html"
    assert three_months.ok("report", "1", "--out", path).out.strip() == str(path)
    assert "Month 001" in path.read_text()


def test_a_number_that_two_dates_have_is_asked_for_by_date(january: Streamflow, months: Path, tmp_path: Path) -> None:
    january.ok("ingest", "000", "--data-dir", months, "--as-of", "2024-02-10")
    result = january("report", "000")
    assert result.code == 2
    assert "published for several dates: 2024-01-31, 2024-02-10" in result.err
    assert (
        "2024-02-10" in Path(january.ok("report", "2024-02-10", "--out", tmp_path / "r.html").out.strip()).read_text()
    )


def test_what_cannot_be_reported_is_wrong_usage(streamflow: Streamflow, tmp_path: Path) -> None:
    for arguments, says in [
        (["report", "001"], "month 001 is not published. There is none: streamflow ingest 000."),
        (["report"], "--index"),
        (["report", "many"], '"many" is not a month'),
    ]:
        result = streamflow(*arguments)
        assert result.code == 2
        assert says in result.err
        assert result.err.count("\n") == 1
    assert streamflow.ok("report", "--index").code == 0, "no month is a short list, not an error"


def test_ingest_writes_the_report_unless_it_is_told_not_to(streamflow: Streamflow, months: Path) -> None:
    streamflow.ok("ingest", "000", "--data-dir", months)
    assert not page_of(streamflow, "index.html").exists(), "the tests' settings ask for none"
    del streamflow.environment["STREAMFLOW_REPORT"]
    result = streamflow.ok("ingest", "001..002", "--data-dir", months)
    assert "month_001_2024-02-29.html" in result.err
    links = re.findall(r'<a href="([^"]+)"', page_of(streamflow, "index.html").read_text())
    assert links == ["month_002_2024-03-31.html", "month_001_2024-02-29.html"]
    assert 'href="index.html"' in page_of(streamflow, "month_001_2024-02-29.html").read_text()


@pytest.mark.long
def test_no_page_is_missing_or_stale(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """A missing page is written again; a restatement rewrites its page and the pages that compare with it."""
    del january.environment["STREAMFLOW_REPORT"]
    assert "nothing to do" in january.ok("ingest", "000", "--data-dir", months).out
    first = page_of(january, "month_000_2024-01-31.html")
    assert first.is_file()
    january.ok("ingest", "001", "--data-dir", months)
    second = page_of(january, "month_001_2024-02-29.html")
    before = first.read_text(), second.read_text()
    second.unlink()
    assert "nothing to do" in january.ok("ingest", "001", "--data-dir", months).out
    assert second.read_text() == before[1]
    set_value(copy_month(months, "000", tmp_path) / "usage_agg_30d.csv", 3, "watch_hours_30d", "7.25")
    january.ok("ingest", "000", "--data-dir", tmp_path, "--restate", "--reason", "wrong")
    assert first.read_text() != before[0]
    assert second.read_text() != before[1]
    set_value(copy_month(months, "001", tmp_path, "007") / "usage_agg_30d.csv", 3, "watch_hours_30d", "7.25")
    again = ("--as-of", "2024-02-29", "--restate", "--reason", "it is another month's")
    january.ok("ingest", "007", "--data-dir", tmp_path, *again)
    assert sorted(page.name for page in first.parent.glob("month_*")) == [first.name, "month_007_2024-02-29.html"]
    assert not list(first.parent.glob("*.part"))


def test_a_report_that_fails_is_named_and_made_by_the_same_command(streamflow: Streamflow, months: Path) -> None:
    del streamflow.environment["STREAMFLOW_REPORT"]
    home = Path(streamflow.environment["STREAMFLOW_HOME"])
    home.mkdir(parents=True)
    (home / "reports").write_text("a file where the folder should be")
    for state in ("published", "unchanged"):
        result = streamflow("ingest", "000", "--data-dir", months, "--json")
        assert (result.code, result.json["state"]) == (5, state)
        assert [node["kind"] for node in result.json["failed"]] == ["report"]
        assert "report of month 000: the report cannot be written: File exists" in result.err
    (home / "reports").unlink()
    assert "nothing to do" in streamflow.ok("ingest", "000", "--data-dir", months).out
    assert list((home / "reports").glob("month_000_*.html"))


def test_a_table_that_is_missing_is_named_with_its_remedy(january: Streamflow) -> None:
    january.connection.execute("drop table ops.audits cascade")
    result = january("report", "000")
    assert result.code == 3
    assert 'relation "ops.audits" does not exist' in result.err
    assert "`streamflow init` makes missing tables" in result.err


@pytest.mark.long
def test_the_partitions_of_two_months_are_read_only(three_months: Streamflow) -> None:
    if three_months.on_citus:
        pytest.skip("its nodes lock every partition with its table")
    three_months.connection.execute("alter database streamflow set lock_timeout = '20s'")
    with contextlib.closing(connect(three_months.environment, "streamflow")) as other, other.transaction():
        other.execute("lock table history.users_2024_01_31 in access exclusive mode")
        three_months.ok("report", "002")


@pytest.mark.parametrize("width", [360, pytest.param(1280, marks=pytest.mark.long)])
def test_no_horizontal_scroll(three_months: Streamflow, tmp_path: Path, width: int) -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    three_months.ok("report", "001", "--index")
    for name in ("month_001_2024-02-29.html", "index.html"):
        page = page_of(three_months, name)
        # in a frame, which can be of any width: a headless window is never narrower than 500 pixels
        frame = tmp_path / "frame.html"
        page.with_name("framed.html").write_text(
            page.read_text().replace(
                "</body>",
                "<script>parent.postMessage(JSON.stringify([document.documentElement.scrollWidth, innerWidth]), '*')"
                "</script></body>",
            )
        )
        frame.write_text(
            "<!doctype html><pre id=widths></pre><script>onmessage = e => { widths.textContent = e.data }</script>"
            f'<iframe src="{page.with_name("framed.html").as_uri()}" style="width: {width}px; border: 0"></iframe>'
        )
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path / 'p'}"]
        flags += ["--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom"]
        command = [program, *flags, frame.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        found = re.search(r'<pre id="widths">(\[.*?\])</pre>', dom)
        assert found, dom
        needed, there = json.loads(found.group(1))
        assert there == width
        assert needed <= there, name
