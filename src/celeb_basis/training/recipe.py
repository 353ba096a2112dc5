"""Recipe: how a person is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import IdentityError

TEMPLATES = (
    "a photo of the face of {} person",
    "a photo of {} person",
    "a close-up photo of {} person",
    "a portrait of {} person",
    "a cropped photo of the face of {} person",
)


# Of two people, of whom the first stands on the left.
PAIR_TEMPLATES = (
    "a photo of the face of {} person on the left and {} person on the right",
    "left is {} person, right is {} person",
    "a photo of {} person and {} person",
)


@dataclass(frozen=True)
class Recipe:
    """How a person is learnt. What is None is decided by the model or by `coefficient_norm`.

    init: "instant" starts at the instant map's answer, "mean" at the mean person (with unit norm, which
        has no mean person, at a random one).
    coefficient_norm: "calibrated" learns in units of the celebrities' own standard deviation per component
        and stays within `max_radius` times their median distance from the mean; "unit" is the paper's, each
        position's coefficients on the unit sphere.
    max_train_minutes: stop earlier, before the step that would end later than that; picked by the clock, such a fit
        is not reproducible.
    learning_rate: of AdamW, in those units: 0.02 calibrated, 0.005 unit.
    momentum: of the running average of the coefficients that is the result: 0.9 calibrated, 0.99 unit.
    train_batch_size: pictures a step, all under one caption.
    templates: captions with {} where a name would stand.
    company: share of a person's steps whose pictures show them beside somebody else, under a caption that names both;
        with it people of one job are not as if alone, their vectors are learnt from the same pictures.
    pair_templates: those captions, with {} for who stands on the left and again for who stands on the right.
    scales: sizes of the face on the black canvas, as shares of it, one drawn for each picture.
    num_pictures: different training pictures, each encoded once.
    resolution: side of the training pictures in pixels; None is the model's own.
    """

    init: Literal["instant", "mean"] = "instant"
    coefficient_norm: Literal["calibrated", "unit"] = "calibrated"
    max_train_steps: int = 100
    max_train_minutes: float | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    max_radius: float = 1.0
    train_batch_size: int = 4
    templates: tuple[str, ...] | None = None
    company: float = 0.0
    pair_templates: tuple[str, ...] | None = None
    scales: tuple[float, ...] | None = None
    num_pictures: int = 64
    resolution: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = {"init": ("instant", "mean"), "coefficient_norm": ("calibrated", "unit")}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise IdentityError(f"{name}={getattr(self, name)!r} must be one of {', '.join(values)}")
        for name, least in {"max_train_steps": 0, "train_batch_size": 1, "num_pictures": 1}.items():
            if getattr(self, name) < least:
                raise IdentityError(f"{name}={getattr(self, name)} must be at least {least}")
        for name in ("max_train_minutes", "learning_rate", "max_radius", "resolution"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise IdentityError(f"{name}={value} must be above 0")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise IdentityError(f"momentum={self.momentum} must be at least 0 and below 1")
        if self.scales is not None and not (self.scales and all(0 < scale <= 1 for scale in self.scales)):
            raise IdentityError(f"scales={self.scales} must be shares of the picture, above 0 and at most 1")
        if self.templates is not None and not (self.templates and all("{}" in t for t in self.templates)):
            raise IdentityError("templates: at least one is needed, and every one needs {} where the name stands")
        if not 0 <= self.company <= 1:
            raise IdentityError(f"company={self.company} must be a share of the steps, 0 to 1")
        pairs = self.pair_templates
        if pairs is not None and not (pairs and all(t.count("{}") == 2 for t in pairs)):
            raise IdentityError("pair_templates: at least one is needed, and every one needs {} twice, left and right")
