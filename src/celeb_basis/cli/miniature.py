"""The miniature person command: draw the photo of a person the drawn miniature has never seen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_command, check_file, nonnegative_int


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    miniature = commands.add_parser("miniature", help="look into the small drawn world that ships with the package")
    parts = miniature.add_subparsers(required=True, metavar="COMMAND")
    person = add_command(
        parts,
        "person",
        photograph,
        "draw the photo of a person the miniature has never seen",
        """
        miniature person --seed 7 -o annika.jpg""",
    )
    person.add_argument("--seed", type=nonnegative_int, default=0, metavar="N", help="which person (default: 0)")
    person.add_argument(
        "-o", "--out", type=Path, default=Path("person.jpg"), metavar="FILE.jpg", help="(default: person.jpg)"
    )


def photograph(args: argparse.Namespace) -> dict[str, Any]:
    from .. import miniature
    from ..io import write_buffered

    out = check_file(args.out, ".jpg", ".jpeg", ".png")
    photo = miniature.person(args.seed)
    with write_buffered(out) as buffer:
        photo.save(buffer, format="PNG" if out.suffix.lower() == ".png" else "JPEG", quality=95)
    return {"seed": args.seed, "picture": f"{photo.width} x {photo.height}", "file": str(out)}
