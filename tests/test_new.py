"""A user's project: made from CSV files with the wheel alone, in a folder outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader.scaffold.propose import column_names
from tests.conftest import REPOSITORY, Streamflow
from tests.forked import run_forked

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install streamflow-*.whl` puts into site-packages."""
    built, folder, source = (tmp_path_factory.mktemp(name) for name in ("wheel", "site-packages", "source"))
    for path in ("loader", "dbt_project", "profiles", "seeds_data"):
        ignore = shutil.ignore_patterns("__pycache__", "dbt_packages", "target", "logs")
        shutil.copytree(REPOSITORY / path, source / path, ignore=ignore)
    for path in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / path, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", str(built), str(source)], check=True)
    [wheel] = built.glob("streamflow-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def run(installed: Path, streamflow: Streamflow, tmp_path: Path) -> Run:
    """Runs the installed program in a folder, on the test's database."""

    def run(folder: Path, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **streamflow.environment}
        for name in ("DBT_TARGET_PATH", "DBT_PROFILES_DIR", "STREAMFLOW_HOME"):
            environment.pop(name, None)
        result = run_forked(installed, folder, environment, [*map(str, arguments)])
        assert result.returncode == code, result
        return result

    return run


def write(folder: Path, **files: str) -> Path:
    """Write CSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def declared(project: Path) -> dict[str, dict[str, Any]]:
    """The tables of a project's contract, by name."""
    document = yaml.safe_load((project / "models" / "staging" / "_sources.yml").read_text())
    return {table["name"]: table for table in document["sources"][0]["tables"]}


@pytest.mark.long
def test_the_shipped_example_works_where_the_wheel_is_all_there_is(
    run: Run, streamflow: Streamflow, tmp_path: Path
) -> None:
    run(tmp_path, "new", "shop")
    shop = tmp_path / "shop"
    run(shop, "ingest", "000")
    run(shop / "models" / "history", "dbt", "build")
    assert streamflow.value("select count(*) from published_months") == 1
    assert "1 published" in run(tmp_path, "--project-dir", "shop", "doctor").stdout
    assert (shop / ".streamflow" / "logs" / "dbt.log").is_file(), "what is written stays in the project"


@pytest.mark.long
def test_a_project_follows_the_program_to_where_it_is_installed(run: Run, installed: Path, tmp_path: Path) -> None:
    run(tmp_path, "new", "shop", "--from", write(tmp_path / "month_000", users="user_id\n1\n"))
    link = tmp_path / "shop" / "dbt_packages" / "streamflow"
    assert link.resolve() == installed / "loader" / "dbt_project" / "streamflow"
    link.unlink()
    link.symlink_to(tmp_path / "of a program that is gone")
    run(tmp_path / "shop", "dbt", "parse")
    assert link.resolve() == installed / "loader" / "dbt_project" / "streamflow"


def test_types_keys_and_audits_are_proposed(run: Run, tmp_path: Path) -> None:
    colours, few = ["o'er", "red"], {1: "n.a.", 2: '"1,234.50"'}
    rows = [
        f"{n},{n + 6:02},{n}.50,2024-01-{n:02},{'yes' if n % 2 else 'no'},{n % 2},{-n},{colours[n % 2]},,{2**40 + n}"
        f",{few.get(n, n)},NO,{2024}-03"
        for n in range(1, 31)
    ]
    header = "Order No,code,price,day,paid,flag,delta,colour,empty,big,fee,country,period"
    folder = write(tmp_path / "2024-03", orders="\n".join([header, *rows]) + "\n")
    lines = [f"K{n};{'Müller' if n % 2 else 'Meier'};{n % 28 + 1:02}.03.2024;{n},50" for n in range(30)]
    (folder / "kunden.csv").write_bytes(
        "\n".join(["Kunde;Name;Seit;Betrag", *lines, "Summe;;;450,00"]).encode("latin-1")
    )
    said = run(tmp_path, "new", "shop", "--from", folder).stdout
    for note in (
        "kunden.csv is not UTF-8, so it is declared as windows-1252: see that letters like \u00e9 are right",
        "kunden.csv: a line of totals, which `ingest` will refuse. Export the file without it",
        "kunden.csv, Seit: a date in another order or form, so it is declared as text. Export dates as 2024-01-31",
        "kunden.csv, Betrag: a comma where the decimal point belongs, so it is declared as text. Export numbers with",
        'orders.csv, fee: "1,234.50", "n.a." are not numbers, 28 others are, so it is declared as text. Correct the',
    ):
        assert note in said
    assert "orders.csv, code" not in said, "a number may begin with zeros, and is a text then"
    contract = declared(tmp_path / "shop")
    assert contract["kunden"]["config"]["meta"] == {
        "primary_key": "kunde",
        "customers": True,
        "delimiter": ";",
        "encoding": "windows-1252",
    }
    assert [next(iter(audit)) for audit in contract["kunden"]["columns"][1]["data_tests"]] == [
        "dbt_expectations.expect_column_values_to_be_in_set"
    ]
    orders = contract["orders"]
    assert {column["name"]: column["data_type"] for column in orders["columns"]} == {
        "order_no": "int", "code": "text", "price": "numeric", "day": "date", "paid": "boolean", "flag": "int",
        "delta": "int", "colour": "text", "empty": "text", "big": "bigint", "fee": "text", "country": "text",
        "period": "text",
    }  # fmt: skip
    assert orders["config"]["meta"] == {"primary_key": "order_no"}
    meta = {column["name"]: column.get("config", {}).get("meta") for column in orders["columns"]}
    assert meta["order_no"] == {"aliases": ["Order No"]}
    assert meta["empty"] == {"optional": True}
    audits = {
        next(iter(audit.values()))["name"]: next(iter(audit.values()))
        for column in orders["columns"] for audit in column.get("data_tests", [])
    }  # fmt: skip
    assert audits["audit_orders_colour_is_known_value"]["arguments"]["value_set"] == ["o''er", "red"]
    assert {"audit_orders_price_not_negative", "audit_orders_order_no_unique"} <= audits.keys()
    assert "audit_orders_delta_not_negative" not in audits
    assert not {"audit_orders_period_is_known_value", "audit_orders_country_is_known_value"} & audits.keys()
    assert "STREAMFLOW_FIRST_MONTH=2024-03" in (tmp_path / "shop" / ".env").read_text().splitlines()


def test_tables_of_which_nobody_can_be_forgotten_are_named(run: Run, tmp_path: Path) -> None:
    """While their keys can still be changed."""
    folder = write(
        tmp_path / "2024-03",
        clients="client_id,name\n" + "".join(f"{n},name {n}\n" for n in range(100, 130)),
        orders="order_id,client_id\n" + "".join(f"{n},{n % 30 + 100}\n" for n in range(5000, 5060)),
        items="order_id,item\n" + "".join(f"{n % 60 + 5000},{'ab'[n // 60]}\n" for n in range(120)),
    )
    assert (
        "note: `streamflow forget` is refused for these tables, as rows of items name a row of orders but no customer:"
        " add client_id to the key of orders" in run(tmp_path, "new", "shop", "--from", folder).stdout
    )


def test_titles_that_differ_by_case_or_blanks_are_two_columns() -> None:
    """A title that is a plain name keeps it; the other title gets a number, so that no name occurs twice."""
    assert column_names(["id", "Name", "name"]) == ["id", "name_2", "name"]
    assert column_names(["Order No", "order_no_2", "order_no"]) == ["order_no_3", "order_no_2", "order_no"]


def test_ids_months_in_names_and_quotes_around_nothing(run: Run, tmp_path: Path) -> None:
    """Each table has its own `id`; `typed` is also the name of a CTE in the query that examines a column."""
    folder = write(
        tmp_path / "2024-01",
        customers="id,name\n" + "".join(f"{n},c{n}\n" for n in range(1, 21)),
        orders="id,customer_id\n" + "".join(f"{n},{n % 20 + 1}\n" for n in range(1, 30)),
        items="id,order_id\n" + "".join(f"{n},{n % 29 + 1}\n" for n in range(1, 90)),
        typed="code,period\na,2024_100\nb,0x1F\n",
        published="number,item_count\n" + "".join(f"{n},1.5\n" for n in range(1, 30)),
        published_table_item="number,count\n" + "".join(f"{n},1.5\n" for n in range(100, 130)),
        **{"sims_2024-01": '"iccid","gone","n"\n"89490200001234567890","",""\n"89490200001234567891","","2"\n'},
    )
    run(tmp_path, "new", "no", "--from", folder)
    contract = declared(tmp_path / "no")
    assert {name: table["config"]["meta"] for name, table in contract.items()} == {
        "customers": {"primary_key": "id", "customers": True},
        "orders": {"primary_key": "id", "references": {"table": "customers", "columns": "customer_id"}},
        "items": {"primary_key": "id", "references": {"table": "orders", "columns": "order_id"}},
        "sims": {"primary_key": "iccid", "files": "sims_????-??.csv"},
        "typed": {"primary_key": "code"},
        "published_table": {"primary_key": "number", "files": "published.csv"},
        "published_table_item": {"primary_key": "number"},
    }
    counts = [contract[name]["columns"][1]["data_tests"] for name in ("published_table", "published_table_item")]
    assert [audit["dbt_expectations.expect_column_values_to_be_between"]["name"] for [audit] in counts] == [
        "audit_published_table_item_count_not_negative", "audit_published_table_item_count_not_negative_2"
    ]  # fmt: skip
    types = {column["name"]: column["data_type"] for name in ("sims", "typed") for column in contract[name]["columns"]}
    assert types == {"iccid": "text", "gone": "text", "n": "int", "code": "text", "period": "text"}
    assert contract["sims"]["columns"][1]["config"]["meta"] == {"optional": True}
    assert (tmp_path / "no" / "dbt_project.yml").read_text().startswith("name: no_project\n")


@pytest.mark.long
def test_a_second_project_leaves_the_database_of_the_first(run: Run, streamflow: Streamflow, tmp_path: Path) -> None:
    """It is refused before and after it lands nothing, and the first one goes on."""
    for name in ("clients", "devices"):
        files = {name: f"{name}_id,size\n" + "".join(f"{n},{n}.5\n" for n in range(100, 130))}
        for month in ("2024-01", "2024-02"):
            write(tmp_path / name / month, **files)
        run(tmp_path, "new", f"of_{name}", "--from", tmp_path / name / "2024-01")
    run(tmp_path / "of_clients", "ingest", "2024-01")
    before = streamflow.rows("select * from clients_snapshots order by 1")
    for command in ("check", "ingest", "land", "ingest"):
        refused = run(tmp_path / "of_devices", command, "2024-01", code=2)
        assert "months of clients, but of none of the tables declared here: it is another project" in refused.stderr
    assert streamflow.rows("select * from clients_snapshots order by 1") == before
    run(tmp_path / "of_clients", "ingest", "2024-02")
    run(tmp_path / "of_clients", "verify")


@pytest.mark.long
def test_customers_are_marked_where_more_tables_refer_to_a_lookup(run: Run, tmp_path: Path) -> None:
    countries = ("DE", "FR", "IT")
    by_country = {
        name: f"{name}_no,country_code\n" + "".join(f"{start + n},{countries[n % 3]}\n" for n in range(60))
        for name, start in (("shop", 100), ("depot", 300), ("route", 500))
    }
    folder = write(
        tmp_path / "2024-01",
        countries="code,tax\n" + "".join(f"{country},19\n" for country in countries),
        users="user_id,tax_class\n" + "".join(f"u{n},{n % 2}\n" for n in range(40)),
        bills="bill_no,user_id\n" + "".join(f"{900 + n},u{n % 40}\n" for n in range(70)),
        **by_country,
    )
    run(tmp_path, "new", "bank", "--from", folder)
    meta = {name: table["config"]["meta"] for name, table in declared(tmp_path / "bank").items()}
    assert [meta[name]["references"]["table"] for name in by_country] == ["countries"] * 3
    assert [name for name in meta if meta[name].get("customers")] == ["users"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3,4,5\n", "x.csv cannot be read: extra data after last expected column (x, line 3)"),
        ("a,\n1,2\n", "x.csv does not begin with a line of column names"),
        ("a,a\n1,2\n", "x.csv has a column twice in its header"),
        ("a,{{ 7 * 7 }}\n1,2\n", "which dbt would read as a template"),
        ("a,b\r1,2\r", "its lines end in CR alone"),
        (",".join(f"c{n}" for n in range(801)) + "\n", "has 801 columns, and a table 800 at most"),
        ("a,b\n1,2\n1,2\n", "no file with a key. x.csv: no column, and no two or three together, identify its rows"),
        ("a,b\n", "no file with a key. x.csv: it has no rows"),
    ],
)
def test_what_is_no_delivery_leaves_no_project(run: Run, tmp_path: Path, text: str, said: str) -> None:
    folder = write(tmp_path / "month_000", x=text)
    result = run(tmp_path, "new", "shop", "--from", folder, code=2 if "with a key" in said else 1)
    assert said in result.stderr
    assert not (tmp_path / "shop").exists()


