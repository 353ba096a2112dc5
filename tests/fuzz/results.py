"""A comparison's results, damaged: each file is refused in one line, or gives tables of what is whole in it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from files import Tally, limited
from mutate import ANY, NASTY, NUMBERS
from record import COLUMNS, read
from tables import by_person, course, identity, prompt

LIMIT = 20  # seconds
VALUES: list[Any] = [*NUMBERS, *NASTY, float("nan"), float("inf"), False, [[]], [{}], [None], ["5000"], [[0, 0, 0]]]
LINES = ["", "[]", "{}", "null", "7", "[" * 10**5, '{"done":[]}', '{"course":{}}', "[[]]", "1" * 5000, "\0" * 99]


def sound() -> list[Any]:
    """A whole file: two people, their pair, and the course of one fit."""
    header = {
        "name": "Celeb Basis, refined", "settings": {"steps": 1}, "seeds": 2, "first": 5000, "weights": "w",
        "prompts": [["scene", "a photo of {0}", ["scene"]], ["two new people", "{0} and {1}", ["scene", "style"]]],
        "columns": COLUMNS,
    }  # fmt: skip
    lines: list[Any] = [header]
    for who, kind in (("5000", 0), ("5001", 0), ("5000+5001", 1)):
        lines += [[who, kind, seed, 0.9, 1, 1, ["scene"], *([1, 0.5, None, 0.2] * kind)] for seed in range(2)]
        lines += [{"done": who, "commit": "c", "date": "2026-11-23"}]
    cost = {"parameters": 128, "bytes": 512, "peak_gb": 0.5, "device": "cpu", "threads": 1}
    points = {"course": "5000", "points": [[0, 0.1, 0.5], [1, 0.2, 0.9]], "commit": "c", "date": "2026-11-23"}
    return [*lines, points | cost]


def attack(times: int, seed: str, folder: Path) -> Tally:
    """Read so many files with some values, lines or bytes that are others; make of them what the tables are made of."""
    chance, tally = random.Random(f"results {seed}"), Tally()
    file = folder / "result.jsonl"
    for _ in range(times):
        file.write_bytes(damaged(chance))
        tally.tried += 1
        try:
            with limited(LIMIT):
                result = read(file)
                for value in (identity, prompt):
                    by_person(result, value, ("scene", "two new people"))
                if result.courses:
                    course(result)
            sizes = {len(rows) for rows in (*result.people.values(), *result.pairs.values())}
            if sizes - {2 * result.header["seeds"], result.header["seeds"]} and result.header["seeds"] == 2:
                tally.failures.append(f"people with {sizes} pictures count")
        except SystemExit as error:
            tally.refused += 1
            if not isinstance(error.code, str) or "\n" in error.code or str(file) not in error.code:
                tally.failures.append(f"it ends with {error.code!r}")
        except BaseException as error:
            tally.failures.append(f"{type(error).__name__} {str(error)[:80]}")
            if isinstance(error, KeyboardInterrupt):
                raise
    return tally


def damaged(chance: random.Random) -> bytes:
    """A file with one to three things wrong in it."""
    lines = sound()
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        what, line = chance.randrange(6), lines[at]
        if what == 0 and isinstance(line, dict):
            line[chance.choice([*line, "other"])] = chance.choice(VALUES)
        elif what == 0 and isinstance(line, list) and line:
            line[chance.randrange(len(line))] = chance.choice(VALUES)
        elif what == 1 and isinstance(line, dict) and line:
            del line[chance.choice(list(line))]
        elif what == 1 and isinstance(line, list) and line:
            del line[chance.randrange(len(line))]
        elif what == 2:
            del lines[at]
        elif what == 3:
            lines.insert(at, chance.choice(VALUES))
        elif what == 4:
            lines.insert(at, lines[chance.randrange(len(lines))])
        if not lines:
            return b""
    texts = [json.dumps(line, separators=(",", ":")) for line in lines]
    if chance.random() < 0.2:
        texts.insert(chance.randrange(len(texts)), chance.choice(LINES))
    data = "".join(f"{text}\n" for text in texts).encode()
    return chance.choice(ANY)(data, chance) if chance.random() < 0.3 else data
