"""Likeness: how alike the people in a picture are to their own faces."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image
from torch import Tensor

from .face import FaceReader


def likeness(image: Image.Image, people: Mapping[str, Tensor], reader: FaceReader) -> dict[str, float | None]:
    """Return the cosine of each person's face in a picture and their own; None for who is not seen.

    people: their features (d,) by this reader. A face is one person's: the pair most alike is matched first.
    """
    [faces] = reader.read([image])
    found: dict[str, float | None] = dict.fromkeys(people)
    if not faces or not people:
        return found
    cosines = torch.stack([face.feature.cpu() for face in faces]) @ torch.stack(list(people.values())).T
    for _ in range(min(cosines.shape)):
        face, person = divmod(int(cosines.argmax()), len(people))
        found[list(people)[person]] = float(cosines[face, person])
        cosines[face], cosines[:, person] = -torch.inf, -torch.inf
    return found