def test_a_folder_that_is_no_project_is_named(run: Run, tmp_path: Path) -> None:
    said = run(tmp_path, "status", code=2).stderr
    assert f"{tmp_path} has no models/staging/_sources.yml" in said
    assert "streamflow new DIR" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "not empty" in run(tmp_path, "new", "full", code=2).stderr
    assert (tmp_path / "full" / "file").exists()


def month_of_a_shop(folder: Path, accounts: int, **header: str) -> Path:
    """A month of a user's tables: accounts, invoices with a key of two columns, and a lookup of countries.

    SQL reserves the word `user`.
    """
    numbers = range(1000, 1000 + accounts)
    account = header.get("account", "User,country,opened,churned")
    return write(
        folder,
        accounts="\n".join(
            [account, *(f"{n},{['DE', 'FR'][n % 2]},2023-01-{n % 28 + 1:02},{n % 5 == 0}" for n in numbers)]
        ),
        invoices="\n".join(
            [
                "User,invoice_no,amount,paid",
                *(f"{n},{k},{n * k % 97}.{k}0,{'yes' if n * k % 3 else 'no'}" for n in numbers for k in (1, 2, 3)),
            ]
        ),
        countries="code,tax_rate\nDE,19\nFR,20\n",
    )


def test_a_folder_that_ingest_takes_for_no_month_is_copied_under_a_name_that_it_takes(run: Run, tmp_path: Path) -> None:
    said = run(tmp_path, "new", "shop", "--from", write(tmp_path / "month_0001", users="user_id\n1\n")).stdout
    assert "month_0001 is not called month_NNN or YYYY-MM, so its files were copied to shop/exports/month_000" in said
    assert "has 000." in run(tmp_path / "shop", "ingest", code=2).stderr


