"""Tables of many people: each row is somebody with photos, an identity file, or both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import CelebBasisError, PhotoError
from ..fit.recipe import DEFAULTS
from ..limits import MAX_COUNT
from ..notation import check_token, excerpt, slugify
from . import storage
from .records import Record, read_records

MAX_DIGITS = 20  # of a seed; Python itself refuses to read thousands


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
    """Yield the people of a table with the columns name, photo or photos, identity, seed, method and steps.

    Other columns are left alone. Files are seen from the table's folder; in `photos` a semicolon stands between two,
    or they are a list. A photo may also be a folder. The manifest of another run is such a table: its people with an
    error are left out. Without a name, a person is called after the identity file.

    needed: "photos", "identity", or both. Raises PhotoError where a row lacks one or says what cannot be meant.
    """
    folder = storage.parent(table)
    for number, record in read_records(table):
        if _value(record, "error"):
            continue
        try:
            row = _row(record, folder)
            missing = next((column for column in needed if not getattr(row, column)), None)
            if missing:
                raise PhotoError(f"a column {missing} is needed, with a file in every row")
        except CelebBasisError as error:
            raise PhotoError(f"{table}, row {number}: {error.message}") from None
        yield row


def _row(record: Record, folder: str) -> Row:
    photos = _value(record, "photos") or []
    photos = photos.split(";") if isinstance(photos, str) else photos
    photo, identity = _value(record, "photo"), _value(record, "identity") or ""
    if not isinstance(photos, list) or not all(isinstance(file, str) for file in (*photos, photo or "", identity)):
        raise PhotoError("photos and identity must be names of files")
    photos = [file.strip() for file in (photo or "", *photos)]
    name = storage.stem(identity) if _value(record, "name") is None else _value(record, "name")
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise PhotoError(f"name must be a text, not a {type(name).__name__}")
    if not str(name).strip():
        raise PhotoError("a column name is needed, with a name in every row")
    for text in (str(name), identity, *photos):
        if "\0" in text or text.encode(errors="replace").decode() != text:
            raise PhotoError(f"{excerpt(text)!r} is not UTF-8 text: write it again, or rename the file")
    name = slugify(str(name))
    check_token(f"<{name}>")
    method = _value(record, "method") or None
    if method is not None and (not isinstance(method, str) or method not in DEFAULTS):
        said = excerpt(method) if isinstance(method, str) else f"({type(method).__name__})"
        raise PhotoError(f"the method {said} must be one of {', '.join(DEFAULTS)}")
    seed, steps = _whole_number(record, "seed", 2**63 - 1), _whole_number(record, "steps", MAX_COUNT)
    files = tuple(storage.join(folder, file) for file in photos if file)
    return Row(name, files, storage.join(folder, identity) if identity else "", seed, method, steps)


def _whole_number(record: Record, column: str, most: int) -> int | None:
    value = _value(record, column)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with gaps, as pandas keeps it
        value = int(value)
    digits = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not digits.isdecimal() or len(digits) > MAX_DIGITS or int(digits) > most:
        said = excerpt(str(value)) if isinstance(value, str | int | float) else f"({type(value).__name__})"
        raise PhotoError(f"{column} {said} must be a whole number from 0 to {most}")
    return int(digits)


def _value(record: Record, column: str) -> Any:
    """Return what a row has in a column; None where it is empty, or NaN, which pandas writes there."""
    value = record.get(column)
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value
