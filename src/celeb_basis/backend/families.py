"""Families: which denoiser class a pipeline has."""

from __future__ import annotations

from ..errors import ModelError
from .denoiser import Denoiser, SDXLDenoiser
from .flow import Flux2KleinDenoiser, FluxDenoiser, SD3Denoiser, ZImageDenoiser
from .pipeline import Pipeline, model_name

# By the name of the pipeline's class in diffusers.
TRANSFORMERS = {
    "StableDiffusion3Pipeline": SD3Denoiser,
    "FluxPipeline": FluxDenoiser,
    "Flux2KleinPipeline": Flux2KleinDenoiser,
    "ZImagePipeline": ZImageDenoiser,
}


def get_denoiser(pipe: Pipeline) -> Denoiser:
    """The denoiser of a pipeline's family. Raises ModelError for a family or a scheduler that is not supported."""
    if kind := TRANSFORMERS.get(type(pipe).__name__):
        return kind(pipe)
    parts = pipe.components
    if parts.get("unet") is None or parts.get("text_encoder") is None or parts.get("text_encoder_3") is not None:
        raise ModelError(
            f"{model_name(pipe)} is a {type(pipe).__name__}: supported are Stable Diffusion 1, 2, XL and 3, FLUX.1, "
            "FLUX.2 klein and Z-Image"
        )
    return SDXLDenoiser(pipe) if "text_encoder_2" in parts else Denoiser(pipe)
