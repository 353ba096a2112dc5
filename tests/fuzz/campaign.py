"""The long campaign, `make fuzz`: says after each batch how it goes and how long it takes, and ends with a table.

    python tests/fuzz/campaign.py [--seed N] [--share S] [--rows FILE] [--expect] [PART ...]

Parts: files, tensors, cards, tables, manifests, prompts, calls, kills, pages, stops, models, visitors. A share of 1 is
10,000 damaged files and 1,000 results of a comparison, 1,600 artefacts without a digest, 1,000 cards, 1,000 tables, 500
manifests, 600 prompts, 600 calls of the page, 100 kills of each command that writes and of the page, 40 stops of each
kind of a real process, every malformed model, and 50 visitors. With --rows, batches that FILE holds already, of the
same seed and share, are not run again, and the table is written beside it, as FILE with the suffix .md. --expect prints
what the parts take, and stops.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

# Tiny pipelines, a hub, and results of the comparison.
sys.path += [str(Path(__file__).parents[1] / place) for place in (".", "backend", "../benchmarks/comparison")]

import calls
import cards
import files
import kills
import manifests
import models
import people
import prompts
import results
import stops
import tensors
import visitors

from celeb_basis.cli import main as command
from celeb_basis.cli.options import hide_loading_bars

FILES, RESULTS, KILLS, STOPS, VISITORS = 10_000, 1000, 100, 40, 50
TENSORS, CARDS, TABLES, MANIFESTS, PROMPTS, CALLS = 1600, 1000, 1000, 500, 600, 600
PARTS = (
    "files", "tensors", "cards", "tables", "manifests", "prompts", "calls", "kills", "pages", "stops", "models",
    "visitors",
)  # fmt: skip
BATCH = 60  # seconds after which there is news, and a row
# Of one attempt on two idle cores: from these the time left is told, at the rate at which they turn out.
SECONDS = {
    "kill sample": 0.07, "kill blend": 0.07, "kill basis": 1.2, "kill miniature person": 0.5, "kill generate": 0.7,
    "kill fit": 0.7, "kill demo": 2.6, "kill evaluate": 1.2, "kill web": 3.1,
}  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Something that is tried so often, in batches.

    seconds: of one attempt. attack: takes the attempts of a batch, its seed and its folder, and returns its row.
    """

    part: str
    name: str
    times: int
    seconds: float
    attack: Callable[[int, str, Path], Row]

    def batches(self, share: float) -> list[int]:
        """The attempts of each batch."""
        times = max(1, round(share * self.times))
        number = max(1, round(times * self.seconds / BATCH)) if self.times > 1 else 1
        return [times // number + (i < times % number) for i in range(number)]


def cases(parts: list[str], folder: Path) -> list[Case]:
    """What is tried, in its order; inputs are written into the folder."""
    found: list[Case] = []

    def add(part: str, name: str, times: int, seconds: float, attack: Callable[[int, str, Path], Any]) -> None:
        if part in parts:
            found.append(Case(part, name, times, seconds, lambda *how: row_of(attack(*how))))

    kinds = files.artefacts(folder) | files.pictures(folder) if "files" in parts else {}
    for name, (file, read) in kinds.items():
        add("files", f"damaged {name}", FILES // len(kinds), 0.001, partial(files.attack, file, read))
    add("files", "results", RESULTS, 0.001, results.attack)
    whole = tensors.sound(folder) if "tensors" in parts else {}
    for name, (file, use) in whole.items():
        add("tensors", f"unsigned {name}", TENSORS // len(whole), 0.005, partial(tensors.attack, file, use))
    add("cards", "cards", CARDS, 0.01, cards.attack)
    for suffix in people.KINDS:
        fleet = partial(people.attack, suffix, people.read_fleet)
        add("tables", f"{suffix} of a fleet", TABLES // 5, 0.01, fleet)
    add("tables", "csv to evaluate", TABLES // 5, 0.01, partial(people.attack, "csv", people.read_evaluated))
    add("manifests", "manifests", MANIFESTS, 0.01, manifests.attack)
    add("prompts", "prompts", PROMPTS, 0.05, prompts.attack)
    add("calls", "page calls", CALLS, 0.3, calls.attack)
    if {"kills", "pages"} & set(parts):
        with contextlib.redirect_stdout(io.StringIO()):
            lines = kills.commands(folder)
            command([*lines["generate"][:-1], str(folder / "warm")])  # imports everything before the forks
        import celeb_basis.web  # noqa: F401 - before the forks
    else:
        lines = {}
    for name, argv in lines.items():
        seconds, together = SECONDS[f"kill {name}"], partial(kills.together, argv)
        add("kills", f"kill {name}", KILLS, seconds, partial(kills.kill, argv))
        add("kills", f"full {name}", KILLS // 4, seconds / 2, partial(kills.full, argv))
        add("kills", f"together {name}", KILLS // 20, 2 * seconds, together)
    add("pages", "kill web", KILLS, SECONDS["kill web"], kills.pages)
    draw = ["generate", "a photo", "--steps", "1"]
    add("stops", "stop sample", STOPS, 1.0, partial(stops.anywhere, ["sample", "--name", "eve"]))
    add("stops", "stop generate", STOPS, 4.1, partial(stops.anywhere, draw))
    add("stops", "stop a download", STOPS, 6.3, stops.downloading)
    add("models", "malformed models", 1, 5.0, lambda _, seed, place: models.attack(seed, place))
    add("visitors", "visitors", 1, 90.0, lambda _, __, place: visitors.attack(VISITORS, place))
    return found


def row_of(result: files.Tally | Row) -> Row:
    """What a batch came to."""
    return result.row() if isinstance(result, files.Tally) else result


def kept_rows(file: Path) -> list[Row]:
    """The rows of a file, without one that was cut off, which is removed from it."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


class News:
    """How far it is, in the seconds that all batches are expected to take, and how fast this machine is beside that."""

    def __init__(self, todo: float) -> None:
        self._todo, self._done, self._begun = todo, 0.0, time.monotonic()

    def __call__(self, name: str, tried: int, of: int, failed: int, expected_s: float, row: Row) -> None:
        self._done += expected_s
        left = (time.monotonic() - self._begun) / self._done * (self._todo - self._done)
        print(
            f"{self._done / self._todo:4.0%}  {name}: {tried} of {of}, {failed} failed"
            f" ({row['tried'] / max(row['seconds'], 0.01):.3g} a second); {clock(left)} left",
            flush=True,
        )
        for kind in row["kinds"]:
            print(f"      {kind}", flush=True)


def clock(seconds: float) -> str:
    """1 h 5 min, or 40 s."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def table(rows: list[Row]) -> str:
    """Every case with all its batches: what was tried, what failed, what it took."""
    head = ["campaign", "tried", "refused or stopped", "failed", "over 20 s", "seconds", "slowest, s", "peak, MB"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == name]
        sums = [sum(row.get(key, 0) for row in own) for key in ("tried", "refused", "failed", "slow", "seconds")]
        peaks = [max(row.get(key, 0) for row in own) for key in ("slowest_s", "peak_mb")]
        lines.append(f"| {name} | {' | '.join(f'{value:.10g}' for value in (*sums[:4], round(sums[4]), *peaks))} |")
    return "\n".join(lines)


def spent() -> float:
    """Seconds of processor time, those of children that have ended included."""
    own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in own)


def expected(found: list[Case], share: float) -> str:
    """What each part takes."""
    lines = ["| part | attempts | minutes |", "|---|---|---|"]
    for part in dict.fromkeys(case.part for case in found):
        own = [(sum(case.batches(share)), case.seconds) for case in found if case.part == part]
        minutes = math.ceil(sum(times * seconds for times, seconds in own) / 60)
        lines.append(f"| {part} | {sum(times for times, _ in own):,} | {minutes} |")
    return "\n".join(lines)


def main() -> int:
    """The exit code is 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])  # a default is checked, too
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--rows", type=Path, help="where the batches are kept, one JSON object a line")
    parser.add_argument("--expect", action="store_true", help="print what the parts take, and stop")
    args = parser.parse_args()
    torch.set_num_threads(1)
    hide_loading_bars()
    run = {"seed": args.seed, "share": args.share}
    rows = [row for row in (kept_rows(args.rows) if args.rows else []) if run.items() <= row.items()]
    done = {(row["case"], row["batch"]) for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = cases(args.parts or list(PARTS), folder)
        if args.expect:
            print(expected(found, args.share))
            return 0
        batches = [(case, i, times) for case in found for i, times in enumerate(case.batches(args.share))]
        left = [(case, i, times) for case, i, times in batches if (case.name, i) not in done]
        news = News(sum(case.seconds * times for case, _, times in left))
        for case, i, times in left:
            (place := folder / f"{case.name} {i}").mkdir()
            begun, used = time.monotonic(), spent()
            row = {"case": case.name, "batch": i, **run} | case.attack(times, f"{args.seed} {i}", place)
            row |= {"seconds": round(time.monotonic() - begun, 2), "processor_s": round(spent() - used, 2)}
            rows.append(row)
            if args.rows:
                with args.rows.open("a") as lines:
                    lines.write(json.dumps(row) + "\n")
            own = [other for other in rows if other["case"] == case.name]
            tried, failed = (sum(other[key] for other in own) for key in ("tried", "failed"))
            news(case.name, tried, max(tried, sum(case.batches(args.share))), failed, case.seconds * times, row)
    print(f"\n{table(rows)}")
    if args.rows:
        args.rows.with_suffix(".md").write_text(f"{table(rows)}\n\nSeed {args.seed}, share {args.share}.\n")
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
