"""Server: the guarded page on a port, in a thread of its own."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from .. import OutputError
from ..limits import MAX_CONNECTIONS

FIRST, LAST = 7860, 7959  # ports that are tried where none is asked for


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextmanager
def served(app: Any, host: str, port: int | None) -> Iterator[str]:
    """Answer requests while the block runs; yields the address. Raises OutputError where the port cannot be had."""
    listener = _listener(host, port)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    log = logging.getLogger("uvicorn.error")

    def is_news(_: logging.LogRecord) -> bool:
        return not server.should_exit  # answers that the end cuts off are no errors

    log.addFilter(is_news)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.02)
        name = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else f"[{host}]" if ":" in host else host
        yield f"http://{name}:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(5)
        if not thread.is_alive():
            log.removeFilter(is_news)
        listener.close()


def _listener(host: str, port: int | None) -> socket.socket:
    for number in [port] if port else range(FIRST, LAST + 1):
        try:
            kind = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, number), family=kind, backlog=128)
        except (OSError, OverflowError) as error:
            reason = str(error)
    where = f"port {port}" if port else f"none of the ports {FIRST} to {LAST}"
    raise OutputError(f"{where} can be had at {host} ({reason}): choose another with --port or --host")
