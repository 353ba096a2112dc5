"""Memory: what a model needs on its device, and how to save some where there is too little."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import psutil
import torch

from ..errors import ModelError
from .denoiser import Denoiser, overflows_in_half
from .families import get_denoiser
from .pipeline import CAST, Pipeline, weight_storage
from .text_encoders import text_encoders

logger = logging.getLogger(__name__)

GIB = 2**30
RESERVE = GIB // 2  # on a GPU, for workspaces and gaps
# Images that are in the model at once: in a step of a fit, in a batch of `generate`, where guidance doubles them,
# and in the autoencoder before a fit.
FITTED, DRAWN, CODED = 4, 8, 8
VAE_ACTIVATIONS = 960  # alive in the autoencoder at its peak, a pixel
# ... and with all that the gradient of a decoded picture needs, without and with gradient checkpointing.
DECODED, DECODED_CHECKPOINTED = 6_000, 3_600
TILE = 512  # pixels
MAX_DRAWN = 64  # images at once on a GPU; more are not faster

FOUR_BIT_SHARE = 0.35  # of a part's bytes: its matrices shrink to .28, its embedding table not at all
MIN_QUANTISED = 2 * GIB  # bytes of a part for which 4 bits are worth it
# Bytes in a fit of a transformer, at most: one image with gradient checkpointing, and a language model's caption.
ONE_PICTURE, ONE_CAPTION = 13 * GIB // 4, 5 * GIB // 2

OFFLOAD = "one part of the model at a time, which can draw but not fit"
CHECKPOINT = "gradient checkpointing"
SLICE = "images encoded and decoded one by one"
TILES = f"in tiles of {TILE} pixels"


def place(pipe: Pipeline, device: torch.device, free: int | None = None) -> None:
    """Move a pipeline to a device, with the measures to save memory that it needs there; they are logged.

    free: bytes; by default what is free on the device. No measure changes a weight, and only tiling changes images.
    """
    parts, denoiser = _bytes(pipe), get_denoiser(pipe)
    if free is None:  # in main memory the weights are there already
        free = free_bytes(device) + (0 if device.type == "cuda" else sum(parts.values()))
    taken = measures(pipe, free, gpu=device.type == "cuda")
    if OFFLOAD in taken:
        denoiser.pipe.enable_model_cpu_offload(device=device)
    else:
        denoiser.pipe.to(device)
    if CHECKPOINT in taken:
        denoiser.network.enable_gradient_checkpointing()
        pipe.vae.enable_gradient_checkpointing()
    if SLICE in taken:
        pipe.vae.enable_slicing()
    if TILES in taken:
        pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = TILE, TILE // pipe.vae_scale_factor
        pipe.vae.enable_tiling()
    if taken:
        precision = str(denoiser.dtype).removeprefix("torch.")
        logger.info(
            f"{sum(parts.values()) / GIB:.1f} GiB of weights in {precision}, {free / GIB:.1f} GiB free on {device}: "
            f"to save memory, {', '.join(taken)}"
        )


def measures(pipe: Pipeline, free: int, *, gpu: bool) -> list[str]:
    """Return the measures with which weights, drawing and fitting need at most `free` bytes.

    Beside the weights there are activations, which were counted tensor by tensor on these architectures; measured on a
    CPU, those of SD 1.5 are 4 to 7% above the count and those of its autoencoder 25%. They grow with the number of
    images, their area and the network's width, hardly with the family. In float16, GiB:

                       weights   drawing 8   fitting 4, plain / checkpointed      coding one, float32
        SD 1.5, 512    2.0       0.5         2.8 / 0.8                            0.9
        SDXL, 1024     6.5       1.2         19.4 / 2.0                           3.8

        SD 3.5 medium  5.9       2.8         49.2 / 5.2                           1.9, bfloat16
        klein 4B       14.9      5.6         100.5 / 12.4                         1.9, bfloat16
        Z-Image        19.1      7.0         125.1 / 15.0                         1.9, bfloat16
        FLUX.1         31.4      5.6         100.9 / 12.7                         1.9, bfloat16

    So SD 1.5 fits in 6 GB, and SDXL in 12 GB, with gradient checkpointing and an autoencoder that takes one image at a
    time. A GPU too small for the weights holds one part of the model at a time and can only draw. The last three rows
    include the gradient of one caption, about 2 GiB in a language model; with weights in 4 bits (`quantised_parts`)
    and one image a step klein takes 9.4 GiB in a fit, Z-Image 11.3. Slicing attention would save nothing, as PyTorch's
    attention never holds the whole matrix.
    """
    parts, denoiser = _bytes(pipe), get_denoiser(pipe)
    feature_map, side = denoiser.feature_map, denoiser.resolution
    image = side**2 * VAE_ACTIVATIONS * _coded_itemsize(pipe.vae)
    left = free - sum(parts.values())
    taken = []
    if gpu and DRAWN * denoiser.activations_inference * feature_map > left:
        taken.append(OFFLOAD)
        left = free - max(parts.values())
    if FITTED * denoiser.activations_train * feature_map + denoiser.caption_bytes > left:
        taken.append(CHECKPOINT)
    if CODED * image > left:
        taken.append(SLICE)
    if image > left and side > TILE:
        taken.append(TILES)
    return taken


def quantised_parts(sizes: Mapping[str, int], free: int) -> list[str]:
    """Return the parts of a pipeline to load in 4 bits, so that a fit with one image a step needs `free` bytes.

    sizes: bytes of weights of each part. The text encoders go first, as their rounding matters less.
    """
    taken: list[str] = []
    kinds = ("text_encoder", "transformer")
    large = [name for name, size in sizes.items() if size >= MIN_QUANTISED and name.startswith(kinds)]
    needed = sum(sizes.values()) + ONE_PICTURE
    needed += ONE_CAPTION if any(name.startswith("text_encoder") for name in large) else 0
    for name in sorted(large):
        if needed > free:
            taken.append(name)
            needed -= int((1 - FOUR_BIT_SHARE) * sizes[name])
    return taken


def images_at_once(denoiser: Denoiser) -> int:
    """Return how many training images may go through the denoiser at once, by the memory that is free now."""
    free = free_bytes(next(denoiser.network.parameters()).device)
    return max(FITTED, free // fitted_bytes(denoiser))


def compared_at_once(denoiser: Denoiser) -> int:
    """Return how many pictures may go through the denoiser and the decoder at once, with gradients through both."""
    free = free_bytes(next(denoiser.network.parameters()).device)
    return max(1, free // (fitted_bytes(denoiser) + decoded_bytes(denoiser)))


def decoded_bytes(denoiser: Denoiser) -> int:
    """Return the bytes that a picture takes in the decoder with its gradient."""
    vae = denoiser.pipe.vae
    alive = DECODED_CHECKPOINTED if getattr(vae, "is_gradient_checkpointing", False) else DECODED
    return denoiser.resolution**2 * alive * _coded_itemsize(vae)


def fitted_bytes(denoiser: Denoiser) -> int:
    """Return the bytes that a training image takes in a step of a fit."""
    alive = (
        denoiser.activations_checkpointed
        if getattr(denoiser.network, "is_gradient_checkpointing", False)
        else denoiser.activations_train
    )
    return alive * denoiser.feature_map + denoiser.caption_bytes


def drawn_bytes(denoiser: Denoiser) -> int:
    """Return the bytes that an image takes while it is drawn, with guidance."""
    return 2 * denoiser.activations_inference * denoiser.feature_map


def drawn_at_once(pipe: Pipeline) -> int:
    """Return how many images may be drawn at once, by the memory that is free now; at most 8 on a CPU."""
    denoiser = get_denoiser(pipe)
    itemsize = _coded_itemsize(pipe.vae) if denoiser.draws_precisely else pipe.vae.dtype.itemsize
    decoded = denoiser.resolution**2 * VAE_ACTIVATIONS * itemsize
    if getattr(pipe.vae, "use_slicing", False):
        decoded = 0
    device = next(denoiser.network.parameters()).device
    free, most = free_bytes(device), MAX_DRAWN if device.type == "cuda" else DRAWN
    return int(min(most, max(1, free // (drawn_bytes(denoiser) + decoded))))


def free_bytes(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch uses it again
        return int(torch.cuda.mem_get_info(device)[0]) + cached - RESERVE
    return int(psutil.virtual_memory().available)


def _coded_itemsize(vae: Any) -> int:
    """Return the bytes of a number in the autoencoder while it encodes or decodes."""
    return 4 if overflows_in_half(vae) else int(vae.dtype.itemsize)


def _bytes(pipe: Pipeline) -> dict[str, int]:
    """Return the bytes of weights of each part of a pipeline."""
    return {
        name: sum(weight.nbytes for weight in part.parameters())
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
    }


def check_trainable(pipe: Pipeline) -> None:
    """Raise ModelError for a model that can only draw, as its weights are not at hand for the gradient."""
    networks = [get_denoiser(pipe).network, *(encoder for _, _, encoder in text_encoders(pipe))]
    storage = set().union(*map(weight_storage, networks))
    if CAST in storage:
        raise ModelError(
            "the weights of this model are cast for each layer, so it can draw but not be fitted to: load it again "
            "without layerwise casting"
        )
    if storage:
        raise ModelError(
            "the parts of this model take turns on its device, so it can draw but not be fitted to: use a larger GPU, "
            "a smaller model, or the CPU, without offloading",
            argument="device",
        )
