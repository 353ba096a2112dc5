"""The demo command: the whole method once, on a model that ships."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import Progress, add_command, add_largest_face, check_folder, hide_loading_bars, nonnegative_int


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    demo = add_command(
        commands,
        "demo",
        show,
        "run the whole method on a model that ships: a photo, a fit, a contact sheet",
        """
        demo
        demo --photo me.jpg -o demo""",
        "Without a photo, or with that of a drawn face, the model is the miniature; with a real face it is portraits.",
    )
    demo.add_argument(
        "--photo",
        type=Path,
        help="your own photo, for the model portraits (default: that of a drawn person whom the miniature never saw)",
    )
    add_largest_face(demo)
    demo.add_argument("--seed", type=nonnegative_int, default=0, help="which person and which noise (default: 0)")
    demo.add_argument("-o", "--out", type=Path, default=Path("demo"), metavar="DIR", help="(default: demo)")


def show(args: argparse.Namespace) -> dict[str, Any]:
    from ..miniature.demo import run

    check_folder(args.out)
    hide_loading_bars()
    with Progress(quiet=args.quiet) as progress:
        return run(args.out, args.photo, args.seed, progress, largest_face=args.largest_face)
