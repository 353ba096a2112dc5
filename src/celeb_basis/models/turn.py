"""Whose turn it is: one thread at a time may use a pipeline, whose tokenizers and hooks all of them would share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from .pipeline import Pipeline

Step = TypeVar("Step")

_turns: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_making = threading.Lock()


@contextmanager
def turn(pipe: Pipeline) -> Iterator[None]:
    """Have a pipeline to oneself inside the block; other threads wait. Blocks of one thread may be nested.

    Pipelines that share their text encoder, as those made from one another's parts do, share the turn too.
    """
    with _making:
        lock = _turns.setdefault(pipe.text_encoder, threading.RLock())
    with lock:
        yield


def in_turn(pipe: Pipeline, steps: Iterator[Step]) -> Iterator[Step]:
    """Take each step with the pipeline to oneself; between two steps others may have it."""
    with closing(steps):  # type: ignore[type-var]
        while True:
            with turn(pipe):
                step = next(steps, None)
            if step is None:
                return
            yield step
