"""Every error a user can meet; each message is one line that says what to do.

CelebBasisError
├── ModelError            a model cannot be loaded, or is of a kind that is not supported
├── BasisError            a basis cannot be made from these names, or belongs to another model
├── IdentityError         an identity cannot be read or made, or belongs to another model
├── PromptError           a prompt or a placeholder token that would not mean what was meant
├── PhotoError            a photo cannot be read or used
│   ├── NoFaceError       no face was found in it
│   └── SeveralFacesError more than one face was found in it
└── OutputError           a file cannot be written
"""

from __future__ import annotations

import re


class CelebBasisError(Exception):
    """Something the user can put right; `str(error)` is one line that says how."""


class ModelError(CelebBasisError):
    """A model cannot be loaded, or is of a kind that is not supported."""


class BasisError(CelebBasisError):
    """A basis cannot be made from these names, or belongs to another model."""


class IdentityError(CelebBasisError):
    """An identity cannot be read or made, or belongs to another model."""


class PromptError(CelebBasisError):
    """A prompt or a placeholder token that would not mean what was meant."""


class PhotoError(CelebBasisError):
    """A photo cannot be read or used."""


class NoFaceError(PhotoError):
    """No face was found in a photo."""


class SeveralFacesError(PhotoError):
    """More than one face was found in a photo of one person."""


class OutputError(CelebBasisError):
    """A file cannot be written."""


PLACEHOLDER = re.compile(r"<[a-z0-9_-]+>")


def check_spelling(token: str) -> None:
    """Raise PromptError unless a placeholder token is written like <ada>; here, as the command line needs no torch."""
    if not PLACEHOLDER.fullmatch(token):
        # Capitals would lose their second vector in diffusers; a bare word is also replaced inside words.
        raise PromptError(
            f"{token!r} cannot be a placeholder token: write lower-case letters, digits, - or _ "
            "between angle brackets, like <ada>"
        )


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, as shares of its width and height."""


def check_box(name: str, box: Box) -> None:
    """Raise PromptError unless a box has an inside and lies in the picture."""
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise PromptError(
            f"the region of {name} is {','.join(f'{side:g}' for side in box)}: give left,top,right,bottom as shares "
            "of the picture, 0 to 1, like 0,0,.5,1 for its left half"
        )
