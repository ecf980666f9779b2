"""Help that names what an option takes, and says nothing of Python's types."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def _named(parameters: list[Any]) -> list[Any]:
    """The parameters, shown with their metavar only; flags and arguments, whose name says all, with none."""
    for parameter in parameters:
        silent = parameter.param_type_name == "argument" or parameter.is_flag
        metavar = "" if silent else parameter.metavar or parameter.name.upper()
        parameter.display_type_rich = lambda ctx, metavar=metavar: metavar  # noqa: ARG005
    return parameters


class Command(TyperCommand):
    """A command with plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As of typer, but for what help shows of types."""
        return _named(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands with plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As of typer, but for what help shows of types."""
        return _named(super().get_params(ctx))
