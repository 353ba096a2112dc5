"""Scores of pictures, and how sure their means are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..faces.face import Face
from .judge import Judge

LEAST_COSINE = 1e-6
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Scores:
    """One number a picture, in arrays `(pictures,)` or `(people, pictures)`.

    identity: cosine of the picture's largest face with the person, 0 where no face is found.
    prompt: how far the picture shows what the prompt asks for, in the judge's own measure; NaN where it cannot tell.
    detection: 1 where as many faces are found as the prompt asks for.
    any_face: 1 where a face is found at all.
    """

    identity: NDArray[np.float64]
    prompt: NDArray[np.float64]
    detection: NDArray[np.float64]
    any_face: NDArray[np.float64]

    def summary(self) -> dict[str, Any]:
        """Return mean and 95% interval of each, over people where there are several, and the number of pictures."""
        means = {name: estimate(values) for name, values in vars(self).items() if not np.isnan(values).all()}
        return means | {"n_images": int(self.identity.size)}

    def identity_where_found(self, seeds: int) -> NDArray[np.float64]:
        """Return each prompt's mean identity `(prompts,)` over its pictures with a face; NaN where it does not count.

        These must be scores of one person, `seeds` pictures of a prompt in a row. As the released program of Yuan et
        al. (2023) counts, pictures without a face are left out, and so are prompts whose mean is not above 1e-6.
        """
        found, cosines = (x.reshape(-1, seeds) for x in (self.any_face, self.identity))
        means = (found * cosines).sum(1) / found.sum(1).clip(min=1)
        return np.where(means > LEAST_COSINE, means, np.nan)


def estimate(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return mean and 95% interval of values `(n,)`, or of `(people, n)`, then over people; NaN counts nothing."""
    known = values[~np.isnan(values)] if values.ndim == 1 else np.nanmean(values, axis=1)
    return {"mean": float(np.nanmean(values)), "interval": interval(known)}


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a mean over independent `values (n,)`: of many people, their means."""
    index = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[index].mean(1), [0.025, 0.975])
    return float(low), float(high)


def score(images: Sequence[Image.Image], prompts: Sequence[str], people: Tensor, judge: Judge) -> Scores:
    """Score pictures of one person each against the judge's own features `people (n, d)` and their prompts."""
    faces = judge.reader.read(images)
    identity = [identity_scores([found], person)[0] for found, person in zip(faces, people, strict=True)]
    return Scores(np.array(identity), prompt_scores(images, prompts, judge), detected(faces), with_face(faces))


def identity_scores(
    faces: Sequence[Sequence[Face]], person: Tensor, company: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Return cosine `(pictures,)` of each picture's largest face with a person (d,), 0 where no face is found.

    company: how many others the prompt of each picture asks for; where there are some, the face most alike counts.
    """
    company = company or [0] * len(faces)
    cosines = [[float(face.feature @ person) for face in found] for found in faces]
    chosen = ((max(own) if others else own[0]) if own else 0.0 for own, others in zip(cosines, company, strict=True))
    return np.array(list(chosen))


def detected(faces: Sequence[Sequence[Face]], company: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return 1 for each image with exactly as many faces as its prompt asks for, else 0, (images,)."""
    return np.array([float(len(found) == 1 + n) for found, n in zip(faces, company or [0] * len(faces), strict=True)])


def with_face(faces: Sequence[Sequence[Face]]) -> NDArray[np.float64]:
    """Return 1 for each image with a face in it, else 0, (images,)."""
    return np.array([float(len(found) > 0) for found in faces])


def prompt_scores(images: Sequence[Image.Image], prompts: Sequence[str], judge: Judge) -> NDArray[np.float64]:
    """Return the judge's prompt scores `(pictures,)`, NaN where it has none."""
    return np.array(judge.prompt_scores(images, prompts) or [np.nan] * len(images))


def diversity(features: Tensor) -> float:
    """Return how different images of one prompt are: one minus the mean cosine of their features `(n, d)`.

    Features of unit length, from the judge's look at the whole picture. LPIPS, with which some papers measure the
    same, needs torchvision, of which there is no build for every machine that this runs on.
    """
    n = len(features)
    cosines = features @ features.T
    return float(1 - (cosines.sum() - cosines.trace()) / (n * (n - 1)))
