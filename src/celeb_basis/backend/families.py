"""Families: what differs between kinds of models, one row of one table for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from ..errors import ModelError, PromptError
from .denoiser import Denoiser
from .flow import Flux2KleinDenoiser, FluxDenoiser, SD3Denoiser, ZImageDenoiser
from .pipeline import Pipeline, model_name
from .unet import SDXLDenoiser, UNetDenoiser


@dataclass(frozen=True)
class Family:
    """A family of models.

    name: for people.
    pipeline: the name of its class in diffusers.
    also: those of its other pipelines, which are made of the same parts and start from pictures.
    denoiser: how it is fitted to and drawn with.
    embedding_keys: the keys of an identity's tensors in a file, by the widths of the text encoders; other programs
        look for these keys.
    also_read: further keys under which other programs write such tensors.
    single_files: how a key begins that only single-file checkpoints of this family have, and the hub model whose
        tokenizer and configuration such a file takes where they are in the cache; None where the file does not say
        which of several it needs.
    half_precision: in which its weights do not overflow.
    tiny_autoencoder: the hub model that decodes its latents as they are, at a fraction of the cost.
    takes_references: whether its pipeline's image is one to refer to, beside the prompt, and not one to draw anew.
    """

    name: str
    pipeline: str
    denoiser: Callable[[Pipeline], Denoiser]
    embedding_keys: Mapping[tuple[int, ...], tuple[str, ...]]
    also_read: tuple[tuple[str, ...], ...] = ()
    also: tuple[str, ...] = ()
    single_files: Mapping[str, str | None] = field(default_factory=dict)
    half_precision: torch.dtype = torch.bfloat16  # in which transformers are trained
    tiny_autoencoder: str | None = None
    takes_references: bool = False


FAMILIES = (
    Family(
        "Stable Diffusion 1 and 2",
        "StableDiffusionPipeline",
        UNetDenoiser,
        {(768,): ("emb_params",), (1024,): ("emb_params",)},
        single_files={
            "cond_stage_model.transformer.": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "cond_stage_model.model.": None,  # some predict noise, some velocity
        },
        half_precision=torch.float16,
        tiny_autoencoder="madebyollin/taesd",
    ),
    Family(
        "SDXL",
        "StableDiffusionXLPipeline",
        SDXLDenoiser,
        {(768, 1280): ("clip_l", "clip_g")},
        also_read=(("text_encoders_0", "text_encoders_1"),),
        single_files={"conditioner.embedders.1.": "stabilityai/stable-diffusion-xl-base-1.0"},
        half_precision=torch.float16,
        tiny_autoencoder="madebyollin/taesdxl",
    ),
    Family(
        "Stable Diffusion 3",
        "StableDiffusion3Pipeline",
        SD3Denoiser,
        {(768, 1280, 4096): ("clip_l", "clip_g", "t5xxl"), (768, 1280): ("clip_l", "clip_g")},
        also=(
            "StableDiffusion3Img2ImgPipeline",
            "StableDiffusion3InpaintPipeline",
            "StableDiffusion3ControlNetPipeline",
            "StableDiffusion3ControlNetInpaintingPipeline",
        ),
        tiny_autoencoder="madebyollin/taesd3",
    ),
    Family(
        "FLUX.1",
        "FluxPipeline",
        FluxDenoiser,
        {(768, 4096): ("clip_l", "t5xxl")},
        also=(
            "FluxImg2ImgPipeline",
            "FluxInpaintPipeline",
            "FluxControlNetPipeline",
            "FluxControlNetImg2ImgPipeline",
            "FluxControlNetInpaintPipeline",
        ),
        tiny_autoencoder="madebyollin/taef1",
    ),
    Family(
        "FLUX.2 klein",
        "Flux2KleinPipeline",
        Flux2KleinDenoiser,
        {(2560,): ("qwen3_4b",), (4096,): ("qwen3_8b",)},
        takes_references=True,
    ),
    # Its autoencoder is that of FLUX.1.
    Family(
        "Z-Image",
        "ZImagePipeline",
        ZImageDenoiser,
        {(2560,): ("qwen3_4b",)},
        also=("ZImageImg2ImgPipeline", "ZImageInpaintPipeline", "ZImageControlNetPipeline"),
        tiny_autoencoder="madebyollin/taef1",
    ),
)
# Families whose embeddings are recognised and refused.
UNSUPPORTED_KEYS = {"gemma2_2b": "Lumina 2"}


def named_family(pipeline: str) -> Family | None:
    """Return the family of a pipeline's class, by the name of the class; None for one that is not in the table."""
    return next((family for family in FAMILIES if pipeline in (family.pipeline, *family.also)), None)


def check_references(pipeline: str) -> None:
    """Raise PromptError unless the pipelines of a class take reference pictures; its name alone is needed."""
    family = named_family(pipeline)
    if family is None or not family.takes_references:
        who = " and ".join(family.name for family in FAMILIES if family.takes_references)
        raise PromptError(
            f"a {pipeline} takes no reference picture: leave it out, or name a model of {who}",
            argument="reference_image",
        )


def get_denoiser(pipe: Pipeline) -> Denoiser:
    """Return the denoiser of a pipeline's family. Raises ModelError for a family or a scheduler not supported."""
    if family := named_family(type(pipe).__name__):
        return family.denoiser(pipe)
    # Other pipelines of Stable Diffusion, such as those of other programs, have the parts of these two.
    parts = pipe.components
    if parts.get("unet") is None or parts.get("text_encoder") is None or parts.get("text_encoder_3") is not None:
        raise ModelError(
            f"{model_name(pipe)} is a {type(pipe).__name__}: supported are "
            f"{', '.join(family.name for family in FAMILIES)}"
        )
    return SDXLDenoiser(pipe) if "text_encoder_2" in parts else UNetDenoiser(pipe)


def embedding_keys(widths: tuple[int, ...]) -> tuple[str, ...]:
    """Return the keys of an identity's tensors for text encoders of these widths, or else of so many."""
    rows = [row for family in FAMILIES for row in family.embedding_keys.items()]
    known = [keys for own, keys in rows if own == widths]
    return (known or [keys for own, keys in rows if len(own) == len(widths)])[0]


def known_embedding_keys() -> list[tuple[str, ...]]:
    """Return the keys of all families' identities, each in the order of the text encoders."""
    return [keys for family in FAMILIES for keys in (*family.embedding_keys.values(), *family.also_read)]
