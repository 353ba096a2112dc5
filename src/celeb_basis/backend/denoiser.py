"""Denoiser: what fitting and generating need to know of a model's network, whatever its family."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from .pipeline import model_card, signs

ENCODED_AT_ONCE = 8
FLOW = "flow_prediction"  # from the image to the noise, along a straight line
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
    latent_scale: float = 1.0  # by which the autoencoder's latents were multiplied

    @property
    def estimated_clean(self) -> Tensor:
        """Return the latents without noise that follow from the output."""
        if self.prediction_type == "epsilon":
            return (self.noisy - self.sigma * self.output) / self.alpha.clamp_min(1e-4)
        if self.prediction_type == "v_prediction":
            return self.alpha * self.noisy - self.sigma * self.output
        return self.noisy - self.sigma * self.output if self.prediction_type == FLOW else self.output

    @property
    def estimated_noise(self) -> Tensor:
        """Return the noise that follows from the output."""
        if self.prediction_type == "sample":
            return (self.noisy - self.alpha * self.output) / self.sigma.clamp_min(1e-4)
        if self.prediction_type == "v_prediction":
            return self.alpha * self.output + self.sigma * self.noisy
        return self.noisy + self.alpha * self.output if self.prediction_type == FLOW else self.output

    def error(self) -> Tensor:
        """Return the mean squared error of the output for each person, (people,).

        Source: Ho et al., "Denoising Diffusion Probabilistic Models" (2020), equation 14, for whichever of noise,
        velocity, flow or image the model predicts.
        """
        return (self.output - self.target).square().flatten(1).mean(1)


class Denoiser(ABC):
    """A model's network, with what a fit and `generate` ask of it; a subclass is one family of models.

    activations_train, activations_checkpointed, activations_inference: the numbers that are alive in the network at
        its peak, in units of one image's first feature map: with all that a backward pass needs, with gradient
        checkpointing, and without gradients.
    part: what the pipeline calls the network.
    takes_negative_prompt: whether guidance reads one; unguided_scale: the guidance up to which there is none.
    joint_attention: whether prompt and pixels, in this order, attend to themselves and each other in one attention.
    draws_precisely: whether the pipeline decodes pictures in single precision where `overflows_in_half`.
    """

    part: str
    activations_train: int
    activations_checkpointed: int
    activations_inference: int
    takes_negative_prompt: bool = True
    unguided_scale: float = 1.0
    joint_attention: bool = False
    draws_precisely: bool = False

    def __init__(self, pipe: Any, prediction_type: str) -> None:
        self.pipe, self.network, self.prediction_type = pipe, getattr(pipe, self.part), prediction_type

    @cached_property
    def dtype(self) -> torch.dtype:
        """Return the precision in which the network computes, whatever its weights are stored in."""
        dtype: torch.dtype = self.network.dtype  # walks over all modules
        return dtype

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Return the number of channels of the latents that the network takes."""

    @property
    def vae_scale_factor(self) -> int:
        """Return how many pixels one latent covers in each direction."""
        return int(self.pipe.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """Return the number of pixels of which an image's sides must be a multiple."""
        return self.vae_scale_factor

    @property
    def resolution(self) -> int:
        """Return the side of the images that the model was made for, in pixels."""
        return model_card(self.pipe).resolution or self.default_resolution

    @property
    @abstractmethod
    def default_resolution(self) -> int:
        """Return the side of the images that the pipeline draws by itself, in pixels."""

    @property
    @abstractmethod
    def feature_map(self) -> int:
        """Return the bytes of one image's first feature map, the unit in which memory is counted."""

    @property
    def caption_bytes(self) -> int:
        """Return the bytes that the gradient of one caption takes in the text encoders, where they are many."""
        return 0

    @property
    def call_options(self) -> dict[str, Any]:
        """Return what a call of the pipeline is told beside what the caller asks for."""
        return {}

    @property
    def digest(self) -> str:
        """Return a hash of the weights: the same for one network in any precision, another for any other.

        Hashed are the signs, which survive rounding to half precision.
        """
        digest = hashlib.sha256()
        for prefix, module in self.network.named_modules():
            with align_module_device(module):  # where the weights are elsewhere until they are needed
                for name, weight in module.named_parameters(prefix, recurse=False):
                    digest.update(name.replace("_orig_mod.", "").encode())  # of what torch.compile made
                    digest.update(np.packbits(signs(weight)).tobytes())
        return digest.hexdigest()

    def cross_attention(self) -> list[nn.Module]:
        """Return the modules in which pixels attend to the prompt; none where attention takes no mask."""
        return []

    def embeds(self, prompts: Sequence[str], negative_prompt: str | None) -> dict[str, Tensor]:
        """Return what stands for prompts in a call of the pipeline: states (n, length, width), pooled (n, width).

        Regions need it, and so only families with cross_attention have it.
        """
        raise NotImplementedError

    def map_size(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[int, int]:
        """Return the height and width of the largest feature map in a call of the network, for regions too."""
        raise NotImplementedError

    @abstractmethod
    def check_lengths(self, prompts: Sequence[str]) -> None:
        """Raise PromptError for a prompt that does not fit, which diffusers would cut short."""

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> tuple[States, Tensor | None]:
        """Encode n prompts as the network reads them: states, and pooled (n, width) where it asks for them."""

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode images (n, 3, H, W) in -1..1 as latents (n, c, h, w), scaled as the network wants them, float32.

        generator: takes a sample of the autoencoder's posterior, if it has one; otherwise the mode.
        """
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents

        vae, latents = self.pipe.vae, []
        with self.precise_autoencoder(), torch.no_grad():
            for batch in images.split(ENCODED_AT_ONCE):
                encoded = vae.encode(batch.to(vae.device, vae.dtype))
                how = "sample" if generator else "argmax"
                latents.append(retrieve_latents(encoded, generator, how).float())
        return self._scaled(torch.cat(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (n, c, h, w), scaled as the network wants them, as images (n, 3, H, W) in about -1..1.

        Gradients flow; a backward pass has to end inside the same `precise_autoencoder`.
        """
        vae = self.pipe.vae
        images: Tensor = vae.decode(self._unscaled(latents).to(vae.dtype), return_dict=False)[0]
        return images.float()

    @contextmanager
    def precise_autoencoder(self) -> Iterator[None]:
        """Let an autoencoder that overflows in half precision compute in single inside the block.

        Going there and back changes no bit.
        """
        vae = self.pipe.vae
        dtype = vae.dtype
        try:
            if overflows_in_half(vae):
                vae.to(torch.float32)
            yield
        finally:
            if vae.dtype != dtype:
                vae.to(dtype)

    def _scaled(self, latents: Tensor) -> Tensor:
        """Scale latents that the autoencoder gives as the network wants them."""
        config = self.pipe.vae.config
        scaled: Tensor = (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
        return scaled

    def _unscaled(self, latents: Tensor) -> Tensor:
        """Scale latents of the network as the autoencoder takes them."""
        config = self.pipe.vae.config
        unscaled: Tensor = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        return unscaled

    def predict(
        self,
        latents: Tensor,
        states: States,
        pooled: Tensor | None,
        generators: Sequence[torch.Generator],
        quantiles: Tensor | None = None,
    ) -> Prediction:
        """Add noise at random timesteps, and let the network predict what was added.

        latents (people, batch, c, h, w); states (people, length, width) and pooled (people, width) of their
        captions; a person's noise comes from their own generator.
        quantiles: (people, batch) in 0..1, where the timesteps are in their distribution; None draws them at random.
        """
        device = states[0].device
        people, batch = latents.shape[:2]
        if quantiles is None:
            quantiles = torch.stack([torch.rand(batch, generator=g) for g in generators])
        t = self._timesteps(quantiles.flatten()).to(device)
        noise = torch.cat([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(device)
        alpha, sigma = (level[:, None, None, None] for level in self._noise_levels(t))
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
            latent_scale=getattr(self.pipe.vae.config, "scaling_factor", None) or 1.0,
        )

    @abstractmethod
    def _timesteps(self, quantiles: Tensor) -> Tensor:
        """Return the timesteps at quantiles (n,) of their distribution."""

    @abstractmethod
    def _noise_levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at timesteps (n,): the shares of the image and of the noise; each (n,)."""

    @abstractmethod
    def _output(self, noisy: Tensor, timesteps: Tensor, states: list[Tensor], pooled: Tensor | None) -> Tensor:
        """Call the network, with everything for n images and in its own precision."""


def overflows_in_half(vae: Any) -> bool:
    """Return whether an autoencoder is in half precision and must compute in single."""
    return vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))


@contextmanager
def frozen(weights: Iterable[Tensor]) -> Iterator[None]:
    """Let no weight require a gradient inside the block; afterwards the flags are as before."""
    trainable = [p for p in weights if p.requires_grad]
    try:
        for p in trainable:
            p.requires_grad_(False)
        yield
    finally:
        for p in trainable:
            p.requires_grad_(True)
