"""The page: the whole method in a browser, served from this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Hide the proxies of the environment: Gradio makes a client on import, which not every proxy's address allows."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.lower().endswith("_proxy")}
    try:
        yield
    finally:
        os.environ.update(hidden)


with _without_proxies():
    from .server import serve
    from .studio import Studio

__all__ = ["Studio", "serve"]
