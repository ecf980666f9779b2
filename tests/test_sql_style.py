"""The SQL that the models compile to is as clean as if it had been written by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TABLES, Streamflow

EXCLUDED = (
    "structure.column_order",
    "references.qualification",
    "references.quoting",  # dbt quotes every relation and the macros every column
    "layout.end_of_file",
    "layout.start_of_file",  # lines that set a variable compile to empty ones
    "layout.newlines",
)


@pytest.mark.long  # `make lint` checks the uncompiled models
def test_compiled_models_are_lint_clean(streamflow: Streamflow, months: Path) -> None:
    for month in ("000", "002", "001", "003"):
        streamflow.ok("ingest", month, "--data-dir", months)
    streamflow.connection.execute("update ops.history set merged_at = null")
    assert streamflow.dbt("compile").success
    compiled = Path(streamflow.environment["DBT_TARGET_PATH"]) / "compiled" / "customers" / "models"
    for model in ("history/users_snapshots.sql", "production/users.sql"):
        assert "date '2024-" in (compiled / model).read_text()

    program = str(Path(sys.executable).with_name("sqlfluff"))
    options = ["--templater", "raw", "--exclude-rules", ",".join(EXCLUDED), "--disable-progress-bar"]
    models = [str(path) for folder in ("history", "production") for path in (compiled / folder).glob("*.sql")]
    assert len(models) == 2 * len(TABLES)
    command = [program, "lint", "--config", str(REPOSITORY / ".sqlfluff"), *options, *models]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
