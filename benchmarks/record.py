"""Results on disk: one JSONL file a contender, one line a picture, appended as a run proceeds.

A file starts with a header: name, settings, seeds, number of the first person, digest of the weights, the prompts as
[kind, text, what it asks for], and the columns of a picture's line. Then follow lines of three kinds:

    ["5000+5001",20,0,0.9329,1,1,["expression"],1,1,0.2254,0.1921]
    {"done":"5000+5001","commit":"fdd7bb0a3abf","date":"2026-11-23"}
    {"course":"5000","points":[[0,0.0021,0.8574],...],"parameters":128,...}

Pictures without their `done` line count for nothing, and a line that was cut off is passed over, so a run may stop at
any time. The points of a course are step, seconds so far, and mean identity.
"""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = [
    "people", "prompt", "seed", "identity", "rank1", "found", "missed", "sides", "apart", "bleeding", "photographs",
]  # fmt: skip
STORED = Path(__file__).parent / "results/comparison"

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Result:
    """What a contender's file holds: rows of pictures by who is in them, and the courses of its fits."""

    header: Mapping[str, Any]
    people: dict[str, list[Row]]
    pairs: dict[str, list[Row]]
    threes: dict[str, list[Row]]
    courses: dict[str, dict[str, Any]]
    dates: set[str]

    @property
    def units(self) -> dict[str, list[Row]]:
        """Rows of everybody who was drawn together."""
        return self.people | self.pairs | self.threes


class Record:
    """A contender's file, which may grow."""

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        """Start the file, or make sure that it holds results of the same settings; SystemExit if it does not."""
        self.path, self.header = (
            folder / file_name(header["name"]),
            json.loads(json.dumps({**header, "columns": COLUMNS})),
        )
        folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self._append([self.header])
        elif read(self.path).header != self.header:
            raise SystemExit(f"{self.path} holds results of other settings: move it away, or choose another --out")

    def done(self) -> set[str]:
        """The people, pairs and threes whose pictures are there."""
        return set(read(self.path).units)

    def courses(self) -> set[str]:
        """The people whose fit was followed."""
        return set(read(self.path).courses)

    def add(self, who: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add all pictures of one person, pair or three, rows as `Work.draw` makes them."""
        index = {text: i for i, (_, text, _) in enumerate(self.header["prompts"])}
        lines: list[list[Any]] = []
        for row in rows:
            missed = [key for key, hit in row["asked"].items() if not hit]
            values = {**row, "people": who, "prompt": index[row["prompt"]], "missed": missed}
            # The last columns are of pictures of several people.
            lines.append([short(values[key]) for key in COLUMNS if key in values])
        self._append([*lines, {"done": who, **origin()}])

    def add_course(self, who: str, points: Sequence[Sequence[float]], cost: Mapping[str, Any]) -> None:
        """Add the course of one person's fit: (step, seconds, identity) of some steps, and what it cost."""
        self._append([{"course": who, "points": [[short(v, 6) for v in p] for p in points], **cost, **origin()}])

    def _append(self, lines: Sequence[Mapping[str, Any] | list[Any]]) -> None:
        """In one write, on a line of its own even where the last one was cut off."""
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())


def read(path: Path) -> Result:
    """What a file holds; SystemExit if it has no header."""
    lines = [json_or_none(line) for line in path.read_text().splitlines()]
    notes = [line for line in lines if isinstance(line, dict)]
    if not notes or "columns" not in notes[0]:
        raise SystemExit(f"{path} does not start with the header of a comparison: move it away")
    header, done = notes[0], {note["done"] for note in notes if "done" in note}
    pictures: dict[str, dict[tuple[int, int], Row]] = {who: {} for who in sorted(done)}
    for line in lines:
        if isinstance(line, list) and line[0] in done:
            row = dict(zip(header["columns"], line, strict=False))
            kind, text, asks = header["prompts"][row["prompt"]]
            asked = {key: float(key not in row["missed"]) for key in asks}
            pictures[row["people"]][row["prompt"], row["seed"]] = row | {"kind": kind, "prompt": text, "asked": asked}
    rows = {who: [found[key] for key in sorted(found)] for who, found in pictures.items()}
    courses = {note["course"]: note for note in notes if "course" in note}
    return Result(
        header,
        people={who: found for who, found in rows.items() if who.count("+") == 0},
        pairs={who: found for who, found in rows.items() if who.count("+") == 1},
        threes={who: found for who, found in rows.items() if who.count("+") == 2},
        courses=dict(sorted(courses.items())),
        dates={note["date"] for note in notes if "date" in note},
    )


def file_name(name: str) -> str:
    """The name of a contender's file."""
    return name.replace(" ", "-").replace("'", "").replace(",", "") + ".jsonl"


def short(value: Any, digits: int = 4) -> Any:
    """A number with so many digits after the point, and none where it is whole; anything else as it is."""
    if not isinstance(value, float):
        return value
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def origin() -> dict[str, str]:
    """The day, and the commit that is measured, marked where the working tree differs from it."""
    described = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {"commit": commit, "date": datetime.date.today().isoformat()}


def json_or_none(line: str) -> Any:
    """A line's content, or None if it was cut off."""
    try:
        return json.loads(line)
    except ValueError:
        return None
