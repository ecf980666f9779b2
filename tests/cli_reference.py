"""Writes docs/cli.md from the command line itself: make docs-reference."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from loader import errors
from loader.cli.main import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
INTRODUCTION = """# Commands

Written by `make docs-reference` from `--help`. Results go to stdout, the rest to stderr. Every command but `dbt` and
`db psql` takes `--json`: its result, or `{"error": ..., "exit_code": ...}`, is then one JSON document.

## Exit codes

| code | meaning |
|---|---|
| 0 | Done, or nothing to do. |
@CODES@

Ctrl-C ends a command with 130, SIGTERM with 143. make turns every code into its own 2: let scripts call `streamflow`.
"""


def commands(command: Any, path: str = "streamflow") -> Iterator[tuple[str, Any]]:
    """Every command that is no group, with its full name."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from commands(child, f"{path} {name}")


def page() -> str:
    """The whole page."""
    ways = (errors.DataRefused, errors.WrongUsage, errors.SurroundingsFailed, errors.NotDelivered, errors.ModelsFailed)
    codes = "\n".join(f"| {way.exit_code} | {_plain(way.__doc__)} |" for way in ways)
    introduction = INTRODUCTION.replace("@CODES@", codes)
    explained: dict[str, str] = {}
    sections = (section(*item, explained) for item in commands(typer.main.get_command(app)))
    return "\n".join([introduction, *sections])


def section(name: str, command: Any, explained: dict[str, str]) -> str:
    """One command: its description, then what it takes; what another command explained, in one line."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    options = {f"`{_name(parameter)}`: {_explained(parameter)}": parameter for parameter in shown}
    lines = [f"- {text}" for text, p in options.items() if "--json" not in p.opts and text not in explained]
    for other in dict.fromkeys(explained[text] for text in options if text in explained):
        alike = ", ".join(text.partition(":")[0] for text in options if explained.get(text) == other)
        lines.append(f"- {alike}: as for `{other}`.")
    explained.update({text: name for text, p in options.items() if text not in explained and "--json" not in p.opts})
    heading = name.removeprefix("streamflow ")
    return "\n".join([f"## {heading}", "", _plain(command.help), "", *([*lines, ""] if lines else [])])


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper() if parameter.required else f"[{parameter.name.upper()}]"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.name.upper()}"


def _explained(parameter: Any) -> str:
    text = _plain(getattr(parameter, "help", None)).replace("\n", " ")
    given = parameter.default
    default = isinstance(given, str | int) and not isinstance(given, bool) and given != ""
    return f"{text} Default: {given}." if default else text


def _plain(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\f", "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
