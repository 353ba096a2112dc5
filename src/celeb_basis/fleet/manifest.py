"""Manifest: what became of each person of a table, one JSON line a person."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import CelebBasisError, OutputError, PhotoError
from ..notation import check_token
from . import storage
from .records import parse_object

FILE = "manifest.jsonl"
# A folder with the lines of runs that go on, or were stopped. No person is called so: names have no dots.
PARTS = "manifest.parts"
MAX_PARTS = 10**9
EVERY = 10.0  # seconds of results that a stop of the whole run may lose where files cannot grow


class Manifest:
    """The lines of a folder's manifest, by name; the latest line about a person counts.

    While a run goes on, its lines are kept in a part of its own, or in several where files cannot grow, as in object
    stores; `close` makes one file of all of them. Several runs may write to one folder: each keeps the lines of the
    others. In memory is a few megabytes at most, the rest is in a database on disk.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rows = sqlite3.connect("", check_same_thread=False)  # a file that nobody else sees
        self._rows.execute("create table rows (name text primary key, line text, own integer)")
        self._rows.execute("create table expected (name text primary key) without rowid")
        self._file, self._parts = storage.join(folder, FILE), storage.join(folder, PARTS)
        self._run, self._saved = uuid.uuid4().hex, time.monotonic()
        self._new: list[str] = []
        self._keep(self._lines_of_others())
        self._known_parts = [storage.join(self._parts, name) for name in storage.files_in(self._parts, MAX_PARTS)]
        for part in self._known_parts:
            self._keep(self._lines_in(part, growing=True), own=True)

    def expect(self, name: str) -> None:
        """Note that a table has this person. Raises PhotoError where it has them already."""
        try:
            with _disk_errors():
                self._rows.execute("insert into expected values (?)", (name,))
        except sqlite3.IntegrityError:
            raise PhotoError(f"two rows are called {name}: each person needs a name of their own") from None

    def begin(self) -> None:
        """Write a first, empty part. Raises OutputError, before the work, where nothing can be written."""
        self._save([])

    def get(self, name: str) -> dict[str, Any]:
        """Return what is known of a person, empty where nothing is."""
        found = self._rows.execute("select line from rows where name = ?", (name,)).fetchone()
        return dict(json.loads(found[0])) if found else {}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Note what became of people. Raises OutputError where the disk is full; what was noted before is kept."""
        found = list(rows)
        self._keep(found, own=True)
        self._new += [json.dumps(row) for row in found]
        self._save(self._new, or_later=True)

    def close(self) -> None:
        """Write one file with everybody's line, and remove the parts. Raises OutputError; the parts then stay."""
        with storage.locked(self._folder):
            self._keep(self._lines_of_others())
            if self._rows.execute("select 1 from rows").fetchone():
                with storage.written(self._file) as temporary, temporary.open("w", encoding="utf-8") as file:
                    for (line,) in self._rows.execute("select line from rows order by rowid"):
                        file.write(f"{line}\n")
            for part in self._known_parts:
                storage.remove(part)
            if not storage.files_in(self._parts, MAX_PARTS):
                storage.remove(self._parts)
        self._rows.close()

    def _save(self, lines: list[str], *, or_later: bool = False) -> None:
        """Write lines to a part, at once where files can grow."""
        part = storage.join(self._parts, f"{time.time_ns()}-{self._run}.jsonl")
        growing = self._known_parts[-1] if self._known_parts and self._run in self._known_parts[-1] else part
        text = "".join(f"{line}\n" for line in lines)
        if not storage.append(growing, text):
            if or_later and time.monotonic() - self._saved < EVERY:
                return
            with storage.written(part) as temporary:
                temporary.write_text(text, encoding="utf-8")
            growing = part
        if growing not in self._known_parts:
            self._known_parts.append(growing)
        self._new, self._saved = [], time.monotonic()

    def _keep(self, rows: Iterable[Mapping[str, Any]], *, own: bool = False) -> None:
        """Take lines; those that this run adds count more than what other runs write meanwhile."""
        with _disk_errors():
            self._rows.executemany(
                "insert into rows values (?, ?, ?) on conflict (name) do update set line = excluded.line, "
                "own = excluded.own where excluded.own >= rows.own",
                ((row["name"], json.dumps(row), own) for row in rows),
            )

    def _lines_of_others(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the manifest as it is now."""
        if storage.exists(self._file):
            yield from self._lines_in(self._file)

    def _lines_in(self, file: str, *, growing: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the lines of a file. Raises PhotoError for what is no manifest.

        growing: the file may end in the middle of a line, where its run was stopped.
        """
        for line in storage.read_lines(file):
            if not line.strip() or (growing and not line.endswith(b"\n")):
                continue
            try:
                record = parse_object(line.decode("utf-8-sig"))
                check_token(f"<{record['name']}>")
                if not isinstance(record["name"], str) or not isinstance(record.setdefault("error", None), str | None):
                    raise ValueError
                if not isinstance(record.get("figures", {}), dict):
                    raise ValueError
            except (ValueError, KeyError, CelebBasisError):
                raise PhotoError(
                    f"the manifest in {self._folder} is damaged: move it away, or name another folder"
                ) from None
            yield record


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn an error of the database, which is in the folder for temporary files, into OutputError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(f"the folder for temporary files cannot be written: {error}") from None
