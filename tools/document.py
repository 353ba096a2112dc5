"""Write docs/commands.md, the reference of all commands, from their help.

    python tools/document.py

A test fails when it differs from the code. The reference is written as Python 3.11 and 3.12 print help.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from celeb_basis.cli.command import make_parser
from celeb_basis.cli.options import Parser

COMMANDS = Path(__file__).parents[1] / "docs/commands.md"
COLUMNS = 100


def commands() -> str:
    """Return the help of every command, as a terminal of fixed width shows it."""
    parts = ["# Commands\n\nWhat `--help` prints. This file is written by `python tools/document.py`.\n"]
    with patch.dict(os.environ, {"COLUMNS": str(COLUMNS)}):
        for parser in _parsers(make_parser()):
            text = "\n".join(line.rstrip() for line in parser.format_help().rstrip().splitlines())
            parts.append(f"## {parser.prog}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _parsers(parser: Parser) -> Iterator[Parser]:
    """Yield a parser and those of its commands, in the order of its help."""
    yield parser
    for command in parser.commands().values():
        yield from _parsers(command)


def main() -> None:
    """Write the reference."""
    COMMANDS.write_text(commands(), encoding="utf-8")


if __name__ == "__main__":
    main()
