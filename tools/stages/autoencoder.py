"""The autoencoder: diffusers' AutoencoderTiny, 128 x 128 x 3 to 16 x 16 x 20, begun as an exact patch PCA."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from .data import celebrities_in, signed, strangers
from .loop import train
from .precision import autocast

CHANNELS, LATENT_CHANNELS, FACTOR = 64, 20, 8
# diffusers' AutoencoderTiny squashes latents beyond 3: at this spread few come near.
LATENT_STD = 0.6
# The block at the encoder's end cuts off below zero: its input is lifted, and lowered again behind it.
LIFT = 4.0
CROP = 64
STRANGERS = {1: 7_000, 2: 2_000, 3: 1_500}
FACES = 1_500


def build(pictures: Tensor) -> AutoencoderTiny:
    """An autoencoder whose encoder is the PCA of the 8 x 8 patches of `pictures (n, 3, h, w)` in [0, 1]."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * 4, decoder_block_out_channels=(CHANNELS,) * 4,
        num_encoder_blocks=(0, 0, 0, 1), num_decoder_blocks=(3, 2, 1, 0), latent_channels=LATENT_CHANNELS,
    )  # fmt: skip
    with torch.no_grad():
        patches = pixel_unshuffle(pictures, FACTOR).permute(0, 2, 3, 1).flatten(0, 2)
        mean = patches.mean(0)
        _, singular, components = torch.linalg.svd(patches - mean, full_matrices=False)
        spread = singular[:CHANNELS] / len(patches) ** 0.5
        # Square roots keep the order of importance and bring the channels nearer to each other.
        projection = components[:CHANNELS] / spread[:, None].sqrt()
        kept = (patches - mean).matmul(projection[:LATENT_CHANNELS].T)
        projection = LATENT_STD * projection / kept.std()
        first, once, twice, thrice, block, last = vae.encoder.layers
        for layer in (first, once, twice, thrice):
            layer.weight.zero_()
        first.bias.zero_()
        for colour in range(3):
            first.weight[colour, colour, 1, 1] = 1
        for i in range(2):
            for j in range(2):
                for channel in range(3):
                    once.weight[channel * 4 + 2 * i + j, channel, 1 + i, 1 + j] = 1
                for channel in range(12):
                    twice.weight[channel * 4 + 2 * i + j, channel, 1 + i, 1 + j] = 1
                for channel in range(48):
                    thrice.weight[:, channel, 1 + i, 1 + j] = projection[:, _patch_index(channel * 4 + 2 * i + j)]
        block.conv[-1].weight.mul_(0.1)
        block.conv[-1].bias.fill_(LIFT)
        last.weight.zero_()
        for channel in range(LATENT_CHANNELS):
            last.weight[channel, channel, 1, 1] = 1
        last.bias.copy_(-(projection @ mean)[:LATENT_CHANNELS] - LIFT)
    return vae


def _patch_index(channel: int) -> int:
    """Where pixel_unshuffle puts the pixel that three halvings put at `channel`."""
    colour, rest = divmod(channel, 64)
    i1, j1, i2, j2, i3, j3 = (rest >> bit & 1 for bit in (5, 4, 3, 2, 1, 0))
    # The first halving's offset is the finest one.
    return colour * 64 + (4 * i3 + 2 * i2 + i1) * 8 + (4 * j3 + 2 * j2 + j1)


def is_hidden_matrix(name: str) -> bool:
    """The weights inside the network, not those that meet pixels."""
    return name.endswith("weight") and not name.startswith(("encoder.layers.0.", "decoder.layers.14"))


def run(folder: Path, *, steps: int, device: str) -> None:
    """Train it on crops of pictures of strangers and of faces on black; what shows faces counts three times."""
    seen, weights = [], []
    axis = torch.arange(128) + 0.5
    for people, n in STRANGERS.items():
        drawn, scene = strangers(n, 10 + people, people)
        # A face's square has hair and air around it: three quarters of it count.
        left, top, right, bottom = scene.boxes().lerp(scene.boxes()[..., [2, 3, 0, 1]], 0.12)[..., None, None].unbind(2)
        inside = (axis > left) & (axis < right) & (axis[:, None] > top) & (axis[:, None] < bottom)
        seen.append(drawn)
        weights.append(inside.any(1, keepdim=True))
    on_black = celebrities_in("face", FACES, 10)
    seen.append(on_black.draw())
    weights.append((seen[-1] > 0).any(1, keepdim=True))
    pictures, is_face = torch.cat(seen), torch.cat(weights)
    torch.manual_seed(1)
    vae = build(pictures[torch.randperm(len(pictures))[:1000]].float() / 255)
    learn(folder, vae, pictures, is_face, steps=steps, device=device)


def learn(
    folder: Path, vae: AutoencoderTiny, pictures: Tensor, is_face: Tensor, *, steps: int, device: str,
    learning_rate: float = 1.5e-3, warmup: int = 100,
) -> None:  # fmt: skip
    """Train an autoencoder on crops of `pictures (n, 3, 128, 128)`, bytes; `is_face (n, 1, 128, 128)` counts more."""
    vae = vae.to(device, memory_format=torch.channels_last)
    batch_size = 32

    def crops(index: Tensor) -> tuple[Tensor, Tensor]:
        """Squares of 64 pixels, of which every second lies on a face, anywhere on the grid of eight pixels."""
        corner = 8 * torch.randint((128 - CROP) // 8 + 1, (len(index), 2))
        x = torch.empty(len(index), 3, CROP, CROP)
        w = torch.empty(len(index), 1, CROP, CROP)
        for i, (picture, (top, left)) in enumerate(zip(index.tolist(), corner.tolist(), strict=True)):
            if i % 2:
                top = min(top, 32)
            x[i] = signed(pictures[picture, :, top : top + CROP, left : left + CROP])
            w[i] = 1 + 2 * is_face[picture, :, top : top + CROP, left : left + CROP].float()
        return x.to(device, memory_format=torch.channels_last), w.to(device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        x, weight = crops(torch.randint(len(pictures), (batch_size,)))
        with autocast(device):
            latents = vae.encode(x).latents
            # A little noise makes a decoder that forgives what a denoiser leaves behind.
            noisy = latents + 0.04 * torch.randn_like(latents)
            decoded = vae.decode(noisy).sample
        error = (decoded.float() - x) * weight
        latents = latents.float()
        scale = (latents.std() - LATENT_STD).square() + (latents.abs() - 2.5).clamp(min=0).square().mean()
        with torch.no_grad():
            psnr = 10 * torch.log10(4 / (error / weight).square().mean())
        return error.abs().mean() + 2 * error.square().mean() + 0.1 * scale, {
            "psnr": psnr.item(),
            "std": latents.std().item(),
        }

    average, _ = train(
        "autoencoder", vae, loss, folder, steps=steps, learning_rate=learning_rate, batch_size=batch_size, ema=0.995,
        matrices=is_hidden_matrix, warmup=warmup,
    )  # fmt: skip
    vae.load_state_dict(average)
    _scale(vae, signed(pictures[torch.randperm(len(pictures))[:256]].to(device)))
    vae.to("cpu", memory_format=torch.contiguous_format).save_pretrained(folder / "vae")


@torch.no_grad()
def _scale(vae: AutoencoderTiny, sample: Tensor) -> None:
    """Note how far latents spread; a denoiser reads them at a spread of one."""
    vae.register_to_config(scaling_factor=round(1 / vae.encode(sample).latents.std().item(), 4))
