"""Our method: coefficients in units of the celebrities' own spread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...basis.instant_map import InstantMap
from ...errors import BasisError, IdentityError
from ...models.denoiser import Prediction
from ..recipe import FROM_MEAN
from .method import Method, Start, Task, weighted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CelebBasisMethod(Method):
    """Learns 2 x k coefficients in the celebrities' standard deviations, within their own distance from the mean.

    init: "instant" starts at the instant map's answer, "mean" at the mean person; None takes a map of some
        worth.
    max_radius: how far a person may be from the mean, in the celebrities' median distance.

    Source: Yuan et al. (2023), with coefficients calibrated on the celebrities in place of unit norm.
    """

    name: ClassVar[str] = "celeb-basis"
    lr_scheduler: ClassVar[Literal["constant", "cosine"]] = "cosine"

    init: Literal["instant", "mean"] | None = None
    max_radius: float = 1.0

    def __post_init__(self) -> None:
        if self.init not in ("instant", "mean", None):
            raise IdentityError(f"init={self.init!r} must be instant or mean")
        if not self.max_radius > 0:
            raise IdentityError(f"max_radius={self.max_radius} must be above 0")

    def start(self, task: Task) -> Start:
        basis = task.basis

        def point(free: Tensor) -> Tensor:
            spread, limit = free * basis.sigma, self.max_radius * basis.radius
            return spread * (limit / torch.maximum(spread.norm(dim=-1), limit))[..., None]

        return Start(self._coefficients(task) / basis.sigma, point, basis.inverse_transform)

    def loss(self, prediction: Prediction, face_weights: Callable[[], Tensor]) -> Tensor:
        """The denoising error within the face, with the hair at a tenth; what black says is noise."""
        return weighted((prediction.output - prediction.target).square(), face_weights())

    def max_train_steps(self, instant: InstantMap | None) -> int:
        """More from the mean person, who is farther away."""
        return super().max_train_steps(instant) if self._start_at(instant) == "instant" else FROM_MEAN

    def settings(self, instant: InstantMap | None) -> dict[str, object]:
        return super().settings(instant) | {"init": self._start_at(instant)}

    def _start_at(self, instant: InstantMap | None) -> str:
        return self.init or ("mean" if instant is None or instant.is_worthless else "instant")

    def _coefficients(self, task: Task) -> Tensor:
        """Where everybody starts, (people, 2, k)."""
        instant = task.instant
        if self.init is None and instant is None:
            logger.info("no instant map for this basis: starting from the mean person")
        elif self.init is None and instant is not None and instant.is_worthless:
            logger.info(f"the instant map is worth nothing (R2 {instant.score:.2f}): starting from the mean person")
        if self._start_at(instant) == "mean":
            return torch.zeros(len(task.people), *task.basis.sigma.shape)
        if instant is None:
            raise IdentityError("init='instant' needs an instant map of this basis: give one, or start from the mean")
        instant.check(task.basis)
        readers = {face.face_reader or "an unnamed reader" for faces in task.people for face in faces}
        if others := sorted(readers - {instant.face_reader}):
            raise BasisError(
                f"the instant map takes faces from {instant.face_reader}, these come from {', '.join(others)}: "
                "use that face reader, or start from the mean"
            )
        return torch.stack([instant.predict(feature) for feature in task.features()])
