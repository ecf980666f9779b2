"""`doctor`: what may keep streamflow from working here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False) -> None:
    """Look for what may keep streamflow from working here; change nothing, start nothing. Exit 3 on a problem."""
    from loader.cli import terminal
    from loader.readers.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            remedy = f": {finding.remedy}" if finding.remedy else ""
            level = f"[{COLOURS[finding.level]}]{finding.level:<8}[/]"
            terminal.out.print(f"{level} {escape(f'{finding.check}: {finding.message}{remedy}')}", soft_wrap=True)
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        terminal.print_json({"problems": problems, "findings": [asdict(finding) for finding in findings]})
    elif problems:
        terminal.out.print(f"[bold red]{problems} problem{'s' if problems > 1 else ''}[/]")
    else:
        terminal.out.print("no problem found")
    if problems:
        raise typer.Exit(3)
