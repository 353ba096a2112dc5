"""The command line: hear signals first, then import the rest, parse, call, print."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .signals import Stop, at_once, stoppable
from .terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for wrong input (one line says what), 130 for Ctrl-C, 143 for SIGTERM."""
    stop = Stop()
    try:
        with stoppable(stop):
            with at_once():
                from .command import run
            return run(argv, stop)
    except KeyboardInterrupt:  # it may come while the block ends
        pass
    except Exception:
        if not stop.signal:
            raise
    say("stopped")
    code = stop.code if stop.signal else 130
    if argv is None:  # nothing is left to do, and Python's own way out takes seconds and may end in another code
        os._exit(code)
    return code
