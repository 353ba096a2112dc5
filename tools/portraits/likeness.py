"""The likeness of the faces that the denoiser guesses, by SFace, as a part of its loss; dlib, the judge, has none."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from celeb_basis.faces.recognise import DEFAULT_RECOGNISER, RECOGNISERS
from celeb_basis.miniature.portraits.heads import Heads

from .data import pictures_of
from .features import FILE

SEEN = (10.0, 21.0)
"""Distances of the eyes, in pixels, at which a face fills a window and can be told."""
MIDDLE, DISTANCE = (55.9, 51.6), 35.2
"""Where the eyes' middle lies in a cut-out of SFace, and their distance, in its 112 pixels."""
JITTER = 0.04
"""How far a cut-out is moved, scaled and brightened by chance: a face must be alike in all of them."""


def celebrities(folder: Path, heads: Heads) -> Tensor:
    """Return the mean feature `(n, 128)` of each celebrity's photographs, of length one."""
    read = load_file(folder / FILE)["sface"]
    return normalize(torch.stack([read[index].mean(0) for index in pictures_of(heads)]), dim=-1)


class Likeness:
    """Compares guessed windows with the people they are of."""

    def __init__(self, folder: Path, heads: Heads, device: str) -> None:
        recogniser = RECOGNISERS[DEFAULT_RECOGNISER]
        assert recogniser.network is not None
        network = recogniser.network(recogniser.file.fetch())
        self._size = network.size
        self._module = network.module.to(device).requires_grad_(False).eval()
        self._vae = AutoencoderTiny.from_pretrained(folder / "vae").to(device).requires_grad_(False).eval()
        self._own = celebrities(folder, heads).to(device)

    def __call__(self, latents: Tensor, eyes: Tensor, who: Tensor) -> Tensor:
        """Return the cosines `(n,)` of the faces in scaled latents `(n, c, h, w)` to the people's photographs.

        eyes: middle and distance `(n, 3)`, in pixels of the picture that the latents are.
        """
        pictures = self._vae.decode(latents / self._vae.config.scaling_factor).sample
        features = normalize(self._module(self._cut(pictures, eyes)), dim=-1)
        return (features * self._own[who]).sum(-1)

    def _cut(self, pictures: Tensor, eyes: Tensor) -> Tensor:
        x, y, distance = eyes.T
        chance = torch.randn(3, len(x), device=x.device) * JITTER
        scale = distance / DISTANCE * (1 + chance[0])
        axis = torch.arange(self._size, device=x.device) + 0.5
        across, down = (
            (middle[:, None] + scale[:, None] * (axis - at) + (move * distance)[:, None]) * 2 / side - 1
            for middle, at, move, side in zip((x, y), MIDDLE, chance[1:], pictures.shape[:1:-1], strict=True)
        )
        shape = (-1, self._size, self._size)
        grid = torch.stack([across[:, None].expand(shape), down[:, :, None].expand(shape)], -1)
        bright = 1 + JITTER * torch.randn(len(x), 1, 1, 1, device=x.device)
        return torch.nn.functional.grid_sample(pictures * bright, grid, padding_mode="border", align_corners=False)
