"""Ways to learn a person's two vectors under one loss: what is free, where it starts, how it becomes vectors."""

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
    """The method of that name with its own defaults, or the method itself. Raises IdentityError."""
    if isinstance(method, Method):
        return method
    if method not in METHODS:
        raise IdentityError(f"method={method!r} must be one of {', '.join(METHODS)}")
    return METHODS[method]()
