"""The denoiser: the drawn miniature's, taught photographed faces, on windows round them and on whole pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from stages.loop import is_first, processes, train
from stages.precision import autocast
from stages.unet import FACE_WEIGHT, MIN_SNR, UNCONDITIONAL, build, is_hidden_matrix, scheduler
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from celeb_basis.backend.card import DEFAULT_MODEL, SHIPPED

from .components import Components
from .latents import Rounds, halves, strips, windows

PICTURES, EPOCHS = 4_000, 12
"""Pictures of a round, and how many times as many are seen before the next is made."""
WINDOWS, STRIPS, WHOLE = 72, 72, 8
"""Windows, strips of several people, and whole pictures of a batch. Windows cost a quarter, strips a half, and most of
both is face."""
COMPONENTS_WEIGHT = 1.0
"""What an error in the components of faces counts: small in latents, they are most of what a name says."""
NOISY, NOISY_FROM = 0.5, 400
"""Share of the timesteps that are drawn from the noisy end, where it is decided who somebody is."""

READING = 3
"""Levels at which names are read: all. At the lower ones a face is too few pixels wide to unfold a name into it."""


def begun() -> UNet2DConditionModel:
    """Return the drawn miniature's denoiser, which knows places, clothes, hats and things.

    What it does not have changes nothing at first.
    """
    unet = build(READING)
    old = UNet2DConditionModel.from_pretrained(SHIPPED[DEFAULT_MODEL] / "unet", torch_dtype=torch.float32)
    new = set(unet.load_state_dict(old.state_dict(), strict=False).missing_keys)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name in new and "proj_out" in name:
                weight.zero_()
    return unet


def worths() -> Tensor:
    """Return for every timestep the share of those drawn up to it: half are noisy ones, half as min-SNR weighs them."""
    alphas = scheduler().alphas_cumprod
    snr = alphas / (1 - alphas)
    often = (snr.clamp(max=MIN_SNR) + 0.1) / (snr + 1)
    noisy = (torch.arange(len(alphas)) >= NOISY_FROM).float()
    return ((1 - NOISY) * often / often.sum() + NOISY * noisy / noisy.sum()).cumsum(0)


@torch.no_grad()
def states(encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """Return what a denoiser reads of captions `(n, length)`: states `(n, length, width)`, on the CPU."""
    return torch.cat([encoder(some.to(encoder.device).long()).last_hidden_state.cpu() for some in ids.split(128)])


def noised(x0: Tensor, t: Tensor, noise: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Return noisy latents at timesteps `t (n,)`, and the velocity that the denoiser is asked for."""
    alpha = alphas[t][:, None, None, None]
    return alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise, alpha.sqrt() * noise - (1 - alpha).sqrt() * x0


def run(folder: Path, *, minutes: float, cooldown_minutes: float, device: str, workers: int = 0) -> None:
    """Train the denoiser on what the frozen text encoder reads, until stopped; goes on where it was."""
    part, size = 0 if is_first() else 1, processes()
    batch_size = WINDOWS + STRIPS + WHOLE
    rounds = Rounds(folder, PICTURES // size, part, workers)
    data: dict[str, Tensor] = {}
    current = -1
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).requires_grad_(False).eval()
    [empty] = states(encoder, tokens("", padding="max_length", return_tensors="pt").input_ids)
    torch.manual_seed(3)
    unet = begun().to(device, memory_format=torch.channels_last)
    if device == "cpu":
        unet.set_attn_processor(AttnProcessor())
    alphas, often = scheduler().alphas_cumprod.to(device), worths().to(device)
    components = Components(folder, device)

    def error(index: Tensor, shown: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the error of the guess, weighted by faces and plain, on what is shown of pictures.

        The third is the difference of the picture that is guessed, in latents.
        """
        n = len(index)
        x0, faces = (shown(data[key][index].float()) for key in ("latents", "faces"))
        x0 = x0.to(device).contiguous(memory_format=torch.channels_last)
        hidden = torch.where(torch.rand(n, 1, 1) < UNCONDITIONAL, empty, data["states"][index]).to(device)
        # Evenly spread over the batch: the loss then varies less from step to step.
        spread = (torch.arange(n, device=device) + torch.rand(n, device=device)) / n
        t = torch.searchsorted(often, spread).clamp(max=len(alphas) - 1)
        noisy, velocity = noised(x0, t, torch.randn_like(x0), alphas)
        with autocast(device):
            guess = unet(noisy, t, hidden).sample
        difference = guess.float() - velocity
        wrong = difference.square()
        weighed = (wrong * (1 + (FACE_WEIGHT - 1) * faces.to(device))).mean()
        return weighed, wrong.mean(), (1 - alphas[t]).sqrt()[:, None, None, None] * difference

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        nonlocal data, current
        if (number := step * batch_size // (PICTURES * EPOCHS)) != current:
            data, current = rounds.take(number), number
            data["states"] = states(encoder, data["ids"])
        alone, several = ((data["corner"][:, 0] >= 0) == one for one in (True, False))
        index = any_of(alone, WINDOWS // size)
        near, face, difference = error(index, lambda x: windows(x, data["corner"][index]))
        fine = components(difference, data["seen"][index]).square().mean()
        index = any_of(several, STRIPS // size)
        beside, strip, difference = error(index, strips)
        fine_beside = components(halves(difference), data["seen"][index].repeat(2, 1)).square().mean()
        far, whole, _ = error(torch.randint(len(data["ids"]), (WHOLE // size,)), lambda x: x)
        parts = {"face": face, "strip": strip, "whole": whole, "components": fine, "components beside": fine_beside}
        value = near + beside + far + COMPONENTS_WEIGHT * (fine + fine_beside)
        return value, {key: part.item() for key, part in parts.items()}

    def any_of(kept: Tensor, n: int) -> Tensor:
        """Return the numbers of `n` of the pictures that are kept."""
        index = kept.nonzero()[:, 0]
        return index[torch.randint(len(index), (n,))]

    def look(average: dict[str, Tensor], pictures: int) -> None:
        """Write the averaged denoiser, for whoever looks on while it learns."""
        whole = build(READING)
        whole.load_state_dict(average)
        whole.save_pretrained(folder / ("unet-cooled" if cooldown_minutes else "unet"))

    scheduler().save_pretrained(folder / "scheduler")
    train(
        "unet", unet, loss, folder, minutes=minutes, cooldown_minutes=cooldown_minutes, learning_rate=2e-3, warmup=40,
        batch_size=batch_size, matrices=is_hidden_matrix, save_every=180, after_saving=look,
    )  # fmt: skip
