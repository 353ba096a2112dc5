"""Denoiser: what fitting and drawing need to know of a model's network; the classes of the UNets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError
from .pipeline import model_card, model_name
from .text_encoders import check_lengths, encode, token_ids

ENCODED_AT_ONCE = 8
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
FLOW = "flow_prediction"  # from the picture to the noise, along a straight line
States = Tensor | Sequence[Tensor]
"""What the network reads of some prompts: (n, length, width), or n of (length, width) where lengths differ."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network predicts for noisy latents, and the truth; each (people, batch, c, h, w)."""

    output: Tensor
    target: Tensor
    clean: Tensor  # the latents before the noise
    noise: Tensor
    noisy: Tensor
    timesteps: Tensor  # (people, batch), of 1,000
    alpha: Tensor  # noisy = alpha * clean + sigma * noise; (people, batch, 1, 1, 1)
    sigma: Tensor
    prediction_type: str

    @property
    def estimated_clean(self) -> Tensor:
        """The latents without noise, by this output."""
        if self.prediction_type == "epsilon":
            return (self.noisy - self.sigma * self.output) / self.alpha.clamp_min(1e-4)
        if self.prediction_type == "v_prediction":
            return self.alpha * self.noisy - self.sigma * self.output
        return self.noisy - self.sigma * self.output if self.prediction_type == FLOW else self.output

    @property
    def estimated_noise(self) -> Tensor:
        """The noise, by this output."""
        if self.prediction_type == "sample":
            return (self.noisy - self.alpha * self.output) / self.sigma.clamp_min(1e-4)
        if self.prediction_type == "v_prediction":
            return self.alpha * self.output + self.sigma * self.noisy
        return self.noisy + self.alpha * self.output if self.prediction_type == FLOW else self.output

    def error(self) -> Tensor:
        """Mean squared error of the output for each person, (people,).

        Source: Ho et al., "Denoising Diffusion Probabilistic Models" (2020), equation 14, for whichever of noise,
        velocity, flow or picture the model predicts.
        """
        return (self.output - self.target).square().flatten(1).mean(1)


