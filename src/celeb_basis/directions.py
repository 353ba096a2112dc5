"""Directions: along which a person has more or less of a trait; a ridge regression over the celebrities."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .backend.text_encoders import TOKENS
from .basis import CelebBasis
from .errors import BasisError
from .instant_map import ridge
from .io import load_safetensors, save_safetensors
from .limits import MAX_DIRECTIONS
from .notation import excerpt

FORMAT = "celeb-basis directions 1"
TENSORS = ("coefficients", "r2")
MIN_TRAIT_R2 = 0.3  # leave-one-out R2 from which on a trait was seen to move as it should
MAX_STEP = 2.0  # length of a direction, in the celebrities' standard deviations; by its making it is about 1
ALPHAS = tuple(10.0 ** (e / 2) for e in range(0, 13))  # for coefficients of unit variance
TRAIT = re.compile(r"[a-z][a-z0-9-]{0,39}")


class Direction(NamedTuple):
    """One trait in one basis: where a person moves who gets more of it."""

    trait: str
    basis: CelebBasis
    coefficients: Tensor  # (2, k), one standard deviation of the celebrities along it


@dataclass(frozen=True, eq=False)
class Directions:
    """The traits that the celebrities' coefficients hold something of, and along which direction each grows.

    In coefficients divided by the celebrities' standard deviations every direction has the same spread, so the one in
    which a trait grows fastest for its length is that of the regression's weights.
    """

    traits: tuple[str, ...]
    coefficients: Tensor  # (traits, 2, k), one standard deviation of the celebrities along each
    r2: Tensor  # (traits,), leave-one-out R2: which share of the trait's variance the coefficients tell
    basis_digest: str  # coefficients mean nothing in another basis
    seen_by: str  # who read the traits off the pictures

    def __post_init__(self) -> None:
        for name in TENSORS:
            tensor = getattr(self, name)
            if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32 or not tensor.isfinite().all():
                raise BasisError(f"these are no directions: {name} is not finite numbers in float32")
        count, shape = len(self.traits), tuple(self.coefficients.shape)
        if not 0 < count <= MAX_DIRECTIONS or len(set(self.traits)) != count:
            raise BasisError(f"these are no directions: {count} traits, of which each needs a name of its own")
        if wrong := [each for each in self.traits if not isinstance(each, str) or not TRAIT.fullmatch(each)]:
            raise BasisError(
                f"these are no directions: {excerpt(str(wrong[0]))!r} is no name of a trait, like long-hair"
            )
        if len(shape) != 3 or shape[:2] != (count, TOKENS) or not shape[2] or self.r2.shape != (count,):
            raise BasisError(f"these are no directions: shapes {shape} and {tuple(self.r2.shape)} of {count} traits")
        if not ((self.r2 <= 1).all() and all(isinstance(text, str) for text in (self.basis_digest, self.seen_by))):
            raise BasisError("these are no directions: a score is above 1, or what made them is no text")

    @classmethod
    def fit(
        cls, readings: Tensor, coefficients: Tensor, traits: Sequence[str], *, basis: CelebBasis, seen_by: str
    ) -> Directions:
        """Learn from what is seen of the celebrities (n, traits) and their coefficients (n, 2, k).

        Each trait has the ridge penalty of least leave-one-out error. A trait that all have alike has R2 0.
        """
        if len(readings) != len(coefficients) or len(readings) < 3:
            raise BasisError(
                f"{len(readings)} readings and {len(coefficients)} sets of coefficients: as many of both are needed, "
                "and at least 3"
            )
        x = (coefficients.cpu().double() / basis.sigma.double()).flatten(1)
        steps, scores = [], []
        for seen in readings.cpu().double().T:
            varies = seen.std() > 1e-9
            found = ridge(x, seen[:, None], ALPHAS)
            way = torch.nn.functional.normalize(found.coef[0], dim=0)
            steps.append((way * (x @ way).std()).unflatten(0, (TOKENS, -1)) * basis.sigma.double())
            scores.append(found.loo_r2 if varies else 0.0)
        return cls(
            traits=tuple(traits),
            coefficients=torch.stack(steps).float(),
            r2=torch.tensor(scores, dtype=torch.float32),
            basis_digest=basis.digest,
            seen_by=seen_by,
        )

    def worthwhile(self) -> Directions:
        """Return those of the traits that names hold enough of. Raises BasisError for none."""
        kept = [i for i, score in enumerate(self.r2.tolist()) if score >= MIN_TRAIT_R2]
        if not kept:
            best = self.r2.argmax()
            raise BasisError(
                f"this model's names hold none of these traits: {self.traits[best]}, the surest, has an R2 of "
                f"{self.r2[best]:.2f}, and {MIN_TRAIT_R2} are needed"
            )
        traits = tuple(self.traits[i] for i in kept)
        return replace(self, traits=traits, coefficients=self.coefficients[kept], r2=self.r2[kept])

    def of(self, basis: CelebBasis, trait: str) -> Direction:
        """Return the direction of a trait. Raises BasisError for another basis, or a trait that is not there."""
        self.check(basis)
        if trait not in self.traits:
            raise BasisError(
                f"there is no trait {excerpt(trait)!r}: there are {', '.join(self.traits)}", argument="more"
            )
        return Direction(trait, basis, self.coefficients[self.traits.index(trait)])

    def check(self, basis: CelebBasis) -> None:
        """Raise BasisError unless the directions were learnt in this very basis."""
        if self.basis_digest != basis.digest or self.coefficients.shape[1:] != basis.sigma.shape:
            raise BasisError("these directions were learnt in another basis: learn them again")
        if ((self.coefficients / basis.sigma).flatten(1).norm(dim=-1) > MAX_STEP).any():
            raise BasisError("these directions take steps that are no standard deviation of the celebrities")

    def save(self, path: str | Path) -> None:
        """Write the directions to a .safetensors file."""
        metadata = {
            "format": FORMAT,
            "traits": json.dumps(self.traits),
            "basis_digest": self.basis_digest,
            "seen_by": self.seen_by,
        }
        save_safetensors(path, {name: getattr(self, name) for name in TENSORS}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Directions:
        """Read the file that `save` wrote; BasisError if it holds anything else."""
        tensors, metadata = load_safetensors(path, BasisError)
        if metadata.get("format") != FORMAT or set(tensors) != set(TENSORS):
            raise BasisError(f"{path} holds no directions")
        try:
            values: dict[str, Any] = dict(tensors)
            traits = tuple(json.loads(metadata["traits"]))
            return cls(**values, traits=traits, basis_digest=metadata["basis_digest"], seen_by=metadata["seen_by"])
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise BasisError(f"{path} does not hold whole directions (metadata: {error})") from error
        except BasisError as error:
            raise BasisError(f"{path}: {error}") from None
