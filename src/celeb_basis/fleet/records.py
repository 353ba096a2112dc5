"""Records: the rows of a CSV, JSON lines or Parquet file, or of a folder of folders, as they stand there."""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any

from ..errors import PhotoError, how_to_install
from ..limits import MAX_CELL_BYTES, MAX_CHUNK_BYTES, MAX_CHUNK_VALUES, MAX_LINE_BYTES
from . import storage

logger = logging.getLogger(__name__)

COLUMNS = ("name", "photo", "photos", "identity", "seed", "method", "steps", "error")  # others are left alone
DELIMITERS = (",", ";", "\t")
BATCH = 256  # rows of a Parquet file, read at once

Record = Mapping[str, Any]


def read_records(table: str) -> Iterator[tuple[int, Record]]:
    """Yield each row of a table with its number, as a person counts lines. Raises PhotoError for what is no table."""
    suffix = storage.suffix(table)
    if storage.is_folder(table):
        names = storage.folders_in(table)
        if not names:
            raise PhotoError(f"{table} holds no folders: make one for each person, with their photos in it")
        yield from ((i, {"name": name, "photo": storage.join(table, name)}) for i, name in enumerate(names, 1))
    elif suffix in (".csv", ".tsv", ".txt"):
        yield from _read_csv(table, "\t" if suffix == ".tsv" else ",")
    elif suffix in (".jsonl", ".ndjson"):
        yield from _read_json(table)
    elif suffix == ".parquet":
        yield from _read_parquet(table)
    else:
        raise PhotoError(f"{table} is no table: name a .csv, .tsv, .jsonl or .parquet file, or a folder of folders")


def parse_object(line: str) -> dict[str, Any]:
    """Return the JSON object of a line. Raises ValueError for anything else."""
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("no object")
    return record


def _read_csv(table: str, usual: str) -> Iterator[tuple[int, Record]]:
    """Yield the rows of a file as spreadsheets write it: which delimiter it has is found out by its first line."""
    lines = _decodeds(table)
    before, header = 0, "\n"
    try:
        while header and not header.strip():
            before, header = before + 1, next(lines, "")
        delimiter = None
        if header.lower().startswith("sep=") and len(header.rstrip("\r\n")) == 5:  # written by Excel for itself
            delimiter, before, header = header[4], before + 1, next(lines, "")
        rows = csv.reader(
            chain([header], lines), delimiter=delimiter or _delimiter(header, usual), skipinitialspace=True, strict=True
        )
        names = [name.strip().casefold() for name in next(rows, [])]
        twice = next((name for name in COLUMNS if names.count(name) > 1), None)
        if twice:
            raise PhotoError(f"{table}: two columns are called {twice}")
        for cells in rows:
            cells = [cell.strip() for cell in cells]
            if any(cells[len(names) :]):
                raise PhotoError(
                    f"{table}, row {rows.line_num + before - 1}: it has more cells than the first line has"
                )
            if any(cells):
                yield rows.line_num + before - 1, dict(zip(names, cells, strict=False))
    except (ValueError, csv.Error) as error:  # ValueError: a delimiter that can be none
        raise PhotoError(f"{table} cannot be read as a table: {error}") from None


def _delimiter(header: str, usual: str) -> str:
    """Return the delimiter that finds most of the known columns in the first line."""

    def known(delimiter: str) -> int:
        names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        return sum(name.strip().casefold() in COLUMNS for name in names)

    return max((usual, *DELIMITERS), key=known)


def _decodeds(table: str) -> Iterator[str]:
    """Yield the lines of a text in UTF-8, UTF-16 with its mark, or else Windows-1252, which Excel writes."""
    with storage.opened(table) as file:
        mark = file.read(2)
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        with storage.opened(table) as file, io.TextIOWrapper(file, encoding="utf-16", newline="") as text:
            while found := text.readline(MAX_LINE_BYTES + 1):
                if len(found) > MAX_LINE_BYTES:
                    raise PhotoError(f"{table} has a line of more than {MAX_LINE_BYTES / 1e6:,.0f} MB: it is no table")
                yield found
        return
    encoding = "utf-8-sig"
    for line in storage.read_lines(table):
        for part in line.splitlines(keepends=True):  # a Mac of old ends lines with a carriage return alone
            try:
                decoded = part.decode(encoding)
            except UnicodeDecodeError:
                encoding = "cp1252"
                decoded = _decode_windows(part, table)
            yield decoded
            if encoding == "utf-8-sig":
                encoding = "utf-8"


def _decode_windows(line: bytes, table: str) -> str:
    """Return a line in Windows-1252. Raises PhotoError where it is not in that either."""
    try:
        text = line.decode("cp1252")
    except UnicodeDecodeError:
        raise PhotoError(f"{table} cannot be read as a table: it is in an unknown encoding, save it as UTF-8") from None
    _note_encoding(table)
    return text


@cache
def _note_encoding(table: str) -> None:
    """Log once, though tables are read twice, that a table is not UTF-8."""
    logger.info(f"{table} is not UTF-8: it is read as Windows-1252")


def _read_json(table: str) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(_decodeds(table), start=1):
        if line.strip():
            try:
                yield number, parse_object(line)
            except ValueError:
                raise PhotoError(f"{table}, row {number}: it is no JSON object in one line") from None


def _read_parquet(table: str) -> Iterator[tuple[int, Record]]:
    """Yield the rows of a Parquet file, of which only the known columns are read."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise PhotoError(f"a Parquet table needs pyarrow: {how_to_install('fleet')}") from None
    number = 0
    with storage.opened(table) as file:
        try:
            paths = _leaf_paths(ParquetFile(file), table)
            # A text that stands in a thousand rows is kept once.
            content = ParquetFile(file, read_dictionary=paths)
            wanted = [name for name in COLUMNS if name in content.schema_arrow.names]
            for batch in content.iter_batches(batch_size=BATCH, columns=wanted):
                if max((_longest_text(column) for column in batch.columns), default=0) > MAX_CELL_BYTES:
                    raise PhotoError(f"{table} has a cell of more than {MAX_CELL_BYTES:,} bytes: it is no table")
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
        except PhotoError:
            raise
        except Exception as error:  # Arrow's own and Python's, from whatever a damaged file leads to
            raise PhotoError(f"{table} cannot be read as a Parquet file: {' '.join(str(error).split())}") from None


def _leaf_paths(content: Any, table: str) -> list[str]:
    """Return the paths of the known columns' parts. Raises PhotoError for one that would take too much memory."""
    metadata = content.metadata
    leaves = [
        (i, path)
        for i in range(metadata.num_columns)
        if (path := metadata.schema.column(i).path).partition(".")[0] in COLUMNS
    ]
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for i, path in leaves:
            chunk = group.column(i)
            if chunk.total_uncompressed_size > MAX_CHUNK_BYTES or chunk.num_values > MAX_CHUNK_VALUES:
                raise PhotoError(
                    f"{table}: the column {path} has {chunk.num_values:,} values of "
                    f"{chunk.total_uncompressed_size / 1e6:,.0f} MB in one row group: write smaller row groups"
                )
    return [path for i, path in leaves if metadata.schema.column(i).physical_type == "BYTE_ARRAY"]


def _longest_text(column: Any) -> int:
    """Return the bytes of the longest text in a column of Arrow, in its lists too."""
    import pyarrow.compute as compute
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return _longest_text(column.dictionary)
    if types.is_list(kind) or types.is_large_list(kind):
        return _longest_text(column.flatten())
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return compute.max(compute.binary_length(column)).as_py() or 0
    return 0
