"""The judge of the model portraits: dlib, with which nothing was trained or fitted, and the drawn world's eyes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...faces.face import Face
from ...faces.reader import PhotoReader
from ..drawn.captions import asked
from ..drawn.readers import looks, shown_in
from ..drawn.world import SIZE
from .captions import OF_A_HEAD

ROUND = 1.5
"""Side of the square round a face in which hats are seen, in sides of the reader's square."""


class PortraitsJudge:
    """Recognises photographed people, and sees places, clothes, hats, things and styles.

    Expressions and where somebody looks are not judged: the drawn world's networks know them of drawn faces alone.
    Raises ModelError where dlib is missing.
    """

    def __init__(self) -> None:
        self.reader = PhotoReader("dlib")
        self.measure = "share of what the prompt asks for that the judge sees, expressions left out"

    def prompt_scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Return the share of what each prompt asks for that its picture shows; NaN where it asks for nothing known."""
        wanted = [{key: value for key, value in asked(prompt).items() if key not in OF_A_HEAD} for prompt in prompts]
        return [
            float(np.mean([float(seen.get(key) == value) for key, value in own.items()] or [np.nan]))
            for own, seen in zip(wanted, self.seen(images, self.reader.read(images)), strict=True)
        ]

    def seen(self, images: Sequence[Image.Image], found: Sequence[Sequence[Face]]) -> list[dict[str, int]]:
        """Return what the drawn world's eyes see in each picture, in which the reader has found these faces."""
        boxes = [
            _box(faces[0], image) if faces else torch.empty(0, 4) for image, faces in zip(images, found, strict=True)
        ]
        return shown_in(images, boxes)

    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """Return what each picture looks like as a whole, (n, d) of unit length."""
        return looks(images)

    def photograph(self, name: str) -> None:
        """Return nothing: the photographs of the people whom the model was trained on do not ship."""


def _box(face: Face, image: Image.Image) -> Tensor:
    """Return the square round a face and a hat, `(1, 4)` in 128ths of a square picture."""
    assert face.square is not None
    x, y, right, down = face.square
    side = (right**2 + down**2) ** 0.5
    middle = torch.tensor([x + (right - down) / 2, y + (right + down) / 2 - 0.05 * side])
    half = ROUND * side / 2
    return torch.cat([middle - half, middle + half])[None] * SIZE / image.width
