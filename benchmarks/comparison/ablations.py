"""Ablations of the paper's method: without basis, flattened, one token, noise around the mean.

    python benchmarks ablations --people 6
    python benchmarks ablations --people 2 --only "flattened basis"

Source: Yuan et al. (2023), section 4.3, and the switches of their released program.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from contenders import PAPER, Contender, Fitted, Fixed
from experiment import run
from model import Learnt, Model
from worlds import Person

from celeb_basis import CelebBasis
from celeb_basis.backend.text_encoders import embedding_dims, fingerprint, name_rows
from celeb_basis.fit.methods import Paper
from celeb_basis.fit.methods.method import FitContext, Parametrization
from celeb_basis.fit.methods.paper import unit_layer


@dataclass(frozen=True)
class WithoutBasis(Paper):
    """Learns a layer from face feature to the two vectors themselves, each of unit norm."""

    def start(self, context: FitContext) -> Parametrization:
        return unit_layer(context, context.basis.mean.numel(), lambda vectors: vectors)


@dataclass(frozen=True)
class OneToken(Paper):
    """Learns one vector, in the basis of first names (place 0) or of last names (place 1)."""

    place: int = 0

    def start(self, context: FitContext) -> Parametrization:
        both = super().start(context)
        own = slice(self.place, self.place + 1)
        return replace(both, vectors=lambda coefficients: both.vectors(coefficients)[:, own])


@dataclass(frozen=True)
class Flattened(Fitted):
    """Learns in one basis of all tokens, first and last ones together, for both places."""

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the start and every step."""
        flattened = copy.copy(model)
        flattened.basis = flattened_basis(model)
        yield from super().learn(flattened, people)


def flattened_basis(model: Model) -> CelebBasis:
    """The basis whose two places are both of all tokens of the names."""
    rows, names = name_rows(model.pipe, model.basis.names)
    return CelebBasis.fit(
        [rows.flatten(0, 1)] * 2,
        names,
        model.basis.n_components,
        encoder_dims=embedding_dims(model.pipe),
        fingerprint=fingerprint(model.pipe),
        model=model.basis.model,
    )


@dataclass(frozen=True)
class Noise(Fixed):
    """Nobody: each coefficient is noise around the mean person; whom a picture is compared with is somebody else."""

    std: float

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield other noise for everybody."""
        shape = model.basis.sigma.shape
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(person.number)) for person in people]
        yield Learnt(model.basis.inverse_transform(self.std * torch.stack(noise)))


def _with(method: Paper) -> Fitted:
    return replace(PAPER, method=method)


ABLATIONS: dict[str, Contender] = {
    "as published": PAPER,
    "without basis": _with(WithoutBasis()),
    "flattened basis": Flattened(**vars(PAPER)),
    "first token alone": _with(OneToken(place=0)),
    "last token alone": _with(OneToken(place=1)),
    **{f"noise of {std}": Noise(std) for std in (0.05, 0.1, 0.2)},
}

if __name__ == "__main__":
    run("ablations", ABLATIONS, (1,), __doc__, together=dict.fromkeys(ABLATIONS, 1))
