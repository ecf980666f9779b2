"""docs/tutorial.md, block after block, on an empty database."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, Streamflow

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("default")
def test_the_tutorial_works(streamflow: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for language, text in BLOCK.findall((REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")):
        if language == "python":
            exec(text, names)  # noqa: S102
        else:
            for line in text.splitlines():
                streamflow.ok(*shlex.split(line)[1:])
