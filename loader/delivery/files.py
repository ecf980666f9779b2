"""The CSV files of a delivery as bytes, however they are packed: plain, .gz, or members of the month's ZIP archive."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from loader.contract.tables import COMMAS, CsvForm
from loader.errors import DataRefused
from loader.words import as_text

CHUNK = 1 << 20

CHANGED = "changed while it was read, so it is still being written: try again when it is done"
FURTHER = (
    "is a link that leads out of the folder that it is in: put the file itself there, or set STREAMFLOW_LINKS_TO to"
    " the folder that links may lead to"
)
PACKED = "cannot be unpacked piece by piece: pack the archive with deflate, as `zip` does by default"
KINDS = {stat.S_IFDIR: "is a folder, not a file", stat.S_IFIFO: "is a pipe, not a file"}

Identity = tuple[int, ...]
"""Identifies one state of a file: device, inode, size, and the times at which content and attributes last changed."""


class FileRefused(DataRefused):
    """A file may not be read, or has changed since it was looked at."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} {reason}. Nothing was published.")
        self.reason = reason


UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, FileRefused)
"""The errors that reading a damaged, encrypted, forbidden or refused file raises."""


def unreadable(error: BaseException) -> str:
    """Why a file cannot be read, in one line."""
    if isinstance(error, FileRefused):
        return error.reason
    return f"cannot be read: {getattr(error, 'strerror', None) or error or type(error).__name__}"


@dataclass(frozen=True)
class SourceFile:
    """One file of a delivery: the file at `path`, or the `member` of the archive at `path`.

    Links may lead into the file's own folder or into `links_to`. `form` is the CSV form that its table declares.
    `identity`, `size` and `columns` are unset until the file is looked at; from then on, reading it raises
    FileRefused if its identity has changed.
    """

    path: Path
    member: str | None = None
    links_to: Path | None = None
    identity: Identity | None = None
    size: int = 0
    columns: tuple[str, ...] = ()
    form: CsvForm = COMMAS

    @property
    def name(self) -> str:
        """The file's name in reports and the ledger."""
        return as_text(f"{self.path.name}/{self.member}" if self.member else self.path.name)

    @property
    def base(self) -> str:
        """The file's name without folders."""
        return PurePosixPath(self.member or self.path.name).name

    def looked_at(self) -> SourceFile:
        """The same file with its current identity and size. Raises one of UNREADABLE if it cannot be read."""
        with self.opened() as stream:
            there = os.fstat(stream.fileno())
            size = zipfile.ZipFile(stream).getinfo(self.member).file_size if self.member else there.st_size
        return replace(self, identity=_identity(there), size=size)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the file or archive itself. FileRefused if it changed since it was looked at, or changes while open."""
        target, before = self._plain()
        identity = self.identity or _identity(before)
        # do not block on a pipe or follow a link that has just replaced the file
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags), "rb") as stream:
            if _identity(os.fstat(stream.fileno())) != identity:
                raise FileRefused(self.name, CHANGED)
            yield stream
            if _identity(os.fstat(stream.fileno())) != identity:
                raise FileRefused(self.name, CHANGED)

    def _plain(self) -> tuple[Path, os.stat_result]:
        try:
            target = self.path.resolve(strict=True)
            there = target.stat()
        except OSError:
            if self.identity:
                raise FileRefused(self.name, CHANGED) from None
            raise
        folders = [self.path.parent, *([self.links_to] if self.links_to else [])]
        if not any(target.is_relative_to(folder.resolve()) for folder in folders):
            raise FileRefused(self.name, FURTHER)
        if not stat.S_ISREG(there.st_mode):
            raise FileRefused(self.name, KINDS.get(stat.S_IFMT(there.st_mode), "is a device or a socket, not a file"))
        return target, there

    @contextmanager
    def open(self) -> Iterator[IO[bytes] | gzip.GzipFile]:
        """Open it for reading from the start, unpacked."""
        with ExitStack() as stack:
            stream = stack.enter_context(self.opened())
            if self.member is not None:
                archive = stack.enter_context(zipfile.ZipFile(stream))
                if archive.getinfo(self.member).compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise FileRefused(self.name, PACKED)
                stream = stack.enter_context(archive.open(self.member))
            yield stack.enter_context(gzip.open(stream)) if self.base.endswith(".gz") else stream

    def chunks(self) -> Iterator[bytes]:
        """Its unpacked bytes, a chunk at a time."""
        with self.open() as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    def sha256(self) -> str:
        """The hex digest of its unpacked bytes, the same for a file and for its compressed form."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True)
class TableFiles:
    """The files of one table, in the order in which they land; most tables have one."""

    parts: tuple[SourceFile, ...]
    read_as: str = ""
    """What determines how their bytes are read: Table.read_as."""
    same_as: str | None = None
    """The `content` of other files that have the same rows."""

    def content(self, sha256: str) -> str:
        """Identifies their rows without reading them: `same_as` if set, or else a hash of `sha256` and `read_as`."""
        return self.same_as or hashlib.sha256(f"{sha256} {self.read_as}".encode()).hexdigest()

    @property
    def name(self) -> str:
        """One name for all of them."""
        first, *others = self.parts
        return f"{first.name} and {len(others)} more" if others else first.name

    @property
    def size(self) -> int:
        """Their total size in bytes; a .gz counts as it is compressed."""
        return sum(part.size for part in self.parts)


def hash_of(hashes: Sequence[str]) -> str:
    """The hash that the ledger keeps for a table's files: that of the one file, or a hash of all hashes in order."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _identity(there: os.stat_result) -> Identity:
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns
