"""A model that ships with everything the contenders share, and what a contender has learnt of some people."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from worlds import DRAWN, World

import celeb_basis as cb
from celeb_basis import Identity
from celeb_basis.backend.families import get_denoiser
from celeb_basis.fit.face_loss import FaceLoss
from celeb_basis.generate import generate

CLASS = "a photo of person"  # the prompt of prior preservation

# Weights become constants of the compiled code, which is for drawing only.
torch._inductor.config.freezing = True


class Model:
    """A world's model, its basis and instant map; `class_pictures` are drawn once for all people."""

    def __init__(
        self, device: str = "cpu", class_pictures: int = 64, compiled: bool = False, world: World = DRAWN
    ) -> None:
        shipped = cb.Model.load(world.model, device=device, dtype=torch.float32)
        self.face_reader, self.steps = world.fitting_reader, shipped.default_train_steps
        self.face_loss_steps = shipped.card.face_loss_steps or FaceLoss.max_train_steps
        self.pipe, self.basis, self.instant_map = shipped.pipe, shipped.basis, shipped.instant_map
        # A third faster on a CPU than the usual order, in large batches.
        self.pipe.unet.to(memory_format=torch.channels_last)
        self.compiled = torch.compile(self.pipe.unet, dynamic=False) if compiled else None
        self.class_pictures = class_pictures
        self.fitted: dict[Hashable, Learnt] = {}  # people who are drawn in several ways

    @cached_property
    def prior(self) -> Tensor:
        """Latents (n, c, h, w) of what the model itself draws of the class."""
        pictures = generate(self.pipe, CLASS, num_images_per_prompt=self.class_pictures, seed=10**6, batch_size=16)
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        return get_denoiser(self.pipe).encode(pixels.permute(0, 3, 1, 2) / 127.5 - 1)

    def faster(self, pictures: int, batch_size: int) -> nn.Module | None:
        """The compiled UNet, unless a last, smaller batch would make it compile once more."""
        return None if pictures % batch_size else self.compiled

    @property
    def mean(self) -> Tensor:
        """Vectors (2, dim) of the mean celebrity."""
        return self.basis.inverse_transform(torch.zeros_like(self.basis.sigma))

    def identifiers(self, count: int) -> Tensor:
        """Vectors (count, 2, dim) of "V person", where V is a first name that nobody has.

        A rare word, as DreamBooth takes it, is all zeros in the miniature's embedding.
        """
        drawn = [Identity.sample(self.basis, "<v>", torch.Generator().manual_seed(i)).vectors[0] for i in range(count)]
        table = self.pipe.text_encoder.get_input_embeddings().weight
        word = table[self.pipe.tokenizer.convert_tokens_to_ids("person</w>")].detach().cpu()
        return torch.stack([torch.stack([v, word]) for v in drawn])


def digest(content: object) -> str:
    """Twelve letters that name a content."""
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Learnt:
    """People as a contender knows them after some step; later steps change the UNet in place."""

    vectors: Tensor  # (people, 2, dim), detached
    parameters: int = 0  # learnt for one person, or for all who share a UNet
    unet: nn.Module | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)  # of that UNet, what a file has to hold

    def of(self, which: Sequence[int]) -> Learnt:
        """Fewer of the people."""
        return Learnt(self.vectors[list(which)], self.parameters, self.unet, self.weights)

    @property
    def bytes(self) -> int:
        """Size of a file with everything that is needed to draw one person."""
        tensors = {"vectors": self.vectors[0], **self.weights}
        return len(safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}))


@contextmanager
def worn(pipe: Any, unet: nn.Module | None) -> Iterator[None]:
    """Let the pipeline draw and learn with another UNet inside the block; its own is not touched."""
    own = pipe.unet
    try:
        pipe.unet = own if unet is None else unet
        yield
    finally:
        pipe.unet = own
