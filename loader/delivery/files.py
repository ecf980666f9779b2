"""The CSV files of a delivery as bytes, whatever they are wrapped in: plain, .gz, or members of month_NNN.zip."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

CHUNK = 1 << 20

UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""What reading a damaged, encrypted or forbidden file raises."""


def unreadable(error: BaseException) -> str:
    """Why a file cannot be read, in one line."""
    return f"cannot be read: {getattr(error, 'strerror', None) or error or type(error).__name__}"


@dataclass(frozen=True)
class SourceFile:
    """One file of a delivery: the file at `path`, or the member of that name of the archive there."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """What the file is called, for reports and the ledger."""
        return f"{self.path.name}/{self.member}" if self.member else self.path.name

    @property
    def base(self) -> str:
        """Its name without the folders that it is in."""
        return PurePosixPath(self.member or self.path.name).name

    @property
    def size(self) -> int:
        """How many bytes it holds, as far as that is known before it is read."""
        if self.member is None:
            return self.path.stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(self.member).file_size

    @contextmanager
    def open(self) -> Iterator[IO[bytes] | gzip.GzipFile]:
        """Open it for reading from the start, unpacked."""
        with ExitStack() as stack:
            if self.member is None:
                stream: IO[bytes] = stack.enter_context(self.path.open("rb"))
            else:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                stream = stack.enter_context(archive.open(self.member))
            yield stack.enter_context(gzip.open(stream)) if self.base.endswith(".gz") else stream

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, a chunk at a time."""
        with self.open() as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    def sha256(self) -> str:
        """The hex digest of its bytes, the same for a file and for its compressed form."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()
