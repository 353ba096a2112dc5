"""Ways to learn a person's two vectors: what is optimised, where it starts, and how vectors follow from it."""

from __future__ import annotations

from ...errors import IdentityError
from .celeb_basis import CelebBasisMethod
from .cross_initialization import CrossInitialization
from .method import Method
from .paper import Paper
from .stable_identity import StableIdentity
from .textual_inversion import TextualInversion

__all__ = [
    "METHODS",
    "CelebBasisMethod",
    "CrossInitialization",
    "Method",
    "Paper",
    "StableIdentity",
    "TextualInversion",
    "get_method",
]

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (CelebBasisMethod, Paper, TextualInversion, CrossInitialization, StableIdentity)
}


def get_method(method: str | Method) -> Method:
    """Return the method of a name with its defaults, or the method given. Raises IdentityError for an unknown name."""
    if isinstance(method, Method):
        return method
    if method not in METHODS:
        raise IdentityError(f"there is no method {method!r}: choose one of {', '.join(METHODS)}", argument="method")
    return METHODS[method]()
