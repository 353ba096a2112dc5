"""Recipe: the settings of a fit that every method has, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import IdentityError
from ..limits import MAX_COUNT, MAX_LEARNING_RATE, MAX_SIDE
from ..notation import is_template

TEMPLATES = (
    "a photo of the face of {} person",
    "a photo of {} person",
    "a close-up photo of {} person",
    "a portrait of {} person",
    "a cropped photo of the face of {} person",
)


class Defaults(NamedTuple):
    """A method's own defaults."""

    max_train_steps: int
    learning_rate: float
    train_batch_size: int
    num_train_images: int | None = None


# Here, where torch is not imported, so that programs can show them without it.
DEFAULTS = {
    "celeb-basis": Defaults(40, 3e-2, 2, num_train_images=64),
    "paper": Defaults(400, 1e-2, 2),
    "textual-inversion": Defaults(6100, 1e-2, 2),
    "cross-initialization": Defaults(320, 5e-3, 8),
    "stable-identity": Defaults(450, 5e-5, 1),
}
STEPS_FROM_MEAN = 80  # steps of celeb-basis that starts at the mean person


@dataclass(frozen=True)
class Recipe:
    """The settings of a fit that every method has; None takes the default of the method or of the model.

    max_train_steps, learning_rate (of AdamW), train_batch_size (images a step, all with one caption): see DEFAULTS
        and STEPS_FROM_MEAN.
    max_train_minutes: stop before the step that would end later than that. The clock then decides the result, so such
        a fit is not reproducible.
    num_train_images: different training images, each encoded once.
    resolution: side of the training images in pixels.
    templates: their captions, with {} where a name would stand.
    scales: sizes of the face on the black canvas, as shares of its side, of which each image takes one at random.

    Raises IdentityError for values that cannot be followed.
    """

    max_train_steps: int | None = None
    max_train_minutes: float | None = None
    learning_rate: float | None = None
    train_batch_size: int | None = None
    num_train_images: int | None = None
    resolution: int | None = None
    templates: tuple[str, ...] | None = None
    scales: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"max_train_steps": 0, "train_batch_size": 1, "num_train_images": 1}.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= MAX_COUNT:
                limit = f"at least {least}" if value < least else f"at most {MAX_COUNT}"
                raise IdentityError(f"{_words(name)} {value} must be {limit}", argument=name)
        for name in ("max_train_minutes", "learning_rate", "resolution"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise IdentityError(f"{_words(name)} {value} must be above 0", argument=name)
        if self.learning_rate is not None and not self.learning_rate <= MAX_LEARNING_RATE:
            raise IdentityError(
                f"a learning rate of {self.learning_rate} is above {MAX_LEARNING_RATE}", argument="learning_rate"
            )
        if self.resolution is not None and self.resolution > MAX_SIDE:
            raise IdentityError(f"a resolution of {self.resolution} is above {MAX_SIDE} pixels", argument="resolution")
        if not 0 <= self.seed < 2**63:
            raise IdentityError(
                f"the seed {self.seed} must be a whole number of 0 or more, below 2**63", argument="seed"
            )
        if self.scales is not None and not (self.scales and all(0 < scale <= 1 for scale in self.scales)):
            raise IdentityError(
                f"scales {self.scales} must be shares of the image, above 0 and at most 1", argument="scales"
            )
        if self.templates is not None and not (self.templates and all(map(is_template, self.templates))):
            raise IdentityError(
                "at least one template is needed, each with {} once, where the name stands, and no other brace",
                argument="templates",
            )


def _words(name: str) -> str:
    return f"the {name.replace('_', ' ')}"
