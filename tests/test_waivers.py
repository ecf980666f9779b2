"""A waived error-level audit only warns for one month, however that is built, and the ledger records the waiver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Streamflow
from tests.files import copy_month, set_value
from tests.test_abandon import last_history_fails
from tests.test_gate import published, statuses

HOURS = "audit_usage_watch_hours_0_to_744"
SKIPS = "audit_usage_skips_not_negative"
WHY = ("--waive", HOURS, "--reason", "sensor fault, agreed with Ada")


@pytest.fixture
def over(months: Path, tmp_path: Path) -> Path:
    """February and March, in each of which one customer watched for more hours than a month has."""
    for month in ("001", "002"):
        set_value(copy_month(months, month, tmp_path / "over") / "usage_agg_30d.csv", 3, "watch_hours_30d", "800")
    return tmp_path / "over"


@pytest.mark.long
def test_a_waived_audit_warns_for_one_month_and_is_told_of_ever_after(january: Streamflow, over: Path) -> None:
    here = ("--data-dir", over)
    january.environment["DBT_WARN_ERROR"] = "1"
    assert january("ingest", "001", *here).code == 1
    done = january.ok("ingest", "001", *here, *WHY, "--waive", SKIPS)
    assert "published" in done.out
    assert f"waived: {HOURS}, by " in done.out
    assert "usage_agg_30d.csv:3" in done.out
    assert january.value("select count(*) from usage_agg_30d where watch_hours_30d = 800") == 1
    waived = january.rows(
        "select audit_name, reason, status from ops.waivers join ops.audits using (load_id, audit_name) order by 1"
    )
    assert waived == [(SKIPS, WHY[-1], "pass"), (HOURS, WHY[-1], "warn")]

    before = january.state()
    assert "nothing to do" in january.ok("ingest", "001", *here).out
    assert "nothing to do" in january.ok("ingest", "001", *here, *WHY).out
    assert january("ingest", "002", *here).code == 1
    assert january.state() == before

    assert f"waived: 001, {HOURS}, by " in january.ok("status").out
    [month] = [month for month in january.ok("status", "--json").json if month["month"] == "001"]
    assert [(waiver["audit"], waiver["reason"]) for waiver in month["waivers"]] == [(SKIPS, WHY[-1]), (HOURS, WHY[-1])]
    findings = january.ok("report", "001", "--json").json["report"]["findings"]
    assert findings[1]["text"].startswith(f"waived: {HOURS}, by ")
    assert WHY[-1] in findings[1]["text"]

    set_value(over / "month_001" / "usage_agg_30d.csv", 4, "watch_hours_30d", "801")
    assert january("ingest", "001", *here, "--restate", "--reason", "corrected").code == 1
    assert january.state() == before
    january.ok("ingest", "001", *here, "--restate", *WHY)
    assert january.value("select count(*) from usage_agg_30d where watch_hours_30d >= 800") == 2
    assert january.value("select reason from ops.restatements") == WHY[-1]
    january.ok("verify")


@pytest.mark.parametrize(
    ("audit", "said"),
    [
        ("audit_users_user_id_not_null", "the primary key of users"),
        ("audit_labels_user_id_unique", "the primary key of labels"),
        ("audit_labels_user_id_known_to_users", "the foreign key of labels to users"),
        ("audit_users_not_stale_or_hollow", "only warns"),
        ("audit_usage_watch_hours_0_to_74", f"did you mean {HOURS}"),
    ],
)
def test_what_cannot_be_waived(january: Streamflow, over: Path, audit: str, said: str) -> None:
    attempts = january.value("select count(*) from ops.loads")
    for command in ("ingest", "land", "check"):
        result = january(command, "001", "--data-dir", over, *WHY, "--waive", audit)
        assert result.code == 2
        assert said in result.err
    assert january.value("select count(*) from ops.loads") == attempts


@pytest.mark.parametrize(
    "arguments",
    [("001", "--waive", HOURS), ("000..001", *WHY), ("001", *WHY, "--dry-run"), ("001", *WHY[:3], " ")],
    ids=" ".join,
)
def test_a_waiver_is_for_one_month_and_says_why(january: Streamflow, over: Path, arguments: tuple[str, ...]) -> None:
    assert january("ingest", *arguments, "--data-dir", over).code == 2


def test_a_waiver_of_what_cannot_be_restated_leaves_no_attempt(january: Streamflow, over: Path) -> None:
    result = january("ingest", "001", *WHY, "--restate", "--data-dir", over)
    assert result.code == 2
    assert "month 001 is not published: ingest it without --restate" in result.err
    assert january.value("select count(*) from ops.loads") == 1
    assert january.value("select count(*) from ops.waivers") == 0


@pytest.mark.long
def test_a_waiver_is_of_the_landed_load_and_of_no_other(january: Streamflow, months: Path, over: Path) -> None:
    """dbt by hand applies the waiver of the landed load only, whatever was waived before."""
    here = ("001", "--data-dir", over)
    before = january.state()
    january.ok("land", *here, *WHY)
    january.ok("land", *here, "--waive", SKIPS, *WHY[2:])
    for command in ("build", "run"):
        assert not january.dbt(command).success
        assert january.state() == before
    assert january.ok("check", *here, *WHY, "--json").json["waivers"][0]["audit_name"] == HOURS
    january.dbt("run")
    assert january.state() == before

    january.ok("land", *here, *WHY)
    for arguments in (("build", "--select", "gate+"), ("--warn-error", "build")):
        assert not january.dbt(*arguments).success
        assert january.state() == before
    built = january.dbt("build")
    assert built.success
    assert statuses(built)[HOURS] == "warn"
    assert published(january) == ["2024-01-31", "2024-02-29"]


def test_a_waiver_is_told_of_with_the_month_that_it_let_through(january: Streamflow, over: Path) -> None:
    """Not with an attempt that audits nothing: one that finishes the month, or finds nothing to do."""
    here = ("001", "--data-dir", over, "--json")
    january.ok("land", *here[:-1], *WHY[:3], "line one\nmonth 009 published")
    january.dbt("build", "--exclude", "path:models/production+")
    assert published(january) == ["2024-01-31"]
    assert f"streamflow ingest 001 --data-dir {over} with --waive, or " in january.ok("status").out
    finished = january.ok("ingest", *here, "--waive", SKIPS, "--reason", "another").json
    nothing_to_do = january.ok("ingest", *here, "--waive", SKIPS, "--reason", "another").json
    assert (finished["state"], nothing_to_do["state"]) == ("published", "unchanged")
    for told in (finished, nothing_to_do):
        assert [waiver["audit_name"] for waiver in told["waivers"]] == [HOURS]
        assert [audit["audit_name"] for audit in told["audits"] if audit["status"] == "warn"] == [HOURS]
    for command in (("ingest", *here[:-1]), ("status",)):
        assert "line one\\nmonth 009 published" in january.ok(*command).out


def test_status_names_the_command_that_goes_on_under_the_waiver(january: Streamflow, over: Path) -> None:
    """Of a month that was begun, of a restatement that was cut off, and of a month that another one displaced."""
    here, place = ("001", "--data-dir", over), f"--data-dir {over} with"
    with last_history_fails(january, "labels_2024_02_29"):
        assert january("ingest", *here, *WHY).code == 3
    assert f"streamflow ingest 001 {place} --waive, or streamflow dbt build; or give it up" in january.ok("status").out
    january.ok("ingest", *here, *WHY)

    set_value(over / "month_001" / "usage_agg_30d.csv", 4, "watch_hours_30d", "801")
    load = january.value("select max(load_id) from ops.loads") + 1
    with last_history_fails(january, f"usage_agg_30d_2024_02_29_load_{load}"):
        assert january("ingest", *here, "--restate", *WHY).code == 3
    assert f": streamflow ingest 001 {place} --restate --waive" in january.ok("status").out
    january.ok("ingest", *here, "--restate", *WHY)

    january.ok("land", "002", *here[1:], *WHY)
    january.ok("check", *here, *WHY)
    assert f"streamflow land 002 {place} --waive" in january.ok("status").out
    january.ok("verify")
