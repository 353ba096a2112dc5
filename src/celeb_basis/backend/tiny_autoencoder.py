"""Tiny autoencoders: a family's small decoder takes the place of its own where many pictures are only looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .families import get_denoiser, named_family
from .pipeline import Pipeline, pipeline_lock, silence_libraries

logger = logging.getLogger(__name__)

FILES = ("config.json", "diffusion_pytorch_model.safetensors")


class TinyAutoencoder(NamedTuple):
    """An AutoencoderTiny and the hub model that it is."""

    name: str
    vae: Any


def cached_tiny_autoencoder(pipe: Pipeline) -> TinyAutoencoder | None:
    """Return the tiny autoencoder of a pipeline's family, on its device, if the hub's cache has it; download nothing.

    Without one for this family, or where the pipeline's parts take turns on a GPU, there is none.
    """
    from huggingface_hub import try_to_load_from_cache

    family, denoiser = named_family(type(pipe).__name__), get_denoiser(pipe)
    if family is None or family.tiny_autoencoder is None or hasattr(denoiser.network, "_hf_hook"):
        return None
    files = [try_to_load_from_cache(family.tiny_autoencoder, file) for file in FILES]
    if not all(isinstance(file, str) for file in files):
        return None
    from diffusers import AutoencoderTiny

    try:
        with silence_libraries():
            vae = AutoencoderTiny.from_pretrained(
                Path(str(files[0])).parent, use_safetensors=True, local_files_only=True
            )
    except Exception as error:  # diffusers and its loaders raise nearly every kind there is
        logger.warning(
            f"{family.tiny_autoencoder} in the hub's cache cannot be read, the model's own is taken ({error})"
        )
        return None
    if vae.config.latent_channels != denoiser.in_channels:
        return None
    device = next(denoiser.network.parameters()).device
    vae.eval().requires_grad_(False).to(device, denoiser.dtype)
    logger.info(
        f"pictures that are only looked at are decoded by {family.tiny_autoencoder}, which is in the hub's cache"
    )
    return TinyAutoencoder(family.tiny_autoencoder, vae)


@contextmanager
def decoding(pipe: Pipeline, tiny: TinyAutoencoder | None) -> Iterator[None]:
    """Let a pipeline decode with a tiny autoencoder inside the block, while other threads wait; None keeps its own."""
    if tiny is None:
        yield
        return
    with pipeline_lock(pipe):
        own = pipe.vae
        try:
            pipe.vae = tiny.vae
            yield
        finally:
            pipe.vae = own
