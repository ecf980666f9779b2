"""Runs the command line of another folder in a process that has imported dbt before, which takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["dbt.adapters.postgres", "dbt.cli.main"])


def run_forked(
    code: Path, folder: Path, environment: Mapping[str, str], arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run `streamflow ARGUMENTS` in a folder, with the loader in `code`; returns how it ended and what it said."""
    with tempfile.TemporaryDirectory() as said:
        outputs = Path(said, "stdout"), Path(said, "stderr")
        process = FORKS.Process(target=_run, args=(code, folder, dict(environment), arguments, outputs))
        process.start()
        process.join()
        out, err = (path.read_text(encoding="utf-8") for path in outputs)
    return subprocess.CompletedProcess(arguments, process.exitcode or 0, out, err)


def _run(
    code: Path, folder: Path, environment: dict[str, str], arguments: Sequence[str], outputs: Sequence[Path]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    sys.path.insert(0, str(code))
    sys.argv = ["streamflow", *arguments]
    from loader.cli.program import program

    program()