class Denoiser:
    """The UNet of Stable Diffusion 1 and 2.

    Raises ModelError for a scheduler whose noise the loss does not know.
    """

    # Values alive in the network at its peak, in units of one picture's first feature map: all that a backward pass
    # needs (SD 1: 292, SD 2: 275, SDXL: 495), what of that is alive with gradient checkpointing, and without gradients
    # (26, 26, 16).
    activations_train, activations_checkpointed, activations_inference = 500, 150, 30
    takes_negative_prompt = True
    joint_attention = False  # whether prompt and pixels, in this order, attend to themselves and each other at once

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.network: Any = pipe.unet
        self.prediction_type, self._alphas_cumprod = _noise_process(pipe)

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
    def vae_scale_factor(self) -> int:
        """Pixels that one latent covers in each direction."""
        return int(self.pipe.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """Pixels of which the sides of a picture must be a multiple."""
        return self.vae_scale_factor

    @property
    def resolution(self) -> int:
        """Side of the pictures the model was made for, in pixels."""
        return model_card(self.pipe).resolution or self._side()

    def _side(self) -> int:
        """Side of the pictures that the pipeline draws by itself."""
        return int(self.pipe.unet.config.sample_size) * self.vae_scale_factor

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

    @property
    def caption(self) -> int:
        """Bytes alive in the text encoders for the gradient of one caption, where they are not few."""
        return 0

    def cross_attention(self) -> list[nn.Module]:
        """The modules in which pixels attend to the prompt; none where attention takes no mask."""
        return [module for name, module in self.network.named_modules() if name.endswith(".attn2")]

    def check_lengths(self, prompts: Sequence[str]) -> None:
        """Raise PromptError for a prompt that does not fit, which diffusers would cut short."""
        check_lengths(self.pipe, prompts)

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[States, Tensor | None]:
        """What the network is told of n prompts: states, and pooled (n, width) where it asks for them."""
        return encode(self.pipe, token_ids(self.pipe, prompts))

    def embeds(self, prompts: Sequence[str], unwanted: str | None) -> dict[str, Tensor]:
        """What stands for prompts in a call of the pipeline: states (n, length, width), and pooled (n, width)."""
        states, negative, *pooled = self.pipe.encode_prompt(
            prompt=list(prompts),
            device=self.pipe._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=None if unwanted is None else [unwanted] * len(prompts),
        )
        text = {"prompt_embeds": states, "negative_prompt_embeds": negative}
        if pooled:
            text |= {"pooled_prompt_embeds": pooled[0], "negative_pooled_prompt_embeds": pooled[1]}
        return text

    def map_size(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width of the largest feature map, of what the network is called with."""
        height, width = args[0].shape[-2:]
        return height, width

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (n, c, h, w) of pictures (n, 3, H, W) in -1..1, scaled as the network wants them, float32."""
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents

        vae = self.pipe.vae
        dtype = vae.dtype
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
        return self._scaled(torch.cat(latents))

    def _scaled(self, latents: Tensor) -> Tensor:
        """Latents as the network wants them, of those that the autoencoder gives."""
        config = self.pipe.vae.config
        scaled: Tensor = (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
        return scaled

    def predict(
        self,
        latents: Tensor,
        states: States,
        pooled: Tensor | None,
        generators: Sequence[torch.Generator],
        quantiles: Tensor | None = None,
    ) -> Prediction:
        """Add noise at random timesteps, and ask the network what it sees.

        latents (people, batch, c, h, w); states (people, length, width) and pooled (people, width) of their
        captions; a person's noise comes from their own generator.
        quantiles: (people, batch) in 0..1, where the timesteps are in their distribution; None draws them, too.
        """
        device = states[0].device
        people, batch = latents.shape[:2]
        if quantiles is None:
            quantiles = torch.stack([torch.rand(batch, generator=g) for g in generators])
        t = self._timesteps(quantiles.flatten()).to(device)
        noise = torch.cat([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(device)
        alpha, sigma = (level[:, None, None, None] for level in self._levels(t))
        clean = latents.flatten(0, 1).to(device, torch.float32)
        noisy = alpha * clean + sigma * noise
        for_each = [state.to(self.dtype) for state in states for _ in range(batch)]
        pooled = None if pooled is None else pooled.to(self.dtype).repeat_interleave(batch, 0)
        output = self._output(noisy.to(self.dtype), t, for_each, pooled).float()
        target = {
            "epsilon": noise, "sample": clean, "v_prediction": alpha * noise - sigma * clean, FLOW: noise - clean
        }[self.prediction_type]  # fmt: skip

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
            alpha=each(alpha),
            sigma=each(sigma),
            prediction_type=self.prediction_type,
        )

    def _timesteps(self, quantiles: Tensor) -> Tensor:
        """The timesteps at quantiles (n,) of their distribution, in which all are alike."""
        return (quantiles * len(self._alphas_cumprod)).long()

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the picture and of the noise there is at timesteps (n,); each (n,)."""
        activations_train = self._alphas_cumprod.to(timesteps.device)[timesteps]
        return activations_train.sqrt(), (1 - activations_train).sqrt()

    def _output(self, noisy: Tensor, timesteps: Tensor, states: list[Tensor], pooled: Tensor | None) -> Tensor:
        """Ask the network: everything is of n pictures, and in its own precision."""
        output: Tensor = self.network(
            noisy,
            timesteps,
            encoder_hidden_states=torch.stack(states),
            added_cond_kwargs=self._added_conditions(noisy, pooled),
        ).sample
        return output

    def _added_conditions(self, latents: Tensor, pooled: Tensor | None) -> dict[str, Tensor] | None:
        """What the network is told beside the caption."""
        return None


class SDXLDenoiser(Denoiser):
    """The UNet of SDXL, which is also told the picture's size (uncropped) and the caption's pooled state."""

    def _added_conditions(self, latents: Tensor, pooled: Tensor | None) -> dict[str, Tensor]:
        assert pooled is not None
        size = tuple(side * self.vae_scale_factor for side in latents.shape[-2:])
        width = self.pipe.text_encoder_2.config.projection_dim
        ids = self.pipe._get_add_time_ids(size, (0, 0), size, pooled.dtype, text_encoder_projection_dim=width)
        return {"text_embeds": pooled, "time_ids": ids.to(pooled.device).repeat(len(latents), 1)}


def _noise_process(pipe: Any) -> tuple[str, Tensor]:
    """What the pipeline was trained to predict, and under which noise, read from its own scheduler."""
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
    return kind, noise.alphas_cumprod


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
