"""Drawing defaults: in how many steps and with how much guidance a model is drawn where nobody says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import PurePath
from typing import Any, NamedTuple

from .pipeline import Pipeline, model_card, model_name, plain


class DrawingDefaults(NamedTuple):
    """How a model is drawn where the caller does not say.

    reason: the sign by which the model is known to be distilled; empty where its card or its pipeline decides.
    """

    num_inference_steps: int
    guidance_scale: float
    reason: str = ""


class Sign(NamedTuple):
    """A sign that a model is distilled, and how its makers draw such a model."""

    reason: str
    shows: Callable[[Any], bool]  # in a pipeline
    num_inference_steps: int
    guidance_scale: float


def drawing_defaults(pipe: Pipeline) -> DrawingDefaults:
    """Return how a model is drawn by default: as its card says, else as its makers say, else as its pipeline says."""
    card, own = model_card(pipe), inspect.signature(type(pipe).__call__).parameters
    steps, guidance, reason = own["num_inference_steps"].default, own["guidance_scale"].default, ""
    sign = distilled_sign(pipe)
    if sign is not None and (card.num_inference_steps is None or card.guidance_scale is None):
        steps, guidance, reason = steps_in_name(pipe) or sign.num_inference_steps, sign.guidance_scale, sign.reason
    if card.num_inference_steps is not None:
        steps = card.num_inference_steps
    if card.guidance_scale is not None:
        guidance = card.guidance_scale
    return DrawingDefaults(steps, guidance, reason)


def distilled_sign(pipe: Pipeline) -> Sign | None:
    """Return the first of SIGNS that a pipeline shows; None for a model that is not known to be distilled."""
    return next((sign for sign in SIGNS if sign.shows(pipe)), None)


def steps_in_name(pipe: Pipeline) -> int | None:
    """Return the number of steps that a model's own name says: 4 for sdxl_lightning_4step."""
    words = _words(pipe)
    found = [int(n) for n, unit in pairwise(words) if n.isdigit() and unit in ("step", "steps")]
    return next((steps for steps in found if steps > 0), None)


def _words(pipe: Pipeline) -> list[str]:
    """Return the words and numbers of a model's name, without those of its owner or its folder."""
    return re.findall(r"[a-z]+|\d+", PurePath(model_name(pipe)).name.lower())


def _transformer(pipe: Any) -> str:
    """Return the class of a pipeline's transformer, which tells a family in whichever of its pipelines."""
    return type(plain(getattr(pipe, "transformer", None))).__name__


def _has_guidance_free_transformer(pipe: Any) -> bool:
    return _transformer(pipe) == "FluxTransformer2DModel" and not pipe.transformer.config.guidance_embeds


def _has_lcm_scheduler(pipe: Any) -> bool:
    return type(pipe.scheduler).__name__ == "LCMScheduler"


def _has_guided_lcm_unet(pipe: Any) -> bool:
    return _has_lcm_scheduler(pipe) and pipe.unet.config.get("time_cond_proj_dim") is not None


def _transformer_named(word: str, kind: str) -> Callable[[Any], bool]:
    """Return a function that tells whether a pipeline's transformer is of this class and its name has this word."""
    return lambda pipe: _transformer(pipe) == kind and word in _words(pipe)


def _unet_named(word: str) -> Callable[[Any], bool]:
    """Return a function that tells whether a UNet's name has this word, and something else says that steps are few.

    That is Euler's scheduler with trailing spacing, or a number of steps in the name, as single files have it.
    """

    def shows(pipe: Any) -> bool:
        if not hasattr(pipe, "unet") or word not in _words(pipe):
            return False
        scheduler = pipe.scheduler
        few = type(scheduler).__name__.startswith("Euler") and scheduler.config.get("timestep_spacing") == "trailing"
        return few or steps_in_name(pipe) is not None

    return shows


# The first that shows counts. Steps and guidance are those of the example that stands above each line.
SIGNS = (
    # The example of FluxPipeline in diffusers, for FLUX.1-schnell.
    Sign("its transformer is not told the guidance", _has_guidance_free_transformer, 4, 0.0),
    # black-forest-labs/FLUX.2-klein-4B; Flux2KleinPipeline takes no guidance from such a model.
    Sign("its configuration says is_distilled", lambda pipe: bool(pipe.config.get("is_distilled")), 4, 1.0),
    # The example of ZImagePipeline in diffusers; its makers' page says 9 for one whose last step was empty.
    Sign("its name says turbo", _transformer_named("turbo", "ZImageTransformer2DModel"), 8, 0.0),
    # stabilityai/stable-diffusion-3.5-large-turbo.
    Sign("its name says turbo", _transformer_named("turbo", "SD3Transformer2DModel"), 4, 0.0),
    # The example of LatentConsistencyModelPipeline in diffusers, for SimianLuo/LCM_Dreamshaper_v7.
    Sign("it has an LCMScheduler, and its UNet is told the guidance", _has_guided_lcm_unet, 4, 8.0),
    # latent-consistency/lcm-lora-sdxl.
    Sign("it has an LCMScheduler", _has_lcm_scheduler, 4, 1.0),
    # stabilityai/sd-turbo and sdxl-turbo; diffusers' page on SDXL Turbo: 1 to 4 steps, trailing spacing, guidance 0.
    Sign("its name says turbo", _unet_named("turbo"), 1, 0.0),
    # ByteDance/SDXL-Lightning.
    Sign("its name says lightning", _unet_named("lightning"), 4, 0.0),
    # latent-consistency/lcm-lora-sdxl.
    Sign("its name says lcm", _unet_named("lcm"), 4, 1.0),
    # ByteDance/Hyper-SD.
    Sign("its name says hyper", _unet_named("hyper"), 8, 0.0),
    # tianweiy/DMD2.
    Sign("its name says dmd", _unet_named("dmd"), 4, 0.0),
)
