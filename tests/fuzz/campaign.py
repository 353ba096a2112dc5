"""The long campaign, `make fuzz`: prints one line a case as it goes, and a table at the end.

    python tests/fuzz/campaign.py [--seed N] [--share S] [--rows FILE] [files kills pages stops models visitors]

A share of 1 is 10,000 damaged files and 1,000 cards, 100 kills of each command and of the page, 40 stops of each kind
of a real process, every malformed model, and 50 visitors. Cases that are in FILE already, of the same seed and share,
are not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "models")]  # tiny pipelines, and a hub

import cards
import files
import kills
import models
import stops
import visitors

from celeb_basis.cli import main as command
from celeb_basis.cli.options import hide_loading_bars

FILES, CARDS, KILLS, STOPS, VISITORS = 10_000, 1000, 100, 40, 50
PARTS = ("files", "kills", "pages", "stops", "models", "visitors")
Row = dict[str, Any]


def campaign(parts: list[str], seed: int, share: float, folder: Path) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The names of the cases and what runs them."""

    def number(times: int) -> int:
        return max(1, round(share * times))

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    if "files" in parts:
        kinds = files.artefacts(folder) | files.pictures(folder)
        for name, (file, read) in kinds.items():
            times = number(FILES // len(kinds))
            yield f"damaged {name}", lambda f=file, r=read, n=times: files.attack(f, r, n, seed, folder).row()
        yield "cards", lambda: cards.attack(number(CARDS), seed, place("cards")).row()
    if {"kills", "pages"} & set(parts):
        with contextlib.redirect_stdout(io.StringIO()):
            lines = kills.commands(folder)
            command([*lines["generate"][:-1], str(folder / "warm")])  # imports everything before the forks
    if "kills" in parts:
        for name, argv in lines.items():
            yield f"kill {name}", lambda n=name, a=argv: kills.kill(a, number(KILLS), seed, place(f"kill {n}")).row()
            yield (
                f"full {name}",
                lambda n=name, a=argv: kills.full(a, number(KILLS // 4), seed, place(f"full {n}")).row(),
            )
            yield (
                f"together {name}",
                lambda n=name, a=argv: kills.together(a, number(KILLS // 20), place(f"together {n}")).row(),
            )
    if "pages" in parts:
        import celeb_basis.web  # noqa: F401 - before the forks

        yield "kill web", lambda: kills.pages(number(KILLS), seed, place("pages")).row()
    if "stops" in parts:
        draw = ["generate", "a photo", "--steps", "1"]
        yield "stop sample", lambda: stops.anywhere(["sample", "--name", "eve"], number(STOPS), seed, folder).row()
        yield "stop generate", lambda: stops.anywhere(draw, number(STOPS), seed, folder).row()
        yield "stop a download", lambda: stops.downloading(number(STOPS), seed, folder).row()
    if "models" in parts:
        yield "malformed models", lambda: models.attack(seed, place("models")).row()
    if "visitors" in parts:
        yield "visitors", lambda: visitors.attack(number(VISITORS), place("visitors"))


def main() -> int:
    """The exit code is 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--rows", type=Path, help="where the cases are kept, one JSON object a line")
    args = parser.parse_args()
    torch.set_num_threads(1)
    hide_loading_bars()
    kept = [json.loads(line) for line in args.rows.read_text().splitlines()] if args.rows and args.rows.exists() else []
    rows = {row["case"]: row for row in kept if (row["seed"], row["share"]) == (args.seed, args.share)}
    with tempfile.TemporaryDirectory() as folder:
        for name, run in campaign(args.parts, args.seed, args.share, Path(folder)):
            if name in rows:
                continue
            rows[name] = {"case": name, "seed": args.seed, "share": args.share} | run()
            print(rows[name], flush=True)
            if args.rows:
                with args.rows.open("a") as lines:
                    lines.write(json.dumps(rows[name]) + "\n")
    print("\n| campaign | tried | failed | slowest, s | peak, MB |\n|---|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['tried']} | {row['failed']} | {row.get('slowest_s', '')} | {row['peak_mb']} |")
    return int(any(row["failed"] for row in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
