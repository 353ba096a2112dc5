"""Recipe: the settings of a fit that every method has, and their defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..backend.card import ModelCard
from ..errors import IdentityError
from ..limits import MAX_COUNT, MAX_LEARNING_RATE, MAX_MILESTONES, MAX_SIDE
from ..notation import is_template

PERSON_TEMPLATES = (
    "a photo of the face of {} person",
    "a photo of {} person",
    "a close-up photo of {} person",
    "a portrait of {} person",
    "a cropped photo of the face of {} person",
)
# Half of them with the name alone, as prompts write it.
TEMPLATES = tuple(text for template in PERSON_TEMPLATES for text in (template.removesuffix(" person"), template))
SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # those of StableIdentity; a smaller face is a few latents of Stable Diffusion
PAPER_SCALES = tuple(i / 10 for i in range(1, 11))
# What the model draws for the face loss: places, clothes, looks and styles.
SCENES = (
    "a photo of {} in a garden",
    "a photo of {} in an office wearing a white shirt",
    "a photo of {} on a bridge in winter wearing a coat",
    "a photo of {} at a football match wearing a green jersey",
    "a close-up photo of {} laughing in the sun",
    "a photo of {} with a serious look in a train",
    "a photo of {} in a restaurant in the evening",
    "a photo of {} on a boat wearing a blue jacket",
    "a photo of {} in a workshop wearing an apron",
    "a portrait photo of {} looking to the side",
    "a photo of {} in the desert wearing sunglasses on the head",
    "a photo of {} in a classroom in front of a blackboard",
    "a black and white photo of {} in a hallway",
    "a charcoal drawing of {}",
    "a film still of {} in a leather jacket at night",
    "a photo of {} with wet hair by a lake",
)


class Defaults(NamedTuple):
    """A method's own defaults, where neither the caller nor the model's card says otherwise.

    max_gpu_minutes: of one person's fit on a GPU where nobody says how many steps to take; None for no limit.
    """

    max_train_steps: int
    learning_rate: float
    train_batch_size: int
    templates: tuple[str, ...] = PERSON_TEMPLATES
    scales: tuple[float, ...] = PAPER_SCALES
    num_milestones: int = 0
    max_gpu_minutes: float | None = None


DEFAULT_METHOD = "celeb-basis"
# Here, where torch is not imported, so that programs can show them without it.
DEFAULTS = {
    DEFAULT_METHOD: Defaults(400, 3e-2, 2, TEMPLATES, SCALES, 5, 3.0),
    "paper": Defaults(400, 5e-3, 2),
    "textual-inversion": Defaults(100, 5e-3, 2),
    "cross-initialization": Defaults(200, 5e-3, 2),
    "stable-identity": Defaults(450, 5e-5, 1, scales=SCALES),
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
    face_loss: whether steps with the face loss follow, as many again, but no more than 20; None does as the model's
        card says, and without a word there it does not. Of the methods, "celeb-basis" alone has it.
    scenes: prompts in which the model draws the person for the face loss, with {} where a name would stand.

    Raises IdentityError for values that cannot be followed.
    """

    max_train_steps: int | None = None
    max_train_minutes: float | None = None
    learning_rate: float | None = None
    train_batch_size: int | None = None
    num_train_images: int = 64
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
        """Return this recipe with what it leaves open, but for the steps: as the card says, or else the method."""
        defaults = DEFAULTS[method]
        own = card if method == DEFAULT_METHOD else ModelCard()

        filled = {
            "learning_rate": (self.learning_rate, own.learning_rate, defaults.learning_rate),
            "train_batch_size": (self.train_batch_size, defaults.train_batch_size),
            "templates": (self.templates, card.templates, defaults.templates),
            "scales": (self.scales, card.scales, defaults.scales),
            "num_milestones": (self.num_milestones, own.num_milestones, defaults.num_milestones),
        }
        chosen: dict[str, Any] = {
            name: next(value for value in values if value is not None) for name, values in filled.items()
        }
        return replace(self, **chosen)


def steps_from_mean(method: str, card: ModelCard) -> int:
    """Return how many steps a fit takes from the mean person: as the card says, or else the method."""
    return (card.max_train_steps if method == DEFAULT_METHOD else None) or DEFAULTS[method].max_train_steps


def recipe_for_card(card: ModelCard) -> dict[str, object]:
    """Return the recipe of the default method as a card of a model says it, complete."""
    recipe = Recipe(max_train_steps=steps_from_mean(DEFAULT_METHOD, card)).completed(DEFAULT_METHOD, card)
    fields = ("templates", "scales", "max_train_steps", "learning_rate", "num_milestones")
    return {name: getattr(recipe, name) for name in fields}


def _words(name: str) -> str:
    return f"the {name.replace('_', ' ')}"
