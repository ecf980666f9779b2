"""Runs the same work for several tables at once, each in its own session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loader.database.connect import Connection, Database

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_in_a_session(
    database: Database,
    work: Callable[[Connection, Item], Result],
    items: Iterable[Item],
    at_once: int,
    given_up: threading.Event | None = None,
) -> list[Result]:
    """Do the work for each item, `at_once` at a time; return the results in the order of the items.

    An exception in one item, or an interrupt, cancels the running statements of the others and is raised.

    Args:
        given_up: is set in that case, so that work outside a statement can stop too.
    """
    connections: list[Connection] = []

    def one(item: Item) -> Result:
        with database.connect() as connection:
            connections.append(connection)
            return work(connection, item)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            return list(pool.map(one, items))
        except BaseException:
            if given_up:
                given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for connection in connections:
                if not connection.closed:
                    connection.cancel_safe()
            raise
