"""The page: the whole method in a browser, served from this machine."""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ..limits import MAX_QUEUE, MAX_UPLOAD_MB
from .guard import Guard
from .page import build
from .server import served
from .studio import Studio
from .theme import CSS, THEME
from .visitors import Visitors

__all__ = ["Studio", "serve"]

UPLOADS = "GRADIO_TEMP_DIR"


@contextmanager
def serve(
    studio: Studio,
    *,
    uploads: Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    domains: Sequence[str] = (),
) -> Iterator[str]:
    """Serve the page while the block runs; yields its address.

    uploads: folder for what visitors send; by default one that is removed in the end.
    port: None takes the first that is free from 7860 on.
    domains: names under which the page may be opened, beside its address and this machine's own name.
    password: asked of everybody who opens the page, under any user name.

    Raises OutputError where host or port cannot be had.
    """
    expected = hashlib.sha256((password or "").encode()).digest()

    def knows(_: str, given: str) -> bool:
        # Hashes are of one length, whatever was given.
        return hmac.compare_digest(hashlib.sha256(given.encode(errors="replace")).digest(), expected)

    with ExitStack() as undo:
        if uploads is None:
            uploads = Path(undo.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        studio.counted.append(str(uploads))
        undo.callback(studio.counted.remove, str(uploads))
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
            auth=knows if password else None,
            auth_message="Any user name, and the password of whoever opened this page.",
            theme=THEME,
            css=CSS,
            footer_links=["api", "settings"],
            max_file_size=f"{MAX_UPLOAD_MB}mb",
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
        )
        inner: Any = outer.routes[-1].app
        page.allowed_paths = studio.folders  # the list itself, as it grows with every visitor
        guard = Guard(
            outer,
            visitors,
            page.fns,
            hosts=[host, *domains],
            logged_in=inner.tokens.__contains__ if password else None,
            has_room=studio.has_room,
            waiting=lambda: _in_the_queue(page),
        )
        address = undo.enter_context(served(guard, host, port))
        undo.callback(_close, page, inner)
        yield address


def _in_the_queue(page: gr.Blocks) -> list[str]:
    """The sessions of the jobs that wait."""
    waiting = list(page._queue.event_queue_per_concurrency_id.values())
    return [event.session_hash for each in waiting for event in list(each.queue)]


def _close(page: gr.Blocks, inner: Any) -> None:
    """End the queue and the streams that visitors still listen to."""
    page._queue.close()
    page.is_running = False
    inner.stop_event.set()


def _restore(uploads: str | None) -> None:
    if uploads is None:
        os.environ.pop(UPLOADS, None)
    else:
        os.environ[UPLOADS] = uploads
