"""SIGINT and SIGTERM are noted, and take effect when the caller looks."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; a second signal has its usual, immediate effect."""
    event = threading.Event()
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
