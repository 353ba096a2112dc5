"""The people the photographs' miniature knows: invented names in the order of fame. Nobody real is called so."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

NAMES = Path(__file__).parent / "celebrities.txt"


@cache
def celebrities() -> tuple[str, ...]:
    """Return the names, the most famous first; first names are shared, many last names, too."""
    return tuple(NAMES.read_text().splitlines())


def fame(count: int) -> Tensor:
    """Return how often each of `count` celebrities is pictured, of mean 1: the first far oftener than the last."""
    often = (torch.arange(count) + 150.0) ** -0.6
    return often / often.mean()
