"""The denoiser: latents of captioned pictures of celebrities, v-prediction, a schedule that ends in pure noise."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .autoencoder import LATENT_CHANNELS
from .latents import of_round
from .loop import compile_blocks, is_first, processes, train
from .precision import autocast
from .text import WIDTH

PICTURES, EPOCHS = 24_000, 8
"""Pictures of a round, and how often they are seen before the next is drawn."""
UNCONDITIONAL = 0.1
MIN_SNR = 5.0
FACE_WEIGHT = 5.0
"""How much more an error within a face counts than one beside it."""


def scheduler() -> DDIMScheduler:
    """The noise schedule and sampler that ship with the pipeline."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True,
        steps_offset=1,
    )  # fmt: skip


def build(reading: int = 2) -> UNet2DConditionModel:
    """Three levels of 16, 8 and 4 pixels; words are read at the lowest `reading` of them."""
    down = ["DownBlock2D"] * (3 - reading) + ["CrossAttnDownBlock2D"] * reading
    return UNet2DConditionModel(
        sample_size=16, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 96, 160), layers_per_block=1, norm_num_groups=16,
        down_block_types=tuple(down), up_block_types=tuple(block.replace("Down", "Up") for block in down[::-1]),
        cross_attention_dim=WIDTH, attention_head_dim=4,
    )  # fmt: skip


def is_hidden_matrix(name: str) -> bool:
    """The weights inside the network, not those at its ends, which Muon is not meant for."""
    return name.endswith("weight") and "norm" not in name and not name.startswith(("conv_in", "conv_out", "time_emb"))


def run(folder: Path, *, minutes: float, cooldown_minutes: float, device: str, batch_size: int = 128) -> None:
    """Train the denoiser on what the frozen text encoder reads, until stopped; goes on where it was."""
    part, share = 0 if is_first() else 1, batch_size // processes()
    mine = PICTURES // processes()
    data: dict[str, Tensor] = {}
    current = -1
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).requires_grad_(False).eval()
    empty = tokens("", padding="max_length", return_tensors="pt").input_ids.to(device)
    torch.manual_seed(3)
    unet = build().to(device, memory_format=torch.channels_last)
    if device == "cpu":
        unet.set_attn_processor(AttnProcessor())
    # A minute and a half once, then a step takes three quarters of the time.
    compile_blocks(unet, ResnetBlock2D, BasicTransformerBlock)
    alphas = scheduler().alphas_cumprod.to(device)
    snr = alphas / (1 - alphas)
    # Min-SNR weighting (Hang et al., 2023) for a velocity, by drawing timesteps as often as they are worth; the
    # noisiest ones are worth little, yet every picture starts there.
    often = ((snr.clamp(max=MIN_SNR) + 0.1) / (snr + 1)).cumsum(0)
    often = often / often[-1]

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        nonlocal data, current
        if (number := step * share // (mine * EPOCHS)) != current:
            data, current = of_round(folder, number, mine, part, device), number
        index = torch.randint(len(data["ids"]), (share,))
        x0 = data["latents"][index].to(device).float().contiguous(memory_format=torch.channels_last)
        worth = 1 + (FACE_WEIGHT - 1) * data["faces"][index].to(device).float()
        ids = data["ids"][index].to(device).long()
        ids = torch.where(torch.rand(share, 1, device=device) < UNCONDITIONAL, empty, ids)
        with torch.no_grad():
            hidden = encoder(ids).last_hidden_state
        # Evenly spread over the batch: the loss then varies less from step to step.
        spread = (torch.arange(share, device=device) + torch.rand(share, device=device)) / share
        t = torch.searchsorted(often, spread).clamp(max=len(alphas) - 1)
        alpha = alphas[t][:, None, None, None]
        noise = torch.randn_like(x0)
        noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        with autocast(device):
            guess = unet(noisy, t, hidden).sample
        error = (guess.float() - velocity).square()
        return (error * worth).mean(), {"v": error.mean().item()}

    def look(average: dict[str, Tensor], pictures: int) -> None:
        """The averaged denoiser, for whoever looks on while it learns."""
        whole = build()
        whole.load_state_dict(average)
        whole.save_pretrained(folder / ("unet-cooled" if cooldown_minutes else "unet"))

    scheduler().save_pretrained(folder / "scheduler")
    train(
        "unet", unet, loss, folder, minutes=minutes, cooldown_minutes=cooldown_minutes, learning_rate=2e-3,
        batch_size=batch_size, matrices=is_hidden_matrix, save_every=180, after_saving=look,
    )  # fmt: skip
