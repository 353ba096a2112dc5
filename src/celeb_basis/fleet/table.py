"""Tables of many people, read row by row: CSV, JSON lines, Parquet, or a folder with a folder for each person."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CelebBasisError, PhotoError
from ..fit.recipe import DEFAULTS
from ..limits import MAX_COUNT
from ..notation import check_token, slugify
from . import storage as storage

ROWS = 1024  # of a Parquet file, read at once


@dataclass(frozen=True)
class Row:
    """One person of a table; files are written as they can be opened, or empty where the table names none.

    name: as in a placeholder token, without brackets.
    seed, method, steps: of this person, where the table has them.
    """

    name: str
    photos: tuple[str, ...] = ()
    identity: str = ""
    seed: int | None = None
    method: str | None = None
    steps: int | None = None


def read_rows(table: str, needed: tuple[str, ...]) -> Iterator[Row]:
    """The people of a table with the columns name, photo or photos, identity, seed, method and steps; others are left
    alone.

    Files are seen from the table's folder; in `photos` a semicolon stands between two, or they are a list. A photo may
    also be a folder. The manifest of another run is such a table: its people with an error are left out. Without a
    name, a person is called after the identity file.

    needed: "photos", "identity", or both. Raises PhotoError where a row lacks one or says what cannot be meant.
    """
    folder = storage.parent(table)
    for number, record in _records(table):
        if record.get("error"):
            continue
        try:
            row = _row(record, folder)
            missing = next((column for column in needed if not getattr(row, column)), None)
            if missing:
                raise PhotoError(f"a column {missing} is needed, with a file in every row")
        except CelebBasisError as error:
            raise PhotoError(f"{table}, row {number}: {error}") from None
        yield row


def _row(record: Mapping[str, Any], folder: str) -> Row:
    photos = record.get("photos") or []
    photos = photos.split(";") if isinstance(photos, str) else list(photos)
    photos = [*([record["photo"]] if record.get("photo") else []), *photos]
    identity = record.get("identity") or ""
    if not all(isinstance(file, str) for file in (*photos, identity)):
        raise PhotoError("photos and identity must be names of files")
    name = record.get("name") or storage.stem(identity)
    if not name:
        raise PhotoError("a column name is needed, with a name in every row")
    name = slugify(str(name))
    check_token(f"<{name}>")
    method = record.get("method") or None
    if method is not None and method not in DEFAULTS:
        raise PhotoError(f"the method {method} must be one of {', '.join(DEFAULTS)}")
    seed, steps = _whole(record, "seed", 2**63 - 1), _whole(record, "steps", MAX_COUNT)
    files = tuple(storage.join(folder, file.strip()) for file in photos if file.strip())
    return Row(name, files, storage.join(folder, identity) if identity else "", seed, method, steps)


def _whole(record: Mapping[str, Any], column: str, most: int) -> int | None:
    value = record.get(column)
    if value in (None, ""):
        return None
    if not str(value).isdecimal() or int(value) > most:
        raise PhotoError(f"{column} {value} must be a whole number from 0 to {most}")
    return int(value)


def _records(table: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row with its number, as a person counts lines."""
    suffix = storage.suffix(table)
    if storage.is_folder(table):
        names = storage.names_in(table, folders=True)
        if not names:
            raise PhotoError(f"{table} holds no folders: make one for each person, with their photos in it")
        yield from ((i, {"name": name, "photo": storage.join(table, name)}) for i, name in enumerate(names, 1))
    elif suffix in (".csv", ".tsv"):
        yield from _csv(table, "\t" if suffix == ".tsv" else ",")
    elif suffix in (".jsonl", ".ndjson"):
        yield from _json(table)
    elif suffix == ".parquet":
        yield from _parquet(table)
    else:
        raise PhotoError(f"{table} is no table: name a .csv, .tsv, .jsonl or .parquet file, or a folder of folders")


def _csv(table: str, delimiter: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with io.TextIOWrapper(storage.opened(table), encoding="utf-8-sig", newline="") as text:
        try:
            lines = csv.DictReader(text, delimiter=delimiter)
            for line in lines:
                if None in line:
                    raise PhotoError(f"{table}, row {lines.line_num}: it has more cells than the first line")
                yield lines.line_num, line
        except (UnicodeDecodeError, csv.Error) as error:
            raise PhotoError(f"{table} cannot be read as a table: {error}") from None


def _json(table: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with storage.opened(table) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise PhotoError(f"{table}, row {number}: it is no JSON object in one line")
            yield number, record


def _parquet(table: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise PhotoError("a Parquet table needs pyarrow: pip install 'celeb-basis[fleet]'") from None
    number = 0
    with storage.opened(table) as file:
        try:
            for batch in ParquetFile(file).iter_batches(batch_size=ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
        except (ArrowException, OSError) as error:
            raise PhotoError(f"{table} cannot be read as a Parquet file: {error}") from None