@pytest.mark.long
def test_a_strangers_three_tables(run: Run, streamflow: Streamflow, tmp_path: Path) -> None:
    """From CSV files to published months, a changed declaration and a training set, by the documented commands."""
    exports, shop = tmp_path / "exports", tmp_path / "shop"
    first = month_of_a_shop(exports / "month_000", 40)
    guessed = run(tmp_path, "new", "shop", "--from", first, "--label", "accounts.churned").stdout
    assert "month_000 is taken as 2024-01: if it is another month, set STREAMFLOW_FIRST_MONTH in .env" in guessed
    contract = declared(shop)
    assert {name: table["config"]["meta"] for name, table in contract.items()} == {
        "accounts": {
            "primary_key": "user", "references": {"table": "countries", "columns": "country"}, "customers": True
        },
        "countries": {"primary_key": "code"},
        "invoices": {
            "primary_key": ["user", "invoice_no"], "references": "accounts"
        },
    }  # fmt: skip
    run(shop, "ingest", "000")

    month_of_a_shop(exports / "month_001", 44)
    run(shop, "ingest", "001")

    path = shop / "models" / "staging" / "_sources.yml"
    month_of_a_shop(exports / "month_002", 46, account="User,land,opened,churned")
    invoices = exports / "month_002" / "invoices.csv"
    invoices.write_text(invoices.read_text().replace("1003,2,", f"1003,{2**33},"))
    assert "land" in run(shop, "check", "002", code=1).stderr
    text = path.read_text()
    text = text.replace("- name: country\n", "- name: country\n            config: {meta: {aliases: [land]}}\n")
    number = "- name: invoice_no\n            data_type: int\n"
    assert number in text
    path.write_text(text.replace(number, number.replace("int", "bigint")))
    run(shop, "models", "invoices", "invoices_snapshots", "latest_invoices", "--overwrite")
    assert "streamflow migrate" in run(shop, "ingest", "002", code=2).stderr
    run(shop, "migrate")
    sound = path.read_text()
    path.write_text(sound.replace("[amount, ", "[amuont, ", 1))
    broken = run(shop, "ingest", "002", code=2).stderr
    assert 'audit_invoices_few_values_missing of invoices cannot be run: column "amuont" does not exist' in broken
    assert "let it fit the columns as they are declared now, or remove the audit" in broken
    own = shop / "tests" / "generic" / "near_limit.sql"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(
        "{% test near_limit(model) %} select * from {{ model }}"
        "{% if execute %}{{ exceptions.raise_compiler_error('no limit is set') }}{% endif %} {% endtest %}"
    )
    path.write_text(sound.replace("        data_tests:\n", "        data_tests:\n          - near_limit\n", 1))
    broken = run(shop, "ingest", "002", code=2).stderr
    assert "cannot be run: " in broken
    assert "no limit is set" in broken
    by_zero = "select 1 from (select count(*) as rows from {{ model }}) as counted where 1 / (rows * 0) > 1"
    own.write_text(f"{{% test near_limit(model) %}} {by_zero} {{% endtest %}}")
    refused = run(shop, "check", "002", code=1).stderr
    assert "the audit ended in an error: " in refused
    assert "division by zero" in refused
    own.unlink()
    path.write_text(sound)
    run(shop, "ingest", "002")
    run(shop, "verify")
    assert streamflow.value("select count(*) from latest.invoices") == 46 * 3 + 1
    assert streamflow.value("select count(*) from invoices_snapshots where as_of = '2024-01-31'") == 40 * 3
    assert str(2**33) in run(shop, "history", "1003").stdout
    report = json.loads(run(shop, "report", "002", "--json").stdout)
    assert "invoices" in Path(report["path"]).read_text()
    sets = run(shop, "training-set", "--as-of", "2024-01-31", "--label-as-of", "2024-03-31").stdout.splitlines()
    assert len(sets) == 1 + 40
    assert sets[0].endswith(",churned")
