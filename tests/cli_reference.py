"""Writes docs/cli.md from the command line itself: make docs-cli."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from loader.cli.main import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
INTRODUCTION = """# Commands

Written by `make docs-cli` from the program's own `--help`; do not edit it by hand. The exit codes of all of them:
0 done, 1 the data was refused, 2 wrong usage, 3 the surroundings failed, 4 the month is not delivered yet, 5 the month
is published and a model or test that is built on it failed. Before the command stand `--project-dir DIR`, where the
project is neither the current folder nor one above it, and `--version`.
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
    return "\n".join([INTRODUCTION, *(section(*item) for item in commands(typer.main.get_command(app)))])


def section(name: str, command: Any) -> str:
    """One command: its description, then a row per argument and option."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = "".join(f" {_name(parameter)}" for parameter in shown if parameter.param_type_name == "argument")
    more = " ..." if command.context_settings.get("allow_extra_args") else ""
    options = " [options]" if any(parameter.param_type_name == "option" for parameter in shown) else ""
    lines = [f"## {name}", "", f"```text\n{name}{arguments}{options}{more}\n```", "", _plain(command.help)]
    if shown:
        lines += ["", "| | | default |", "| --- | --- | --- |"]
        lines += [f"| `{_name(p)}` | {_cell(getattr(p, 'help', None))} | {_default(p)} |" for p in shown]
    return "\n".join([*lines, ""])


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper() if parameter.required else f"[{parameter.name.upper()}]"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    given = parameter.default
    return f"`{given}`" if given and isinstance(given, str | int) and not isinstance(given, bool) else ""


def _cell(text: str | None) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")


def _plain(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\f", "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
