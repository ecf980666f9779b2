"""Makes README.md the front page of the site. Its links to files outside docs/ become plain text there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

WITHOUT_MENU = "---\nhide: [navigation]\n---\n"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^):\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the front page to the files of the site."""
    readme = Path(config["config_file_path"]).parent / "README.md"
    text = LINK.sub(_from_docs, readme.read_text(encoding="utf-8"))
    files.append(File.generated(config, "index.md", content=WITHOUT_MENU + text))
    return files


def _from_docs(link: re.Match[str]) -> str:
    picture, text, target = link.groups()
    if target.startswith("docs/"):
        return f"{picture}[{text}]({target.removeprefix('docs/')})"
    return text
