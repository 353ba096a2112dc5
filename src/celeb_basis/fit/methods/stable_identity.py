"""StableIdentity: layers over the face feature, brought to the celebrities' mean and spread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from ...backend.denoiser import Prediction
from ...backend.text_encoders import name_rows
from .method import FitContext, Method, Parametrization, initial_layers, through_layers, weighted

MIN_NOISE_TIMESTEP = 600  # of 1,000, above which the loss is that of the noise


@dataclass(frozen=True)
class StableIdentity(Method):
    """Learns two layers from face feature to vectors that have the celebrities' mean and spread (AdaIN).

    The loss is that of the face, and at a tenth of the weight of the hair: of the noise at timesteps above 600, of the
    clean latents below.

    Source: Wang et al., "StableIdentity" (2024). They take features of several layers of a face encoder and masks of a
    face parser; here it is one feature, and ellipses.
    """

    name: ClassVar[str] = "stable-identity"

    def start(self, context: FitContext) -> Parametrization:
        features = context.features()
        rows = name_rows(context.pipe, context.basis.names)[0]
        mean, spread = rows.mean(0), rows.std(0)
        sizes = (features.shape[1], features.shape[1], mean.numel())

        def vectors(averaged: Tensor) -> Tensor:
            plain = through_layers(averaged, features, sizes).unflatten(-1, mean.shape)
            return layer_norm(plain, plain.shape[-1:]) * spread + mean

        return Parametrization(initial_layers(sizes, len(features)), lambda free: free, vectors)

    def loss(self, prediction: Prediction, face_weights: Callable[[], Tensor]) -> Tensor:
        noisy = (prediction.timesteps > MIN_NOISE_TIMESTEP)[..., None, None, None]
        estimate = torch.where(noisy, prediction.estimated_noise, prediction.estimated_clean)
        truth = torch.where(noisy, prediction.noise, prediction.clean)
        return weighted((estimate - truth).square(), face_weights())
