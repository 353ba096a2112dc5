"""Places: files on this machine or wherever fsspec reaches, such as s3://, https:// and zip://."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..errors import CelebBasisError, OutputError, PhotoError
from ..io import check_regular, write_atomically
from ..limits import MAX_FILE_BYTES


def absolute(path: str) -> str:
    """The same place as every process names it, whatever folder it runs in."""
    return path if "://" in path else os.path.abspath(path)


def join(folder: str, name: str) -> str:
    """A file by its name in a folder, which may be inside an archive: zip://people::all.zip."""
    if "://" in name or Path(name).is_absolute():
        return name
    head, chain, rest = folder.partition("::")
    return f"{head}{'' if not head or head.endswith('/') else '/'}{name}{chain}{rest}"


def parent(path: str) -> str:
    """The folder of a file; empty for this folder."""
    head, chain, rest = path.partition("::")
    start, slash, _ = head.rpartition("/")
    return f"{start}{slash}{chain}{rest}"


def suffix(path: str) -> str:
    """The ending of a file's name, in lower case."""
    return Path(path.partition("::")[0]).suffix.lower()


def stem(path: str) -> str:
    """The name of a file without its ending."""
    return Path(path.partition("::")[0]).stem


def opened(path: str) -> Any:
    """A file, open for reading bytes. Raises PhotoError."""
    with _or(PhotoError, path, "cannot be read"):
        fs, inside = url_to_fs(path)
        return fs.open(inside, "rb")


def is_folder(path: str) -> bool:
    """Whether this is a folder. Raises PhotoError where that cannot be found out."""
    with _or(PhotoError, path, "cannot be read"):
        fs, inside = url_to_fs(path)
        return bool(fs.isdir(inside))


def names_in(folder: str, *, folders: bool = False) -> list[str]:
    """The names of the files in a folder and in those below it, or else of its folders, sorted; none that is hidden."""
    with _or(PhotoError, folder, "cannot be read"):
        fs, inside = url_to_fs(folder)
        if not fs.isdir(inside):
            return []
        if folders:
            found = [entry["name"] for entry in fs.ls(inside, detail=True) if entry["type"] == "directory"]
        else:
            found = fs.find(inside)
    start = inside.strip("/")
    names = [name.strip("/").removeprefix(start).strip("/") for name in found]
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def exists(path: str) -> bool:
    """Whether there is such a file. Raises OutputError where that cannot be found out."""
    with _or(OutputError, path, "cannot be read"):
        fs, inside = url_to_fs(path)
        return bool(fs.exists(inside))


@contextmanager
def written(path: str) -> Iterator[Path]:
    """Yield a local path whose content is a file at `path` when the block succeeds. Raises OutputError.

    On a local disk the file is there whole or not at all; an object store gives the same promise for one upload.
    """
    with _or(OutputError, path, "cannot be written"):
        fs, inside = url_to_fs(path)
        fs.makedirs(fs._parent(inside), exist_ok=True)
        if isinstance(fs, LocalFileSystem):
            with write_atomically(inside) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory(prefix="celeb-basis-") as folder:
            temporary = Path(folder) / Path(inside).name
            yield temporary
            fs.put_file(str(temporary), inside)


def remove(folder: str) -> None:
    """Remove a folder and what is in it. Raises OutputError."""
    with _or(OutputError, folder, "cannot be removed"):
        fs, inside = url_to_fs(folder)
        fs.rm(inside, recursive=True)


@contextmanager
def _or(kind: type[CelebBasisError], path: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one line; file systems raise nearly every kind of error there is."""
    try:
        yield
    except CelebBasisError:
        raise
    except FileNotFoundError:
        raise kind(f"{path}: there is no such file") from None
    except Exception as error:
        raise kind(f"{path} {what}: {error or type(error).__name__}") from None


@contextmanager
def fetched(paths: Sequence[str]) -> Iterator[list[Path]]:
    """The files as local ones of the same names: themselves where they are local, else copies for this block.

    Errors of the block name the files as they were asked for. Raises PhotoError for a file that cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="celeb-basis-") as folder:
        local = [_fetch(path, Path(folder) / str(i)) for i, path in enumerate(paths)]
        try:
            yield local
        except CelebBasisError as error:
            message = str(error)
            for path, copy in zip(paths, local, strict=True):
                message = message.replace(str(copy), path)
            error.args = (message, *error.args[1:])
            raise


def _fetch(path: str, folder: Path) -> Path:
    with _or(PhotoError, path, "cannot be read"):
        fs, inside = url_to_fs(path)
        if isinstance(fs, LocalFileSystem):
            check_regular(inside, PhotoError)
            return Path(inside)
        if (fs.size(inside) or 0) > MAX_FILE_BYTES:
            raise PhotoError(f"{path} has more than {MAX_FILE_BYTES / 1e6:,.0f} MB: it cannot be what it should")
        folder.mkdir()
        copy = folder / Path(inside).name
        fs.get_file(inside, str(copy))
        return copy
