"""Training pictures: a face at random sizes and places on black, and their latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

SCALES = tuple(i / 10 for i in range(1, 11))  # the paper's 0.1 to 1.0
JITTER = (0.8, 1.2)  # brightness, contrast and saturation are multiplied by one of these each
ENCODED_AT_ONCE = 8


class TrainingLatents:
    """`num_pictures` training pictures as latents, each drawn and encoded when it is first asked for.

    A short fit meets few of them, and encoding one costs as much as a step.
    """

    def __init__(
        self, pipe: Any, draw: Callable[..., Tensor], num_pictures: int, generator: torch.Generator
    ) -> None:
        self._pipe, self._draw = pipe, draw
        self._seeds = torch.randint(2**62, (num_pictures,), generator=generator).tolist()
        self._latents: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Latents (n, c, h, w) of the pictures number `index (n,)`."""
        wanted = index.tolist()
        if new := sorted(set(wanted) - self._latents.keys()):
            pictures = torch.stack(
                [self._draw(generator=torch.Generator().manual_seed(self._seeds[i])) for i in new]
            )
            self._latents |= zip(new, encode_pictures(self._pipe, pictures), strict=True)
        return torch.stack([self._latents[i] for i in wanted])


def training_picture(
    crops: Sequence[Image.Image],
    *,
    size: int,
    grid: int,
    scales: Sequence[float] | None,
    generator: torch.Generator,
) -> Tensor:
    """Draw a picture (3, size, size) in -1..1 from one of some square face crops.

    The crop is coloured a little differently, perhaps mirrored, scaled by one of `scales` and placed at random on
    a black canvas. Size and place are multiples of `grid`, the autoencoder's factor, so that the face covers whole
    latents. Source: the training pictures of Yuan et al. (2023).
    """
    picture = torch.full((3, size, size), -1.0)
    _paste(picture, crops, grid, scales, generator)
    return picture


def pair_picture(
    left: Sequence[Image.Image],
    right: Sequence[Image.Image],
    *,
    size: int,
    grid: int,
    scales: Sequence[float] | None,
    generator: torch.Generator,
) -> Tensor:
    """Draw a picture (3, size, size) in -1..1 of two people as `training_picture` draws one, each in their half."""
    picture = torch.full((3, size, size), -1.0)
    half = size // grid // 2 * grid
    _paste(picture[:, :, :half], left, grid, scales, generator)
    _paste(picture[:, :, size - half :], right, grid, scales, generator)
    return picture


def _paste(
    canvas: Tensor,
    crops: Sequence[Image.Image],
    grid: int,
    scales: Sequence[float] | None,
    generator: torch.Generator,
) -> None:
    """Put one of the crops on a canvas (3, height, width), in place, at a share of the height that fits."""

    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    height, width = canvas.shape[1:]
    face = _jitter(_to_tensor(crops[pick(len(crops))]), generator)
    face = face.flip(-1) if pick(2) else face
    options = scales or SCALES
    side = min(width, max(grid, round(options[pick(len(options))] * height / grid) * grid))
    face = torch.nn.functional.interpolate(
        face[None], (side, side), mode="bicubic", antialias=True, align_corners=False
    )[0]
    top, left = (pick((room - side) // grid + 1) * grid for room in (height, width))
    canvas[:, top : top + side, left : left + side] = face.clamp(0, 1) * 2 - 1


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


def encode_pictures(pipe: Any, pictures: Tensor) -> Tensor:
    """Latents (n, c, h, w) of pictures (n, 3, H, W) in -1..1, scaled as the UNet wants them, float32."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents

    vae = pipe.vae
    dtype = vae.dtype
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    latents = []
    try:
        # Some autoencoders overflow in half precision; going to single and back changes no bit.
        if dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
            vae.to(torch.float32)
        with torch.no_grad():
            for batch in pictures.split(ENCODED_AT_ONCE):
                encoded = vae.encode(batch.to(vae.device, vae.dtype))
                latents.append(retrieve_latents(encoded, sample_mode="argmax").float())
    finally:
        if vae.dtype != dtype:
            vae.to(dtype)
    return (torch.cat(latents) - shift) * vae.config.scaling_factor
