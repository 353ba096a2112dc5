"""InstantMap: face feature to coefficients in closed form; a ridge regression over the celebrities."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .backend.card import ModelCard
from .backend.pipeline import Pipeline
from .backend.sharing import INSTANT_MAP, About, fetch, push
from .backend.text_encoders import TOKENS
from .basis import CelebBasis
from .errors import BasisError
from .faces.face import Face, mean_features
from .inversion import TENSORS as INVERSION
from .inversion import Inversion, check_numbers
from .io import load_safetensors, save_safetensors

SUFFIX = ".instant.safetensors"  # sd15.instant.safetensors is the map of the basis sd15.safetensors
TENSORS = ("coef", "intercept")
MIN_R2 = 0.02  # leave-one-out R2 up to which a map tells no more of a person than the mean does
ALPHAS = tuple(10.0 ** (e / 4) for e in range(-16, 17))  # for features of unit length


class Ridge(NamedTuple):
    """A ridge regression, and which share of the variance it tells of what is left out."""

    coef: Tensor  # (outputs, inputs), float64
    intercept: Tensor  # (outputs,)
    alpha: float
    loo_r2: float


def ridge(x: Tensor, y: Tensor, alphas: Sequence[float]) -> Ridge:
    """Regress y (n, outputs) on x (n, inputs), both float64, with the penalty of least leave-one-out error.

    A ridge has that error in closed form (Allen's PRESS: residual / (1 - leverage)).
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    u, s, vt = torch.linalg.svd(x - x_mean, full_matrices=False)
    projected = u.T @ (y - y_mean)
    total = (y - y_mean).square().sum()

    def left_out_error(a: float) -> Tensor:
        shrink = s**2 / (s**2 + a)
        leverage = (u**2 * shrink).sum(1) + 1 / len(x)
        residual = (y - y_mean) - u @ (shrink[:, None] * projected)
        error: Tensor = (residual / (1 - leverage).clamp(min=1e-9)[:, None]).square().sum()
        return error

    best = min(alphas, key=lambda a: left_out_error(a).item())
    coef = (vt.T @ ((s / (s**2 + best))[:, None] * projected)).T
    return Ridge(coef, y_mean - coef @ x_mean, best, 1 - (left_out_error(best) / total).item())


@dataclass(frozen=True, eq=False)
class InstantMap:
    """One linear map from a face feature to a person's coefficients, learnt on the celebrities.

    With an `inversion` what it predicts is where the search for better coefficients begins.

    Where a face gives no evidence, the prediction stays near the mean person. Scaling predictions up to the
    celebrities' distance from the mean was tried: it amplifies errors, and pictures were less like the person.
    """

    coef: Tensor  # (2 * k, d)
    intercept: Tensor  # (2 * k,)
    alpha: float
    loo_r2: float  # leave-one-out R2 over all coefficients, or, with an inversion, over what photographs show
    basis_digest: str  # coefficients mean nothing in another basis
    face_reader: str  # of the face reader whose features it takes
    inversion: Inversion | None = None

    @property
    def is_worthless(self) -> bool:
        """Return whether the mean person is as good a start: on celebrities left out, it predicts nearly nothing."""
        return self.loo_r2 <= MIN_R2

    def __post_init__(self) -> None:
        for name in TENSORS:
            check_numbers(name, getattr(self, name))
        if self.coef.ndim != 2 or not self.coef.numel() or self.intercept.shape != self.coef.shape[:1]:
            shapes = f"{tuple(self.coef.shape)} and {tuple(self.intercept.shape)}"
            raise BasisError(f"this is no instant map: coef and intercept have the shapes {shapes}")
        if len(self.coef) % TOKENS or not (math.isfinite(self.alpha) and self.alpha >= 0 and self.loo_r2 <= 1):
            raise BasisError(f"this is no instant map: {len(self.coef)} rows, alpha {self.alpha}, score {self.loo_r2}")

    @classmethod
    def fit(
        cls,
        features: Tensor,
        coefficients: Tensor,
        *,
        basis: CelebBasis,
        face_reader: str,
        alpha: float | None = None,
    ) -> InstantMap:
        """Learn from the celebrities' features (n, d), unit length, and coefficients (n, 2, k).

        alpha: the ridge penalty; None takes the one of least leave-one-out error.
        """
        if len(features) != len(coefficients) or len(features) < 3:
            raise BasisError(
                f"{len(features)} face features and {len(coefficients)} sets of coefficients: as many "
                "of both are needed, and at least 3"
            )
        found = ridge(
            features.cpu().double(), coefficients.cpu().double().flatten(1), ALPHAS if alpha is None else [alpha]
        )
        return cls(
            coef=found.coef.float(),
            intercept=found.intercept.float(),
            alpha=found.alpha,
            loo_r2=found.loo_r2,
            basis_digest=basis.digest,
            face_reader=face_reader,
        )

    @classmethod
    def beside(cls, basis: Path) -> InstantMap | None:
        """Return the map that lies beside a basis, or in the folder that the basis is in, if there is one."""
        if os.path.isdir(basis):
            own_map = ModelCard.of(basis).instant_map
            return None if own_map is None else cls.load(own_map)
        own = basis.with_suffix(SUFFIX)
        return cls.load(own) if own.exists() else None

    def predict(self, feature: Tensor) -> Tensor:
        """Predict the coefficients (2, k) of a feature (d,), or (n, 2, k) of features (n, d)."""
        if feature.shape[-1] != self.coef.shape[1]:
            raise BasisError(
                f"a face feature of {feature.shape[-1]} numbers, the instant map takes "
                f"{self.coef.shape[1]} from {self.face_reader}: use that face reader"
            )
        flat: Tensor = feature.float().cpu() @ self.coef.T + self.intercept
        return flat.reshape(*feature.shape[:-1], TOKENS, -1)

    def coefficients(self, pipe: Pipeline, basis: CelebBasis, people: Sequence[Sequence[Face]]) -> Tensor:
        """Return the coefficients (people, 2, k) of people, each from their own faces.

        Raises BasisError for faces of another reader, and for another basis.
        """
        self.check(basis)
        readers = {face.face_reader or "an unnamed reader" for faces in people for face in faces}
        if others := sorted(readers - {self.face_reader}):
            raise BasisError(
                f"the instant map takes faces from {self.face_reader}, these come from {', '.join(others)}: "
                "use that face reader, or start from the mean",
                argument="init",
            )
        start = torch.stack([self.predict(feature) for feature in mean_features(people)])
        return start if self.inversion is None else self.inversion.solve(pipe, basis, people, start)

    def check(self, basis: CelebBasis) -> None:
        """Raise BasisError unless the map was learnt in this very basis."""
        if self.basis_digest != basis.digest or len(self.coef) != basis.sigma.numel():
            raise BasisError("this instant map was learnt in another basis: make it again, or start from the mean")
        if self.inversion is not None and self.inversion.of_state.shape[1] != 1 + sum(basis.encoder_dims):
            raise BasisError("this instant map reads states of other text encoders: make it again")

    def save(self, path: str | Path) -> None:
        """Write the map to a .safetensors file."""
        metadata = {
            "format": "celeb-basis instant map 3",
            "alpha": repr(self.alpha),
            "loo_r2": repr(self.loo_r2),
            "basis_digest": self.basis_digest,
            "face_reader": self.face_reader,
        }
        tensors = {name: getattr(self, name) for name in TENSORS}
        if self.inversion is not None:
            tensors |= {name: getattr(self.inversion, name) for name in INVERSION}
            metadata["template"] = self.inversion.template
        save_safetensors(path, tensors, metadata)

    @classmethod
    def from_pretrained(
        cls, repository: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> InstantMap:
        """Read the map of a repository of the model hub, like owner/name, or of a folder.

        Raises ModelError for a repository that is not to be had, BasisError for a file that holds something else.
        """
        return cls.load(fetch(repository, INSTANT_MAP, revision=revision, token=token))

    def push_to_hub(self, repository: str, *, license: str | None = None, **how: Any) -> str:
        """Upload the map alone with a card to a repository of the model hub; return its address.

        `CelebBasis.push_to_hub` uploads both under one card. license, how: as there.
        """
        about = About(
            title="Instant map of a celeb basis",
            model="",
            made={
                "face reader": self.face_reader,
                "leave-one-out R2": f"{self.loo_r2:.3f}",
                "basis": self.basis_digest[:16],
            },
            use='import celeb_basis as cb\n\ninstant_map = cb.InstantMap.from_pretrained("{}")  # for Model.load',
            consent="It holds no face and no photograph. Fit only people who agreed to it.",
            license=license,
        )
        return push(repository, {INSTANT_MAP: self.save}, about, **how)

    @classmethod
    def load(cls, path: str | Path) -> InstantMap:
        """Read a map from the file that `save` wrote; BasisError if it holds anything else."""
        tensors, metadata = load_safetensors(path, BasisError)
        parts = {name: tensors.pop(name) for name in INVERSION if name in tensors}
        known = set(tensors) == set(TENSORS) and len(parts) in (0, len(INVERSION))
        if metadata.get("format") != "celeb-basis instant map 3" or not known:
            raise BasisError(f"{path} is not an instant map")
        try:
            return cls(
                **tensors,
                inversion=Inversion(metadata["template"], **parts) if parts else None,
                alpha=float(metadata["alpha"]),
                loo_r2=float(metadata["loo_r2"]),
                basis_digest=metadata["basis_digest"],
                face_reader=metadata["face_reader"],
            )
        except (KeyError, ValueError) as error:
            raise BasisError(f"{path} is not a whole instant map (metadata: {error})") from error
        except BasisError as error:
            raise BasisError(f"{path}: {error}") from None
