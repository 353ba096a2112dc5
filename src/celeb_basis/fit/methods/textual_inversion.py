"""Textual Inversion: the vectors themselves are free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...backend.text_encoders import word_rows
from ...errors import IdentityError
from ..data import WHOLE, Augmentation
from .method import FitContext, Method, Parametrization, free_vectors


@dataclass(frozen=True)
class TextualInversion(Method):
    """Learns the vectors themselves: one, starting from a word, or two, starting from the mean celebrity.

    initializer_token: the word, which must be one token of the model; without effect on two vectors.

    Source: Gal et al., "An Image is Worth One Word" (2022), and their released settings for Stable Diffusion. Two
    vectors from the mean celebrity are our variant.
    """

    name: ClassVar[str] = "textual-inversion"
    weight_decay: ClassVar[float] = 0.01
    independent_images: ClassVar[bool] = True
    augmentation: ClassVar[Augmentation] = WHOLE

    num_vectors: int = 1
    initializer_token: str = "face"

    def __post_init__(self) -> None:
        if self.num_vectors not in (1, 2):
            raise IdentityError(f"{self.num_vectors} vectors: it must be 1 or 2", argument="num_vectors")

    def start(self, context: FitContext) -> Parametrization:
        if self.num_vectors == 1:
            start = word_rows(context.pipe, self.initializer_token)
        else:
            start = context.basis.inverse_transform(torch.zeros_like(context.basis.sigma))
        return free_vectors(start, len(context.people))
