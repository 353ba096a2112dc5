"""Command: the parser of all commands; one of them is run, and its answer printed."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..errors import CelebBasisError, printable
from . import basis, blend, check, demo, evaluate, fit, fleet, generate, info, miniature, people, sample, web
from .completion import add_completion
from .options import Parser
from .signals import Stop, at_once
from .terminal import say


def run(argv: Sequence[str] | None, stop: Stop) -> int:
    """Parse and run one command; returns the exit code. `stop` says whether an error is that of a signal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that knows ASCII alone gets escapes
            stream.reconfigure(errors="backslashreplace")
    parser = make_parser()
    for word in sys.argv[1:] if argv is None else argv:
        if word.encode(errors="replace").decode() != word:
            parser.error(f"{word!r} is not UTF-8 text: rename the file, or write the words again")
    args = parser.parse_args(argv)
    args.stop = stop
    if args.version:
        from importlib.metadata import version

        print(f"celeb-basis {version('celeb-basis')}")
        return 0
    if args.run is None:
        parser.print_help()
        return 0
    try:
        os.getcwd()
    except OSError:
        return _complain("the folder in which this runs is gone: change to another one")
    # Silences a notice about torchvision, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    return _run(args, stop)


def _run(args: argparse.Namespace, stop: Stop) -> int:
    """Run a command and print its answer."""
    with at_once():
        import torch
    _show_log(args)
    try:
        report = args.run(args)
    except (CelebBasisError, OSError) as error:  # OSError: a path can be wrong in more ways than are checked
        if stop.signal:
            raise
        return _complain(_in_options(error, args.parser))
    except torch.OutOfMemoryError as error:
        return _complain(f"not enough GPU memory: {error}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and NO_MEMORY not in str(error):
            raise
        return _complain("not enough memory: ask for less, or close other programs")
    try:
        print(json.dumps(report) if args.json else as_text(report), flush=True)
    except OSError as error:
        # Python flushes once more at exit, which must not fail either.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # as with `| head -1`
            return _complain(f"the answer cannot be written: {error.strerror}")
    return 0


NO_MEMORY = "can't allocate memory"  # as PyTorch says it of a CPU, in a plain RuntimeError


def _complain(what: str) -> int:
    """Print one line on stderr and return the exit code of wrong input."""
    say(f"error: {what}")
    return 2


def _in_options(error: Exception, parser: argparse.ArgumentParser) -> str:
    """Return an error's message with the option that stands for the library's argument."""
    if not isinstance(error, CelebBasisError):
        return str(error)
    options = (option for a in parser._actions if a.dest == error.argument for option in a.option_strings)
    option = next((option for option in options if option.startswith("--")), "")
    return f"{error.message} ({option})" if option else error.message


class _Notices(logging.Handler):
    """The library's log, one line each on stderr; with the seconds since the beginning for those who want details."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__()
        self._begun = time.monotonic() if timed else None

    def emit(self, record: logging.LogRecord) -> None:
        when = "" if self._begun is None else f"{time.monotonic() - self._begun:.1f} s: "
        say(f"{when}{record.getMessage()}")


def _show_log(args: argparse.Namespace) -> None:
    logger = logging.getLogger("celeb_basis")
    logger.setLevel(logging.WARNING if args.quiet else logging.DEBUG if args.verbose else logging.INFO)
    logger.handlers = [_Notices(timed=args.verbose)]


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="celeb-basis",
        description="Put a new person into any scene a text-to-image model can draw, from one photograph.",
        epilog="""start here:
  celeb-basis miniature person --seed 7 -o annika.jpg
  celeb-basis fit annika.jpg --name annika
  celeb-basis generate "a photo of <annika> on the beach" --identity annika.safetensors

celeb-basis COMMAND --help shows more examples. Only fit photos of people who agree to it.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    add_completion(parser)
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for command in (basis, fit, blend, sample, generate, people, demo, miniature, evaluate, check, fleet, info, web):
        command.add_commands(commands)
    return parser


def as_text(report: Mapping[str, Any], indent: str = "") -> str:
    """Write a report for people: one line a fact, names aligned, nested facts indented."""
    width = max(map(len, report), default=0)
    lines = []
    for key, value in report.items():
        name = printable(key.replace("_", " "))
        if isinstance(value, Mapping) and value.keys() != {"mean", "interval"}:
            lines += [f"{indent}{name}", as_text(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [f"{indent}{name}", "\n\n".join(as_text(each, indent + "  ") for each in value), ""]
        else:
            lines.append(f"{indent}{name:{width}}  {_brief(value)}")
    return "\n".join(lines)


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        low, high = value["interval"]
        return f"{value['mean']:.3f} ({low:.3f} to {high:.3f})"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(map(_brief, value[:8]))
        return f"{shown} and {len(value) - 8} more" if len(value) > 8 else shown or "none"
    return printable(str(value))
