"""Scores of pictures, and how sure their means are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .judge import Judge


@dataclass(frozen=True, eq=False)
class Scores:
    """One number a picture, in arrays `(pictures,)` or `(people, pictures)`.

    identity: cosine of the picture's largest face with the person, 0 where no face is found.
    prompt: how far the picture shows what the prompt asks for, in the judge's own measure; NaN without one.
    detection: 1 where exactly one face is found.
    """

    identity: NDArray[np.float64]
    prompt: NDArray[np.float64]
    detection: NDArray[np.float64]

    def summary(self) -> dict[str, Any]:
        """Mean and 95% interval of each, over people where there are several, and the number of pictures."""
        means = {name: estimate(values) for name, values in vars(self).items() if not np.isnan(values).any()}
        return means | {"n_images": int(self.identity.size)}


def estimate(values: NDArray[np.float64]) -> dict[str, Any]:
    """Mean and 95% interval of values `(n,)`, or of `(people, n)`, whose interval is over people."""
    return {"mean": float(values.mean()), "interval": interval(values if values.ndim == 1 else values.mean(1))}


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
    prompt = judge.prompt_scores(images, prompts) or [float("nan")] * len(images)
    return Scores(np.array(identity), np.array(prompt), np.array(detection))


def diversity(features: Tensor) -> float:
    """How different pictures of one prompt are: one minus the mean cosine of their features `(n, d)`, n at least 2.

    Features of unit length, from the judge's look at the whole picture. LPIPS, with which some papers measure the
    same, needs torchvision, of which there is no build for every machine that this runs on.
    """
    n = len(features)
    cosines = features @ features.T
    return float(1 - (cosines.sum() - cosines.trace()) / (n * (n - 1)))
