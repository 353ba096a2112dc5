"""Samplers: the schedulers that can take the place of the one that a model brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any

from ..errors import PromptError
from .card import SAMPLERS
from .pipeline import Pipeline


def get_scheduler(pipe: Pipeline, sampler: str) -> Any:
    """A scheduler of the kind `sampler` for the pipeline's own noise levels. Raises PromptError for a name of none."""
    if sampler not in SAMPLERS:
        raise PromptError(f"sampler={sampler!r} must be one of {', '.join(SAMPLERS)}")
    return resolve_name(SAMPLERS[sampler]).from_config(pipe.scheduler.config)


@contextmanager
def sampling(pipe: Pipeline, sampler: str | None) -> Iterator[None]:
    """Let the pipeline draw with another sampler inside the block; None leaves it its own."""
    own = pipe.scheduler
    other = own if sampler is None else get_scheduler(pipe, sampler)
    try:
        pipe.scheduler = other
        yield
    finally:
        pipe.scheduler = own
