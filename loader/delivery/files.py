"""The files of a delivery, whatever they are wrapped in: plain, .gz, or members of month_NNN.zip."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

CHUNK = 1 << 20
HEADER_LIMIT = 1 << 20

UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)
"""What reading a damaged, encrypted or forbidden file raises."""


class SourceFile(ABC):
    """One CSV file of a delivery, read as the bytes that it holds."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the file is called, for reports and the ledger."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many bytes it holds, as far as that is known before it is read."""

    @abstractmethod
    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Open it for reading from the start."""

    @abstractmethod
    def fingerprint(self) -> tuple[int, int]:
        """Changes when somebody writes to it: size on disk and time of the last change."""

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

    def header(self) -> list[str]:
        """The column names in its first line, a byte-order mark taken off; [] for an empty file.

        Raises:
            UnicodeDecodeError: the line is not UTF-8.
            csv.Error: the line is not CSV.
        """
        with self.open() as stream:
            head = stream.read(HEADER_LIMIT)
        first = head.partition(b"\n")[0].removesuffix(b"\r")
        if b"\r" in first:
            raise csv.Error("its lines end in CR alone, where LF or CRLF belongs")
        return next(csv.reader(io.StringIO(first.decode("utf-8-sig")), strict=True), [])

    def has_rows(self) -> bool:
        """Whether anything but line ends follows the first line."""
        with self.open() as stream:
            head = stream.read(HEADER_LIMIT)
            _, *rest = head.splitlines() or [b""]
            return any(rest) or any(chunk.strip() for chunk in iter(lambda: stream.read(CHUNK), b""))


@dataclass(frozen=True)
class PlainFile(SourceFile):
    """A file as it is."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def open(self) -> AbstractContextManager[IO[bytes]]:
        return self.path.open("rb")

    def fingerprint(self) -> tuple[int, int]:
        return _fingerprint(self.path)


@dataclass(frozen=True)
class GzipFile(PlainFile):
    """A file compressed with gzip."""

    def open(self) -> AbstractContextManager[IO[bytes]]:
        return cast(AbstractContextManager[IO[bytes]], gzip.open(self.path, "rb"))


@dataclass(frozen=True)
class ZipMember(SourceFile):
    """A file in a zip archive."""

    archive: Path
    member: str

    @property
    def name(self) -> str:
        return f"{self.archive.name}/{self.member}"

    @property
    def size(self) -> int:
        with zipfile.ZipFile(self.archive) as archive:
            return archive.getinfo(self.member).file_size

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(self.archive) as archive, archive.open(self.member) as stream:
            yield stream

    def fingerprint(self) -> tuple[int, int]:
        return _fingerprint(self.archive)


def _fingerprint(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
