"""Tables of people, for fleets and for `evaluate --people`: each is refused in one line, or gives people who may be."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
from files import Tally, artefacts
from mutate import ANY, NASTY, NUMBERS
from PIL import Image
from pyarrow import parquet

from celeb_basis.evaluation.people_table import read_people
from celeb_basis.fleet.manifest import Manifest
from celeb_basis.fleet.records import COLUMNS
from celeb_basis.fleet.table import read_rows
from celeb_basis.limits import MAX_COUNT
from celeb_basis.notation import check_token

TEXTS = [
    "ada", "Zoë Łuk", "女", "🙂", "../x", "/etc/passwd", "a.jpg;b.jpg", " ", ";", "s3://b/c.jpg", "zip://a::b.zip", "0",
    "400", "1e3", "-5", "9" * 5000, "x" * 200_000, '"', "'", "a\rb", "=1+1", "paper", "refined", "identity.safetensors",
    "picture.jpg", "nothing.jpg", ".",
]  # fmt: skip
VALUES: list[Any] = [
    *TEXTS, *NASTY, *NUMBERS, float("nan"), float("inf"), [["a"]], ["a.jpg"], ["\ud800"], {"a": []}, 0.5,
]  # fmt: skip
ENCODINGS = [*["utf-8"] * 8, "utf-8-sig", "utf-16", "cp1252", "utf-16-le", "utf-32"]
ARRAYS: list[Callable[[int], Any]] = [
    lambda n: pyarrow.array(range(n)),
    lambda n: pyarrow.array([f"n{i}" for i in range(n)]),
    lambda n: pyarrow.array([["a.jpg", None]] * n),
    lambda n: pyarrow.array([[["a.jpg"]]] * n),
    lambda n: pyarrow.array([{"a": 1}] * n),
    lambda n: pyarrow.array([b"\xff\xfe"] * n),
    lambda n: pyarrow.array([None] * n),
    lambda n: pyarrow.array([True] * n),
    lambda n: pyarrow.array([float("nan")] * n),
    lambda n: pyarrow.array([2**62] * n, pyarrow.duration("s")),
    lambda n: pyarrow.array([10**17] * n, pyarrow.timestamp("ms", "Nowhere/Land")),
    lambda n: pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * n, "int32"), ["x" * 140_000]),
    lambda n: pyarrow.array(["a.jpg"] * n, pyarrow.large_string()),
    lambda n: pyarrow.array([b"abcd"] * n, pyarrow.binary(4)),
]


def records(chance: random.Random) -> list[dict[str, Any]]:
    """Return a few people, most of them sound."""
    people: list[dict[str, Any]] = [
        {"name": f"p{i}", "photo": "picture.jpg", "identity": "identity.safetensors", "seed": str(i)}
        for i in range(chance.randint(1, 5))
    ]
    for person in people:
        for _ in range(chance.choice([0, 0, 0, 0, 1, 2])):
            person[chance.choice([*COLUMNS, "other", *NASTY[:3]])] = chance.choice(VALUES)
        if chance.random() < 0.1:
            del person[chance.choice(list(person))]
    return people


def as_csv(chance: random.Random) -> bytes:
    """Return a table as spreadsheets write it, or almost."""
    people = records(chance)
    header = list(dict.fromkeys(key for person in people for key in person))
    delimiter = chance.choice([",", ",", ",", ";", ";", "\t", "\t", "|"])
    text = io.StringIO()
    if chance.random() < 0.1:
        text.write("sep=" + chance.choice([delimiter, "", '"', "xx"]) + "\n")
    ends = chance.choice(["\n", "\r\n", "\r"])
    quotes = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    rows = csv.writer(text, delimiter=delimiter, lineterminator=ends, quoting=quotes)
    rows.writerow(header * (2 if chance.random() < 0.05 else 1))
    for person in people:
        rows.writerow([str(person.get(key, "")) for key in header] + ["more"] * (chance.random() < 0.03))
    return text.getvalue().encode(chance.choice(ENCODINGS), errors="replace")


def as_json(chance: random.Random) -> bytes:
    """Return a table of JSON lines."""
    lines = [json.dumps(person) for person in records(chance)]
    if chance.random() < 0.2:
        lines.insert(chance.randrange(len(lines) + 1), chance.choice([*NASTY, "[]", "7", '{"a":' * 5000, "\0", "{}"]))
    return "\n".join(lines).encode(chance.choice(ENCODINGS), errors="replace")


def as_parquet(chance: random.Random) -> bytes:
    """Return a table of typed columns."""
    rows = chance.choice([0, 1, 3, 300])
    columns: dict[str, Any] = {"name": ARRAYS[1](rows), "photo": ARRAYS[1](rows), "identity": ARRAYS[1](rows)}
    for _ in range(chance.randrange(4)):
        columns[chance.choice([*COLUMNS, "other", "a.b"])] = chance.choice(ARRAYS)(rows)
    file = io.BytesIO()
    compression = chance.choice(["none", "snappy", "zstd", "gzip"])
    parquet.write_table(pyarrow.table(columns), file, compression=compression, use_dictionary=chance.random() < 0.5)
    return file.getvalue()


KINDS = {"csv": as_csv, "tsv": as_csv, "jsonl": as_json, "parquet": as_parquet}


def read_fleet(table: Path) -> None:
    """Read a table as the three commands of a fleet do."""
    for needed in (("photos",), ("identity",), ("photos", "identity")):
        expected = Manifest(str(table.parent / "out"))
        for row in read_rows(str(table), needed):
            expected.expect(row.name)
            check_token(f"<{row.name}>")
            assert all(file and file.encode() for column in needed for file in getattr(row, column)), row
            assert row.seed is None or 0 <= row.seed < 2**63, row
            assert row.steps is None or 0 <= row.steps <= MAX_COUNT, row


def read_evaluated(table: Path) -> None:
    """Read a table as `evaluate --people` does."""
    people = read_people(table)
    assert people and all(person.photos for person in people)


def attack(suffix: str, read: Callable[[Path], Any], times: int, seed: str, folder: Path) -> Tally:
    """Read so many tables of one kind, a third of them damaged as files."""
    chance, tally = random.Random(f"people {suffix} {seed}"), Tally()
    artefacts(folder)
    Image.new("RGB", (64, 64)).save(folder / "picture.jpg")
    table = folder / f"people.{suffix}"
    for _ in range(times):
        data = KINDS[suffix](chance)
        if data and chance.random() < 0.3:
            data = chance.choice(ANY)(data, chance)
        table.write_bytes(data)
        with tally.attempt(suffix):
            read(table)
    return tally
