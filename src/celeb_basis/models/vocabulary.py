"""The vocabulary of a model that is not loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import ModelError
from ..files import read_text
from .card import local_path

# A tokenizer is written in one of these, whole or as its vocabulary alone.
FILES = ("tokenizer/tokenizer.json", "tokenizer/vocab.json")


def local_vocabulary(model: str) -> frozenset[str]:
    """The pieces that a model's tokenizer knows, where the model lies on this machine; empty where it does not."""
    for path in _files(model):
        try:
            content = json.loads(read_text(path, ModelError))
            return frozenset(content["model"]["vocab"] if "model" in content else content)
        except (ModelError, ValueError, TypeError, KeyError, RecursionError):
            continue
    return frozenset()


def _files(model: str) -> Iterator[Path]:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in FILES:
        yield local_path(model) / name
        try:
            cached = try_to_load_from_cache(model, name)
        except HFValidationError:  # a path is no hub id
            continue
        if isinstance(cached, str):
            yield Path(cached)
