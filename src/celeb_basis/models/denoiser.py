"""The denoising loss: how well a frozen model predicts the noise in pictures under their captions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError


def noise_scheduler(pipe: Any) -> Any:
    """The forward process the pipeline was trained with, read from its own scheduler."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(f"prediction_type {scheduler.config.prediction_type!r} is not supported")
    return scheduler


def denoising_loss(
    pipe: Any,
    scheduler: Any,
    latents: Tensor,
    states: Tensor,
    pooled: Tensor | None,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Mean squared error of what the model predicts at uniform timesteps, one value a person: (people,).

    latents (people, batch, c, h, w), states (people, length, width) and pooled (people, width) of their
    captions. Source: Ho et al., "Denoising Diffusion Probabilistic Models" (2020), equation 14, for
    whichever of noise, velocity or picture the model predicts.
    """
    # Asking the UNet itself for device and type walks over all its modules.
    device, dtype = states.device, pipe.unet.conv_in.weight.dtype
    people, batch = latents.shape[:2]
    steps = scheduler.config.num_train_timesteps
    t = torch.cat([torch.randint(steps, (batch,), generator=g) for g in generators]).to(device)
    noise = torch.cat([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(device)
    clean = latents.flatten(0, 1).to(device, torch.float32)
    target = {
        "epsilon": lambda: noise,
        "v_prediction": lambda: scheduler.get_velocity(clean, noise, t),
        "sample": lambda: clean,
    }[scheduler.config.prediction_type]()
    predicted = pipe.unet(
        scheduler.add_noise(clean, noise, t).to(dtype),
        t,
        encoder_hidden_states=states.to(dtype).repeat_interleave(batch, 0),
        added_cond_kwargs=None if pooled is None else _added_conditions(pipe, clean, pooled, batch),
    ).sample
    return (predicted.float() - target).square().unflatten(0, (people, batch)).flatten(1).mean(1)


def _added_conditions(pipe: Any, latents: Tensor, pooled: Tensor, batch: int) -> dict[str, Tensor]:
    """SDXL is told the picture's size (uncropped) and the caption's pooled state."""
    size = tuple(side * pipe.vae_scale_factor for side in latents.shape[-2:])
    width = pipe.text_encoder_2.config.projection_dim
    ids = pipe._get_add_time_ids(size, (0, 0), size, pooled.dtype, text_encoder_projection_dim=width)
    return {
        "text_embeds": pooled.to(pipe.unet.conv_in.weight.dtype).repeat_interleave(batch, 0),
        "time_ids": ids.to(pooled.device).repeat(len(latents), 1),
    }


@contextmanager
def frozen(weights: Iterable[Tensor]) -> Iterator[None]:
    """No weight asks for a gradient inside the block; the flags are as before afterwards."""
    asking = [p for p in weights if p.requires_grad]
    try:
        for p in asking:
            p.requires_grad_(False)
        yield
    finally:
        for p in asking:
            p.requires_grad_(True)
