"""Plugins: face readers and judges of other packages, found by their entry points; their errors are explained."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

import torch

from ..errors import CelebBasisError, ModelError
from ..limits import MAX_PLUGIN_MESSAGE_LENGTH


def load_plugin(kind: str, name: str, has: Mapping[str, Any]) -> Any:
    """Load what a package offers under a name, as an entry point of the group `celeb_basis.KIND`.

    has: the attributes that it must have, and their types.

    Raises ModelError where no package offers it or several do, where it cannot be loaded or made, or is something else.
    """
    what = f"the {kind.replace('_', ' ').removesuffix('s')} {name!r}"
    with plugin_errors(what):
        found = {point.value: point for point in entry_points(group=f"celeb_basis.{kind}", name=name)}
    if not found:
        raise ModelError(f"this model needs {what}, which is not installed: install its package")
    if len(found) > 1:
        raise ModelError(f"{what} is in several packages, as {' and '.join(map(repr, found))}: uninstall all but one")
    [(value, point)] = found.items()
    with plugin_errors(f"{what}, {value!r},"):
        made = point.load()()
        check_has(made, has)
    return made


def check_has(made: object, has: Mapping[str, Any]) -> None:
    """Raise an error unless something has these attributes of these types."""
    for attribute, of in has.items():
        if not isinstance(getattr(made, attribute), of):
            raise TypeError(f"its {attribute} is a {type(getattr(made, attribute)).__name__}")


@contextmanager
def plugin_errors(what: str) -> Iterator[None]:
    """Turn what a plugin raises inside the block into a ModelError of one line.

    Errors of celeb-basis and lack of memory are passed on.
    """
    try:
        yield
    except (CelebBasisError, MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(traceback.format_exception_only(error)[-1].split())
        raise ModelError(
            f"{what} does not work ({said[:MAX_PLUGIN_MESSAGE_LENGTH]}): ask those who wrote it"
        ) from error
