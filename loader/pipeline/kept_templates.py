"""Keeps the code that Jinja compiles of dbt's templates: compiling takes a fifth of the time of a small month."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loader.project import project


@contextlib.contextmanager
def templates_kept() -> Iterator[None]:
    """Inside, Jinja compiles a template of dbt only if dbt's target folder does not have its code from an earlier run.

    Does nothing if that folder cannot be written to.
    """
    import jinja2
    from dbt.version import __version__ as dbt_version
    from dbt_common.clients.jinja import MacroFuzzEnvironment

    folder = Path(project().dbt, os.environ.get("DBT_TARGET_PATH") or "target", "templates")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        yield
        return
    kept = jinja2.FileSystemBytecodeCache(str(folder), "%s.bin")
    compile_always = MacroFuzzEnvironment.compile

    def compile_once(environment: Any, source: Any, *names: Any, **options: Any) -> Any:
        if names or options or not isinstance(source, str):
            return compile_always(environment, source, *names, **options)
        depends_on = (dbt_version, jinja2.__version__, type(environment).__name__, source)
        bucket = kept.get_bucket(environment, repr(depends_on), None, source)
        if bucket.code is None:
            bucket.code = compile_always(environment, source)
            with contextlib.suppress(OSError):
                kept.set_bucket(bucket)
        return bucket.code

    MacroFuzzEnvironment.compile = compile_once
    try:
        yield
    finally:
        MacroFuzzEnvironment.compile = compile_always
