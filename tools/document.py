"""Writes what the documents repeat from the code: the tree in CONTRIBUTING.md and the command reference in docs/.

    python tools/document.py

The tests fail when either differs from the code. The reference is written as Python 3.11 and 3.12 print help.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from celeb_basis.cli.command import make_parser
from celeb_basis.cli.options import Parser

ROOT = Path(__file__).parents[1]
CONTRIBUTING, COMMANDS = ROOT / "CONTRIBUTING.md", ROOT / "docs/commands.md"
FOLDERS = ("src/celeb_basis", "tests", "benchmarks", "tools", "examples")
COLUMNS = 100
TREE = re.compile(r"(<!-- tree -->\n).*?(<!-- /tree -->)", re.DOTALL)


def first_sentence(file: Path) -> str:
    """The first line of a module's docstring, or which module a test without a docstring is of."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    if not docstring and file.is_relative_to(ROOT / "tests"):
        tested = file.relative_to(ROOT / "tests").with_name(file.name.removeprefix("test_"))
        return f"Tests of {tested.as_posix()}" if (ROOT / "src/celeb_basis" / tested).exists() else ""
    return docstring.partition("\n")[0].removesuffix(".").replace("<", "\\<")


def tree() -> str:
    """Every Python file under its folder, with its first sentence, as nested lists."""
    lines = []
    for name in FOLDERS:
        lines += ["", *_folder(ROOT / name, "")]
    return "\n".join(lines[1:])


def _folder(folder: Path, indent: str) -> Iterator[str]:
    name = folder.name if indent else folder.relative_to(ROOT).as_posix()
    own = folder / "__init__.py"
    yield _line(indent, f"{name}/", first_sentence(own) if own.exists() else "")
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and any(path.rglob("*.py")):
            yield from _folder(path, f"{indent}  ")
        elif path.suffix == ".py" and path != own:
            yield _line(f"{indent}  ", path.name, first_sentence(path))


def _line(indent: str, name: str, what: str) -> str:
    return f"{indent}- `{name}`" + (f": {what}" if what else "")


def contributing(text: str) -> str:
    """CONTRIBUTING.md with its tree as the files are now."""
    return TREE.sub(lambda match: f"{match[1]}{tree()}\n{match[2]}", text)


def commands() -> str:
    """The help of every command, as a terminal of fixed width shows it."""
    parts = ["# Commands\n\nWhat `--help` prints. This file is written by `python tools/document.py`.\n"]
    with patch.dict(os.environ, {"COLUMNS": str(COLUMNS)}):
        for parser in _parsers(make_parser()):
            text = "\n".join(line.rstrip() for line in parser.format_help().rstrip().splitlines())
            parts.append(f"## {parser.prog}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _parsers(parser: Parser) -> Iterator[Parser]:
    """A parser and those of its commands, in the order of its help."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _parsers(command)


def main() -> None:
    """Rewrite both."""
    COMMANDS.write_text(commands(), encoding="utf-8")
    CONTRIBUTING.write_text(contributing(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
