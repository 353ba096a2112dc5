"""Fitting: faces become identities, step by step or at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..basis.basis import CelebBasis
from ..basis.instant_map import InstantMap
from ..errors import IdentityError
from ..faces.face import Face
from ..identity import Identity
from ..models.denoiser import Denoiser
from ..models.encoders import check_placeholder
from ..models.families import denoiser_of
from ..models.memory import check_trainable
from ..models.pipeline import Pipeline, model_card
from ..models.turn import in_turn
from .methods import Method, method_of
from .methods.method import Task
from .minimise import minimise
from .pictures import TrainingPictures
from .recipe import DEFAULTS, TEMPLATES, Recipe

MILESTONES = (0, 1, 5, 15, 50, 150)


@dataclass(frozen=True, eq=False)
class FitStep:
    """Where a fit stands after a step; step 0 is the start, whose loss is not a number."""

    step: int
    max_train_steps: int
    is_last: bool
    loss: float  # mean over the people
    vectors: Tensor  # (people, 2, dim), running average
    basis: CelebBasis
    provenance: Sequence[Mapping[str, str]]  # of each person: how they were learnt

    @property
    def is_milestone(self) -> bool:
        """Whether somebody who watches the fit should be shown the person: after a few steps, and after the last."""
        return self.is_last or self.step in MILESTONES

    @property
    def coefficients(self) -> Tensor:
        """Where the people stand in the basis, (people, 2, k)."""
        return self.basis.transform(self.vectors)

    def identities(self, placeholder_tokens: Sequence[str]) -> list[Identity]:
        """The people as they are after this step, one for each token."""
        steps = {"steps": str(self.step)}
        return [
            Identity.from_vectors(self.basis, vectors, token, how | steps)
            for vectors, token, how in zip(self.vectors, placeholder_tokens, map(dict, self.provenance), strict=True)
        ]


def fit_identity(
    pipe: Pipeline,
    basis: CelebBasis,
    faces: Sequence[Face],
    *,
    placeholder_token: str,
    method: str | Method = "celeb-basis",
    instant: InstantMap | None = None,
    progress: Callable[[FitStep], None] | None = None,
    **recipe: Any,
) -> Identity:
    """Learn one person from one or several photos; every weight of the model stays as it is.

    recipe: the fields of `Recipe`, such as max_train_steps=50. For the rest see `fit_steps`.

    Raises BasisError if basis or instant map belong to another model, IdentityError for a recipe that
    cannot be followed, PromptError for a placeholder token this model cannot take.
    """
    return fit_identities(
        pipe, basis, [faces], [placeholder_token], Recipe(**recipe), method=method, instant=instant, progress=progress
    )[0]


def fit_identities(
    pipe: Pipeline,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    placeholder_tokens: Sequence[str],
    recipe: Recipe = Recipe(),
    *,
    method: str | Method = "celeb-basis",
    instant: InstantMap | None = None,
    progress: Callable[[FitStep], None] | None = None,
) -> list[Identity]:
    """Learn several people side by side, each as if alone: the same seed gives the same person."""
    if len(placeholder_tokens) != len(people):
        raise IdentityError(f"{len(people)} people and {len(placeholder_tokens)} placeholder tokens: give one each")
    for token in placeholder_tokens:
        check_placeholder(pipe, token)
    for step in fit_steps(pipe, basis, people, recipe, method=method, instant=instant):
        if progress is not None:
            progress(step)
    return step.identities(placeholder_tokens)


def fit_steps(
    pipe: Pipeline,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    recipe: Recipe = Recipe(),
    *,
    method: str | Method = "celeb-basis",
    instant: InstantMap | None = None,
) -> Iterator[FitStep]:
    """Yield the start and then every step of learning several people, each from their own faces.

    Between steps the pipeline is as it was, so that the caller, or another thread, may draw pictures with it.

    method: "celeb-basis", "paper", "textual-inversion", "cross-initialization" or "stable-identity", each with its
    own defaults, or one of these classes with others.
    instant: the basis' instant map, from which "celeb-basis" starts if it is given.
    """
    return in_turn(pipe, _steps(pipe, basis, people, recipe, method, instant))


def _steps(
    pipe: Pipeline,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    recipe: Recipe,
    method: str | Method,
    instant: InstantMap | None,
) -> Iterator[FitStep]:
    begun = time.monotonic()
    end = math.inf if recipe.max_train_minutes is None else begun + 60 * recipe.max_train_minutes
    method = method_of(method)
    basis.check(pipe)
    if not people:
        raise IdentityError("at least one person is needed")
    if not all(people):
        raise IdentityError("at least one face of each person is needed")
    defaults = DEFAULTS[method.name]
    steps = method.max_train_steps(instant) if recipe.max_train_steps is None else recipe.max_train_steps
    learning_rate = recipe.learning_rate or defaults.learning_rate
    batch_size = recipe.train_batch_size or defaults.train_batch_size
    templates = recipe.templates or model_card(pipe).templates or TEMPLATES
    generators = [torch.Generator().manual_seed(recipe.seed) for _ in people]
    start = method.start(Task(pipe, basis, people, generators, templates, instant))
    how = {
        "made_by": "fit",
        "method": method.name,
        "basis_digest": basis.digest,
        "max_train_steps": str(steps),
        "learning_rate": str(learning_rate),
        "lr_scheduler": method.lr_scheduler,
        "train_batch_size": str(batch_size),
        "num_pictures": str(recipe.num_pictures),
        "seed": str(recipe.seed),
        **{name: str(value) for name, value in method.settings(instant).items()},
    }
    provenance = [how | {"photos": str(len(faces)), "face_reader": faces[0].face_reader} for faces in people]
    free = start.free.requires_grad_()

    def at(step: int, loss: float, *, is_last: bool) -> FitStep:
        return FitStep(step, steps, is_last, loss, start.vectors(average).detach(), basis, provenance)

    average = start.point(free.detach().clone())  # the optimiser changes `free` in place
    yield at(0, math.nan, is_last=steps == 0)
    if steps == 0:
        return
    check_trainable(pipe)
    denoiser = denoiser_of(pipe)
    pictures = [person_pictures(pipe, faces, recipe, g, denoiser) for faces, g in zip(people, generators, strict=True)]
    losses = minimise(
        pipe,
        pictures,
        free,
        lambda free: start.vectors(start.point(free)),
        generators,
        max_train_steps=steps,
        learning_rate=learning_rate,
        lr_scheduler=method.lr_scheduler,
        train_batch_size=batch_size,
        templates=templates,
        loss=method.loss,
    )
    before = time.monotonic()
    for step, loss in enumerate(losses, start=1):
        # The average forgets the start sooner in the first steps, as there is little to average yet.
        decay = min(method.momentum, (1 + step) / (10 + step))
        average = torch.lerp(start.point(free.detach()), average, decay)
        is_last = step == steps or 2 * time.monotonic() - before > end  # the next step may take as long as this one
        yield at(step, loss, is_last=is_last)
        if is_last:
            return
        before = time.monotonic()


def person_pictures(
    pipe: Pipeline, faces: Sequence[Face], recipe: Recipe, generator: torch.Generator, denoiser: Denoiser
) -> TrainingPictures:
    """A person's training pictures, of the size and in the number of a recipe; good photos stand in more of them."""
    least = min(face.weight for face in faces)
    return TrainingPictures(
        denoiser,
        [face.crop for face in faces for _ in range(min(10, round(face.weight / least)))],
        resolution=recipe.resolution or denoiser.resolution,
        scales=recipe.scales or model_card(pipe).scales,
        num_pictures=recipe.num_pictures,
        generator=generator,
    )
