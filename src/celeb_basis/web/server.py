"""Serve the page: Gradio's app behind the guard, on a port, in a thread of its own."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from .. import OutputError
from ..limits import MAX_CONNECTIONS, MAX_QUEUE, MAX_UPLOAD_MB
from .guard import Guard
from .page import build
from .studio import Studio
from .theme import CSS, THEME
from .visitors import Visitors

UPLOADS = "GRADIO_TEMP_DIR"
FIRST_PORT, LAST_PORT = 7860, 7959  # that are tried where none is asked for


@contextmanager
def serve(
    studio: Studio,
    *,
    uploads: Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    domains: Sequence[str] = (),
    framed_by: Sequence[str] = (),
) -> Iterator[str]:
    """Serve the page while the block runs; yield its address.

    uploads: folder for what visitors send; by default one that is removed in the end.
    port: None takes the first that is free from 7860 on.
    domains: names under which the page may be opened, beside its address and this machine's own name, such as those
        of proxies before it.
    framed_by: sites that may show the page in a frame of theirs, such as https://huggingface.co; by default none may.
    password: asked of everybody who opens the page, under any user name.

    Raises OutputError for a host or a port on which the page cannot listen.
    """
    expected = hashlib.sha256((password or "").encode()).digest()

    def is_password(_: str, given: str) -> bool:
        # Hashes are of one length, whatever was given.
        return hmac.compare_digest(hashlib.sha256(given.encode(errors="replace")).digest(), expected)

    with ExitStack() as undo:
        if uploads is None:
            uploads = Path(undo.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        uploads = uploads.resolve()
        studio.uploads.append(uploads)
        undo.callback(studio.uploads.remove, uploads)
        undo.callback(studio.close)
        undo.callback(_restore, os.environ.get(UPLOADS))
        # Gradio's own place for uploads would outlive the page, and is shared with other programs of this machine.
        os.environ[UPLOADS] = str(uploads)
        visitors = Visitors()
        page = build(studio, visitors)
        page.queue(max_size=MAX_QUEUE, api_open=False)
        outer = gr.mount_gradio_app(
            FastAPI(openapi_url=None),
            page,
            path="/",
            app_kwargs={"openapi_url": None},
            auth=is_password if password else None,
            auth_message="Any user name, and the password of whoever opened this page.",
            theme=THEME,
            css=CSS,
            footer_links=[],
            max_file_size=f"{MAX_UPLOAD_MB}mb",
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
        )
        inner: Any = outer.routes[-1].app
        page.allowed_paths = [str(studio.out)]  # the guard looks closer
        if domains:  # Behind a proxy, as on Colab, the address of the page is what the browser says, not the host sent.
            page.config["is_colab"] = True
        guard = Guard(
            outer,
            visitors,
            page.fns,
            host=host,
            domains=domains,
            framed_by=framed_by,
            logged_in=inner.tokens.__contains__ if password else None,
            is_ours=studio.has_file,
            has_room=studio.has_room,
            waiting=lambda: _queued_sessions(page),
        )
        address = undo.enter_context(_listening(guard, host, port))
        undo.callback(_close, page, inner)
        yield address


def _queued_sessions(page: gr.Blocks) -> list[str]:
    """Return the sessions of the jobs that wait."""
    waiting = list(page._queue.event_queue_per_concurrency_id.values())
    return [event.session_hash for each in waiting for event in list(each.queue)]


def _close(page: gr.Blocks, inner: Any) -> None:
    """End the queue, and the streams to which visitors still listen."""
    page._queue.close()
    page.is_running = False
    inner.stop_event.set()


def _restore(uploads: str | None) -> None:
    """Set the folder of uploads to what it was."""
    if uploads is None:
        os.environ.pop(UPLOADS, None)
    else:
        os.environ[UPLOADS] = uploads


class _Server(uvicorn.Server):
    """A server that leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextmanager
def _listening(app: Any, host: str, port: int | None) -> Iterator[str]:
    """Answer requests while the block runs; yield the address."""
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
    """Return a socket on the port, or on the first free one. Raises OutputError where there is none."""
    for number in [port] if port else range(FIRST_PORT, LAST_PORT + 1):
        try:
            kind = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, number), family=kind, backlog=128)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
    where = f"port {port}" if port else f"any of the ports {FIRST_PORT} to {LAST_PORT}"
    raise OutputError(f"the page cannot listen on {where} of {host} ({reason}): choose another port or host")
