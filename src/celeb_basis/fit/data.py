"""Training images: a face at random sizes and places on black, and their latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ..backend.denoiser import Denoiser
from ..errors import IdentityError
from ..faces.face import Face
from .recipe import SCALES

JITTER = (0.8, 1.2)  # brightness, contrast and saturation are multiplied by one of these each
HAIR_WEIGHT = 0.1  # of the head around a face in the loss, where the face counts 1


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """A face on black.

    pixels: (3, size, size) in -1..1.
    square: what the face covers: top, left, side in pixels.
    weights: of each latent in a loss on faces, (1, size / vae_scale_factor, size / vae_scale_factor).
    """

    pixels: Tensor
    square: tuple[int, int, int]
    weights: Tensor


class TrainingImages:
    """A person's `num_train_images` training images as latents, each made and encoded when it is first needed.

    A short fit needs few of them, and encoding one costs as much as a step.

    resolution: side of the images in pixels. Raises IdentityError unless it fits the denoiser.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        faces: Sequence[Face],
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
        self._denoiser, self._faces, self._resolution, self._scales = denoiser, faces, resolution, scales
        self._seeds = torch.randint(2**62, (num_train_images,), generator=generator).tolist()
        self._latents: dict[int, Tensor] = {}
        self._weights: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the latents (n, c, h, w) of the images with these numbers, (n,)."""
        wanted = index.tolist()
        if new := sorted(set(wanted) - self._latents.keys()):
            images = [self._make(i) for i in new]
            encoded = self._denoiser.encode(torch.stack([image.pixels for image in images]))
            self._latents |= zip(new, encoded, strict=True)
            self._weights |= zip(new, (image.weights for image in images), strict=True)
        return torch.stack([self._latents[i] for i in wanted])

    def face_weights(self, index: Tensor) -> Tensor:
        """Return the weights of the latents in a loss on faces, (n, 1, h, w), for images that were made before."""
        return torch.stack([self._weights[i] for i in index.tolist()])

    def _make(self, i: int) -> TrainingImage:
        return training_image(
            self._faces,
            size=self._resolution,
            vae_scale_factor=self._denoiser.vae_scale_factor,
            scales=self._scales,
            generator=torch.Generator().manual_seed(self._seeds[i]),
        )


def training_image(
    faces: Sequence[Face],
    *,
    size: int,
    vae_scale_factor: int,
    scales: Sequence[float] | None,
    generator: torch.Generator,
) -> TrainingImage:
    """Make a training image of `size` pixels from one of several faces.

    The colours of its crop are jittered; it is mirrored half of the time, scaled by one of `scales` and placed at
    random on a black canvas. Its side and place are multiples of vae_scale_factor, so that it covers whole latents.

    Source: the training images of Yuan et al. (2023).
    """

    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    chosen = faces[pick(len(faces))]
    face = _jitter(_to_tensor(chosen.crop), generator)
    mirrored = pick(2) == 1
    face = face.flip(-1) if mirrored else face
    options, unit = scales or SCALES, vae_scale_factor
    side = min(size, max(unit, round(options[pick(len(options))] * size / unit) * unit))
    face = torch.nn.functional.interpolate(
        face[None], (side, side), mode="bicubic", antialias=True, align_corners=False
    )[0]
    top, left = (pick((size - side) // unit + 1) * unit for _ in range(2))
    pixels = torch.full((3, size, size), -1.0)
    pixels[:, top : top + side, left : left + side] = face.clamp(0, 1) * 2 - 1
    square = (top, left, side)
    weights = face_weights(size // unit, *(length / unit for length in square))
    if chosen.inside is not None:  # what lies outside the photograph is grey, and not the person's
        inside = _to_tensor(chosen.inside)[:1]
        inside = adaptive_avg_pool2d(inside.flip(-1) if mirrored else inside, side // unit)
        weights[:, top // unit : (top + side) // unit, left // unit : (left + side) // unit] *= inside
    return TrainingImage(pixels, square, weights)


def face_weights(size: int, top: float, left: float, side: float) -> Tensor:
    """Return weights (1, size, size) for a face crop that covers a square: 1 on the face, .1 on the head, 0 elsewhere.

    Two ellipses approximate the masks of a face parser: in the framing of `align_ffhq` a face from brows to chin is
    about .6 of the crop wide and .76 high, a little below its centre, and the head fills the crop.
    """
    centre = torch.arange(size) + 0.5
    y, x = ((centre - top) / side)[:, None], (centre - left) / side
    face = ((x - 0.5) / 0.3).square() + ((y - 0.57) / 0.38).square() <= 1
    head = (x - 0.5).square() + (y - 0.5).square() <= 0.25
    return (face + HAIR_WEIGHT * (head & ~face))[None]


def _to_tensor(crop: Image.Image) -> Tensor:
    """Return the pixels of an image, (3, h, w) in 0..1."""
    pixels = torch.frombuffer(bytearray(crop.convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.reshape(crop.height, crop.width, 3).permute(2, 0, 1).float() / 255


def _jitter(face: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation a little."""
    low, high = JITTER
    brightness, contrast, saturation = (low + (high - low) * torch.rand(3, generator=generator)).tolist()
    face = (face * brightness).clamp(0, 1)
    face = torch.lerp(face.mean(), face, contrast).clamp(0, 1)
    return torch.lerp(face.mean(0, keepdim=True), face, saturation).clamp(0, 1)
