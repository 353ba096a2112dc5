"""The paper's method: a linear layer over the face feature gives coefficients of unit norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import leaky_relu, normalize

from .method import FitContext, Method, Parametrization, check_momentum, initial_layers, through_layers


@dataclass(frozen=True)
class Paper(Method):
    """Learns a linear layer from face feature to 2 x k coefficients; leaky ReLU, unit norm for each token.

    The result is a running average of the coefficients.

    Source: Yuan et al. (2023), section 3.3, and their
    released settings.
    """

    name: ClassVar[str] = "paper"

    momentum: float = 0.99

    def __post_init__(self) -> None:
        check_momentum(self.momentum)

    def start(self, context: FitContext) -> Parametrization:
        features = context.features()
        sizes = (features.shape[1], context.basis.sigma.numel())

        def averaged(free: Tensor) -> Tensor:
            return normalize(leaky_relu(through_layers(free, features, sizes), 0.2).unflatten(-1, (2, -1)), dim=-1)

        return Parametrization(initial_layers(sizes, len(features)), averaged, context.basis.inverse_transform)
