"""Commands for the user's own people, who are kept by name: people list, add, show, rename, remove."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import CelebBasisError
from .info import info_of_identity
from .options import add_command, placeholder


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    people = commands.add_parser("people", help="keep people by name, for --identity NAME in any folder")
    parts = people.add_subparsers(required=True, metavar="COMMAND")
    add_command(parts, "list", list_people, "list the people you keep", "people list\npeople list --json")
    add = add_command(
        parts,
        "add",
        add_person,
        "keep a person, whom --identity NAME then finds in any folder",
        """
        people add annika.safetensors
        people add annika.safetensors --name bodil""",
        "The file is copied.",
    )
    add.add_argument("file", type=Path, metavar="FILE", help="an identity file")
    add.add_argument("--name", type=placeholder, help="another name in prompts (default: the file's)")
    show = add_command(parts, "show", show_person, "describe a person you keep", "people show annika")
    rename = add_command(
        parts, "rename", rename_person, "give a person you keep another name", "people rename annika bodil"
    )
    remove = add_command(parts, "remove", remove_person, "delete a person you keep", "people remove annika")
    for parser in (show, rename, remove):
        parser.add_argument("name", metavar="NAME", help="as people list shows it")
    rename.add_argument("new_name", type=placeholder, metavar="NEW", help="the name in prompts from now on")


def list_people(args: argparse.Namespace) -> dict[str, Any]:
    from .. import library
    from ..identity import Identity

    found: list[dict[str, Any]] = []
    for name, file in library.people().items():
        try:
            described: dict[str, Any] = {"model": Identity.load(file).model or "unknown"}
        except CelebBasisError as error:
            described = {"error": error.message}
        found.append({"name": name} | described)
    return {"folder": str(library.library_folder()), "people": found}


def add_person(args: argparse.Namespace) -> dict[str, Any]:
    from .. import library
    from ..identity import Identity

    identity = Identity.load(args.file, args.name)
    return _kept(identity.placeholder_token, library.add(identity))


def show_person(args: argparse.Namespace) -> dict[str, Any]:
    from .. import library

    file = library.person_file(args.name)
    return {"file": str(file)} | info_of_identity(file)


def rename_person(args: argparse.Namespace) -> dict[str, Any]:
    from .. import library

    return _kept(args.new_name, library.rename(args.name, args.new_name))


def remove_person(args: argparse.Namespace) -> dict[str, Any]:
    from .. import library

    return {"removed": str(library.remove(args.name))}


def _kept(token: str, file: Path) -> dict[str, Any]:
    name = token[1:-1]
    return {
        "identity": token,
        "file": str(file),
        "next": f'celeb-basis generate "a photo of {token}" --identity {name}',
    }
