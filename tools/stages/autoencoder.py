"""The autoencoder: diffusers' AutoencoderTiny, 64 x 64 x 3 to 16 x 16 x 12, begun as an exact patch PCA."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from .data import celebrities_in, everyday_pictures
from .loop import train

CHANNELS, LATENT_CHANNELS, FACTOR = 48, 12, 4
# diffusers' AutoencoderTiny squashes latents beyond 3: at this spread few come near.
LATENT_STD = 0.6


def build(pictures: Tensor) -> AutoencoderTiny:
    """An autoencoder whose encoder is the PCA of the 4 x 4 patches of `pictures (n, 3, 64, 64)` in [0, 1]."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * 3, decoder_block_out_channels=(CHANNELS,) * 3,
        num_encoder_blocks=(0, 0, 1), num_decoder_blocks=(2, 1, 0), latent_channels=LATENT_CHANNELS,
    )  # fmt: skip
    with torch.no_grad():
        patches = pixel_unshuffle(pictures, FACTOR).permute(0, 2, 3, 1).flatten(0, 2)
        mean = patches.mean(0)
        _, singular, components = torch.linalg.svd(patches - mean, full_matrices=False)
        spread = singular[:LATENT_CHANNELS] / len(patches) ** 0.5
        # Square roots keep the order of importance and bring the channels within a factor of four of each other.
        projection = components[:LATENT_CHANNELS] / spread[:, None].sqrt()
        projection = LATENT_STD * projection / (patches - mean).matmul(projection.T).std()
        first, once, twice, block, last = vae.encoder.layers
        for layer in (first, once, twice):
            layer.weight.zero_()
        first.bias.zero_()
        for colour in range(3):
            first.weight[colour, colour, 1, 1] = 1
            for i in range(2):
                for j in range(2):
                    once.weight[colour * 4 + 2 * i + j, colour, 1 + i, 1 + j] = 1
        for channel in range(12):
            for i in range(2):
                for j in range(2):
                    twice.weight[channel * 4 + 2 * i + j, channel, 1 + i, 1 + j] = 1
        block.conv[-1].weight.mul_(0.1)
        block.conv[-1].bias.zero_()
        last.weight.zero_()
        last.weight[:, :, 1, 1] = projection[:, [_patch_index(channel) for channel in range(CHANNELS)]]
        last.bias.copy_(-(projection @ mean))
    return vae


def _patch_index(channel: int) -> int:
    """Where pixel_unshuffle puts the pixel that two halvings put at `channel`."""
    colour, rest = divmod(channel, 16)
    i1, j1, i2, j2 = rest >> 3 & 1, rest >> 2 & 1, rest >> 1 & 1, rest & 1
    # The first halving's offset is the finer one.
    return colour * 16 + (2 * i2 + i1) * 4 + (2 * j2 + j1)


def run(folder: Path, *, steps: int, device: str) -> None:
    """Train it on pictures of celebrities, strangers, pairs and faces on black; what shows faces counts three times."""
    singles, scene = everyday_pictures(24_000, 11)
    pairs, pair_scene = everyday_pictures(8_000, 12, pair=True)
    faces = celebrities_in("face", 6_000, 13).draw()
    pictures = torch.cat([singles, pairs, faces])
    weight = torch.ones(len(pictures), 1, 64, 64)
    axis = torch.arange(64) + 0.5
    for offset, boxes in ((0, scene.boxes()), (len(singles), pair_scene.boxes())):
        for box in boxes.unbind(1):
            left, top, right, bottom = (
                edge[:, None, None] for edge in (box * 0.75 + box[:, [2, 3, 0, 1]] * 0.25).unbind(1)
            )
            inside = (axis > left) & (axis < right) & (axis[:, None] > top) & (axis[:, None] < bottom)
            weight[offset : offset + len(boxes), 0][inside] = 3
    weight[-len(faces) :] = 2
    torch.manual_seed(1)
    vae = build(pictures[torch.randperm(len(pictures))[:2000]].float() / 255)
    vae = vae.to(device, memory_format=torch.channels_last)
    batch_size = 24

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(pictures), (batch_size,))
        x = pictures[index].to(device).float() / 127.5 - 1
        latents = vae.encode(x.contiguous(memory_format=torch.channels_last)).latents
        # A little noise makes a decoder that forgives what a denoiser leaves behind.
        noisy = latents + 0.04 * torch.randn_like(latents)
        error = (vae.decode(noisy).sample - x) * weight[index].to(device)
        square = error.square().mean()
        scale = (latents.std() - LATENT_STD).square() + (latents.abs() - 2.5).clamp(min=0).square().mean()
        with torch.no_grad():
            psnr = 10 * torch.log10(4 / ((error / weight[index].to(device)).square().mean()))
        return error.abs().mean() + 2 * square + 0.1 * scale, {
            "psnr": psnr.item(),
            "std": latents.std().item(),
        }

    average, _ = train(
        "autoencoder", vae, loss, folder, steps=steps, learning_rate=1.5e-3, batch_size=batch_size, ema=0.995
    )
    vae.load_state_dict(average)
    with torch.no_grad():
        sample = pictures[torch.randperm(len(pictures))[:512]].to(device).float() / 127.5 - 1
        vae.register_to_config(scaling_factor=round(1 / vae.encode(sample).latents.std().item(), 4))
    vae.to("cpu", memory_format=torch.contiguous_format).save_pretrained(folder / "vae")
