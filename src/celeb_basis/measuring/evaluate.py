"""Pictures become numbers: is it that person, does the picture show what the prompt asks, is there a face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..basis.basis import CelebBasis
from ..drawing.generate import generate
from ..errors import ModelError
from ..faces.face import FaceReader, find_face
from ..identity import Identity
from ..models.card import installed
from ..models.pipeline import Pipeline, model_card, model_name

PROMPTS = (
    "a photo of {} on the beach wearing a red shirt",
    "a photo of {} in the forest with a crown",
    "a photo of {} in space wearing a spacesuit",
    "a photo of {} smiling in the snow wearing a yellow jacket",
    "a photo of {} in a city at night holding a guitar",
    "a close up photo of {} surprised in a studio",
    "a photo of {} sad in the desert with a red hat",
    "a pencil sketch of {} on the beach",
    "a photo of {} looking left in the forest wearing a blue sweater",
    "a photo of {} in a studio wearing a black suit holding a balloon",
)
CELEBRITIES = 10


class Judge(Protocol):
    """Looks at a model's pictures; no fit has seen it.

    reader: finds and describes faces.
    """

    reader: FaceReader

    def prompt_scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """The share of what each prompt asks for that its picture shows."""
        ...

    def photograph(self, name: str) -> Image.Image:
        """A photograph of one of the model's own celebrities."""
        ...


@dataclass(frozen=True, eq=False)
class Scores:
    """One number a picture, in arrays `(pictures,)` or `(people, pictures)`.

    identity: cosine of the picture's largest face with the person, 0 where no face is found.
    prompt: share of what the prompt asks for that the judge sees.
    detection: 1 where exactly one face is found.
    """

    identity: NDArray[np.float64]
    prompt: NDArray[np.float64]
    detection: NDArray[np.float64]

    def summary(self) -> dict[str, Any]:
        """Mean and 95% interval of each, over people where there are several, and the number of pictures."""
        means = {
            name: {"mean": float(values.mean()), "interval": interval(values if values.ndim == 1 else values.mean(1))}
            for name, values in vars(self).items()
        }
        return means | {"n_images": int(self.identity.size)}


def interval(values: NDArray[np.float64], resamples: int = 2000) -> tuple[float, float]:
    """The 95% bootstrap interval of a mean over independent `values (n,)`: of many people, their means."""
    index = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[index].mean(1), [0.025, 0.975])
    return float(low), float(high)


def score(images: Sequence[Image.Image], prompts: Sequence[str], people: Tensor, judge: Judge) -> Scores:
    """Score pictures of one person each against the judge's own features `people (n, d)` and their prompts."""
    identity, detection = [], []
    for person, faces in zip(people, judge.reader.read(images), strict=True):
        identity.append(float(faces[0].feature @ person) if faces else 0.0)
        detection.append(float(len(faces) == 1))
    return Scores(np.array(identity), np.array(judge.prompt_scores(images, prompts)), np.array(detection))


def draw_prompts(
    pipe: Pipeline,
    name: str,
    identities: Sequence[Identity],
    seeds: int,
    prompts: Sequence[str] = PROMPTS,
    seed: int = 0,
) -> tuple[list[Image.Image], list[str]]:
    """Pictures of a person, called `name`, in every prompt and with every seed, and the prompt of each."""
    texts = [prompt.format(name) for prompt in prompts]
    pictures = generate(pipe, texts, identities, num_images_per_prompt=seeds, seed=seed, batch_size=10)
    return pictures, [text for text in texts for _ in range(seeds)]


def celebrity_scores(
    pipe: Pipeline,
    names: Sequence[str],
    chosen: Sequence[int],
    seeds: int,
    judge: Judge,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """The model's own celebrities, `chosen` among `names`: scores `(people, pictures)`, the ceiling of a fit."""
    known = []
    for done, i in enumerate(chosen):
        if progress:
            progress(done)
        feature = find_face(judge.photograph(names[i]), judge.reader).feature
        images, texts = draw_prompts(pipe, names[i], [], seeds, seed=10 * i)
        known.append(score(images, texts, feature.expand(len(images), -1), judge))
    return Scores(*(np.stack([getattr(scores, key) for scores in known]) for key in vars(known[0])))


def evaluate(
    pipe: Pipeline,
    identity: Identity,
    photo: Image.Image,
    *,
    seeds: int = 2,
    largest: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Measure an identity against a photograph of the person, and the model's own celebrities beside it.

    Ten prompts, `seeds` pictures each; ten celebrities in the same prompts. The judge is the one that the model's card
    names. Raises ModelError for a model whose card names none, PhotoError for a photograph without a face or with
    several, of which `largest` takes the largest.
    """
    card = model_card(pipe)
    if card.judge is None:
        raise ModelError(f"the card of {model_name(pipe)} names no judge of faces and prompts: evaluate needs one")
    judge: Judge = installed("judges", card.judge)()
    names = CelebBasis.from_card(card).names
    person = find_face(photo, judge.reader, largest=largest).feature
    total = 1 + CELEBRITIES

    def report(done: int) -> None:
        if progress:
            progress(done, total, "measuring")

    report(0)
    images, texts = draw_prompts(pipe, identity.placeholder_token, [identity], seeds)
    result = score(images, texts, person.expand(len(images), -1), judge).summary()
    chosen = range(0, len(names), len(names) // CELEBRITIES)[:CELEBRITIES]
    famous = celebrity_scores(pipe, names, chosen, seeds, judge, lambda done: report(1 + done))
    report(total)
    return result | {"celebrities": famous.summary()}
