"""The program `streamflow`."""

from __future__ import annotations

import atexit
import os
import sys

from loader.cli.main import main


def program() -> None:
    """Run the command line. Ends without taking its objects apart one by one, which takes half a second with dbt's."""
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
