"""The transformers that predict a flow: Stable Diffusion 3, FLUX.1, FLUX.2 klein and Z-Image."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .defaults import drawing_defaults
from .denoiser import FLOW, Denoiser, States
from .pipeline import model_name
from .text_encoders import check_lengths, expanded, text_encoders

SCHNELL_LENGTH = 256  # tokens of T5
ENCODER_ACTIVATIONS = 26  # alive in a text encoder's layer for the gradient, for each number of its states


class FlowDenoiser(Denoiser):
    """A transformer that predicts the flow from the image to the noise; a subclass says how its family's is called.

    Raises ModelError for a scheduler of another kind than flow matching.

    Source: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis" (2024): the loss,
    and timesteps whose logit is normal.
    """

    part = "transformer"
    # Counted at 1024 pixels: SD 3.5 medium 665, FLUX.1 1,030, klein 554, Z-Image 917; with gradient checkpointing at
    # most 66 between the blocks and 44 in one.
    activations_train, activations_checkpointed, activations_inference = 1050, 110, 30

    def __init__(self, pipe: Any) -> None:
        if not type(pipe.scheduler).__name__.startswith("FlowMatch"):
            raise ModelError(
                f"{model_name(pipe)} has a {type(pipe.scheduler).__name__}: a transformer that predicts a flow needs "
                "one of flow matching, such as FlowMatchEulerDiscreteScheduler"
            )
        super().__init__(pipe, FLOW)
        # From the configuration, as drawing leaves its own timesteps in a scheduler.
        self._sigmas: Tensor = type(pipe.scheduler).from_config(pipe.scheduler.config).sigmas

    @property
    def in_channels(self) -> int:
        return int(self.network.config.in_channels)

    @property
    def size_multiple(self) -> int:
        return 2 * int(self.pipe.vae_scale_factor)  # the transformer reads squares of 2 x 2 latents

    @property
    def default_resolution(self) -> int:
        return int(self.pipe.default_sample_size * self.pipe.vae_scale_factor)

    @property
    def width(self) -> int:
        """Return the width of the transformer's states, of which one stands for 2 x 2 latents."""
        return int(self.network.inner_dim)

    @property
    def feature_map(self) -> int:
        return (self.resolution // self.size_multiple) ** 2 * self.width * self.dtype.itemsize

    @property
    def caption_bytes(self) -> int:
        # Counted: Qwen3 2.1 GiB, T5 1.2 or 2.4.
        total = 0
        for _, _, encoder in text_encoders(self.pipe):
            config = encoder.config
            length = min(self.max_sequence_length, getattr(config, "max_position_embeddings", sys.maxsize))
            states = config.num_hidden_layers * config.hidden_size * length
            total += ENCODER_ACTIVATIONS * states * encoder.dtype.itemsize
        return total

    @property
    def max_sequence_length(self) -> int:
        """Return how many tokens of a prompt the pipeline gives its text encoders."""
        return int(inspect.signature(self.pipe.encode_prompt).parameters["max_sequence_length"].default)

    def check_lengths(self, prompts: Sequence[str]) -> None:
        check_lengths(self.pipe, prompts, self.max_sequence_length, self._templated)

    def _templated(self, prompt: str) -> str:
        """Return the text that the pipeline makes of a prompt before it is tokenised."""
        return prompt

    def _timesteps(self, quantiles: Tensor) -> Tensor:
        # The logit is normal, and then the scheduler shifts the timesteps.
        density = torch.special.ndtri(quantiles).sigmoid()
        steps = len(self._sigmas)
        return self._sigmas[(density * steps).long().clamp_max(steps - 1)] * 1000

    def _noise_levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - timesteps / 1000, timesteps / 1000


class SD3Denoiser(FlowDenoiser):
    """The transformer of Stable Diffusion 3 and 3.5, whose attention takes no mask."""

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[States, Tensor | None]:
        states, _, pooled, _ = self.pipe.encode_prompt(
            expanded(self.pipe, prompts), None, None, do_classifier_free_guidance=False
        )
        return states, pooled

    def _output(self, noisy: Tensor, timesteps: Tensor, states: list[Tensor], pooled: Tensor | None) -> Tensor:
        output: Tensor = self.network(noisy, torch.stack(states), pooled, timesteps).sample
        return output


class PackedDenoiser(FlowDenoiser):
    """A transformer that takes 2 x 2 latents as one, and in whose attention prompt and pixels are joined: FLUX."""

    takes_negative_prompt = False
    joint_attention = True

    @property
    def in_channels(self) -> int:
        return int(self.network.config.in_channels) // 4

    def cross_attention(self) -> list[nn.Module]:
        return [module for name, module in self.network.named_modules() if name.endswith(".attn")]


class FluxDenoiser(PackedDenoiser):
    """The transformer of FLUX.1, which reads CLIP's pooled state and T5's states, and is told the guidance."""

    @property
    def max_sequence_length(self) -> int:
        # As its makers read prompts with schnell, of which diffusers' documentation says that it takes no more.
        return super().max_sequence_length if self.network.config.guidance_embeds else SCHNELL_LENGTH

    @property
    def call_options(self) -> dict[str, Any]:
        return {"max_sequence_length": self.max_sequence_length}

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[States, Tensor | None]:
        states, pooled, _ = self.pipe.encode_prompt(list(prompts), max_sequence_length=self.max_sequence_length)
        return states, pooled

    def embeds(self, prompts: Sequence[str], negative_prompt: str | None) -> dict[str, Tensor]:
        states, pooled = self.encode_prompts(prompts)
        assert isinstance(states, Tensor) and pooled is not None
        return {"prompt_embeds": states, "pooled_prompt_embeds": pooled}

    def map_size(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[int, int]:
        _, height, width = (options["img_ids"].amax(0) + 1).int().tolist()
        return height, width

    def _output(self, noisy: Tensor, timesteps: Tensor, states: list[Tensor], pooled: Tensor | None) -> Tensor:
        pipe, (n, channels, height, width) = self.pipe, noisy.shape
        guidance = None
        if self.network.config.guidance_embeds:
            guidance = torch.full((n,), drawing_defaults(pipe).guidance_scale, device=noisy.device)
        packed = self.network(
            pipe._pack_latents(noisy, n, channels, height, width),
            encoder_hidden_states=torch.stack(states),
            pooled_projections=pooled,
            timestep=timesteps.to(noisy.dtype) / 1000,
            img_ids=pipe._prepare_latent_image_ids(n, height // 2, width // 2, noisy.device, noisy.dtype),
            txt_ids=torch.zeros(len(states[0]), 3).to(noisy),
            guidance=guidance,
        ).sample
        output: Tensor = pipe._unpack_latents(
            packed, height * self.vae_scale_factor, width * self.vae_scale_factor, pipe.vae_scale_factor
        )
        return output


class Flux2KleinDenoiser(PackedDenoiser):
    """The transformer of FLUX.2 klein, whose latents are 2 x 2 of the autoencoder's, normalised by its statistics."""

    @property
    def vae_scale_factor(self) -> int:
        return self.size_multiple

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[States, Tensor | None]:
        states, _ = self.pipe.encode_prompt(expanded(self.pipe, prompts))
        return states, None

    def embeds(self, prompts: Sequence[str], negative_prompt: str | None) -> dict[str, Tensor]:
        states, negative = self.encode_prompts(prompts)[0], self.encode_prompts([""] * len(prompts))[0]
        return {"prompt_embeds": torch.stack(list(states)), "negative_prompt_embeds": torch.stack(list(negative))}

    def map_size(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[int, int]:
        _, height, width, _ = (options["img_ids"].amax((0, 1)) + 1).int().tolist()
        return height, width

    def _templated(self, prompt: str) -> str:
        return _in_chat(self.pipe.tokenizer, prompt, enable_thinking=False)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the deviation of the autoencoder's latents, of 2 x 2 each: (1, channels, 1, 1)."""
        bn, epsilon = self.pipe.vae.bn, self.pipe.vae.config.batch_norm_eps
        return bn.running_mean.view(1, -1, 1, 1), (bn.running_var.view(1, -1, 1, 1) + epsilon).sqrt()

    def _scaled(self, latents: Tensor) -> Tensor:
        squares: Tensor = self.pipe._patchify_latents(latents)
        mean, deviation = (each.to(squares) for each in self._statistics())
        return (squares - mean) / deviation

    def _unscaled(self, latents: Tensor) -> Tensor:
        mean, deviation = (each.to(latents) for each in self._statistics())
        unscaled: Tensor = self.pipe._unpatchify_latents(latents * deviation + mean)
        return unscaled

    def _output(self, noisy: Tensor, timesteps: Tensor, states: list[Tensor], pooled: Tensor | None) -> Tensor:
        pipe, text = self.pipe, torch.stack(states)
        packed = self.network(
            pipe._pack_latents(noisy),
            encoder_hidden_states=text,
            timestep=timesteps.to(noisy.dtype) / 1000,
            img_ids=pipe._prepare_latent_ids(noisy).to(noisy.device),
            txt_ids=pipe._prepare_text_ids(text).to(noisy.device),
        ).sample
        output: Tensor = packed.transpose(1, 2).unflatten(2, noisy.shape[-2:])
        return output


class ZImageDenoiser(FlowDenoiser):
    """The transformer of Z-Image, whose time and flow run from the noise to the image.

    Its states have no padding, so their lengths differ.
    """

    unguided_scale = 0.0

    @property
    def width(self) -> int:
        return int(self.network.config.dim)

    @property
    def default_resolution(self) -> int:
        return 1024  # a number in the pipeline's code

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[States, Tensor | None]:
        states, _ = self.pipe.encode_prompt(expanded(self.pipe, prompts), do_classifier_free_guidance=False)
        return states, None

    def _templated(self, prompt: str) -> str:
        return _in_chat(self.pipe.tokenizer, prompt, enable_thinking=True)

    def _output(self, noisy: Tensor, timesteps: Tensor, states: list[Tensor], pooled: Tensor | None) -> Tensor:
        # The third dimension is that of video frames.
        outputs = self.network(list(noisy.unsqueeze(2)), (1000 - timesteps) / 1000, states).sample
        return -torch.stack(list(outputs)).squeeze(2)


def _in_chat(tokenizer: Any, prompt: str, *, enable_thinking: bool) -> str:
    """Return a prompt as a message to the language model that reads it."""
    messages = [{"role": "user", "content": prompt}]
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=enable_thinking
    )
    return text
