"""Lines on a terminal: what comes out of files and arguments can neither steer it nor fill it."""

from __future__ import annotations

import sys
from contextlib import suppress

from ..limits import MAX_MESSAGE_LENGTH

END = 200  # of these, the last ones: what to do stands there


def printable(text: str) -> str:
    """Return a text with control sequences, changes of direction and the like written as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def one_line(text: str) -> str:
    """Return a message as one line of at most MAX_MESSAGE_LENGTH characters."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[: MAX_MESSAGE_LENGTH - END - 5]} ... {text[-END:]}"


def say(text: str) -> None:
    """Print one line on stderr. If that fails, as on a full disk, the exit code still says what happened."""
    with suppress(OSError):
        print(f"celeb-basis: {one_line(text)}", file=sys.stderr)
