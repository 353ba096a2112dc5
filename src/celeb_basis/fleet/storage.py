"""Storage: files on this machine or wherever fsspec reaches, such as s3://, https:// and zip://."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..errors import CelebBasisError, OutputError, PhotoError
from ..io import check_regular, write_atomically
from ..limits import MAX_FILE_BYTES, MAX_FOLDER_ENTRIES, MAX_LINE_BYTES, MAX_TABLE_BYTES

CHUNK = 2**16  # bytes read at once
SILENCE = 6.0  # seconds for a web server to take a connection, or to go on with its answer; fsspec asks twice


def absolute(path: str) -> str:
    """Return a path that means the same to every process, whatever folder it runs in."""
    head, chain, last = path.rpartition("::")
    return path if "://" in last else f"{head}{chain}{os.path.abspath(last)}"


def join(folder: str, name: str) -> str:
    """Return the path of a file in a folder, which may be inside an archive: zip://people::all.zip."""
    if "://" in name or Path(name).is_absolute():
        return name
    head, chain, rest = folder.partition("::")
    return f"{head}{'' if not head or head.endswith('/') else '/'}{name}{chain}{rest}"


def parent(path: str) -> str:
    """Return the folder of a file; empty for this folder."""
    head, chain, rest = path.partition("::")
    start, slash, _ = head.rpartition("/")
    return f"{start}{slash}{chain}{rest}"


def suffix(path: str) -> str:
    """Return the ending of a file's name, in lower case."""
    return Path(path.partition("::")[0]).suffix.lower()


def stem(path: str) -> str:
    """Return the name of a file without its ending."""
    return Path(path.partition("::")[0]).stem


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a file for reading bytes.

    Raises PhotoError for a file that cannot be read, also where the block finds that out, and for a pipe or a device,
    which may never end.
    """
    with _errors_as(PhotoError, path, "cannot be read"):
        # The file system is kept until the file is closed: an archive closes with it.
        fs, inside = _resolve(path)
        if isinstance(fs, LocalFileSystem):
            check_regular(inside, PhotoError, MAX_TABLE_BYTES)
        with fs.open(inside, "rb") as file:
            yield file


def read_lines(path: str) -> Iterator[bytes]:
    """Yield a file line by line, with the line ends. Raises PhotoError for a line that no table or manifest has."""
    with opened(path) as file:
        rest = b""
        while chunk := file.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise PhotoError(f"{path} has a line of more than {MAX_LINE_BYTES / 1e6:,.0f} MB: it is no table")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest


def is_folder(path: str) -> bool:
    """Return whether this is a folder. Raises PhotoError where that cannot be found out."""
    with _errors_as(PhotoError, path, "cannot be read"):
        fs, inside = _resolve(path)
        return bool(fs.isdir(inside))


def folders_in(folder: str) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out. Raises PhotoError."""
    with _errors_as(PhotoError, folder, "cannot be read"):
        fs, inside = _resolve(folder)
        found = fs.ls(inside, detail=True) if fs.isdir(inside) else []
    names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory"]
    return sorted(name for name in names if not name.startswith("."))


def files_in(folder: str, most: int = MAX_FOLDER_ENTRIES) -> list[str]:
    """Return the names of the files in a folder and in those below it, sorted; hidden ones are left out.

    Raises PhotoError where there are more than `most` files and folders.
    """
    found: list[str] = []
    seen = 0
    with _errors_as(PhotoError, folder, "cannot be read"):
        fs, inside = _resolve(folder)
        top = inside.strip("/")
        for path, folders, files in fs.walk(inside, detail=True):
            seen += len(folders) + len(files)
            if seen > most:
                raise PhotoError(f"{folder} holds more than {most:,} files and folders: name a smaller one")
            for name in [name for name in folders if name.startswith(".")]:
                del folders[name]
            below = path.strip("/").removeprefix(top).strip("/")
            found += [f"{below}/{name}".lstrip("/") for name in files if name and not name.startswith(".")]
    return sorted(found)


def exists(path: str) -> bool:
    """Return whether there is such a file. Raises OutputError where that cannot be found out."""
    with _errors_as(OutputError, path, "cannot be read"):
        fs, inside = _resolve(path)
        return bool(fs.exists(inside))


