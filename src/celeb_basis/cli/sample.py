"""The sample command: make up a person who does not exist."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .fit import advise
from .info import describe_identity
from .options import (
    add_basis,
    add_command,
    add_model,
    check_file,
    load_model,
    nonnegative_int,
    placeholder,
)


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    sample = add_command(
        commands,
        "sample",
        sample_person,
        "make up a person who does not exist, the same in every picture",
        """
        sample --name mirelle --seed 3
        sample --name mirelle --seed 3 --basis sd15.safetensors -o mirelle.safetensors""",
    )
    sample.add_argument("--name", required=True, type=placeholder, help="the name in prompts")
    sample.add_argument("--seed", type=nonnegative_int, default=0, help="which person (default: 0)")
    sample.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: NAME.safetensors)")
    add_model(sample)
    add_basis(sample)


def sample_person(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from ..backend.known_models import known_vocabulary
    from ..identity import Identity
    from ..model import resolve_basis

    out = check_file(args.out or Path(f"{args.name[1:-1]}.safetensors"), ".safetensors")
    # A basis that is there already says enough of a model: its weights are loaded only where one has to be made.
    basis = resolve_basis(args.model, args.basis)[0] or load_model(args).basis
    advise([out], known_vocabulary(basis.model, basis.fingerprint))
    identity = Identity.sample(basis, args.name, torch.Generator().manual_seed(args.seed))
    identity.save(out)
    return describe_identity(identity, basis) | {"seed": args.seed, "file": str(out)}
