"""Method: the interface of a way to learn a person, and what several of them use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...backend.denoiser import Prediction
from ...backend.pipeline import Pipeline
from ...basis import CelebBasis
from ...errors import IdentityError
from ...faces.face import Face, mean_features
from ...instant_map import InstantMap
from ..data import Augmentation


@dataclass(frozen=True, eq=False)
class FitContext:
    """The people to learn and the model: what a method may look at before it starts."""

    pipe: Pipeline
    basis: CelebBasis
    people: Sequence[Sequence[Face]]
    generators: Sequence[torch.Generator]  # one a person, so that nobody's fit depends on who else is fitted
    instant_map: InstantMap | None = None

    def generator(self) -> torch.Generator:
        """Return a generator of the fit's seed for what everybody starts with."""
        return torch.Generator().manual_seed(self.generators[0].initial_seed())

    def features(self) -> Tensor:
        """Return each person's face feature (people, d) of length one: the mean over their photos, by their weights."""
        return mean_features(self.people)


@dataclass(frozen=True, eq=False)
class Parametrization:
    """The numbers that are optimised for all people, and the functions that make vectors of them.

    free: (people, ...), or (1, ...) where they are learnt jointly: what the optimiser changes.
    averaged: free, and the numbers (n,) of the people wanted -> (n, ...), what is averaged over the steps.
    vectors: averaged -> (n, tokens, dim).
    penalty: vectors -> (n,), what is added to the loss.
    of_images: free, and the features (n, d) of the faces in n images -> (n, ...), what is averaged of them instead,
        where each image is read.
    """

    free: Tensor
    averaged: Callable[[Tensor, Tensor], Tensor]
    vectors: Callable[[Tensor], Tensor]
    penalty: Callable[[Tensor], Tensor] | None = None
    of_images: Callable[[Tensor, Tensor], Tensor] | None = None


def free_vectors(start: Tensor, people: int) -> Parametrization:
    """Return everybody at vectors (tokens, dim), which are optimised themselves."""
    return Parametrization(start.repeat(people, 1, 1), lambda free, who: free[who], lambda vectors: vectors)


class Method(ABC):
    """A way to learn people.

    name: its key in DEFAULTS.
    lr_scheduler: how the learning rate changes over all steps; cosine falls to 0.
    weight_decay: of AdamW. max_grad_norm: of each person's gradient, which is shortened to that.
    augmentation: how its training images are made, but for the faces' sizes, which are the recipe's; where the model's
        card names sizes, faces are whole, and on whole latents.
    independent_images: whether every image of a step is made anew and has its own caption, timestep and sample of the
        autoencoder's posterior, as in most published programs; otherwise a step's images share a caption and are
        taken from a few, and a person's timesteps are spread evenly.
    reads_images: whether the recogniser describes the face of each training image, instead of the photograph once;
        such images are independent.
    joint: whether people are learnt jointly, from steps on images of anybody; there are then as many more steps.
    momentum: of the running average over the images that is the result; 0 takes the last step.
    has_face_loss: whether steps with the face loss may follow.
    """

    name: ClassVar[str]
    lr_scheduler: ClassVar[Literal["constant", "cosine"]] = "constant"
    weight_decay: ClassVar[float] = 0.0
    max_grad_norm: ClassVar[float | None] = None
    augmentation: ClassVar[Augmentation] = Augmentation()
    independent_images: ClassVar[bool] = False
    reads_images: ClassVar[bool] = False
    joint: ClassVar[bool] = False
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
