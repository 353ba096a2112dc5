"""Files: written whole or not at all, tensors as safetensors with string metadata, never pickle."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .errors import CelebBasisError, OutputError


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds.

    On any failure, Ctrl-C included, the temporary file is removed and an older file at `path` stays as
    it was. The suffix is kept, so that writers may choose their format by it.

    Raises OutputError where the file system refuses (missing folder, no permission, disk full).
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")  # short, however long the name is
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # where nothing could be written there is nothing to remove
            temporary.unlink(missing_ok=True)


def save_safetensors(path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors (copied to the CPU, contiguous) and string metadata to `path`, atomically."""
    content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, dict(metadata))
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def load_safetensors(
    path: str | Path, error: type[CelebBasisError] = CelebBasisError
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file. Raises `error` if it is not one."""
    path = Path(path)
    try:
        if not path.is_file():
            raise error(f"{path}: no such file")
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as reason:
        raise error(f"{path} is not a readable safetensors file ({reason})") from reason
