"""Keeps the code that Jinja compiles of dbt's templates: compiling takes a seventh of the time of a small month."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loader.project import project

BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def templates_kept() -> Iterator[None]:
    """Inside, Jinja compiles a template of dbt only if `templates` in dbt's target folder lacks its code.

    Does nothing if that folder cannot be made, or if others can write to it, as the code in it runs.
    """
    from dbt_common.clients.jinja import MacroFuzzEnvironment

    compile_always = MacroFuzzEnvironment.compile
    folder = Path(project().dbt, os.environ.get("DBT_TARGET_PATH") or "target", "templates")
    if _is_ours(folder):
        MacroFuzzEnvironment.compile = _compile_once(compile_always, folder)
    try:
        yield
    finally:
        MacroFuzzEnvironment.compile = compile_always


def _is_ours(folder: Path) -> bool:
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & BY_OTHERS


def _compile_once(compile_always: Any, folder: Path) -> Any:
    import jinja2
    from dbt.version import __version__ as dbt_version
    from dbt_common.__about__ import version as dbt_common_version

    class Kept(jinja2.FileSystemBytecodeCache):
        def load_bytecode(self, bucket: Any) -> None:
            try:
                super().load_bytecode(bucket)
            except Exception:  # the file is damaged, or cannot be read
                bucket.reset()

    kept = Kept(str(folder), "%s.bin")

    def compile_once(environment: Any, source: Any, *names: Any, **options: Any) -> Any:
        # text without Jinja may be a password in profiles.yml; dbt parses with undefined names that compile differently
        is_plain = not isinstance(source, str) or "{" not in source
        if is_plain or names or options or environment.undefined is not jinja2.Undefined:
            return compile_always(environment, source, *names, **options)
        depends_on = (dbt_version, dbt_common_version, jinja2.__version__, type(environment).__name__, source)
        bucket = kept.get_bucket(environment, repr(depends_on), None, source)
        if bucket.code is None:
            bucket.code = compile_always(environment, source)
            with contextlib.suppress(OSError):
                kept.set_bucket(bucket)
        return bucket.code

    return compile_once
