"""Training pictures: a face at random sizes and places on black, and their latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..backend.denoiser import Denoiser
from ..errors import IdentityError

SCALES = tuple(i / 10 for i in range(1, 11))  # the paper's 0.1 to 1.0
JITTER = (0.8, 1.2)  # brightness, contrast and saturation are multiplied by one of these each
HAIR = 0.1  # what the surroundings of a face count, where the face counts 1


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """A face on black: pixels (3, size, size) in -1..1, and the square it covers: top, left, side in pixels."""

    pixels: Tensor
    square: tuple[int, int, int]


class TrainingImages:
    """A person's `num_train_images` training pictures as latents, each drawn and encoded when it is first asked for.

    A short fit meets few of them, and encoding one costs as much as a step.

    resolution: side of the pictures in pixels. Raises IdentityError unless it fits the denoiser.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        crops: Sequence[Image.Image],
        *,
        resolution: int,
        scales: Sequence[float] | None,
        num_train_images: int,
        generator: torch.Generator,
    ) -> None:
        if resolution % denoiser.size_multiple:
            raise IdentityError(
                f"a resolution of {resolution} pixels must be a multiple of {denoiser.size_multiple}",
                argument="resolution",
            )
        self._denoiser, self._crops, self._resolution, self._scales = denoiser, crops, resolution, scales
        self._seeds = torch.randint(2**62, (num_train_images,), generator=generator).tolist()
        self._latents: dict[int, Tensor] = {}
        self._squares: dict[int, tuple[int, int, int]] = {}

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Latents (n, c, h, w) of the pictures number `index (n,)`."""
        wanted = index.tolist()
        if new := sorted(set(wanted) - self._latents.keys()):
            pictures = [self._draw(i) for i in new]
            encoded = self._denoiser.encode(torch.stack([picture.pixels for picture in pictures]))
            self._latents |= zip(new, encoded, strict=True)
            self._squares |= zip(new, (picture.square for picture in pictures), strict=True)
        return torch.stack([self._latents[i] for i in wanted])

    def face_weights(self, index: Tensor) -> Tensor:
        """What each latent counts in a loss on faces, (n, 1, h, w), of pictures that were asked for before."""
        side = self._resolution // self._denoiser.vae_scale_factor
        squares = (self._squares[i] for i in index.tolist())
        return torch.stack(
            [face_weights(side, *(v / self._denoiser.vae_scale_factor for v in square)) for square in squares]
        )

    def _draw(self, i: int) -> TrainingImage:
        return training_picture(
            self._crops,
            size=self._resolution,
            grid=self._denoiser.vae_scale_factor,
            scales=self._scales,
            generator=torch.Generator().manual_seed(self._seeds[i]),
        )


def training_picture(
    crops: Sequence[Image.Image],
    *,
    size: int,
    grid: int,
    scales: Sequence[float] | None,
    generator: torch.Generator,
) -> TrainingImage:
    """Draw a picture of `size` pixels from one of some square face crops.

    The crop is coloured a little differently, perhaps mirrored, scaled by one of `scales` and placed at random on
    a black canvas. Size and place are multiples of `grid`, the autoencoder's factor, so that the face covers whole
    latents. Source: the training pictures of Yuan et al. (2023).
    """

    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    face = _jitter(_to_tensor(crops[pick(len(crops))]), generator)
    face = face.flip(-1) if pick(2) else face
    options = scales or SCALES
    side = min(size, max(grid, round(options[pick(len(options))] * size / grid) * grid))
    face = torch.nn.functional.interpolate(
        face[None], (side, side), mode="bicubic", antialias=True, align_corners=False
    )[0]
    top, left = (pick((size - side) // grid + 1) * grid for _ in range(2))
    pixels = torch.full((3, size, size), -1.0)
    pixels[:, top : top + side, left : left + side] = face.clamp(0, 1) * 2 - 1
    return TrainingImage(pixels, (top, left, side))


def face_weights(size: int, top: float, left: float, side: float) -> Tensor:
    """Weights (1, size, size) of a face crop that covers a square: the face 1, the rest of the head .1, else 0.

    Two ellipses stand for a parser's masks: in the framing of `align_ffhq` a face, brows to chin, is about .6 of
    the crop wide and .76 high, a little below its middle, and the head fills the crop.
    """
    centre = torch.arange(size) + 0.5
    y, x = ((centre - top) / side)[:, None], (centre - left) / side
    face = ((x - 0.5) / 0.3).square() + ((y - 0.57) / 0.38).square() <= 1
    head = (x - 0.5).square() + (y - 0.5).square() <= 0.25
    return (face + HAIR * (head & ~face))[None]


def _to_tensor(crop: Image.Image) -> Tensor:
    """(3, h, w) in 0..1."""
    pixels = torch.frombuffer(bytearray(crop.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.reshape(crop.height, crop.width, 3).permute(2, 0, 1).float() / 255


def _jitter(face: Tensor, generator: torch.Generator) -> Tensor:
    low, high = JITTER
    brightness, contrast, saturation = (low + (high - low) * torch.rand(3, generator=generator)).tolist()
    face = (face * brightness).clamp(0, 1)
    face = torch.lerp(face.mean(), face, contrast).clamp(0, 1)
    return torch.lerp(face.mean(0, keepdim=True), face, saturation).clamp(0, 1)
