"""Keep track of whose a session is, who still listens to it, and which jobs have to stop."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ..limits import MAX_SESSIONS

GRACE = 10.0  # seconds without a connection after which a visitor has left


class Stopped(Exception):
    """The visitor cancelled the job, or left the page."""


class Visitors:
    """The sessions of the page, by the hash that Gradio gives each.

    A session belongs to the visitor who used it first: to the cookie of a browser, or to whoever logged in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: dict[str, str] = {}
        self._streams: Counter[str] = Counter()
        self._seen: dict[str, float] = {}
        self._cancelled: dict[str, float] = {}

    def claim(self, session: str, visitor: str) -> bool:
        """Return whether a session is this visitor's; one that nobody had is from now on."""
        with self._lock:
            self._seen[session] = time.monotonic()
            if self._owner.setdefault(session, visitor) != visitor:
                return False
            for old in [s for s in self._owner if not self._streams[s]][: max(0, len(self._owner) - MAX_SESSIONS)]:
                for known in (self._owner, self._seen, self._cancelled, self._streams):
                    known.pop(old, None)
            return True

    def others(self, session: str, sessions: Iterable[str]) -> int:
        """Return how many of some sessions are of the same visitor; only this one where there is no cookie."""
        with self._lock:
            visitor = self._owner.get(session)
            return sum(other == session or (bool(visitor) and self._owner.get(other) == visitor) for other in sessions)

    @contextmanager
    def listening(self, session: str) -> Iterator[None]:
        """Count a connection of the visitor inside the block."""
        with self._lock:
            self._streams[session] += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams[session] -= 1
                self._seen[session] = time.monotonic()

    def cancel(self, session: str) -> None:
        """Stop what runs for a session; what begins later may run."""
        with self._lock:
            self._cancelled[session] = time.monotonic()

    def watch(self, session: str | None) -> Callable[[], None]:
        """Return a function that a job that begins now calls often; it raises Stopped when the job has to end."""
        begun = time.monotonic()

        def check() -> None:
            if session is None:
                raise Stopped
            left = not self._streams[session] and time.monotonic() - self._seen.get(session, 0.0) > GRACE
            if left or self._cancelled.get(session, 0.0) > begun:
                raise Stopped

        return check
