"""What is told of a run while it goes on; this one shows nothing, terminal.py has those that do."""

from __future__ import annotations


class Progress:
    """Told of steps, bytes and dbt nodes as they pass. Called from several threads."""

    def month(self, label: str) -> None:
        """The month that all that follows is about, until another is named."""

    def step(self, name: str) -> None:
        """A step begins, and with it the one before has ended."""

    def files(self, sizes: dict[str, int]) -> None:
        """The files that will be copied, and their bytes."""

    def advance(self, file: str, size: int) -> None:
        """So many more bytes of a file have gone in."""

    def node(self, kind: str) -> None:
        """An audit (kind `test`) or a table (kind `model`) is done."""

    def tell(self, message: str) -> None:
        """Something that the person at the terminal should know."""

    def close(self) -> None:
        """Nothing more will be told."""
