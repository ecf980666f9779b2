"""The code that Jinja compiles of dbt's templates is kept in dbt's target folder, and never in the way."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loader.pipeline.kept_templates import templates_kept
from tests.conftest import Streamflow

SOURCE = "{% macro twice(x) %}{{ x + x }}{% endmacro %}{{ dbt_macro__twice(21) }}"


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Renders a template as dbt does, each time as a new run."""
    from dbt_common.clients.jinja import get_template

    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path))

    def render(source: str = SOURCE, **how: bool) -> str:
        with templates_kept():
            return str(get_template(source, {}, **how).render({}))

    return render


@pytest.fixture
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, to compile a template is an error; text without Jinja is compiled always."""
    from dbt_common.clients.jinja import MacroFuzzEnvironment, template_cache

    compile_always = MacroFuzzEnvironment.compile

    def refuse(environment: Any, source: str) -> Any:
        assert "{" not in source, "compiled again"
        return compile_always(environment, source)

    def begin() -> None:
        template_cache.clear()
        monkeypatch.setattr(MacroFuzzEnvironment, "compile", refuse)

    return begin


def test_a_template_is_compiled_once(rendered: Callable[..., str], no_compiling: Callable[[], None]) -> None:
    assert rendered() == "42"
    assert rendered("{{ 2 + 3 }}", native=True) == "5"
    no_compiling()
    assert rendered() == "42"
    assert rendered("{{ 2 + 3 }}", native=True) == "5"
    with pytest.raises(Exception, match="compiled again"):
        rendered("{{ 2 + 3 }}")  # as text


def test_a_mistake_that_parsing_lets_pass_is_found_in_a_run(rendered: Callable[..., str]) -> None:
    source = "{{ 'abc'.foo.bar }}"
    assert rendered(source, capture_macros=True) == ""
    with pytest.raises(Exception, match="has no attribute 'foo'"):
        rendered(source)


def test_an_upgrade_compiles_anew(
    rendered: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("jinja2.__version__", "dbt.version.__version__", "dbt_common.__about__.version"):
        rendered()
        before = len([*(tmp_path / "templates").iterdir()])
        monkeypatch.setattr(name, "99.9.9")
        assert rendered() == "42"
        assert len([*(tmp_path / "templates").iterdir()]) == before + 1, name


@pytest.mark.parametrize("length", [0, 10, 20, 40, 200])
def test_damaged_code_is_made_again(
    rendered: Callable[..., str], no_compiling: Callable[[], None], tmp_path: Path, length: int
) -> None:
    rendered()
    [kept] = (tmp_path / "templates").iterdir()
    kept.write_bytes(kept.read_bytes()[:length])
    assert rendered() == "42"
    no_compiling()
    assert rendered() == "42"


def test_a_disk_that_fails_is_not_in_the_way(rendered: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from jinja2 import FileSystemBytecodeCache

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for name in ("load_bytecode", "dump_bytecode"):
        monkeypatch.setattr(FileSystemBytecodeCache, name, fail)
        assert rendered() == "42"


def test_no_code_is_kept_where_others_could_change_it(rendered: Callable[..., str], tmp_path: Path) -> None:
    folder, before = tmp_path / "templates", os.umask(0)
    try:
        assert rendered() == "42"
    finally:
        os.umask(before)
    assert len([*folder.iterdir()]) == 1, "others cannot"
    shutil.rmtree(folder)
    folder.mkdir()
    folder.chmod(0o777)
    assert rendered() == "42"
    assert not [*folder.iterdir()]
    folder.rmdir()
    folder.touch()
    assert rendered() == "42"


def test_a_password_in_the_profile_is_not_kept(rendered: Callable[..., str], tmp_path: Path) -> None:
    assert rendered("a literal password", native=True) == "a literal password"
    assert not [*(tmp_path / "templates").iterdir()]


def test_an_ingest_compiles_nothing_that_an_earlier_one_compiled(
    january: Streamflow, months: Path, no_compiling: Callable[[], None]
) -> None:
    from dbt_common.clients.jinja import template_cache

    template_cache.clear()  # what this process has compiled before
    january.ok("ingest", "001", "--data-dir", months)
    no_compiling()
    january.ok("ingest", "002", "--data-dir", months)


@pytest.mark.long
def test_months_go_in_after_kept_code_was_cut_off_and_after_it_was_deleted(january: Streamflow, months: Path) -> None:
    """As a crash of the machine may leave it, and `dbt clean`."""
    from dbt_common.clients.jinja import template_cache

    folder = Path(january.environment["DBT_TARGET_PATH"]) / "templates"
    for kept in folder.iterdir():
        kept.write_bytes(kept.read_bytes()[:20])
    template_cache.clear()
    january.ok("ingest", "001", "--data-dir", months)
    shutil.rmtree(folder)
    template_cache.clear()
    january.ok("ingest", "002", "--data-dir", months)
    january.ok("verify")
