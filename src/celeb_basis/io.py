"""Files: written whole or not at all, tensors as safetensors with string metadata, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .errors import CelebBasisError, OutputError
from .limits import MAX_FILE_BYTES, MAX_HEADER_BYTES, MAX_TEXT_BYTES

# What else people name, by its first bytes; a header of so many bytes would be too long.
OTHERS = {
    b"\xff\xd8\xff": "a picture",
    b"\x89PNG": "a picture",
    b"RIFF": "a picture",
    b"GIF8": "a picture",
    b"PK\3\4": "an archive or a pickle",
}
DIGEST = "sha256"  # in the metadata: of everything else in the file
# Temporary files name machine and process, so that another run can tell those that nobody writes any more.
OURS = f".celeb-basis-{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]}-"


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds.

    On any failure, Ctrl-C included, the temporary file is removed and an older file at `path` stays as
    it was. The suffix is kept, so that writers may choose their format by it. What a process that was
    killed has left in the folder is removed.

    Raises OutputError where the file system refuses (missing folder, no permission, disk full).
    """
    path = Path(path)
    # Short, however long the name is.
    temporary = path.with_name(f"{OURS}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        remove_abandoned(path.parent)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError, ValueError):  # where nothing could be written there is nothing to remove
            temporary.unlink(missing_ok=True)


@contextmanager
def write_buffered(path: str | Path) -> Iterator[BytesIO]:
    """Yield a buffer whose content is written to `path`, atomically, when the block succeeds.

    For writers such as Pillow's encoders, which take a full disk for success.
    """
    buffer = BytesIO()
    yield buffer
    with write_atomically(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


@cache
def remove_abandoned(folder: Path) -> None:
    """Remove from a folder what processes of this machine that are no more have left; once a run is enough."""
    import shutil

    import psutil

    with suppress(OSError):
        for entry in os.scandir(folder):
            process = entry.name.removeprefix(OURS).split("-")[0]
            if entry.name.startswith(OURS) and process.isdecimal() and not psutil.pid_exists(int(process)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


@contextmanager
def temporary_folder(where: Path) -> Iterator[Path]:
    """Make a folder for this process alone, removed at the end; those of killed processes go at the beginning."""
    import tempfile

    remove_abandoned(where)
    prefix = f"{OURS}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=where, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def check_regular(path: str | Path, error: type[CelebBasisError], most: int = MAX_FILE_BYTES) -> None:
    """Raise `error` unless `path` is an ordinary file of at most `most` bytes: a pipe or a device may never end."""
    try:
        found = os.stat(path)
    except ValueError:
        raise error(f"{str(path)!r} is no name of a file") from None
    except FileNotFoundError:
        raise error(f"{path}: there is no such file") from None
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror}") from None
    if stat.S_ISDIR(found.st_mode):
        raise error(f"{path} is a folder: name a file")
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is a pipe or a device: name an ordinary file")
    if found.st_size > most:
        raise error(
            f"{path} has {found.st_size / 1e6:,.0f} MB, more than {most / 1e6:,.0f}: it cannot be what it should"
        )


def read_text(path: str | Path, error: type[CelebBasisError]) -> str:
    """Read the UTF-8 text of an ordinary file that is not too large. Raises `error` for anything else."""
    check_regular(path, error, MAX_TEXT_BYTES)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path} cannot be read: it is not UTF-8 text") from None


def save_safetensors(path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors (copied to the CPU, contiguous) and string metadata to `path`, atomically.

    The same content is the same bytes. A digest of it goes into the metadata, by which reading finds damage.
    """
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    content = save(whole, {**metadata, DIGEST: _digest(whole, metadata)})
    size = int.from_bytes(content[:8], "little")
    # The library writes metadata in an order that changes from run to run.
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with write_atomically(path) as temporary:
        temporary.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


def load_safetensors(
    path: str | Path, error: type[CelebBasisError] = CelebBasisError
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file. Raises `error` if it is not one, or is damaged."""
    check_regular(path, error)
    try:
        content = Path(path).read_bytes()
        for beginning, kind in OTHERS.items():
            if content.startswith(beginning):
                raise error(f"{path} is {kind}: name a .safetensors file")
        size = int.from_bytes(content[:8], "little")
        if size > min(len(content) - 8, MAX_HEADER_BYTES):
            raise ValueError("it does not begin as one does")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
        tensors = load(content)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as reason:
        raise error(f"{path} is not a readable safetensors file ({reason})") from reason
    except RecursionError:
        raise error(f"{path} is not a readable safetensors file (its header is nested too deeply)") from None
    if (known := metadata.pop(DIGEST, None)) is not None and known != _digest(tensors, metadata):
        raise error(f"{path} was changed or damaged after it was written: its content is not what its digest says")
    return tensors, metadata


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """Return a hash of names, types, shapes, values and metadata."""
    known = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        known.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        known.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return known.hexdigest()
