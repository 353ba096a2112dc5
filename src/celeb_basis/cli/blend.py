"""The blend command: mix two people into a third."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .fit import advise
from .info import describe_identity
from .options import add_command, check_file, fraction, placeholder


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    blend = add_command(
        commands,
        "blend",
        blend_people,
        "mix two people into a third",
        """
        blend annika.safetensors tovik.safetensors --name bodil
        blend annika.safetensors tovik.safetensors --weight .25 --name bodil -o bodil.safetensors""",
    )
    blend.add_argument("first", type=Path, metavar="A", help="an identity file, or the name of somebody you keep")
    blend.add_argument("second", type=Path, metavar="B", help="the other")
    blend.add_argument("--weight", type=fraction, default=0.5, help="share of B, from 0 to 1 (default: .5)")
    blend.add_argument("--name", required=True, type=placeholder, help="the name in prompts")
    blend.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: NAME.safetensors)")


def blend_people(args: argparse.Namespace) -> dict[str, Any]:
    from ..backend.known_models import known_vocabulary
    from ..identity import Identity
    from ..library import find_identity

    out = check_file(args.out or Path(f"{args.name[1:-1]}.safetensors"), ".safetensors")
    identity = Identity.load(find_identity(args.first)).blend(
        Identity.load(find_identity(args.second)), args.weight, args.name
    )
    advise([out], known_vocabulary(identity.model, identity.fingerprint))
    identity.save(out)
    return describe_identity(identity) | {"file": str(out)}
