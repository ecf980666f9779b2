"""docs/tutorial.md, block after block, on an empty database."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Streamflow

BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.long
def test_the_tutorial_works(streamflow: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python has its own process: scikit-learn in this one would slow every later run of dbt by seconds."""
    if find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed: it is in the extra tutorial")
    monkeypatch.chdir(tmp_path)
    program = said = ""
    for language, text in BLOCK.findall((REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")):
        if language == "python":
            program += text
            said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        elif language == "text":
            assert said == text
        else:
            for line in text.splitlines():
                streamflow.ok(*shlex.split(line)[1:])
