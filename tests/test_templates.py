"""The code that Jinja compiles of dbt's templates is kept in dbt's target folder, and never in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loader.pipeline.kept_templates import templates_kept
from tests.conftest import Streamflow

SOURCE = "{% macro twice(x) %}{{ x + x }}{% endmacro %}{{ dbt_macro__twice(21) }}"


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], str]:
    """Renders a template as dbt does, each time as a new run."""
    from dbt_common.clients.jinja import get_template

    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path))

    def render() -> str:
        with templates_kept():
            return str(get_template(SOURCE, {}).render({}))

    return render


def _compile_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from dbt_common.clients.jinja import MacroFuzzEnvironment

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("compiled again")

    monkeypatch.setattr(MacroFuzzEnvironment, "_generate", refuse)


def test_a_template_is_compiled_once(rendered: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert rendered() == "42"
    _compile_no_more(monkeypatch)
    assert rendered() == "42"


def test_kept_code_that_cannot_be_read_is_made_again(
    rendered: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rendered()
    for spoilt in (b"", b"no code"):
        [kept] = (tmp_path / "templates").iterdir()
        kept.write_bytes(spoilt)
        assert rendered() == "42"
    _compile_no_more(monkeypatch)
    assert rendered() == "42"


def test_without_a_folder_to_keep_code_in_templates_work(rendered: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "templates").touch()
    assert rendered() == "42"


def test_an_ingest_compiles_nothing_that_an_earlier_one_compiled(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    january.ok("ingest", "001", "--data-dir", months)
    _compile_no_more(monkeypatch)
    january.ok("ingest", "002", "--data-dir", months)
