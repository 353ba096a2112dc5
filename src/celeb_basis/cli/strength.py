"""How strongly people show in a picture: the option --strength of generate."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BasisError, IdentityError
from .options import placeholder
from .people import load_basis

if TYPE_CHECKING:
    from ..identity import Identity


def add_strength(parser: argparse.ArgumentParser) -> None:
    """Add --strength, and the basis that it needs."""
    parser.add_argument(
        "--strength",
        type=_strength,
        action="append",
        default=[],
        metavar="[NAME=]S",
        help="how strongly the people, or one of them, show: 0 is the mean person, 1 the fitted one (default), "
        "1.25 a little beyond",
    )
    parser.add_argument(
        "--basis", type=Path, metavar="FILE|DIR", help="celeb basis, for --strength (default: the model's own)"
    )


def at_strength(args: argparse.Namespace, identities: Sequence[Identity]) -> tuple[list[Identity], dict[str, float]]:
    """The people as strong as they are asked for, and the strengths other than 1 by their tokens.

    Raises IdentityError for a name that is nobody's, or one that is given twice.
    """
    if args.basis and not args.strength:
        raise BasisError("--basis is for --strength: give both, or leave it out")
    asked: dict[str | None, float] = {}
    for token, strength in args.strength:
        if token in asked:
            raise IdentityError(f"--strength{f' of {token}' if token else ''} is given twice: give it once")
        if token not in [None, *(identity.placeholder_token for identity in identities)]:
            raise IdentityError(f"--strength names {token}: give that person with --identity")
        asked[token] = strength
    tokens = [identity.placeholder_token for identity in identities]
    wanted = {token: s for token in tokens if (s := asked.get(token, asked.get(None, 1.0))) != 1}
    if not wanted:
        return list(identities), {}
    basis = load_basis(args)
    as_wanted = [
        identity.scaled(basis, wanted[identity.placeholder_token]) if identity.placeholder_token in wanted else identity
        for identity in identities
    ]
    return as_wanted, wanted


def _strength(text: str) -> tuple[str | None, float]:
    """annika=.8 -> <annika> and .8; .8 -> everybody and .8"""
    name, _, number = text.rpartition("=")
    try:
        strength = float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not S or NAME=S, like .8 or annika=.8") from None
    return placeholder(name) if name else None, strength
