"""StableIdentity: layers over the face feature, brought to the celebrities' mean and spread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, leaky_relu

from ...backend.denoiser import Prediction
from ...backend.text_encoders import name_rows
from ..data import Augmentation
from .method import FitContext, Method, Parametrization

MIN_NOISE_TIMESTEP = 600  # of 1,000, above which the loss is that of the noise
LR_MUL = 0.1  # of weights, where they are used
INIT_STD = 0.02  # of weights, before that


@dataclass(frozen=True)
class StableIdentity(Method):
    """Learns two layers from face feature to vectors that have the celebrities' mean and spread (AdaIN).

    Both layers are as wide as the two vectors together. The second reads normalised values, and what it gives is
    normalised over both tokens at once; either normalisation has learnt weights.
    The loss is that of the face, and at a tenth of the weight of the hair: of the noise at timesteps above 600, of the
    clean latents, as the autoencoder gives them, below. Errors are averaged over the whole image.

    Source: Wang et al., "StableIdentity" (2024), and their released settings. What remains different: they take the
    feature of a vision transformer for faces, of the image as it is mirrored, and the masks of a face parser; here it
    is the reader's feature of the photograph, and ellipses.
    """

    name: ClassVar[str] = "stable-identity"
    weight_decay: ClassVar[float] = 0.01
    max_grad_norm: ClassVar[float | None] = 1.0
    independent_images: ClassVar[bool] = True
    augmentation: ClassVar[Augmentation] = Augmentation(continuous=True, aspect=0.1, hue=0.01, crop=0.75)

    def start(self, context: FitContext) -> Parametrization:
        features = context.features()
        rows = name_rows(context.pipe, context.basis.names)[0]
        mean, spread = rows.mean(0), rows.std(0)
        width, inputs = mean.numel(), features.shape[1]
        shapes = {
            "first": (width, inputs), "first_bias": (width,), "norm": (width,), "norm_bias": (width,),
            "second": (width, width), "second_bias": (width,), "last_norm": (width,), "last_norm_bias": (width,),
        }  # fmt: skip
        generator = context.generator()
        begun = {
            "first": INIT_STD * torch.randn(shapes["first"], generator=generator),
            "second": INIT_STD * torch.randn(shapes["second"], generator=generator),
        }
        start = torch.cat(
            [
                begun.get(name, torch.full(shape, float(name in ("norm", "last_norm")))).flatten()
                for name, shape in shapes.items()
            ]
        )
        sizes = [torch.Size(shape).numel() for shape in shapes.values()]

        def person(parameters: Tensor, feature: Tensor) -> Tensor:
            p = {
                name: part.view(shape)
                for (name, shape), part in zip(shapes.items(), parameters.split(sizes), strict=True)
            }
            hidden = leaky_relu(LR_MUL * (p["first"] @ feature + p["first_bias"]), 0.2)
            hidden = layer_norm(hidden, (width,), p["norm"], p["norm_bias"])
            hidden = LR_MUL * (p["second"] @ hidden + p["second_bias"])
            plain = layer_norm(hidden, (width,), p["last_norm"], p["last_norm_bias"])
            return plain.view(mean.shape) * spread + mean

        def averaged(free: Tensor, who: Tensor) -> Tensor:
            return torch.stack([person(free[i], features[i]) for i in who.tolist()])

        return Parametrization(start.repeat(len(features), 1), averaged, lambda vectors: vectors)

    def loss(self, prediction: Prediction, face_weights: Callable[[], Tensor]) -> Tensor:
        noisy = (prediction.timesteps > MIN_NOISE_TIMESTEP)[..., None, None, None]
        of_noise = (prediction.estimated_noise - prediction.noise).square()
        of_clean = ((prediction.estimated_clean - prediction.clean) / prediction.latent_scale).square()
        errors = torch.where(noisy, of_noise, of_clean) * face_weights().to(of_noise)
        error, much = errors.flatten(2).mean(2), noisy.flatten(1)
        return _mean_where(error, much) + _mean_where(error, ~much)


def _mean_where(values: Tensor, which: Tensor) -> Tensor:
    """Return each row's mean of the values chosen, 0 where there is none."""
    return (values * which).sum(1) / which.sum(1).clamp(min=1)
