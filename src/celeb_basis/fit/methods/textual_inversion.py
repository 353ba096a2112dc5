"""Textual Inversion: the vectors themselves are free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import IdentityError
from .method import FitContext, Method, Parametrization


@dataclass(frozen=True)
class TextualInversion(Method):
    """Learns the vectors themselves, starting from the mean celebrity.

    num_vectors: 2, or 1 for the last name alone, with the mean celebrity's first name.

    Source: Gal et al., "An Image is Worth One Word" (2022), who start from an ordinary word.
    """

    name: ClassVar[str] = "textual-inversion"

    num_vectors: int = 2

    def __post_init__(self) -> None:
        if self.num_vectors not in (1, 2):
            raise IdentityError(f"{self.num_vectors} vectors: it must be 1 or 2", argument="num_vectors")

    def start(self, context: FitContext) -> Parametrization:
        mean = context.basis.inverse_transform(torch.zeros_like(context.basis.sigma))
        kept = mean[: 2 - self.num_vectors].expand(len(context.people), -1, -1)

        def vectors(averaged: Tensor) -> Tensor:
            return torch.cat([kept, averaged], dim=1)

        return Parametrization(
            mean[2 - self.num_vectors :].repeat(len(context.people), 1, 1), lambda free: free, vectors
        )
