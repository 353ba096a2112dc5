"""Silences notices of other libraries that a user can do nothing about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings about sound models, reports that our errors replace, and each attempt at the hub."""
    from diffusers.utils import logging
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    before = [(each, each.get_verbosity()) for each in (logging, hub_logging, transformers_logging)]
    try:
        for each, _ in before:
            each.set_verbosity_error()
        yield
    finally:
        for each, verbosity in before:
            each.set_verbosity(verbosity)
