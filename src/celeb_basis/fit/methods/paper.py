"""The paper's method: one linear layer over the face feature gives coefficients of unit norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear, normalize

from ..data import Augmentation
from .method import FitContext, Method, Parametrization, check_momentum


@dataclass(frozen=True)
class Paper(Method):
    """Learns a linear layer from face feature to 2 x k coefficients; leaky ReLU, unit norm for each token.

    Several people share the layer and are learnt jointly, each step from images of whoever comes. The result is a
    running average of each person's coefficients over their images.

    momentum: of that average, for each image.

    Source: Yuan et al. (2023), section 3.3, and their released settings. What remains different: their basis is of
    names of any length (`any_length` of `CelebBasis.from_pipeline`), ours by default of those of two tokens; a basis
    has no more components than its names span; the recogniser is the reader's, and looks at the jittered face of each
    image where its own landmarks were in the photograph, or at the photograph alone where it has no network of torch;
    the average forgets its start sooner; faces are resized with antialiasing.
    """

    name: ClassVar[str] = "paper"
    weight_decay: ClassVar[float] = 0.01
    independent_images: ClassVar[bool] = True
    reads_images: ClassVar[bool] = True
    joint: ClassVar[bool] = True
    augmentation: ClassVar[Augmentation] = Augmentation(continuous=True, aspect=0.1, hue=0.01)

    momentum: float = 0.99

    def __post_init__(self) -> None:
        check_momentum(self.momentum)

    def start(self, context: FitContext) -> Parametrization:
        return unit_layer(context, context.basis.sigma.numel(), context.basis.inverse_transform)


def unit_layer(context: FitContext, width: int, vectors: Callable[[Tensor], Tensor]) -> Parametrization:
    """Return one layer for everybody, from face feature to `width` numbers: leaky ReLU, unit norm for each token.

    vectors: of these numbers (n, 2, width / 2).
    """
    features = context.features()
    weight = torch.randn(width, features.shape[1], generator=context.generator())

    def numbers(free: Tensor, seen: Tensor) -> Tensor:
        layer = linear(seen, free[0, :, :-1], free[0, :, -1])
        return normalize(leaky_relu(layer, 0.2).unflatten(-1, (2, -1)), dim=-1)

    start = torch.cat([weight, torch.zeros(width, 1)], dim=1)[None]
    return Parametrization(start, lambda free, who: numbers(free, features[who]), vectors, of_images=numbers)
