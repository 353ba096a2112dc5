"""Whose names a basis is made of: lists with one name a line, and the list of celebrities that is shipped."""

from __future__ import annotations

from pathlib import Path

from ..errors import BasisError
from ..files import read_text


def celebrities() -> list[str]:
    """The shipped names, the famous first.

    Each is exactly two tokens in the vocabulary of CLIP, T5 or Qwen: the file says in which.
    """
    return read(Path(__file__).with_name("celebrities.txt"))


def read(path: str | Path) -> list[str]:
    """Read names, one a line, each kept once and in order; what follows a # is a comment.

    Raises BasisError where the file cannot be read or has no name in it.
    """
    lines = (" ".join(line.split("#")[0].split()) for line in read_text(path, BasisError).splitlines())
    names = list(dict.fromkeys(line for line in lines if line))
    if not names:
        raise BasisError(f"{path} has no name in it; write one a line")
    return names
