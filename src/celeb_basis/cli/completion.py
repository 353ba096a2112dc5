"""Completion: --print-completion SHELL prints a script with which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import Parser, named_file, person

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
FILES = (Path, named_file, person)  # how words are read that may be files


class PrintCompletion(argparse.Action):
    """Prints the script for a shell, and ends."""

    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        import shtab

        assert isinstance(parser, Parser)
        _complete_files(parser, shtab.FILE)
        print(shtab.complete(parser, values))
        parser.exit()


def _complete_files(parser: Parser, files: Any) -> None:
    """Let the options and arguments that are files be completed as such, in this parser and those below it."""
    for action in parser._actions:
        if action.type in FILES:
            action.complete = files  # type: ignore[attr-defined]
    for below in parser.commands().values():
        _complete_files(below, files)


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add --print-completion to the parser of all commands."""
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help=f"print a script that lets {', '.join(SHELLS)} complete commands, options and files, and stop",
    )
