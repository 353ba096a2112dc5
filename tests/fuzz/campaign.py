"""The long campaign, `make fuzz`: prints one line a case as it goes, and a table at the end.

    python tests/fuzz/campaign.py [--seed N] [--share S] [files kills models visitors]

A share of 1 is 10,000 damaged files, 100 kills of each command, every malformed model, and 50 visitors.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))  # whose tiny pipelines are loaded

import files
import kills
import models
import visitors

from celeb_basis.cli import main as command
from celeb_basis.cli.options import hide_loading_bars

FILES, KILLS, VISITORS = 10_000, 100, 50
PARTS = ("files", "kills", "models", "visitors")


def run(parts: list[str], seed: int, share: float, folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of the table, by case."""
    rows: dict[str, dict[str, Any]] = {}

    def add(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(name, row, flush=True)

    torch.set_num_threads(1)
    hide_loading_bars()
    if "files" in parts:
        kinds = files.artefacts(folder) | files.pictures(folder)
        for name, (file, read) in kinds.items():
            add(f"damaged {name}", files.attack(file, read, round(share * FILES / len(kinds)), seed, folder).row())
    if "kills" in parts:
        with contextlib.redirect_stdout(io.StringIO()):
            lines = kills.commands(folder)
            command([*lines["generate"][:-1], str(folder / "warm")])  # imports everything before the forks
        for name, argv in lines.items():
            for kind, times in (("kill", KILLS), ("full", KILLS // 2), ("together", KILLS // 10)):
                place = folder / f"{kind} {name}"
                place.mkdir()
                number = max(1, round(share * times))
                if kind == "together":
                    tally = kills.together(argv, number, place)
                else:
                    tally = (kills.kill if kind == "kill" else kills.full)(argv, number, seed, place)
                add(f"{kind} {name}", tally.row())
    if "models" in parts:
        add("malformed models", models.attack(seed, folder).row())
    if "visitors" in parts:
        place = folder / "page"
        place.mkdir()
        add("visitors", visitors.attack(max(1, round(share * VISITORS)), place))
    return rows


def main() -> int:
    """The exit code is 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(args.parts, args.seed, args.share, Path(folder))
    print("\n| campaign | tried | failed |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['tried']} | {row['failed']} |")
    return int(any(row["failed"] for row in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
