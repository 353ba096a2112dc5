"""Tables of people to measure: whose identity file belongs to which photographs."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import PhotoError
from ..faces.photo import open_photos
from ..identity import Identity
from ..io import read_text
from .evaluate import Person

COLUMNS = ("identity", "photo")


def read_people(table: Path) -> list[Person]:
    """Return the people of a table with the columns identity, photo and, if it is there, name, by commas or tabs.

    The first two name files, seen from the table's folder; a folder of photos counts as all of them, and one person
    may have several lines. The name is the person's own, by which celebrities are known.

    Raises PhotoError where the table cannot be read, and what reading its files raises.
    """
    text = read_text(table, PhotoError)
    lines = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text.partition("\n")[0] else ",")
    photos: dict[Path, list[Path]] = {}
    names: dict[Path, str] = {}
    try:
        if not set(COLUMNS) <= set(lines.fieldnames or ()):
            raise PhotoError(f"{table} must begin with a line that names its columns: {','.join(COLUMNS)}")
        for number, line in enumerate(lines, start=2):
            if not (line["identity"] and line["photo"]):
                raise PhotoError(f"{table}, line {number}: both an identity and a photo are needed")
            photo = table.parent / line["photo"]
            identity = table.parent / line["identity"]
            names[identity] = (line.get("name") or "").strip()
            photos.setdefault(identity, []).append(photo)
    except csv.Error as error:
        raise PhotoError(f"{table} cannot be read as a table: {error}") from None
    if not photos:
        raise PhotoError(f"{table} names nobody: add lines of an identity file and a photo")
    people = [Person(Identity.load(file), open_photos(paths), names[file]) for file, paths in photos.items()]
    tokens = [person.identity.placeholder_token for person in people]
    for token in tokens:
        if tokens.count(token) > 1:
            raise PhotoError(f"{table}: two identities are called {token}: fit one of them under another name")
    return people
