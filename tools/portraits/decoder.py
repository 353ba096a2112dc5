"""The decoder alone, after the encoder stays: pixels, and whole faces as the fits' face reader sees them."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from stages.autoencoder import is_hidden_matrix
from stages.data import signed
from stages.latents import encode
from stages.loop import train
from torch import Tensor

from celeb_basis.faces.reader import PhotoReader

from . import pack
from .autoencoder import faces_in
from .data import celebrities_in
from .features import images
from .latents import windows

PICTURES = {"single": 1500, "pair": 250, "three": 250, "face": 2000}
WINDOWS, FACES = 24, 8
"""Windows anywhere, every second of them in the upper half, and larger ones round a face, in a batch."""
SMALL, LARGE = 8, 12
"""Their sides, in latents."""
LIKENESS = 0.2
"""The weight of 1 - the cosine of a face before and behind the autoencoder."""
NOISE = 0.04
"""A decoder that has seen a little of it forgives what a denoiser leaves behind."""
LEARNING_RATE = 6e-4
_SEED = 40


def run(folder: Path, *, steps: int, device: str) -> None:
    """Train the decoder on; its encoder, whose latents a denoiser reads, is never changed."""
    heads = pack.load(folder)
    described = [celebrities_in(kind, n, _SEED + i, heads) for i, (kind, n) in enumerate(PICTURES.items())]
    pictures = torch.cat([part.draw(heads) for part in described])
    is_face = torch.cat([faces_in(part.boxes.float()) for part in described])
    vae = AutoencoderTiny.from_pretrained(folder / "vae").to(device, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    latents = torch.cat([encode(vae, x.to(device)).cpu() for x in pictures.split(128)])
    reader = PhotoReader()
    network = reader.network.to(torch.device(device))
    network.module.requires_grad_(False)
    whole, squares = squares_of(reader, pictures)

    def decoded(index: Tensor, corner: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Decode windows of `side` latents; returns them, what they should be, and how much each pixel counts."""
        small = windows(latents[index].float() / vae.config.scaling_factor, corner, side).to(device)
        noisy = (small + NOISE * torch.randn_like(small)).contiguous(memory_format=torch.channels_last)
        guess = vae.decode(noisy).sample
        goal = signed(windows(pictures[index], 8 * corner, 8 * side)).to(device)
        return guess, goal, 1 + 2 * windows(is_face[index], 8 * corner, 8 * side).to(device).float()

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        corner = torch.randint(16 - SMALL + 1, (WINDOWS, 2))
        corner[::2, 0] = corner[::2, 0].clamp(max=4)
        near = decoded(torch.randint(len(pictures), (WINDOWS,)), corner, SMALL)
        some = torch.randint(len(whole), (FACES,))
        corner = around(squares[some])
        faces = decoded(whole[some], corner, LARGE)
        errors = [(guess - goal) * weight for guess, goal, weight in (near, faces)]
        moved = squares[some] - torch.cat([8 * corner.flip(1), torch.zeros(FACES, 2)], 1)
        goal, seen = (network.features(list(x), moved.tolist()) for x in (faces[1], faces[0]))
        likeness = (goal * seen).sum(1).mean()
        pixels = sum((error.abs().mean() + 2 * error.square().mean()) * share
                     for error, share in zip(errors, (0.6, 0.4), strict=True))  # fmt: skip
        psnr = 10 * torch.log10(4 / (near[0].detach() - near[1]).square().mean())
        return pixels + LIKENESS * (1 - likeness), {"psnr": psnr.item(), "likeness": likeness.item()}

    average, _ = train(
        "decoder", vae, loss, folder, steps=steps, learning_rate=LEARNING_RATE, batch_size=WINDOWS + FACES, ema=0.995,
        matrices=is_hidden_matrix, warmup=25, save_every=300,
    )  # fmt: skip
    vae.load_state_dict(average)
    vae.to("cpu", memory_format=torch.contiguous_format).save_pretrained(folder / "vae")


def squares_of(reader: PhotoReader, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers `(m,)` of pictures with one face that a large window holds, and its square `(m, 4)`."""
    kept, squares = [], []
    for i, faces in enumerate(reader.read(images(pictures))):
        if len(faces) == 1 and (square := faces[0].square) is not None and max(map(abs, square[2:])) < 8 * (LARGE - 2):
            kept.append(i)
            squares.append(square)
    return torch.tensor(kept), torch.tensor(squares)


def around(squares: Tensor) -> Tensor:
    """Return top and left `(n, 2)`, in latents, of large windows with these squares in their middle."""
    x, y, right, down = squares.unbind(1)
    middle = torch.stack([y + (right + down) / 2, x + (right - down) / 2], 1) / 8
    return (middle - LARGE / 2).round().long().clamp(0, 16 - LARGE)
