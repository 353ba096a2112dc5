"""Libraries do their work without their remarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Diffusers remarks on sound models, the hub on every attempt to reach it; what goes wrong they raise."""
    from diffusers.utils import logging
    from huggingface_hub.utils import logging as hub_logging

    before = [(each, each.get_verbosity()) for each in (logging, hub_logging)]
    try:
        for each, _ in before:
            each.set_verbosity_error()
        yield
    finally:
        for each, verbosity in before:
            each.set_verbosity(verbosity)
