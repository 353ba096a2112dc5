"""Manifests of fleets with lines of any content: each is refused in one line, or goes on with everybody in it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from files import Tally
from mutate import ANY, NASTY, NUMBERS

from celeb_basis.fleet.manifest import FILE, PARTS, Manifest
from celeb_basis.fleet.table import read_rows

KEYS = ["name", "error", "inputs", "identity", "photos", "pictures", "figures", "seconds", "other"]
VALUES: list[Any] = [
    *NUMBERS, *NASTY, float("nan"), float("inf"), [["a"]], ["x.jpg"], {"a": {"b": []}}, "ada", "../x", "Ada", "p1.x",
    "manifest-parts", "9" * 5000,
]  # fmt: skip
LINES = [
    "", "[]", "null", "7", '"name"', "[" * 10**5, '{"name":' * 5000, '{"name": ' + "9" * 5000 + "}", "\0" * 99, "{",
]  # fmt: skip


def lines(chance: random.Random) -> bytes:
    """Return some lines, most of them whole."""
    people = []
    for i in range(chance.randint(1, 5)):
        person: dict[str, Any] = {"name": f"p{i}", "error": None, "inputs": "0" * 32, "identity": f"p{i}.safetensors"}
        if chance.random() < 0.4:
            person[chance.choice(KEYS)] = chance.choice(VALUES)
        if chance.random() < 0.1:
            del person[chance.choice(list(person))]
        people.append(json.dumps(person))
    if chance.random() < 0.2:
        people.insert(chance.randrange(len(people) + 1), chance.choice(LINES))
    data = "".join(f"{line}\n" for line in people).encode()
    return chance.choice(ANY)(data, chance) if chance.random() < 0.3 else data


def attack(times: int, seed: str, folder: Path) -> Tally:
    """Go on with so many runs, and read what they leave as a table."""
    chance, tally = random.Random(f"manifests {seed}"), Tally()
    for _ in range(times):
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        (out / PARTS).mkdir(parents=True)
        for file in chance.choice([[FILE], [f"{PARTS}/1.jsonl"], [FILE, f"{PARTS}/1.jsonl"]]):
            (out / file).write_bytes(lines(chance))
        with tally.attempt("manifest"):
            manifest = Manifest(str(out))
            manifest.expect("p1")
            manifest.begin()
            before = {name: manifest.get(name) for name in ("p0", "p2")}
            manifest.add([{"name": "p1", "error": "no face"}])
            manifest.close()
            again = Manifest(str(out))
            assert again.get("p1") == {"name": "p1", "error": "no face"}, "the new line is lost"
            assert str({name: again.get(name) for name in before}) == str(before), "a line is lost"
            list(read_rows(str(out / FILE), ("identity",)))
    return tally
