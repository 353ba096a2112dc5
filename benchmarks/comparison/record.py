"""Results on disk: one JSONL file a contender, one line a picture, appended as a run proceeds.

A file starts with a header: name, settings, seeds, number of the first person, digest of the weights, the prompts as
[kind, text, what it asks for], and the columns of a picture's line. Then follow lines of three kinds:

    ["5000+5001",20,0,0.9329,1,1,["expression"],1,1,0.2254,0.1921]
    {"done":"5000+5001","commit":"fdd7bb0a3abf","date":"2026-11-23"}
    {"course":"5000","points":[[0,0.0021,0.8574],...],"parameters":128,...}

A person or pair counts whose `done` line and pictures are all there, and a line that was cut off is passed over, so a
run may stop at any time. The points of a course are step, seconds so far, and mean identity.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celeb_basis import CelebBasisError
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.text_encoders import fingerprint
from celeb_basis.io import read_text

COLUMNS = [
    "people", "prompt", "seed", "identity", "rank1", "found", "missed", "sides", "apart", "bleeding", "photographs",
]  # fmt: skip
FEWEST = 7  # columns that every picture has
TEXTS, NUMBERS = ("people",), ("identity", "rank1", "found", "sides", "apart", "photographs")
NEW_PEOPLE = {"two new people": 2, "three new people": 3}  # in the prompts of a kind, if more than one
STORED = Path(__file__).parent / "results"

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
    """What a file holds; SystemExit, in one line, if it has no header, or a line that is none of a comparison."""
    lines = lines_of(path)
    header = lines[0][1] if lines else None
    if not _is_header(header):
        raise SystemExit(f"{path} does not start with the header of a comparison: move it away")
    pictures: dict[str, dict[tuple[int, int], Row]] = {}
    done, courses, dates = set(), {}, set()
    for number, line in lines[1:]:
        if _is_picture(line, header):
            row = dict(zip(COLUMNS, line, strict=False))
            kind, text, asks = header["prompts"][row["prompt"]]
            asked = {key: float(key not in row["missed"]) for key in asks}
            of_one = pictures.setdefault(row["people"], {})
            of_one[row["prompt"], row["seed"]] = row | {"kind": kind, "prompt": text, "asked": asked}
        elif _is_course(line, courses):
            courses[line["course"]] = line
            dates.add(line["date"])
        elif _is_note(line) and isinstance(line.get("done"), str):
            done.add(line["done"])
            dates.add(line["date"])
        else:
            raise SystemExit(f"{path}, line {number}, is no line of a comparison: restore the file, or move it away")
    prompts = Counter(NEW_PEOPLE.get(kind, 1) for kind, *_ in header["prompts"])
    rows = {
        who: [found[key] for key in sorted(found)]
        for who, found in sorted(pictures.items())
        if who in done and len(found) == header["seeds"] * prompts[who.count("+") + 1]
    }
    return Result(
        header,
        people={who: found for who, found in rows.items() if who.count("+") == 0},
        pairs={who: found for who, found in rows.items() if who.count("+") == 1},
        threes={who: found for who, found in rows.items() if who.count("+") == 2},
        courses=dict(sorted(courses.items())),
        dates=dates,
    )


def kept(path: Path, header: Mapping[str, Any], needs: str) -> list[dict[str, Any]]:
    """All lines of a simpler file, none where there is no file; SystemExit if the first one lacks what a header says.

    needs: what each other line has to name.
    """
    lines = lines_of(path) if path.exists() else []
    for number, line in lines:
        wanted = json.loads(json.dumps(header)) if number == lines[0][0] else {}
        if not isinstance(line, dict) or any(line.get(key) != value for key, value in wanted.items()):
            raise SystemExit(f"{path} holds results of other settings: move it away, or choose another --out")
        if not wanted and not isinstance(line.get(needs), str):
            raise SystemExit(f"{path}, line {number}, names no {needs}: restore the file, or move it away")
    return [line for _, line in lines]


def lines_of(path: Path) -> list[tuple[int, Any]]:
    """The lines of a JSONL file with their numbers, without those that were cut off; SystemExit if it is no text."""
    try:
        lines = read_text(path, CelebBasisError).split("\n")
    except CelebBasisError as error:
        raise SystemExit(str(error)) from None
    found = []
    for number, line in enumerate(lines, start=1):
        with suppress(ValueError, RecursionError):
            found.append((number, json.loads(line)))
    return found


def _is_header(line: Any) -> bool:
    return (
        isinstance(line, dict)
        and line.get("columns") == COLUMNS
        and isinstance(line.get("name"), str)
        and isinstance(line.get("settings"), dict)
        and isinstance(line.get("weights"), str)
        and all(type(line.get(key)) is int and line[key] >= least for key, least in (("seeds", 1), ("first", 0)))
        and isinstance(line.get("prompts"), list)
        and all(isinstance(each, list) and len(each) == 3 and _are_texts(each[2]) for each in line["prompts"])
        and all(_are_texts(each[:2]) for each in line["prompts"])
    )


def _is_picture(line: Any, header: Mapping[str, Any]) -> bool:
    if not isinstance(line, list) or not FEWEST <= len(line) <= len(COLUMNS):
        return False
    row = dict(zip(COLUMNS, line, strict=False))
    return (
        all(isinstance(row[key], str) for key in TEXTS)
        and all(_is_number(row[key]) for key in NUMBERS if key in row)
        and (row.get("bleeding") is None or _is_number(row["bleeding"]))
        and _are_texts(row["missed"])
        and type(row["prompt"]) is int and 0 <= row["prompt"] < len(header["prompts"])
        and type(row["seed"]) is int and 0 <= row["seed"] < header["seeds"]
    )  # fmt: skip


def _is_course(line: Any, others: Mapping[str, Any]) -> bool:
    """Whether this is a course, with the steps that the others have."""
    if not _is_note(line) or not isinstance(line.get("course"), str) or not isinstance(line.get("points"), list):
        return False
    points = line["points"]
    if not points or not all(isinstance(p, list) and len(p) == 3 and all(map(_is_number, p)) for p in points):
        return False
    steps = [[point[0] for point in course["points"]] for course in (line, *others.values())]
    return (
        all(each == steps[0] for each in steps)
        and all(_is_number(line.get(key)) for key in ("parameters", "bytes", "threads", "peak_gb"))
        and isinstance(line.get("device"), str)
    )


def _is_note(line: Any) -> bool:
    return isinstance(line, dict) and isinstance(line.get("date"), str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_number(value: Any) -> bool:
    """Whether this is a number that can be calculated with; True is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


def file_name(name: str) -> str:
    """The name of a contender's file."""
    return name.replace(" ", "-").replace("'", "").replace(",", "") + ".jsonl"


def short(value: Any, digits: int = 4) -> Any:
    """A number with so many digits after the point, and none where it is whole; anything else as it is."""
    if not isinstance(value, float):
        return value
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def weights_of(pipe: Any) -> str:
    """Names the denoiser and the text encoders, so that results of different ones are not mixed."""
    return hashlib.sha256(f"{get_denoiser(pipe).digest}{fingerprint(pipe)}".encode()).hexdigest()[:12]


def origin() -> dict[str, str]:
    """The day, and the commit that is measured, marked where the working tree differs from it."""
    described = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {"commit": commit, "date": datetime.date.today().isoformat()}
