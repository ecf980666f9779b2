"""Months in an object store, on a web server or on an SFTP server: fetch their files to this machine."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from html import unescape
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from loader.contract.tables import Table
from loader.delivery.files import CHUNK
from loader.delivery.month import Delivery, redacted
from loader.errors import NotDelivered, SurroundingsFailed, WrongUsage
from loader.words import counted

ATTEMPTS = 4
SILENCE = 60.0
"""Seconds after which a silent server counts as gone."""
WEB, SFTP = "'fsspec[http]'", "'fsspec[sftp]'"
NEEDS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "sftp": SFTP, "http": WEB, "https": WEB}
"""Protocol -> the package that pip must install for it."""
REQUESTS = 64
"""How many 32 kB parts SFTP requests at once; one by one, each would wait for a network round trip."""
STORES = {"s3", "gs", "gcs"}
"""Protocols whose libraries do not take user and password from the address."""
STATE = ("size", "ETag", "etag", "LastModified", "mtime", "updated")
"""Keys that identify a file's state, under the names that the fsspec file systems use."""

NOT_THERE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.FORBIDDEN}
"""Answers for a missing file; some web servers answer FORBIDDEN."""

FORBIDDEN = {"AuthenticationException", "NoCredentialsError"}
"""Errors that no retry mends, by name: they are of paramiko and botocore, which may not be installed."""

Listing = dict[str, tuple[Any, ...]]
"""Path of a file, relative to the folder of months -> its state."""


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that a web server or an object store answered, if the error has one."""
    known = (getattr(error, name, None) for name in ("status", "code"))
    return next((status for status in known if isinstance(status, int)), None)


def _may_pass(error: BaseException) -> bool:
    """Whether a retry may succeed: not if the file is missing or forbidden, or the run was interrupted."""
    is_final = isinstance(error, FileNotFoundError | PermissionError) or not isinstance(error, Exception)
    if is_final or type(error).__name__ in FORBIDDEN:
        return False
    return _status(error) not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def _connect(self: Any) -> None:
    """Connect as fsspec's SFTPFileSystem does, but refuse unknown host keys, which fsspec accepts by default."""
    import paramiko

    options = {"timeout": SILENCE, **self.ssh_kwargs}
    options.pop("url_fragment", None)  # fsspec adds it for a path with a # in it
    options.update({name: unquote(options[name]) for name in ("username", "password") if name in options})
    self.client = paramiko.SSHClient()
    self.client.load_system_host_keys()
    self.client.connect(self.host, **options)
    self.ftp = self.client.open_sftp()
    self.ftp.get_channel().settimeout(SILENCE)


def _prefetch(stream: Any, size: int) -> None:
    """Have paramiko request the whole file ahead of the reads. Its thread hides errors, as the reads raise them."""
    ask = stream._prefetch_thread

    def ask_silently(*parts: Any) -> None:
        with suppress(Exception):
            ask(*parts)

    stream._prefetch_thread = ask_silently
    stream.prefetch(size, REQUESTS)


