"""The hub's cache: which file in it is damaged, and has to be deleted before it is downloaded again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError

DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@contextmanager
def naming_damage(folder: Path | None) -> Iterator[None]:
    """Where a ModelError is due to a damaged file of the hub's cache, let it say which one has to be deleted.

    folder: where the model lies. Files are looked at only after an error, as large ones take seconds.
    """
    try:
        yield
    except ModelError as error:
        if folder is not None and (file := damaged(folder)) is not None:
            raise ModelError(f"{error}; delete {file}, so that it is downloaded again") from error
        raise


def damaged(folder: Path) -> Path | None:
    """What to delete of a model in the hub's cache; None for a sound model, and for one that lies elsewhere.

    The cache calls a file by its SHA-256, or by the SHA-1 that Git gives it. The files of a model are links to such
    files; where a system has no links, it cannot be told which one is damaged, and the model's folder is returned.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE).resolve()
    if cache not in folder.resolve().parents:
        return None
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        stored = file.resolve()
        if not DIGEST.fullmatch(stored.name):
            return cache / folder.resolve().relative_to(cache).parts[0]
        if _digest(stored) != stored.name:
            return stored
    return None


def _digest(file: Path) -> str:
    if len(file.name) == 64:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    content_bytes = file.read_bytes()
    return hashlib.sha1(f"blob {len(content_bytes)}\0".encode() + content_bytes).hexdigest()
