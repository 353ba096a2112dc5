"""Method: the interface of a way to learn a person, and what several of them use."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from ...backend.denoiser import Prediction
from ...backend.pipeline import Pipeline
from ...basis import CelebBasis
from ...errors import IdentityError
from ...faces.face import Face, mean_features
from ...instant_map import InstantMap


@dataclass(frozen=True, eq=False)
class FitContext:
    """The people to learn and the model: what a method may look at before it starts."""

    pipe: Pipeline
    basis: CelebBasis
    people: Sequence[Sequence[Face]]
    generators: Sequence[torch.Generator]  # one a person, so that nobody's fit depends on who else is fitted
    templates: Sequence[str]
    instant_map: InstantMap | None = None

    def features(self) -> Tensor:
        """Return each person's face feature (people, d) of length one: the mean over their photos, by their weights."""
        return mean_features(self.people)


@dataclass(frozen=True, eq=False)
class Parametrization:
    """The numbers that are optimised for all people, and the functions that make vectors of them.

    free: (people, ...), what the optimiser changes.
    averaged: free -> (people, ...), what is averaged over the steps.
    vectors: averaged -> (people, 2, dim).
    """

    free: Tensor
    averaged: Callable[[Tensor], Tensor]
    vectors: Callable[[Tensor], Tensor]


class Method(ABC):
    """A way to learn people.

    name: its key in DEFAULTS.
    lr_scheduler: how the learning rate changes over all steps; cosine falls to 0.
    momentum: of the running average over the steps that is the result; 0 takes the last step.
    has_face_loss: whether steps with the face loss may follow.
    """

    name: ClassVar[str]
    lr_scheduler: ClassVar[Literal["constant", "cosine"]] = "constant"
    momentum: float = 0.0
    has_face_loss: ClassVar[bool] = False

    @abstractmethod
    def start(self, context: FitContext) -> Parametrization:
        """Return where everybody starts, and how vectors follow from what is optimised."""

    def max_train_steps(self, instant_map: InstantMap | None, from_mean: int) -> int:
        """Return how many steps to take where a recipe does not say, if it takes `from_mean` from the mean person."""
        return from_mean

    def settings(self, instant_map: InstantMap | None) -> dict[str, object]:
        """Return the method's own settings as they are in effect, for the identity's provenance."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def loss(self, prediction: Prediction, face_weights: Callable[[], Tensor]) -> Tensor:
        """Return the loss of each person, (people,).

        face_weights: returns (people, batch, 1, h, w): 1 on the face, .1 on the hair around it and 0 elsewhere.
        """
        return prediction.error()


def weighted(errors: Tensor, weights: Tensor) -> Tensor:
    """Return each person's mean (people,) of errors (people, batch, c, h, w) with weights (people, batch, 1, h, w)."""
    weights = weights.to(errors).expand_as(errors)
    return (errors * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def check_momentum(momentum: float) -> None:
    """Raise IdentityError unless a running average can have this momentum."""
    if not 0 <= momentum < 1:
        raise IdentityError(f"a momentum of {momentum} must be at least 0 and below 1", argument="momentum")


def initial_layers(sizes: Sequence[int], people: int) -> Tensor:
    """Return flat weights and biases of linear layers as nn.Linear starts them, the same for everybody: (people, n)."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        (torch.rand(outputs * (inputs + 1), generator=generator) * 2 - 1) / math.sqrt(inputs)
        for inputs, outputs in pairwise(sizes)
    ]
    return torch.cat(parts).repeat(people, 1)


def through_layers(free: Tensor, features: Tensor, sizes: Sequence[int]) -> Tensor:
    """Apply each person's own linear layers, with leaky ReLU between them, to their features (people, d)."""
    pairs = list(pairwise(sizes))
    for i, part in enumerate(free.split([outputs * (inputs + 1) for inputs, outputs in pairs], dim=1)):
        inputs, outputs = pairs[i]
        layer = part.unflatten(1, (outputs, inputs + 1))
        features = leaky_relu(features, 0.2) if i else features
        features = torch.einsum("poi,pi->po", layer[..., :-1], features) + layer[..., -1]
    return features
