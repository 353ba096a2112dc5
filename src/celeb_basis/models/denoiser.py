"""Denoiser: what fitting and drawing need to know of a model's network, one class for each family of models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError
from .pipeline import Pipeline, model_name

ENCODED_AT_ONCE = 8
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network predicts for noisy latents, and the truth; each (people, batch, c, h, w)."""

    output: Tensor
    target: Tensor
    clean: Tensor  # the latents before the noise
    noise: Tensor
    noisy: Tensor
    timesteps: Tensor  # (people, batch)
    alphas_cumprod: Tensor  # at those timesteps, (people, batch, 1, 1, 1)
    prediction_type: str

    @property
    def estimated_clean(self) -> Tensor:
        """The latents without noise, by this output."""
        a, s = self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()
        if self.prediction_type == "epsilon":
            return (self.noisy - s * self.output) / a.clamp_min(1e-4)
        return a * self.noisy - s * self.output if self.prediction_type == "v_prediction" else self.output

    @property
    def estimated_noise(self) -> Tensor:
        """The noise, by this output."""
        a, s = self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()
        if self.prediction_type == "sample":
            return (self.noisy - a * self.output) / s.clamp_min(1e-4)
        return a * self.output + s * self.noisy if self.prediction_type == "v_prediction" else self.output

    def error(self) -> Tensor:
        """Mean squared error of the output for each person, (people,).

        Source: Ho et al., "Denoising Diffusion Probabilistic Models" (2020), equation 14, for whichever of noise,
        velocity or picture the model predicts.
        """
        return (self.output - self.target).square().flatten(1).mean(1)


