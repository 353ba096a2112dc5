"""A batch of pictures being painted, and the signed distances of the shapes that are painted on them.

A distance is negative inside a shape and positive outside; every shape ends in an edge one pixel soft.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIZE = 128
"""Coordinates are those of a picture of 128 x 128, whatever the resolution drawn."""


class Canvas:
    """Pictures `rgb (n, 3, h, w)` in [0, 1]; `x (1, w)` and `y (h, 1)` are coordinates."""

    def __init__(self, rgb: Tensor) -> None:
        height, width = rgb.shape[-2:]
        self.rgb = rgb
        self.sharp = height / SIZE
        self.x = ((torch.arange(width, device=rgb.device) + 0.5) / self.sharp)[None]
        self.y = ((torch.arange(height, device=rgb.device) + 0.5) / self.sharp)[:, None]

    def cover(self, distance: Tensor) -> Tensor:
        """Return how much of each pixel lies inside a shape, from its signed distance `(n, h, w)`."""
        return (0.5 - distance * self.sharp).clamp(0, 1)

    def paint(self, colour: Tensor, alpha: Tensor) -> None:
        """Lay a colour, `(3,)`, `(n, 3)` or a picture `(n, 3, h, w)`, over the pictures where `alpha (n, h, w)` is."""
        if colour.dim() < 4:
            colour = colour[..., None, None]
        self.rgb = self.rgb + (colour - self.rgb) * alpha.clamp(0, 1)[:, None]


def colour(*values: float) -> Tensor:
    """Return red, green and blue, `(3,)`."""
    return torch.tensor(values)


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Return distance to an ellipse round the origin, good near its edge."""
    px, py = 1 / rx**2, 1 / ry**2
    x2, y2 = x * x * px, y * y * py
    square = x2 + y2 + 1e-6
    # Dividing by the gradient's length keeps the soft edge equally wide all round.
    return (square - square.sqrt()) * (x2 * px + y2 * py + 1e-6).rsqrt()


def box(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Return distance to a rectangle round the origin with half sides `rx` and `ry`."""
    return torch.maximum(x.abs() - rx, y.abs() - ry)


def segment(
    x: Tensor, y: Tensor, ax: Tensor | float, ay: Tensor | float, bx: Tensor | float, by: Tensor | float, r: float
) -> Tensor:
    """Return distance to a thick line of radius `r` from (ax, ay) to (bx, by)."""
    dx, dy = bx - ax, by - ay
    along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return ((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2 + 1e-6).sqrt() - r


def soft(distance: Tensor, width: Tensor | float) -> Tensor:
    """Return a shape with an edge `width` wide: 1 well inside, 0 well outside."""
    t = (0.5 - distance / width).clamp(0, 1)
    return t * t * (3 - 2 * t)


def spot(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Return a blurred spot, 1 in its middle and 0 from the ellipse of `rx` and `ry` on."""
    t = (1 - (x / rx) ** 2 - (y / ry) ** 2).clamp(min=0)
    return t * t
