"""Samplers: the schedulers that can take the place of a model's own, and how a few steps are spaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any

from ..errors import PromptError
from .card import SAMPLERS
from .defaults import drawing_defaults
from .denoiser import FLOW
from .families import get_denoiser
from .pipeline import Pipeline

MAX_FEW_STEPS = 14


def get_scheduler(pipe: Pipeline, sampler: str) -> Any:
    """Return the scheduler `sampler` for a pipeline's own noise levels. Raises PromptError for an unknown name."""
    if sampler not in SAMPLERS:
        raise PromptError(f"there is no sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}", argument="sampler")
    return resolve_name(SAMPLERS[sampler]).from_config(pipe.scheduler.config)


def drawn_with(
    pipe: Pipeline, num_inference_steps: int | None, guidance_scale: float | None, sampler: str | None
) -> tuple[int, float, str]:
    """Return the steps, the guidance and the scheduler's class with which a pipeline draws; None is its own default."""
    defaults = drawing_defaults(pipe)
    scheduler = pipe.scheduler if sampler is None else get_scheduler(pipe, sampler)
    return (
        defaults.num_inference_steps if num_inference_steps is None else num_inference_steps,
        defaults.guidance_scale if guidance_scale is None else guidance_scale,
        type(scheduler).__name__,
    )


def few_steps_sampler(pipe: Pipeline) -> str | None:
    """Return the sampler for few steps; None for a model that predicts a flow, which keeps its own."""
    return None if get_denoiser(pipe).prediction_type == FLOW else "unipc"


@contextmanager
def sampling(pipe: Pipeline, sampler: str | None, num_inference_steps: int) -> Iterator[None]:
    """Let a pipeline draw with another sampler inside the block; None leaves it its own.

    Few steps are spaced from the last timestep down. Leading spacing, which many configurations ask for, would begin
    at a timestep where the network expects to see something of the image: three steps of SDXL at 751 of 1,000.

    Source: Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2023), section 3.3.
    """
    own = pipe.scheduler
    scheduler = own if sampler is None else get_scheduler(pipe, sampler)
    spacing = scheduler.config.get("timestep_spacing", "trailing")  # those of flow matching have none
    if num_inference_steps <= MAX_FEW_STEPS and spacing != "trailing":
        scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing="trailing")
    try:
        pipe.scheduler = scheduler
        yield
    finally:
        pipe.scheduler = own
