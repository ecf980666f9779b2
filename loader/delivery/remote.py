"""Months that lie elsewhere, in an object store, on a web server or by SFTP: their files come here to be looked at."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from html import unescape
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from loader.contract.tables import Table
from loader.delivery.files import CHUNK, takers
from loader.delivery.month import Delivery, shown
from loader.errors import NotDelivered, SurroundingsFailed, WrongUsage
from loader.words import counted

ATTEMPTS = 4
SILENCE = 60.0
"""Seconds after which a server that says nothing is one that is gone."""
WEB, SFTP = "'fsspec[http]'", "'fsspec[sftp]'"
NEEDS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "sftp": SFTP, "http": WEB, "https": WEB}
"""Protocol -> what pip is to install for it."""
REQUESTS = 64
"""How many parts of 32 kB are asked for at once by SFTP; one after the other, each waits for the way there and back."""
STORES = {"s3", "gs", "gcs"}
"""Protocols whose libraries find user and password elsewhere than in the address."""
STATE = ("size", "ETag", "etag", "LastModified", "mtime", "updated")
"""What tells one state of a file from another, as the file systems call it."""

NOT_THERE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.FORBIDDEN}
"""Answers of which some web servers give the last one for what they do not have."""

FORBIDDEN = {"AuthenticationException", "NoCredentialsError"}
"""Of paramiko and botocore, which may not be installed."""

Listing = dict[str, tuple[Any, ...]]
"""Path of a file, from the folder of months on -> its state."""


def _status(error: BaseException | None) -> int | None:
    """The status with which a web server or an object store has answered."""
    known = (getattr(error, name, None) for name in ("status", "code"))
    return next((status for status in known if isinstance(status, int)), None)


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may end otherwise: not where something is not there, forbidden, or interrupted."""
    is_final = isinstance(error, FileNotFoundError | PermissionError) or not isinstance(error, Exception)
    if is_final or type(error).__name__ in FORBIDDEN:
        return False
    return _status(error) not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def _connect(self: Any) -> None:
    """As SFTPFileSystem of fsspec has it, which would take any server for the right one."""
    import paramiko

    options = {"timeout": SILENCE, **self.ssh_kwargs}
    options.pop("url_fragment", None)  # of a path with a # in it
    options.update({name: unquote(options[name]) for name in ("username", "password") if name in options})
    self.client = paramiko.SSHClient()
    self.client.load_system_host_keys()
    self.client.connect(self.host, **options)
    self.ftp = self.client.open_sftp()
    self.ftp.get_channel().settimeout(SILENCE)


def _ask_ahead(stream: Any, size: int) -> None:
    """Ask paramiko for all of a file before it is read. Reads tell what goes wrong, not the thread that asks."""
    ask = stream._prefetch_thread

    def ask_silently(*parts: Any) -> None:
        with suppress(Exception):
            ask(*parts)

    stream._prefetch_thread = ask_silently
    stream.prefetch(size, REQUESTS)


