"""Manifest: what became of each person of a table, one JSON line a person."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PhotoError
from . import storage as storage

FILE = "manifest.jsonl"
PARTS = "manifest-parts"  # a folder with the lines of a run that goes on, or was stopped
EVERY = 10.0  # seconds of results that a stop of the whole run may lose


class Manifest:
    """The lines of a folder's manifest, by name; the latest line about a person counts.

    While a run goes on its lines are kept in parts, each a whole file, because object stores cannot append to one;
    `close` makes one file of all of them. In memory is a few megabytes at most, the rest is in a database on disk.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rows = sqlite3.connect("", check_same_thread=False)  # a file that nobody else sees
        self._rows.execute("create table rows (name text primary key, line text)")
        self._rows.execute("create table expected (name text primary key) without rowid")
        self._file, self._parts = storage.join(folder, FILE), storage.join(folder, PARTS)
        found = [self._file] if storage.exists(self._file) else []
        found += [storage.join(self._parts, name) for name in storage.names_in(self._parts)]
        for file in found:
            with storage.opened(file) as lines:
                self._keep(line.decode() for line in lines)
        self._new: list[str] = []
        self._saved = time.monotonic()

    def _keep(self, lines: Iterable[str]) -> None:
        rows = ((json.loads(line)["name"], line.strip()) for line in lines)
        try:
            self._rows.executemany("insert or replace into rows values (?, ?)", rows)
        except (ValueError, KeyError, TypeError):
            raise PhotoError(
                f"the manifest in {self._folder} is damaged: move it away, or name another folder"
            ) from None

    def expect(self, name: str) -> None:
        """Note that a table has this person. Raises PhotoError where it has them already."""
        try:
            self._rows.execute("insert into expected values (?)", (name,))
        except sqlite3.IntegrityError:
            raise PhotoError(f"two rows are called {name}: each person needs a name of their own") from None

    def begin(self) -> None:
        """Write a first, empty part, so that a place where nothing can be written is found out before the work."""
        self._save([])

    def get(self, name: str) -> dict[str, Any]:
        """What is known of a person, empty where nothing is."""
        found = self._rows.execute("select line from rows where name = ?", (name,)).fetchone()
        return dict(json.loads(found[0])) if found else {}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Note what became of people."""
        lines = [json.dumps(row) for row in rows]
        self._keep(lines)
        self._new += lines
        if time.monotonic() - self._saved > EVERY:
            self._save(self._new)

    def _save(self, lines: Iterable[str]) -> None:
        _write(storage.join(self._parts, f"{time.time_ns()}.jsonl"), lines)
        self._new, self._saved = [], time.monotonic()

    def close(self) -> None:
        """Write one file with everybody's line, and remove the parts."""
        if self._rows.execute("select 1 from rows").fetchone():
            _write(self._file, (line for (line,) in self._rows.execute("select line from rows order by rowid")))
        storage.remove(self._parts)
        self._rows.close()


def _write(path: str, lines: Iterable[str]) -> None:
    with storage.written(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
