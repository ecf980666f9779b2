"""An interrupt that arrives while the program waits for the database in C code, which hears of no signal."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

ENDING = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def heard_at_once(cancel: Callable[[], None]) -> Iterator[None]:
    """Run `cancel` in a thread as soon as a signal to end arrives; the signal's own handler runs after that.

    In another thread than the main one, which gets no signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    here, there = socket.socketpair()
    there.setblocking(False)

    def listen() -> None:
        while number := here.recv(1):
            if number[0] in ENDING:
                cancel()

    listener = threading.Thread(target=listen, name="interrupts", daemon=True)
    before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        there.close()
        listener.join()
        with suppress(OSError):
            here.close()
