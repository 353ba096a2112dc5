"""The library's own method: coefficients in units of the celebrities' standard deviations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...backend.denoiser import Prediction
from ...errors import IdentityError
from ...instant_map import InstantMap
from ...limits import MAX_RADII
from ..recipe import steps_from_map
from .method import FitContext, Method, Parametrization, weighted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CelebBasisMethod(Method):
    """Learns 2 x k coefficients in the celebrities' standard deviations, within their own distance from the mean.

    init: "instant" starts at the instant map's answer, "mean" at the mean person; None uses the map if its R2 is
        high enough.
    max_radius: how far a person may be from the mean, in the celebrities' median distance.

    Source: Yuan et al. (2023), with coefficients calibrated on the celebrities in place of unit norm.
    """

    name: ClassVar[str] = "celeb-basis"
    lr_scheduler: ClassVar[Literal["constant", "cosine"]] = "cosine"
    has_face_loss: ClassVar[bool] = True

    init: Literal["instant", "mean"] | None = None
    max_radius: float = 1.0

    def __post_init__(self) -> None:
        if self.init not in ("instant", "mean", None):
            raise IdentityError(f"a start of {self.init!r} must be instant or mean", argument="init")
        if not 0 < self.max_radius <= MAX_RADII:
            raise IdentityError(
                f"a largest radius of {self.max_radius} must be above 0, up to {MAX_RADII}", argument="max_radius"
            )

    def start(self, context: FitContext) -> Parametrization:
        basis = context.basis

        def averaged(free: Tensor, who: Tensor) -> Tensor:
            spread, limit = free[who] * basis.sigma, self.max_radius * basis.median_radius
            return spread * (limit / torch.maximum(spread.norm(dim=-1), limit))[..., None]

        return Parametrization(self._coefficients(context) / basis.sigma, averaged, basis.inverse_transform)

    def loss(self, prediction: Prediction, face_weights: Callable[[], Tensor]) -> Tensor:
        """Return the denoising error on the face and, at a tenth of the weight, the hair; the background has none."""
        return weighted((prediction.output - prediction.target).square(), face_weights())

    def max_train_steps(self, instant_map: InstantMap | None, from_mean: int) -> int:
        """Return how many steps to take: the more a map tells of a person, the fewer."""
        if instant_map is None or self._resolve_init(instant_map) == "mean":
            return from_mean
        return steps_from_map(from_mean, instant_map.loo_r2)

    def settings(self, instant_map: InstantMap | None) -> dict[str, object]:
        return super().settings(instant_map) | {"init": self._resolve_init(instant_map)}

    def _resolve_init(self, instant_map: InstantMap | None) -> str:
        return self.init or ("mean" if instant_map is None or instant_map.is_worthless else "instant")

    def _coefficients(self, context: FitContext) -> Tensor:
        """Return the coefficients at which everybody starts, (people, 2, k)."""
        instant_map = context.instant_map
        if self.init is None and instant_map is None:
            logger.info("no instant map for this basis: starting from the mean person")
        elif self.init is None and instant_map is not None and instant_map.is_worthless:
            logger.info(
                f"the instant map is worth nothing (R2 {instant_map.loo_r2:.2f}): starting from the mean person"
            )
        if self._resolve_init(instant_map) == "mean":
            return torch.zeros(len(context.people), *context.basis.sigma.shape)
        if instant_map is None:
            raise IdentityError(
                "an instant start needs an instant map of this basis: give one, or start from the mean",
                argument="instant_map",
            )
        return instant_map.coefficients(context.pipe, context.basis, context.people)