class Place:
    """A folder of months elsewhere.

    Raises:
        WrongUsage: the address cannot be used, or the program lacks what it needs for it.
    """

    def __init__(self, address: str) -> None:
        self.address, self.forbids, self.root = address, False, ""
        self.system: Any = None
        protocol, _, rest = address.partition("://")
        if "?" in address:
            raise WrongUsage(f"{shown(address)} is no folder: what follows a question mark is of one file.")
        try:  # what the libraries would complain of with the password in it
            if re.match("[^/]*:.*@", rest) if protocol in STORES else urlsplit(address).port == 0:
                raise ValueError
        except ValueError:
            wrong = "a port that is no number, or a / or # in user:password@ that is not written as %2F or %23"
            has = "user:password@, which it does not take" if protocol in STORES else wrong
            raise WrongUsage(f"{shown(address)} has {has}.") from None
        try:
            import fsspec

            kind = fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError):
            remedy = f"pip install {NEEDS[protocol]}" if protocol in NEEDS else f"it knows {', '.join(sorted(NEEDS))}"
            raise WrongUsage(f"streamflow cannot read {protocol}:// as it is installed: {remedy}.") from None
        for library in ("gcsfs", "paramiko"):  # what they say besides, the error says too
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self.options: dict[str, Any] = {}
        self.on_web, self.on_sftp = protocol in {"http", "https"}, protocol in {"sftp", "ssh"}
        if self.on_sftp:
            kind._connect = _connect
        if self.on_web:
            from aiohttp import ClientTimeout

            patience = ClientTimeout(sock_connect=SILENCE, sock_read=SILENCE)  # without it, 5 minutes for a whole file
            self.options["client_kwargs"] = {"timeout": patience}
        if protocol == "s3":  # its libraries would ask again, each by itself
            kind.retries = 1
            once = {"total_max_attempts": 1}
            self.options["config_kwargs"] = {"connect_timeout": SILENCE, "read_timeout": SILENCE, "retries": once}

    def month(self, delivery: Delivery, tables: Sequence[Table]) -> Listing:
        """The month's archive, or those of its folder's files that a table takes; both, where the delivery is wrong.

        Raises:
            NotDelivered: there is none.
            SurroundingsFailed: the place cannot be read.
        """
        paths = [path for name in delivery.names for path in (*self._files(name, tables), f"{name}.zip")]
        states = {path: self._insist(partial(self._state, path)) for path in paths}
        if found := {path: state for path, state in states.items() if state}:
            return found
        if not self.on_web and self._insist(lambda: self.system.info(self.root)) is None:
            raise NotDelivered(f"month {delivery.label} is not there: {shown(self.address)} is missing")
        names = " nor ".join(f"{name}/ or {name}.zip" for name in delivery.names)
        forbidden = ", or forbids that it is read (403)" if self.forbids else ""
        raise NotDelivered(f"month {delivery.label} is not there: {shown(self.address)} has neither {names}{forbidden}")

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file here, and see that it came whole.

        Raises:
            SurroundingsFailed: it does not, several times in a row.
        """

        def copy() -> bool:
            before = self._state(path)
            size = 0 if self.on_web else None  # of the parts in which it is read: not all web servers give parts
            with self.system.open(self._at(path), "rb", block_size=size) as stream, target.open("wb") as written:
                if self.on_sftp and before:
                    _ask_ahead(stream, before[0])
                shutil.copyfileobj(stream, written, CHUNK)
            now = self._state(path)
            if now is None or now != before or now[0] not in {None, target.stat().st_size}:
                raise OSError(f"{target.name} was replaced or cut off while it was fetched")
            return True

        if not self._insist(copy):
            raise SurroundingsFailed(f"{target.name} went away from {shown(self.address)} while it was fetched.")

    def _files(self, folder: str, tables: Sequence[Table]) -> Iterator[str]:
        """What a folder has that a table takes; by their usual names where a web server does not list them."""
        names = self._insist(lambda: self._listed(folder)) or []
        if self.on_web:
            usual = [f"{table.wanted}{end}" for table in tables for end in ("", ".gz")]
            names = [unquote(unescape(name)) for name in names] or usual
        for name in sorted({PurePosixPath(name).name for name in names}):
            if takers(name, tables):
                yield f"{folder}/{name}"

    def _at(self, path: str) -> str:
        return f"{self.root}/{quote(path) if self.on_web else path}"

    def _listed(self, folder: str) -> list[str]:
        try:
            return list(self.system.ls(self._at(folder), detail=False))
        except Exception as error:
            if _status(error) == HTTPStatus.FORBIDDEN:  # many web servers list no folder, and give its files
                return []
            raise

    def _state(self, path: str) -> tuple[Any, ...] | None:
        """What tells this state of a file from another; None for a folder."""
        found = self.system.info(self._at(path))
        return None if found.get("type") == "directory" else tuple(found.get(key) for key in STATE)

    def _insist(self, action: Callable[[], Any]) -> Any:
        """Do it, again after a while where it fails; None where the thing is not there."""
        again = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=0.2, max=10),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return again(self._once, action)
        except FileNotFoundError:
            return None
        except Exception as error:
            reason = shown(str(error).strip(" .:\n") or type(error).__name__)
            raise SurroundingsFailed(f"{shown(self.address)} cannot be read: {reason}. Nothing was changed.") from None

    def _once(self, action: Callable[[], Any]) -> Any:
        if self.system is None:
            import fsspec

            self.system, root = fsspec.url_to_fs(self.address, **self.options)
            self.root = root.rstrip("/")
        self.system.invalidate_cache()
        try:
            return action()
        except FileNotFoundError as error:  # which stands for all that a web server may answer, and for no answer
            cause, status = error.__cause__, _status(error.__cause__)
            self.forbids |= status == HTTPStatus.FORBIDDEN
            if self.on_web and cause and status not in NOT_THERE:
                raise cause from None
            raise
        except Exception:
            self.system.clear_instance_cache()  # its connection may be lost
            self.system = None
            raise


def _remove_what_was_left(incoming: Path) -> None:
    """Customers' files that a program which was killed could not remove."""
    import psutil

    for folder in incoming.iterdir():
        number = folder.name.partition("-")[0]
        if not (number.isdigit() and psutil.pid_exists(int(number))):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def arrived(delivery: Delivery, tables: Sequence[Table], home: Path, tell: Callable[[str], None]) -> Iterator[Delivery]:
    """The delivery with its files on this machine, below `home`, for as long as they are needed.

    Raises:
        NotDelivered, SurroundingsFailed, WrongUsage: as Place has it.
    """
    if delivery.address is None:
        yield delivery
        return
    place = Place(delivery.address)
    found = place.month(delivery, tables)
    incoming = home / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    _remove_what_was_left(incoming)
    tell(f"fetching month {delivery.label} from {shown(delivery.address)}: {counted(len(found), 'file')}")
    is_one = len({path.partition("/")[0] for path in found}) == 1
    with tempfile.TemporaryDirectory(dir=incoming, prefix=f"{os.getpid()}-") as folder:
        for path in found:
            target = Path(folder) / path
            target.parent.mkdir(exist_ok=True)
            if is_one:
                place.fetch(path, target)
            else:  # folder and archive, which is refused by their names
                target.touch()
        yield replace(delivery, data_dir=Path(folder))
