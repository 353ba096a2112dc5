"""The people the photographs' miniature knows: invented names in the order of fame. Nobody real is called so."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

NAMES = Path(__file__).parent / "celebrities.txt"
_ORDER_SEED = 11


@cache
def celebrities() -> tuple[str, ...]:
    """Return the names, the most famous first; first names are shared, many last names, too."""
    return tuple(NAMES.read_text().splitlines())


def ranks(people: Iterable[int]) -> dict[int, int]:
    """Return the rank of fame of every person, by the person's number; chance decides."""
    ordered = sorted(people)
    order = torch.randperm(len(ordered), generator=torch.Generator().manual_seed(_ORDER_SEED)).tolist()
    return dict(zip(ordered, order, strict=True))


def fame(count: int) -> Tensor:
    """Return how often each of `count` celebrities is pictured, of mean 1: the first far oftener than the last."""
    often = (torch.arange(count) + 150.0) ** -0.6
    return often / often.mean()
