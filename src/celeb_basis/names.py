"""Whose names a basis is made of: a file with one name a line, or the miniature's own celebrities."""

from __future__ import annotations

from pathlib import Path

from .errors import BasisError


def read(path: str | Path) -> list[str]:
    """Read names, one a line, each kept once and in order; what follows a # is a comment.

    Raises BasisError where the file cannot be read or has no name in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BasisError(f"the names in {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BasisError(f"the names in {path} cannot be read: it is not UTF-8 text") from None
    lines = (" ".join(line.split("#")[0].split()) for line in text.splitlines())
    names = list(dict.fromkeys(line for line in lines if line))
    if not names:
        raise BasisError(f"{path} has no name in it; write one a line")
    return names


def celebrities(model: str = "miniature") -> list[str]:
    """The names that come with a model. Raises BasisError for models without a list of their own."""
    if model != "miniature":
        raise BasisError(f"no list of names comes with {model} yet: give --names FILE, one name a line")
    from . import miniature

    return list(miniature.names())
