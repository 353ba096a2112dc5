"""Library: the user's people by name, each an identity file in one folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from .errors import IdentityError
from .identity import Identity
from .notation import excerpt, placeholder_token

PEOPLE = "CELEB_BASIS_PEOPLE"  # the environment variable that names another folder
SUFFIX = ".safetensors"


def library_folder() -> Path:
    """Return the folder of the user's people; it need not exist."""
    from platformdirs import user_data_path

    own = os.environ.get(PEOPLE)
    return Path(own) if own else user_data_path("celeb-basis") / "people"


def find_identity(wanted: str | Path) -> Path:
    """Return the file that is meant by a path or by a name.

    A name, such as annika, is annika.safetensors in this folder, or else the person of that name in the library.

    Raises IdentityError where nobody is called so.
    """
    path = Path(wanted)
    if path.is_file() or path.suffix or len(path.parts) != 1:
        return path
    here = path.with_name(f"{path.name}{SUFFIX}")
    return here if here.is_file() else person_file(str(wanted))


def person_file(name: str) -> Path:
    """Return the file of a person in the library. Raises IdentityError where nobody is called so."""
    file = _file(name)
    if not file.is_file():
        raise IdentityError(
            f"nobody is called {excerpt(name)}: there is no {file.name} in this folder, nor in {file.parent}; name a "
            "file, or somebody of the library"
        )
    return file


def people() -> dict[str, Path]:
    """Return the library's files by the people's names, sorted."""
    found = library_folder().glob(f"*{SUFFIX}") if library_folder().is_dir() else ()
    return {file.stem: file for file in sorted(found) if not file.name.startswith(".")}


def add(identity: Identity) -> Path:
    """Keep a person in the library, under the name in their token; return the file.

    Raises IdentityError where somebody else has the name, OutputError where the folder cannot be written.
    """
    file = _file(identity.placeholder_token)
    if file.exists():
        raise IdentityError(
            f"{identity.placeholder_token} is in the library already: give another name, or take that one out first",
            argument="name",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    identity.save(file)
    return file


def rename(name: str, new_name: str) -> Path:
    """Give a person of the library another name; return the file. Raises what `person_file` and `add` raise."""
    file = person_file(name)
    renamed = add(replace(Identity.load(file), placeholder_token=placeholder_token(new_name)))
    file.unlink()
    return renamed


def remove(name: str) -> Path:
    """Delete a person of the library; return the file that is gone. Raises IdentityError."""
    file = person_file(name)
    file.unlink()
    return file


def _file(name: str) -> Path:
    """Return where a person would be kept. Raises PromptError for what is no name, such as a path."""
    return library_folder() / f"{placeholder_token(name)[1:-1]}{SUFFIX}"
