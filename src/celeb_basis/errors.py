"""Every error a user can meet; each message is one line that says what to do.

CelebBasisError
├── ModelError            a model cannot be loaded, or is of a kind that is not supported
├── BasisError            a basis cannot be made from these names, or belongs to another model
├── IdentityError         an identity cannot be read or made, or belongs to another model
├── PromptError           a prompt or a placeholder token that would not mean what was meant
├── PhotoError            a photo cannot be read or used
│   ├── NoFaceError       no face was found in it
│   └── SeveralFacesError more than one face was found in it
├── OutputError           a file cannot be written
└── FleetError            the workers of a fleet cannot be started or reached, or all of them have died
"""

from __future__ import annotations

from .limits import MAX_MESSAGE_LENGTH

END = 200  # characters of a long message's end, where it says what to do


def printable(text: str) -> str:
    """Return a text with control sequences, changes of direction and the like written as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def one_line(text: str) -> str:
    """Return a message as one printable line; of a long one the middle is left out."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[: MAX_MESSAGE_LENGTH - END - 5]} ... {text[-END:]}"


def how_to_install(extra: str) -> str:
    """Return the command that installs one of the package's extras, such as photo."""
    return f"pip install -e '.[{extra}]' in the folder of celeb-basis"


class CelebBasisError(Exception):
    """Something the user can put right.

    message: one line that says what is wrong and what to do; what it quotes of a file or an argument cannot steer a
        terminal, and is cut where it is long.
    argument: of the call: the one that is wrong, or that would help. A program that calls it otherwise, such as the
        command line with its options, names it in its own way.
    """

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        self.message, self.argument = one_line(message), argument
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} (argument: {self.argument})" if self.argument else self.message


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
    """More than one face was found in a photo of one person; `count` says how many."""

    def __init__(self, message: str, *, count: int = 2, argument: str | None = None) -> None:
        super().__init__(message, argument=argument)
        self.count = count


class OutputError(CelebBasisError):
    """A file cannot be written."""


class FleetError(CelebBasisError):
    """The workers of a fleet cannot be started or reached, or all of them have died."""
