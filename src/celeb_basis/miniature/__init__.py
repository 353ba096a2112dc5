"""The two models that ship, each a small but real Stable Diffusion: of drawn people, and of photographed ones."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def person(seed: int, size: int = 512) -> Image.Image:
    """Return the photograph of citizen number `seed`, whom the miniature was never trained on; always the same one."""
    from .drawn.people import photograph

    return photograph(seed, size)


def model_for(photos: Sequence[Image.Image]) -> str:
    """Return which shipped model draws people like the one in these photographs: the miniature if the face is drawn."""
    from . import chooser

    return chooser.model_for(photos)
