"""Writes docs/cli.md from the text of --help: make docs-reference."""

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

Written by `make docs-reference` from `--help`. Results go to stdout, the rest to stderr. With `--json`, which all but
`dbt` and `db psql` take, the result, or `{"error": ..., "exit_code": ...}`, is one JSON document. The ledger is the
schema `ops`.

## Exit codes

In parentheses is what `loader.api` raises.

- 0: Done, or nothing to do.
@CODES@

Ctrl-C ends a command with 130, SIGTERM with 143. make ends with 2 on any error: let scripts call `streamflow`.
"""


def commands(command: Any, path: str = "streamflow") -> Iterator[tuple[str, Any]]:
    """Yield each visible command with its full name; groups are left out."""
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
    codes = "\n".join(f"- {way.exit_code}: {_plain(way.__doc__)} (`{way.__name__}`)" for way in ways)
    introduction = INTRODUCTION.replace("@CODES@", codes)
    explained: dict[tuple[str, str], str] = {}
    parts, group = [introduction], None
    for name, command in commands(typer.main.get_command(app)):
        panel = getattr(command, "rich_help_panel", None)
        if isinstance(panel, str) and panel != group:
            group = panel
            parts.append(f"## {group}\n")
        parts.append(section(name, command, explained, level=3 if group else 2))
    return "\n".join(parts)


def section(name: str, command: Any, explained: dict[tuple[str, str], str], level: int) -> str:
    """One command: its description, then its parameters; those with the same explanation share a line.

    An explanation that an earlier command gave is not repeated: `explained` maps it to that command.
    """
    lines: dict[str, list[str]] = {}
    for parameter in command.params:
        if "--json" in parameter.opts or getattr(parameter, "hidden", False):
            continue
        option, text = f"`{_name(parameter)}`", _explained(parameter)
        before = explained.setdefault((option, text), name)
        lines.setdefault(text if before == name else f"as for `{before}`.", []).append(option)
    listed = [f"- {', '.join(options)}: {text}" for text, options in lines.items()]
    heading = f"{'#' * level} {name.removeprefix('streamflow ')}"
    return "\n".join([heading, "", _plain(command.help), "", *([*listed, ""] if listed else [])])


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper() if parameter.required else f"[{parameter.name.upper()}]"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def _explained(parameter: Any) -> str:
    text = _plain(getattr(parameter, "help", None)).replace("\n", " ")
    given = parameter.default
    default = given and isinstance(given, str | int) and not isinstance(given, bool)
    return f"{text} Default: {given}." if default else text


def _plain(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\f", "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