class Denoiser:
    """The UNet of Stable Diffusion 1 and 2.

    Raises ModelError for a scheduler whose noise the loss does not know.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.network: nn.Module = pipe.unet
        self._noise = _noise_process(pipe)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        # Asking the network itself walks over all its modules.
        dtype: torch.dtype = self.pipe.unet.conv_in.weight.dtype
        return dtype

    @property
    def in_channels(self) -> int:
        """Channels of the latents that the network takes."""
        return int(self.pipe.unet.config.in_channels)

    @property
    def grid(self) -> int:
        """Pixels that one latent covers in each direction."""
        return int(self.pipe.vae_scale_factor)

    @property
    def resolution(self) -> int:
        """Side of the pictures the model was made for, in pixels."""
        return int(self.pipe.unet.config.sample_size) * self.grid

    @property
    def feature_map(self) -> int:
        """Bytes of one picture's first feature map, the unit in which memory is counted."""
        latents = int(self.pipe.unet.config.sample_size) ** 2
        return latents * int(self.pipe.unet.config.block_out_channels[0]) * self.dtype.itemsize

    @property
    def digest(self) -> str:
        """Name the weights by a hash: the same for one network in any precision, another for any other.

        Hashed are the signs, which survive rounding to half precision.
        """
        digest = hashlib.sha256()
        for name, weight in self.network.named_parameters():
            digest.update(name.encode())
            digest.update(np.packbits(torch.signbit(weight.detach()).cpu().numpy()).tobytes())
        return digest.hexdigest()

    def cross_attention(self) -> list[nn.Module]:
        """The modules in which pixels attend to the prompt."""
        return [module for name, module in self.network.named_modules() if name.endswith(".attn2")]

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (n, c, h, w) of pictures (n, 3, H, W) in -1..1, scaled as the network wants them, float32."""
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents

        vae = self.pipe.vae
        dtype = vae.dtype
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        latents = []
        try:
            # Some autoencoders overflow in half precision; going to single and back changes no bit.
            if dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
                vae.to(torch.float32)
            with torch.no_grad():
                for batch in pictures.split(ENCODED_AT_ONCE):
                    encoded = vae.encode(batch.to(vae.device, vae.dtype))
                    latents.append(retrieve_latents(encoded, sample_mode="argmax").float())
        finally:
            if vae.dtype != dtype:
                vae.to(dtype)
        scaled: Tensor = (torch.cat(latents) - shift) * vae.config.scaling_factor
        return scaled

    def predict(
        self, latents: Tensor, states: Tensor, pooled: Tensor | None, generators: Sequence[torch.Generator]
    ) -> Prediction:
        """Add noise at uniform timesteps, and ask the network what it sees.

        latents (people, batch, c, h, w); states (people, length, width) and pooled (people, width) of their
        captions; a person's timesteps and noise come from their own generator.
        """
        device, dtype, scheduler = states.device, self.dtype, self._noise
        people, batch = latents.shape[:2]
        steps = scheduler.config.num_train_timesteps
        t = torch.cat([torch.randint(steps, (batch,), generator=g) for g in generators]).to(device)
        noise = torch.cat([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(device)
        clean = latents.flatten(0, 1).to(device, torch.float32)
        noisy = scheduler.add_noise(clean, noise, t)
        output = self.network(
            noisy.to(dtype),
            t,
            encoder_hidden_states=states.to(dtype).repeat_interleave(batch, 0),
            added_cond_kwargs=self._added_conditions(clean, pooled, batch),
        ).sample.float()
        kind = scheduler.config.prediction_type
        target = clean if kind == "sample" else noise
        if kind == "v_prediction":
            target = scheduler.get_velocity(clean, noise, t)
        alphas = scheduler.alphas_cumprod.to(device)[t][:, None, None, None]

        def each(values: Tensor) -> Tensor:
            unflat: Tensor = values.unflatten(0, (people, batch))
            return unflat

        return Prediction(
            output=each(output),
            target=each(target),
            clean=each(clean),
            noise=each(noise),
            noisy=each(noisy),
            timesteps=each(t),
            alphas_cumprod=each(alphas),
            prediction_type=kind,
        )

    def _added_conditions(self, latents: Tensor, pooled: Tensor | None, batch: int) -> dict[str, Tensor] | None:
        """What the network is told beside the caption."""
        return None


class SDXLDenoiser(Denoiser):
    """The UNet of SDXL, which is also told the picture's size (uncropped) and the caption's pooled state."""

    def _added_conditions(self, latents: Tensor, pooled: Tensor | None, batch: int) -> dict[str, Tensor]:
        assert pooled is not None
        size = tuple(side * self.grid for side in latents.shape[-2:])
        width = self.pipe.text_encoder_2.config.projection_dim
        ids = self.pipe._get_add_time_ids(size, (0, 0), size, pooled.dtype, text_encoder_projection_dim=width)
        return {
            "text_embeds": pooled.to(self.dtype).repeat_interleave(batch, 0),
            "time_ids": ids.to(pooled.device).repeat(len(latents), 1),
        }


def denoiser_of(pipe: Pipeline) -> Denoiser:
    """The denoiser of a pipeline's family. Raises ModelError for a family or a scheduler that is not supported."""
    parts = pipe.components
    if parts.get("unet") is None or parts.get("text_encoder") is None or parts.get("text_encoder_3") is not None:
        raise ModelError(f"{model_name(pipe)} is a {type(pipe).__name__}: Stable Diffusion 1, 2 and SDXL are supported")
    return SDXLDenoiser(pipe) if "text_encoder_2" in parts else Denoiser(pipe)


def _noise_process(pipe: Any) -> Any:
    """The forward process that the pipeline was trained with, read from its own scheduler."""
    from diffusers import DDPMScheduler

    config = pipe.scheduler.config
    kind = config.get("prediction_type")
    # A scheduler without betas (flow matching, EDM) would be taken for one that predicts noise.
    if kind not in PREDICTION_TYPES or "beta_start" not in config:
        what = kind if "beta_start" in config else "no schedule of betas"
        raise ModelError(
            f"{model_name(pipe)} has a {type(pipe.scheduler).__name__} ({what}): models that predict "
            f"{', '.join(PREDICTION_TYPES)} under a schedule of betas are supported"
        )
    noise = DDPMScheduler.from_config(config)
    if not len(noise.alphas_cumprod) or not noise.alphas_cumprod.isfinite().all():
        raise ModelError(f"{model_name(pipe)} has a schedule of betas that are no numbers: get the model again")
    return noise


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
