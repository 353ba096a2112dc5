"""Ctrl-C and SIGTERM: one line, whatever a library was doing, and temporary files are removed on the way out."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.01  # seconds after which an interrupt that was lost comes again


class Stop:
    """Which signal asked to stop, if one did; libraries may turn the KeyboardInterrupt into an error of theirs."""

    def __init__(self) -> None:
        self.signal = 0

    @property
    def code(self) -> int:
        """Return the exit code by which a shell knows the signal."""
        return 128 + self.signal


@contextmanager
def stoppable(stop: Stop) -> Iterator[None]:
    """Let the first signal raise KeyboardInterrupt in the block, which cleans up; a second one ends the process.

    While libraries are imported or a model is fetched, the first one does so too: see `at_once`.
    """

    def first(number: int, _: FrameType | None) -> None:
        if stop.signal:
            end(number, None)
        stop.signal = number
        raise KeyboardInterrupt

    with _handled(first), _not_lost(stop):
        yield


@contextmanager
def _not_lost(stop: Stop) -> Iterator[None]:
    """Send the signal once more where its KeyboardInterrupt was lost inside the block.

    Out of a destructor, or what a weak reference calls when its object is gone, nothing can: Python prints a traceback
    and goes on as if nothing had happened.
    """
    before, inside = sys.unraisablehook, True

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        if not (stop.signal and isinstance(unraisable.exc_value, KeyboardInterrupt)):
            before(unraisable)
            return
        number, stop.signal = stop.signal, 0
        _thread.start_new_thread(again, (number,))  # takes no lock, which this thread may hold just now

    def again(number: int) -> None:
        time.sleep(AGAIN)
        if inside:
            os.kill(os.getpid(), number)

    sys.unraisablehook = lost
    try:
        yield
    finally:
        inside, sys.unraisablehook = False, before


@contextmanager
def at_once() -> Iterator[None]:
    """Let a signal inside the block end the process at once; nothing of ours may be written in it.

    An exception in the middle of an import may be lost or abort; a download waits for all its threads before it ends.
    """
    with _handled(end):
        yield


def end(number: int, _: FrameType | None) -> None:
    """End the process with one line, and nothing run on the way."""
    os.write(2, b"celeb-basis: stopped\n")
    os._exit(128 + number)


@contextmanager
def _handled(by: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears of signals
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # what a shell starts in its background is deaf to it
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, by) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
