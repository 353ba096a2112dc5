"""The autoencoder: the drawn miniature's, taught photographed faces."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from stages.autoencoder import learn
from torch import Tensor

from celeb_basis.backend.card import DEFAULT_MODEL, SHIPPED

from . import pack
from .data import celebrities_in

PICTURES = {"single": 500, "pair": 120, "three": 120, "face": 900}
LEARNING_RATE = 8e-4


def faces_in(boxes: Tensor) -> Tensor:
    """Return which pixels lie on a head, `(n, 1, 128, 128)`, for faces' squares `(n, people, 4)`."""
    axis = torch.arange(128) + 0.5
    # A face's square has hair and air around it: three quarters of it count.
    left, top, right, bottom = boxes.lerp(boxes[..., [2, 3, 0, 1]], 0.12)[..., None, None].unbind(2)
    inside = (axis > left) & (axis < right) & (axis[:, None] > top) & (axis[:, None] < bottom)
    return inside.any(1, keepdim=True)


def run(folder: Path, *, steps: int, device: str) -> None:
    """Train it on from the drawn miniature's weights, whose latents the drawn miniature's denoiser reads.

    Once a denoiser learns from its latents, `decoder` goes on.
    """
    heads = pack.load(folder)
    described = [celebrities_in(kind, n, 30 + i, heads) for i, (kind, n) in enumerate(PICTURES.items())]
    pictures = torch.cat([part.draw(heads) for part in described])
    is_face = torch.cat([faces_in(part.boxes.float()) for part in described])
    vae = AutoencoderTiny.from_pretrained(SHIPPED[DEFAULT_MODEL] / "vae", torch_dtype=torch.float32)
    learn(folder, vae, pictures, is_face, steps=steps, device=device, learning_rate=LEARNING_RATE, warmup=25)
