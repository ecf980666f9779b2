"""The program `streamflow`, which begins to import dbt in a process of its own where the command will need it."""

from __future__ import annotations

import atexit
import os
import sys

NEED_DBT = {"ingest", "check"}
DO_NOTHING = {"-h", "--help", "--dry-run"}


def program() -> None:
    """Run the command line. Ends without taking its objects apart one by one, which takes half a second with dbt's."""
    if sys.argv[1:2] and sys.argv[1] in NEED_DBT and not DO_NOTHING.intersection(sys.argv):
        from loader.pipeline import worker

        worker.start()
    from loader.cli.main import main

    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # whoever read the output has gone
        code = code or 1
    os._exit(code)