class RemoteFolder:
    """A folder of months at an address.

    Raises:
        WrongUsage: the address cannot be used, or the package for its protocol is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address, self.origin, self.forbids, self.root = address, redacted(address), False, ""
        self.system: Any = None
        protocol, _, rest = address.partition("://")
        if "?" in address:
            raise WrongUsage(f"{self.origin} is not a folder of months: an address with a ? names one file.")
        try:  # the libraries' own errors would show the password
            if re.match("[^/]*:.*@", rest) if protocol in STORES else urlsplit(address).port == 0:
                raise ValueError
        except ValueError:
            wrong = "a port that is not a number, or a / or # in user:password@ that is not written as %2F or %23"
            has = "user:password@, which it does not take" if protocol in STORES else wrong
            raise WrongUsage(f"{self.origin} has {has}.") from None
        try:
            import fsspec

            kind = fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError):
            remedy = f"pip install {NEEDS[protocol]}" if protocol in NEEDS else f"supported: {', '.join(sorted(NEEDS))}"
            raise WrongUsage(f"streamflow cannot read {protocol}:// as it is installed: {remedy}.") from None
        for library in ("gcsfs", "paramiko"):  # their logs only repeat what the error says
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self.options: dict[str, Any] = {}
        self.on_web, self.on_sftp = protocol in {"http", "https"}, protocol in {"sftp", "ssh"}
        if self.on_sftp:
            kind._connect = _connect
        if self.on_web:
            from aiohttp import ClientTimeout

            patience = ClientTimeout(sock_connect=SILENCE, sock_read=SILENCE)  # default: 5 minutes for a whole file
            self.options["client_kwargs"] = {"timeout": patience}
        if protocol == "s3":  # turn off the retries of its libraries, as _with_retries has its own
            kind.retries = 1
            once = {"total_max_attempts": 1}
            self.options["config_kwargs"] = {"connect_timeout": SILENCE, "read_timeout": SILENCE, "retries": once}

    def month(self, delivery: Delivery, tables: Sequence[Table]) -> Listing:
        """List the month's archive, or the files of its folder that a table takes; both, if the delivery is wrong.

        Raises:
            NotDelivered: the month is not there.
            SurroundingsFailed: the place cannot be read.
        """
        paths = [path for name in delivery.names for path in (*self._files(name, tables), f"{name}.zip")]
        states = {path: self._with_retries(partial(self._state, path)) for path in paths}
        if found := {path: state for path, state in states.items() if state}:
            return found
        if not self.on_web and self._with_retries(lambda: self.system.info(self.root)) is None:
            raise NotDelivered(f"month {delivery.label} is not there: {self.origin} is missing")
        names = " nor ".join(f"{name}/ or {name}.zip" for name in delivery.names)
        forbidden = ", or forbids that it is read (403)" if self.forbids else ""
        raise NotDelivered(f"month {delivery.label} is not there: {self.origin} has neither {names}{forbidden}")

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file to `target`, and check that it arrived whole.

        Raises:
            SurroundingsFailed: every attempt failed, or the file is gone.
        """

        def copy() -> bool:
            before = self._state(path)
            size = 0 if self.on_web else None  # 0: read in one piece, as not all web servers can send parts
            with self.system.open(self._at(path), "rb", block_size=size) as stream, target.open("wb") as written:
                if self.on_sftp and before:
                    _prefetch(stream, before[0])
                shutil.copyfileobj(stream, written, CHUNK)
            now = self._state(path)
            if now is None or now != before or now[0] not in {None, target.stat().st_size}:
                raise OSError(f"{target.name} was replaced or cut off while it was fetched")
            return True

        if not self._with_retries(copy):
            raise SurroundingsFailed(f"{target.name} disappeared from {self.origin} while it was fetched.")

    def _files(self, folder: str, tables: Sequence[Table]) -> Iterator[str]:
        """The files of a folder that a table takes; if a web server does not list it, the tables' usual file names."""
        names = self._with_retries(lambda: self._listed(folder)) or []
        if self.on_web:
            usual = [f"{table.wanted}{end}" for table in tables for end in ("", ".gz")]
            names = [unquote(unescape(name)) for name in names] or usual
        for name in sorted({PurePosixPath(name).name for name in names}):
            if any(table.takes(name) for table in tables):
                yield f"{folder}/{name}"

    def _at(self, path: str) -> str:
        return f"{self.root}/{quote(path) if self.on_web else path}"

    def _listed(self, folder: str) -> list[str]:
        try:
            return list(self.system.ls(self._at(folder), detail=False))
        except Exception as error:
            if _status(error) == HTTPStatus.FORBIDDEN:  # many web servers serve files but list no folder
                return []
            raise

    def _state(self, path: str) -> tuple[Any, ...] | None:
        """The values of STATE for a file; None for a folder."""
        found = self.system.info(self._at(path))
        return None if found.get("type") == "directory" else tuple(found.get(key) for key in STATE)

    def _with_retries(self, action: Callable[[], Any]) -> Any:
        """Run the action, and retry after a pause if it fails; None if the file or folder is not there."""
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
            reason = redacted(str(error).strip(" .:\n") or type(error).__name__)
            raise SurroundingsFailed(f"{self.origin} cannot be read: {reason}. Nothing was changed.") from None

    def _once(self, action: Callable[[], Any]) -> Any:
        if self.system is None:
            import fsspec

            self.system, root = fsspec.url_to_fs(self.address, **self.options)
            self.root = root.rstrip("/")
        self.system.invalidate_cache()
        try:
            return action()
        except FileNotFoundError as error:  # fsspec raises it for any error of a web server, and for no answer
            cause, status = error.__cause__, _status(error.__cause__)
            self.forbids |= status == HTTPStatus.FORBIDDEN
            if self.on_web and cause and status not in NOT_THERE:
                raise cause from None
            raise
        except Exception:
            self.system.clear_instance_cache()  # its connection may be lost
            self.system = None
            raise


@contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    """Hold the lock of a folder, which the processes of other containers see too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(opened)


def _remove_what_was_left(incoming: Path) -> None:
    """Remove customers' files that a killed process left behind."""
    for folder in incoming.iterdir():
        with suppress(OSError), _locked(folder, fcntl.LOCK_NB):  # it is in use, just gone, or of another user
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fetched(delivery: Delivery, tables: Sequence[Table], home: Path, tell: Callable[[str], None]) -> Iterator[Delivery]:
    """Fetch a delivery at an address to a temporary folder below `home`, which is removed at the end.

    Raises:
        NotDelivered, SurroundingsFailed, WrongUsage: see RemoteFolder.
    """
    if delivery.address is None:
        yield delivery
        return
    place = RemoteFolder(delivery.address)
    found = place.month(delivery, tables)
    incoming = home / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    with ExitStack() as in_use:
        with _locked(incoming):
            _remove_what_was_left(incoming)
            folder = Path(in_use.enter_context(tempfile.TemporaryDirectory(dir=incoming)))
            in_use.enter_context(_locked(folder))
        tell(f"fetching month {delivery.label} from {place.origin}: {counted(len(found), 'file')}")
        is_one = len({path.partition("/")[0] for path in found}) == 1
        for path in found:
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            if is_one:
                place.fetch(path, target)
            else:  # both folder and archive: refused because of their names alone
                target.touch()
        yield replace(delivery, data_dir=folder)
