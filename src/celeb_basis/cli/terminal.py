"""Lines on a terminal: what comes out of files and arguments can neither steer it nor fill it."""

from __future__ import annotations

import sys
from contextlib import suppress

from ..errors import one_line


def say(text: str) -> None:
    """Print one line on stderr. If that fails, as on a full disk, the exit code still says what happened."""
    with suppress(OSError):
        print(f"celeb-basis: {one_line(text)}", file=sys.stderr)
