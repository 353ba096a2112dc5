"""The judge of the miniature's pictures: networks that no fit has seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from .captions import asked
from .people import celebrities, celebrity_identities, portraits
from .readers import evaluation_reader, looks, shown


class MiniatureJudge:
    """Recognises the small world's people, and sees what a prompt of its words asks for."""

    def __init__(self) -> None:
        self.reader = evaluation_reader()
        self.measure = "share of what the prompt asks for that the judge sees"

    def prompt_scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Return the share of what each prompt asks for that its picture shows; NaN where it asks for nothing known."""
        return [
            float(np.mean([float(seen.get(key) == value) for key, value in asked(prompt).items()] or [np.nan]))
            for prompt, seen in zip(prompts, shown(images), strict=True)
        ]

    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """Return what each picture looks like as a whole, (n, d) of unit length, as the judge sees it."""
        return looks(images)

    def photograph(self, name: str) -> Image.Image:
        """Return the plain close-up photograph of a celebrity."""
        return portraits(celebrity_identities()[celebrities().index(name)][None])[0]
