"""Cross Initialization: the vectors themselves, from the text encoder's output at the mean celebrity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...backend.text_encoders import encoder_outputs
from .method import FitContext, Method, Parametrization


@dataclass(frozen=True)
class CrossInitialization(Method):
    """Learns the vectors themselves, starting from the text encoder's output at the mean celebrity's tokens.

    Source: Pang et al., "Cross Initialization for Personalized Text-to-Image Generation" (2024), without their
    regulariser, which pulls to the start with a weight of 1e-5.
    """

    name: ClassVar[str] = "cross-initialization"

    def start(self, context: FitContext) -> Parametrization:
        mean = context.basis.inverse_transform(torch.zeros_like(context.basis.sigma))
        outputs = encoder_outputs(context.pipe, context.templates[0], mean)
        return Parametrization(outputs.repeat(len(context.people), 1, 1), lambda free: free, lambda averaged: averaged)
