"""Recipe: the settings of a fit that every method has, and their defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..backend.card import ModelCard
from ..errors import IdentityError, ModelError
from ..limits import MAX_COUNT, MAX_LEARNING_RATE, MAX_MILESTONES, MAX_SIDE
from ..notation import is_template
from .captions import FACE_TEMPLATES, NAME_TEMPLATES, TEMPLATES

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # those of StableIdentity; a smaller face is a few latents of Stable Diffusion


class Defaults(NamedTuple):
    """A method's own defaults, where neither the caller nor the model's card says otherwise.

    max_gpu_minutes: of one person's fit on a GPU where nobody says how many steps to take; None for no limit.
    """

    max_train_steps: int
    learning_rate: float
    train_batch_size: int
    templates: tuple[str, ...]
    scales: tuple[float, ...]
    num_train_images: int | None = None
    num_milestones: int = 0
    max_gpu_minutes: float | None = None


DEFAULT_METHOD = "celeb-basis"
# Here, where torch is not imported, so that programs can show them without it.
DEFAULTS = {
    DEFAULT_METHOD: Defaults(400, 3e-2, 2, TEMPLATES, SCALES, 64, 5, 3.0),
    # As published, with the rate that their programs multiply by the batch.
    "paper": Defaults(400, 1e-2, 2, FACE_TEMPLATES, (0.1, 1.0)),
    "textual-inversion": Defaults(6100, 1e-2, 2, NAME_TEMPLATES, (1.0,)),
    "cross-initialization": Defaults(320, 5e-3, 8, FACE_TEMPLATES, (1.0,)),
    "stable-identity": Defaults(450, 5e-5, 1, NAME_TEMPLATES, (0.5, 1.0)),
}


def steps_from_map(from_mean: int, r2: float) -> int:
    """Return how many steps a fit takes that starts at an instant map's answer, in tens.

    The map leaves a share of 1 - r2 of the squared distance that a fit from the mean person begins with. The number of
    steps falls with the square of that share, so that a map which tells little saves little.
    """
    return min(from_mean, 10 * math.ceil(from_mean * (1 - max(r2, 0.0)) ** 2 / 10))


@dataclass(frozen=True)
class Recipe:
    """The settings of a fit that every method has; None takes the default of the method or of the model.

    max_train_steps, learning_rate (of AdamW), train_batch_size (images a step, all with one caption): see DEFAULTS
        and `steps_from_map`.
    max_train_minutes: stop before the step that would end later than that; a falling rate falls with the time that is
        spent. The clock then decides the result, so such a fit is not reproducible.
    num_train_images: different training images, each encoded once.
    resolution: side of the training images in pixels.
    templates: their captions, with {} where a name would stand.
    scales: sizes of the face on the black canvas, as shares of its side, of which each image takes one at random.
    num_milestones: how often `Model.fit` draws the person on the way, to keep the best; 0 takes the last step.
    face_loss: whether steps with the face loss follow: as many as the model's card says, or else 20, but no more than
        `max_train_steps` where that is given; None does as the card says, and without a word there it does not. Of
        the methods, "celeb-basis" alone has it.
    scenes: prompts in which the model draws the person for the face loss, with {} where a name would stand.

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
    num_milestones: int | None = None
    face_loss: bool | None = None
    scenes: tuple[str, ...] | None = None
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
        if self.num_milestones is not None and not 0 <= self.num_milestones <= MAX_MILESTONES:
            raise IdentityError(
                f"{self.num_milestones} milestones: take from 0 to {MAX_MILESTONES}", argument="num_milestones"
            )
        if not 0 <= self.seed < 2**63:
            raise IdentityError(
                f"the seed {self.seed} must be a whole number of 0 or more, below 2**63", argument="seed"
            )
        if self.scales is not None and not (self.scales and all(0 < scale <= 1 for scale in self.scales)):
            raise IdentityError(
                f"scales {self.scales} must be shares of the image, above 0 and at most 1", argument="scales"
            )
        for name in ("templates", "scenes"):
            texts = getattr(self, name)
            if texts is not None and not (texts and all(map(is_template, texts))):
                raise IdentityError(
                    f"{name} must be at least one, each with {{}} once, where the name stands, and no other brace",
                    argument=name,
                )

    def completed(self, method: str, card: ModelCard) -> Recipe:
        """Return this recipe with all but the steps filled in: as the card says, or else the method."""
        defaults = DEFAULTS[method]
        own = _of_method(method, card)
        filled = {
            "learning_rate": (self.learning_rate, own.get("learning_rate"), defaults.learning_rate),
            "train_batch_size": (self.train_batch_size, own.get("train_batch_size"), defaults.train_batch_size),
            "templates": (self.templates, card.templates, defaults.templates),
            "scales": (self.scales, _known(method, card.scales), defaults.scales),
            "num_train_images": (self.num_train_images, defaults.num_train_images),
            "num_milestones": (self.num_milestones, own.get("num_milestones"), defaults.num_milestones),
        }
        chosen: dict[str, Any] = {
            name: next((value for value in values if value is not None), None) for name, values in filled.items()
        }
        return replace(self, **chosen)


def _known(method: str, scales: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Return the sizes of faces that a card says; for a published method those between its own, or else the nearest."""
    if scales is None or method == DEFAULT_METHOD:
        return scales
    least, most = min(DEFAULTS[method].scales), max(DEFAULTS[method].scales)
    between = tuple(scale for scale in scales if least <= scale <= most)
    return between or (min(scales, key=lambda scale: max(least - scale, scale - most)),)


def steps_from_mean(method: str, card: ModelCard) -> int:
    """Return how many steps a fit takes from the mean person: as the card says, or else the method."""
    return _of_method(method, card).get("max_train_steps") or DEFAULTS[method].max_train_steps


def _of_method(method: str, card: ModelCard) -> Mapping[str, Any]:
    """Return what a card says of a method's fits. Raises ModelError where it names a method that there is not."""
    if unknown := sorted(set(card.methods or ()) - set(DEFAULTS)):
        raise ModelError(f"the model's card has settings of {unknown[0]!r}: there are {', '.join(DEFAULTS)}")
    if method == DEFAULT_METHOD:
        return {name: getattr(card, name) for name in ("max_train_steps", "learning_rate", "num_milestones")}
    return (card.methods or {}).get(method, {})


def recipe_for_card(card: ModelCard) -> dict[str, object]:
    """Return the recipe of the default method as a card of a model says it, complete."""
    recipe = Recipe(max_train_steps=steps_from_mean(DEFAULT_METHOD, card)).completed(DEFAULT_METHOD, card)
    fields = ("templates", "scales", "max_train_steps", "learning_rate", "num_milestones")
    return {name: getattr(recipe, name) for name in fields}


def _words(name: str) -> str:
    return f"the {name.replace('_', ' ')}"