@contextmanager
def written(path: str) -> Iterator[Path]:
    """Yield a local path whose content is a file at `path` when the block succeeds. Raises OutputError.

    On a local disk the file is there whole or not at all; an object store gives the same promise for one upload.
    """
    with _errors_as(OutputError, path, "cannot be written"):
        fs, inside = _resolve(path)
        fs.makedirs(fs._parent(inside), exist_ok=True)
        if isinstance(fs, LocalFileSystem):
            with write_atomically(inside) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory(prefix="celeb-basis-") as folder:
            temporary = Path(folder) / Path(inside).name
            yield temporary
            fs.put_file(str(temporary), inside)


def append(path: str, text: str) -> bool:
    """Add text to a file of this machine; return False for another place, where files cannot grow.

    Raises OutputError.
    """
    with _errors_as(OutputError, path, "cannot be written"):
        local = _local(path)
        if local is None:
            return False
        local.parent.mkdir(parents=True, exist_ok=True)
        with local.open("a", encoding="utf-8") as file:
            file.write(text)
        return True


def remove(path: str) -> None:
    """Remove a file, or a folder and what is in it, if it is there. Raises OutputError."""
    with _errors_as(OutputError, path, "cannot be removed"), suppress(FileNotFoundError):
        fs, inside = _resolve(path)
        fs.rm(inside, recursive=True)


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold a folder of this machine for the block; another process that wants it waits. Other places are not held."""
    local = _local(folder)
    try:
        import fcntl
    except ImportError:  # Windows
        local = None
    if local is None or not local.is_dir():
        yield
        return
    handle = os.open(local, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def fetched(paths: Sequence[str]) -> Iterator[list[Path]]:
    """Yield local files of the same content and names: the files themselves where they are local, else copies.

    Errors of the block name the files as they were asked for. Raises PhotoError for a file that cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="celeb-basis-") as folder:
        local = [_fetch(path, Path(folder) / str(i)) for i, path in enumerate(paths)]
        try:
            yield local
        except CelebBasisError as error:
            for path, copy in zip(paths, local, strict=True):
                error.message = error.message.replace(str(copy), path)
            raise


def _fetch(path: str, folder: Path) -> Path:
    with _errors_as(PhotoError, path, "cannot be read"):
        fs, inside = _resolve(path)
        if isinstance(fs, LocalFileSystem):
            check_regular(inside, PhotoError)
            return Path(inside)
        if (fs.size(inside) or 0) > MAX_FILE_BYTES:
            raise PhotoError(f"{path} has more than {MAX_FILE_BYTES / 1e6:,.0f} MB: it cannot be what it should")
        folder.mkdir()
        copy = folder / Path(inside).name
        fs.get_file(inside, str(copy))
        return copy


def _resolve(path: str) -> tuple[Any, str]:
    """Return the file system of a path, and the path in it. Raises PhotoError for an archive that is a pipe."""
    archive = path.rpartition("::")[2]
    if archive != path and "://" not in archive:
        check_regular(archive, PhotoError, MAX_TABLE_BYTES)
    fs, inside = url_to_fs(path, **_web_options(path))
    return fs, inside


def _web_options(path: str) -> dict[str, Any]:
    """Return how long the web servers in a path may be silent; by themselves, those libraries wait for minutes."""
    schemes = [scheme for scheme in ("http", "https") if f"{scheme}://" in path]
    if not schemes:
        return {}
    from aiohttp import ClientTimeout

    return {
        scheme: {"client_kwargs": {"timeout": ClientTimeout(connect=SILENCE, sock_read=SILENCE)}} for scheme in schemes
    }


def _local(path: str) -> Path | None:
    """Return the path of a file on this machine, None for any other place."""
    fs, inside = _resolve(path)
    return Path(inside) if isinstance(fs, LocalFileSystem) else None


@contextmanager
def _errors_as(kind: type[CelebBasisError], path: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one line; file systems raise nearly every kind of error there is."""
    try:
        yield
    except CelebBasisError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec says that a file is not there where it did not reach the server
        if cause is None or isinstance(cause, FileNotFoundError):
            raise kind(f"{path}: there is no such file") from None
        raise kind(f"{path} {what}: {_reason(cause)}") from None
    except Exception as error:
        raise kind(f"{path} {what}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return what an error says; some say nothing."""
    return "no answer in time" if isinstance(error, TimeoutError) else str(error).strip() or type(error).__name__
