"""Cross Initialization: the vectors themselves, from the text encoder's output at the mean celebrity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pairwise_distance

from ...backend.text_encoders import encoder_outputs
from ..data import WHOLE, Augmentation
from .method import FitContext, Method, Parametrization, free_vectors


@dataclass(frozen=True)
class CrossInitialization(Method):
    """Learns the vectors themselves, starting from the text encoder's output at the mean celebrity's name, alone.

    reg_weight: of the pull to the start, by the mean distance of the two vectors from it.

    Source: Pang et al., "Cross Initialization for Face Personalization of Text-to-Image Models" (2024), and their
    released settings. What remains different: the mean is over names of exactly two tokens.
    """

    name: ClassVar[str] = "cross-initialization"
    weight_decay: ClassVar[float] = 0.01
    independent_images: ClassVar[bool] = True
    augmentation: ClassVar[Augmentation] = WHOLE

    reg_weight: float = 1e-5

    def start(self, context: FitContext) -> Parametrization:
        mean = context.basis.inverse_transform(torch.zeros_like(context.basis.sigma))
        with torch.no_grad():
            [start] = encoder_outputs(context.pipe, "{}", mean[None])

        def pull(vectors: Tensor) -> Tensor:
            return self.reg_weight * pairwise_distance(vectors, start.to(vectors)).mean(-1)

        return replace(free_vectors(start, len(context.people)), penalty=pull)
