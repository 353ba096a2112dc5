"""The page: the whole method in a browser, served from this machine."""

from __future__ import annotations

import hmac
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from .look import CSS, THEME
from .page import build
from .studio import Studio

__all__ = ["Studio", "serve"]

UPLOADS = "GRADIO_TEMP_DIR"
MAX_UPLOAD = "64mb"  # of one photo, basis or identity file; a basis of SDXL takes 8


@contextmanager
def serve(
    studio: Studio, *, host: str = "127.0.0.1", port: int | None = None, password: str | None = None
) -> Iterator[str]:
    """Serve the page while the block runs; yields its address.

    port: None takes the first that is free from 7860 on.
    password: asked of everybody who opens the page, under any user name.

    Raises OSError where host or port cannot be had.
    """

    def knows(_: str, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (password or "").encode())

    with tempfile.TemporaryDirectory(prefix="celeb-basis-") as uploads:
        # Gradio's own place for uploads would outlive the page, and is shared with other programs of this machine.
        before = os.environ.get(UPLOADS)
        os.environ[UPLOADS] = uploads
        page = build(studio)
        try:
            address = _launch(page, server_name=host, server_port=port, auth=knows if password else None)
            page.allowed_paths = studio.folders  # the list itself, as it grows with every visitor
            yield address
        finally:
            page.close(verbose=False)
            if before is None:
                del os.environ[UPLOADS]
            else:
                os.environ[UPLOADS] = before


def _launch(page: gr.Blocks, **where: object) -> str:
    _, address, _ = page.launch(
        **where,
        auth_message="Any user name, and the password of whoever opened this page.",
        theme=THEME,
        css=CSS,
        footer_links=["api", "settings"],
        max_file_size=MAX_UPLOAD,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        share=False,
        inline=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    return str(address)
