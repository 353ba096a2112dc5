"""FaceNetwork: a reader's recogniser as a module of torch, and the cut-out that it sees, both with gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, interpolate, normalize

from .face import Square


@dataclass(frozen=True, eq=False)
class FaceNetwork:
    """A recogniser through which gradients flow.

    module: cut-outs (n, 3, size, size) in -1..1 to features (n, d), of which the direction counts.
    size: side of a cut-out in pixels.
    """

    module: nn.Module
    size: int

    def to(self, device: torch.device) -> FaceNetwork:
        """Return it on a device; the reader's own stays where it is."""
        return self if device.type == "cpu" else replace(self, module=copy.deepcopy(self.module).to(device))

    def features(self, pictures: Sequence[Tensor], squares: Sequence[Square]) -> Tensor:
        """Return the features (n, d), of unit length, of a face in each of n pictures (3, h, w) in -1..1."""
        return normalize(self.module(cut_squares(pictures, squares, self.size)), dim=-1)


def pixels_of(picture: Image.Image) -> Tensor:
    """Return the pixels of an image, (3, h, w) in 0..1."""
    pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.reshape(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255


def cut_squares(pictures: Sequence[Tensor], squares: Sequence[Square], size: int) -> Tensor:
    """Cut a square that may lie askew out of each of n pictures (c, h, w) upright: (n, c, size, size).

    The edge is repeated outside of a picture. Each is cut at its picture's own scale first, so that nothing aliases.
    """
    return torch.cat([_cut(picture[None], square, size) for picture, square in zip(pictures, squares, strict=True)])


def _cut(picture: Tensor, square: Square, size: int) -> Tensor:
    (x, y, right, down), (height, width) = square, picture.shape[-2:]
    # From -1..1 along both sides of the square to -1..1 across the picture.
    theta = [
        [right / width, -down / width, (2 * x + right - down) / width - 1],
        [down / height, right / height, (2 * y + down + right) / height - 1],
    ]
    side = max(round((right**2 + down**2) ** 0.5), size)
    grid = affine_grid(torch.tensor([theta]).to(picture), [1, 1, side, side], align_corners=False)
    cut = grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut if side == size else interpolate(cut, (size, size), mode="bicubic", antialias=True, align_corners=False)
