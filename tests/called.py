"""The command line, called in this process: its answer, or the line with which it refuses."""

from __future__ import annotations

import json
from typing import Any

from celeb_basis.cli import main
from celeb_basis.limits import MAX_MESSAGE_LENGTH


def answer(capsys: Any, *args: object) -> Any:
    """The JSON answer of a command; nothing else may be on stdout."""
    assert main([*map(str, args), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def complaint(capsys: Any, *args: object) -> str:
    """The one line of a command that must refuse."""
    try:
        code = main([*map(str, args)])
    except SystemExit as stop:  # argparse's own way out
        code = stop.code
    said = capsys.readouterr()
    assert code == 2 and said.out == ""
    assert said.err.startswith("celeb-basis: error: ") and said.err.count("\n") == 1, said.err
    assert len(said.err) < MAX_MESSAGE_LENGTH + 100
    return said.err
