"""Which of the two models that ship draws people like the one in a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from PIL import Image
from torch import Tensor

from ..backend.card import DEFAULT_MODEL, PORTRAITS
from ..errors import ModelError
from ..faces.face import mean_feature
from ..faces.reader import PhotoReader
from .drawn.people import photograph
from .drawn.readers import has_drawn_face

ALIKE = 0.45
"""Cosine to the mean drawn face, by SFace: of 54 drawn faces at least .59, of 231 photographed ones at most .30.

None of 652 other photographs and 100 other drawings went to the wrong model.
"""
DRAWN = range(8)  # people of whom the mean is taken


def model_for(photos: Sequence[Image.Image]) -> str:
    """Return which shipped model draws people like the one in these photographs: the miniature if most are drawn."""
    return DEFAULT_MODEL if 2 * sum(map(is_drawn, photos)) > len(photos) else PORTRAITS


def is_drawn(photo: Image.Image) -> bool:
    """Return whether a picture has a drawn face; the readers of photographs are asked where they are installed."""
    if not has_drawn_face(photo):
        return False
    try:
        [faces] = PhotoReader().read([photo])
    except ModelError:
        return True
    return not faces or float(faces[0].feature @ mean_drawn_face()) > ALIKE


@cache
def mean_drawn_face() -> Tensor:
    """Return SFace's mean feature (d,) of drawn faces, of unit length."""
    found = PhotoReader().read([photograph(seed) for seed in DRAWN])
    return mean_feature([faces[0] for faces in found if faces])
