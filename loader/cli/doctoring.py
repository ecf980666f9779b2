"""`doctor`: what may keep streamflow from working here."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.markup import escape

from loader.cli.looking import Json

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(as_json: Json = False) -> None:
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
    else:
        terminal.out.print(f"problems: {problems}" if problems else "no problem found")
    if problems:
        raise typer.Exit(3)
