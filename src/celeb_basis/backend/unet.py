"""The UNets of Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .denoiser import Denoiser, States
from .pipeline import model_name
from .text_encoders import check_lengths, encode, token_ids

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class UNetDenoiser(Denoiser):
    """The UNet of Stable Diffusion 1 and 2.

    Raises ModelError for a scheduler whose noise the loss does not know.
    """

    part = "unet"
    # Counted: SD 1 292, SD 2 275, SDXL 495; without gradients 26, 26 and 16.
    activations_train, activations_checkpointed, activations_inference = 500, 150, 30

    def __init__(self, pipe: Any) -> None:
        prediction_type, self._alphas_cumprod = _noise_process(pipe)
        super().__init__(pipe, prediction_type)

    @property
    def in_channels(self) -> int:
        return int(self.network.config.in_channels)

    @property
    def default_resolution(self) -> int:
        return int(self.network.config.sample_size) * self.vae_scale_factor

    @property
    def feature_map(self) -> int:
        latents = (self.resolution // self.vae_scale_factor) ** 2
        return latents * int(self.network.config.block_out_channels[0]) * self.dtype.itemsize

    def cross_attention(self) -> list[nn.Module]:
        return [module for name, module in self.network.named_modules() if name.endswith(".attn2")]

    def check_lengths(self, prompts: Sequence[str]) -> None:
        check_lengths(self.pipe, prompts)

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[States, Tensor | None]:
        return encode(self.pipe, token_ids(self.pipe, prompts))

    def embeds(self, prompts: Sequence[str], negative_prompt: str | None) -> dict[str, Tensor]:
        states, negative, *pooled = self.pipe.encode_prompt(
            prompt=list(prompts),
            device=self.pipe._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=None if negative_prompt is None else [negative_prompt] * len(prompts),
        )
        text = {"prompt_embeds": states, "negative_prompt_embeds": negative}
        if pooled:
            text |= {"pooled_prompt_embeds": pooled[0], "negative_pooled_prompt_embeds": pooled[1]}
        return text

    def map_size(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[int, int]:
        height, width = args[0].shape[-2:]
        return height, width

    def _timesteps(self, quantiles: Tensor) -> Tensor:
        return (quantiles * len(self._alphas_cumprod)).long()  # the distribution is uniform

    def _noise_levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas_cumprod = self._alphas_cumprod.to(timesteps.device)[timesteps]
        return alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()

    def _output(self, noisy: Tensor, timesteps: Tensor, states: list[Tensor], pooled: Tensor | None) -> Tensor:
        output: Tensor = self.network(
            noisy,
            timesteps,
            encoder_hidden_states=torch.stack(states),
            added_cond_kwargs=self._added_conditions(noisy, pooled),
        ).sample
        return output

    def _added_conditions(self, latents: Tensor, pooled: Tensor | None) -> dict[str, Tensor] | None:
        """Return what the network is told beside the caption."""
        return None


class SDXLDenoiser(UNetDenoiser):
    """The UNet of SDXL, which is also told the image's size (uncropped) and the caption's pooled state."""

    draws_precisely = True

    def _added_conditions(self, latents: Tensor, pooled: Tensor | None) -> dict[str, Tensor]:
        assert pooled is not None
        size = tuple(side * self.vae_scale_factor for side in latents.shape[-2:])
        width = self.pipe.text_encoder_2.config.projection_dim
        ids = self.pipe._get_add_time_ids(size, (0, 0), size, pooled.dtype, text_encoder_projection_dim=width)
        return {"text_embeds": pooled, "time_ids": ids.to(pooled.device).repeat(len(latents), 1)}


def _noise_process(pipe: Any) -> tuple[str, Tensor]:
    """Return what the pipeline was trained to predict and its cumulative alphas, read from its own scheduler."""
    from diffusers import DDPMScheduler

    config = pipe.scheduler.config
    kind = config.get("prediction_type")
    # A scheduler without betas (flow matching, EDM) would be taken for one that predicts noise. Made from another's
    # configuration, it still holds that one's.
    has_betas = "beta_start" in config and hasattr(pipe.scheduler, "betas")
    if kind not in PREDICTION_TYPES or not has_betas:
        what = kind if has_betas else "no schedule of betas"
        raise ModelError(
            f"{model_name(pipe)} has a {type(pipe.scheduler).__name__} ({what}): models that predict "
            f"{', '.join(PREDICTION_TYPES)} under a schedule of betas are supported"
        )
    noise = DDPMScheduler.from_config(config)
    if not len(noise.alphas_cumprod) or not noise.alphas_cumprod.isfinite().all():
        raise ModelError(f"{model_name(pipe)} has a schedule of betas that are no numbers: get the model again")
    return kind, noise.alphas_cumprod
