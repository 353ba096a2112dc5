"""The miniature: a small, real Stable Diffusion pipeline and the world of drawn people it was trained on."""

from __future__ import annotations

from PIL import Image


def person(seed: int, size: int = 512) -> Image.Image:
    """Return the photograph of citizen number `seed`, whom the miniature was never trained on; always the same one."""
    from .drawn.people import photograph

    return photograph(seed, size)
