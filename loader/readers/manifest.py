"""The manifest: one line per link of the chain, in a file that nobody who can write to the database can change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from loader.errors import WrongUsage
from loader.ledger.chain import Link
from loader.readers.verification import Verdict

HEAD = "# streamflow verify --manifest: what was published. Keep it where nobody who can write to the database can.\n"

CUT_OFF = re.compile(r"\d+( [0-9a-f]{0,63})?")
"""What a full disk leaves of a line: the whole line follows, unless nothing does yet."""


def compare(path: Path, links: Sequence[Link]) -> Iterator[Verdict]:
    """One verdict: the first line that differs from the chain (later hashes depend on it), or that all lines match."""
    hashes = {str(link.link): link.sha256 for link in links}
    noted = _noted(path)
    for place, number, sha256, what in noted:
        if not (hashes.get(number) or "").startswith(sha256):
            finding = f"line {place} of {path} does not match the ledger ({what}): the ledger has "
            finding += "another entry there" if number in hashes else "no such entry"
            yield Verdict("manifest", None, len(noted), False, finding)
            return
    if noted:
        yield Verdict("manifest", None, len(noted), True, f"every line of {path} matches the ledger")


def extend(path: Path, links: Sequence[Link]) -> list[str]:
    """Append the links that the manifest lacks, and return their lines."""
    noted = {number for _, number, sha256, _ in _noted(path) if len(sha256) == 64}
    new = [link.line for link in links if str(link.link) not in noted]
    if new:
        there = path.read_bytes() if path.exists() else b""
        head = "" if there.endswith(b"\n") else "\n" if there else HEAD
        with path.open("a", encoding="utf-8") as stream:
            stream.write(head + "".join(f"{text}\n" for text in new))
    return new


def _noted(path: Path) -> list[tuple[int, str, str, str]]:
    """Per entry: its line in the file, link number, hash and description. Empty if there is no file yet.

    The hash of the last line may have been cut off.
    """
    if not path.exists():
        return []
    found: list[tuple[int, str, str, str]] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for place, (text, after) in enumerate(zip(lines, [*lines, ""][1:], strict=True), 1):
        was_cut = CUT_OFF.fullmatch(text) is not None
        if text.strip() and not text.startswith("#") and not (was_cut and after.startswith(text)):
            number, sha256, what, *_ = [*text.removeprefix("manifest: ").split(maxsplit=2), "", "", ""]
            if not (was_cut and place == len(lines)) and (not number.isdigit() or len(sha256) != 64):
                raise WrongUsage(f"{path}:{place} is not a line of a manifest: is it the file that --manifest wrote?")
            found.append((place, number, sha256, what))
    return found
