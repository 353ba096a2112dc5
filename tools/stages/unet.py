"""The denoiser: latents of captioned pictures of celebrities, v-prediction, a schedule that ends in pure noise."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import trange
from transformers import CLIPTextModel, CLIPTokenizer

from .autoencoder import LATENT_CHANNELS
from .data import celebrities_in
from .loop import is_first, processes, train
from .text import NOISE

SHARES = {"single": 0.62, "pair": 0.26, "face": 0.12}
UNCONDITIONAL = 0.1
MIN_SNR = 5.0
FACE_WEIGHT = 2.5
"""How much more an error within a face counts than one beside it."""


def scheduler() -> DDIMScheduler:
    """The noise schedule and sampler that ship with the pipeline."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True,
        steps_offset=1,
    )  # fmt: skip


def build() -> UNet2DConditionModel:
    """Three levels of 16, 8 and 4 pixels; words are read at the lower two."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 96, 160), layers_per_block=1, norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128, attention_head_dim=4,
    )  # fmt: skip


def is_hidden_matrix(name: str) -> bool:
    """The weights inside the network, not those at its ends, which Muon is not meant for."""
    return name.endswith("weight") and "norm" not in name and not name.startswith(("conv_in", "conv_out", "time_emb"))


def latents(folder: Path, n: int, device: str) -> dict[str, Tensor]:
    """Encoded pictures and their captions' token ids, drawn once and kept in the folder."""
    path = folder / "latents.safetensors"
    if path.exists():
        return load_file(path)
    vae = AutoencoderTiny.from_pretrained(folder / "vae").to(device, memory_format=torch.channels_last)
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoded, ids = [], []
    for seed, (kind, share) in enumerate(SHARES.items()):
        described = celebrities_in(kind, int(share * n), 31 + seed)
        pictures = described.draw()
        ids.append(
            tokens(described.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids.short()
        )
        with torch.no_grad():
            for start in trange(0, len(pictures), 256, desc=f"encoding {kind}", mininterval=5):
                x = pictures[start : start + 256].to(device).float() / 127.5 - 1
                z = vae.encode(x.contiguous(memory_format=torch.channels_last)).latents * vae.config.scaling_factor
                encoded.append(z.half().cpu().contiguous())
    state = {"latents": torch.cat(encoded), "ids": torch.cat(ids)}
    temporary = path.with_suffix(".part")
    save_file(state, temporary)
    temporary.replace(path)
    return state


def face_weights(n: int) -> Tensor:
    """What each latent's error counts, `(n, 1, 16, 16)` in half precision, for the pictures of `latents`."""
    centre = (torch.arange(16) + 0.5) * 4
    weights = []
    for seed, (kind, share) in enumerate(SHARES.items()):
        boxes = celebrities_in(kind, int(share * n), 31 + seed).boxes
        # A face's square has hair and air around it: two thirds of its side are the head.
        left, top, right, bottom = boxes.lerp(boxes[..., [2, 3, 0, 1]], 1 / 6)[..., None, None].unbind(2)
        across = (centre > left) & (centre < right)
        down = (centre[:, None] > top) & (centre[:, None] < bottom)
        weights.append(1 + (FACE_WEIGHT - 1) * (across & down).any(1, keepdim=True).half())
    return torch.cat(weights)


def run(folder: Path, *, steps: int, minutes: float, pictures: int, batch_size: int, device: str) -> None:
    """Train the denoiser on what the frozen text encoder reads."""
    data = latents(folder, pictures, device)
    worth = face_weights(pictures)
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).requires_grad_(False).eval()
    table = encoder.get_input_embeddings()
    words = torch.ones(len(table.weight), 1, device=device)
    words[[tokens.bos_token_id, tokens.eos_token_id]] = 0
    table.register_forward_hook(lambda _, ids, rows: rows + NOISE * torch.randn_like(rows) * words[ids[0]])
    empty = tokens("", padding="max_length", return_tensors="pt").input_ids.to(device)
    torch.manual_seed(3)
    unet = build().to(device, memory_format=torch.channels_last)
    if device == "cpu":
        unet.set_attn_processor(AttnProcessor())
    share = batch_size // processes()
    alphas = scheduler().alphas_cumprod.to(device)
    snr = alphas / (1 - alphas)
    # Min-SNR weighting (Hang et al., 2023) for a velocity, by drawing timesteps as often as they are worth; the
    # noisiest ones are worth little, yet every picture starts there.
    often = ((snr.clamp(max=MIN_SNR) + 0.1) / (snr + 1)).cumsum(0)
    often = often / often[-1]

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(data["ids"]), (share,))
        x0 = data["latents"][index].to(device).float().contiguous(memory_format=torch.channels_last)
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
        error = (unet(noisy, t, hidden).sample - velocity).square()
        return (error * worth[index].to(device)).mean(), {"v": error.mean().item()}

    average, _ = train(
        "unet", unet, loss, folder, steps=steps, minutes=minutes, learning_rate=2e-3, batch_size=batch_size,
        ema=0.9985, matrices=is_hidden_matrix,
    )  # fmt: skip
    if not is_first():
        return
    unet.load_state_dict(average)
    unet.to("cpu", memory_format=torch.contiguous_format).save_pretrained(folder / "unet")
    scheduler().save_pretrained(folder / "scheduler")
