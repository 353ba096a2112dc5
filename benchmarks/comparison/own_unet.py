"""Contenders that train weights of the UNet: DreamBooth, DreamBooth with LoRA, Custom Diffusion."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from model import CLASS, Learnt, Model, worn
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn
from worlds import Person

from celeb_basis import Recipe
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.pipeline import model_card
from celeb_basis.backend.text_encoders import encode, placeholders, token_ids
from celeb_basis.fit.loop import first_quantile, golden_ratio_sequence, person_images
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.miniature.drawn.captions import FACE_CROP


@dataclass(frozen=True)
class OwnUNet:
    """Trains weights in a copy of the UNet; several people are learnt jointly in one copy."""

    steps: int = 200
    learning_rate: float = 1e-4
    batch: int = 2
    prior_weight: float = 1.0
    side_by_side: ClassVar[bool] = False
    regions: ClassVar[bool] = False
    people: ClassVar[Mapping[int, int]] = {1: 20, 2: 20}

    def train(
        self, model: Model, people: Sequence[Person], unet: nn.Module, vectors_of: Callable[[], Tensor], groups: Any
    ) -> Iterator[None]:
        """Yield before the first step and after each that AdamW takes on `groups`, with prior preservation.

        vectors_of() are the people's vectors (people, 2, dim) at this step.
        Source of prior preservation: Ruiz et al., "DreamBooth" (2023).
        """
        pipe = model.pipe
        with worn(pipe, unet):
            denoiser = get_denoiser(pipe)
        generators = [torch.Generator().manual_seed(0) for _ in people]
        faces = [person.faces for person in people]
        method = CelebBasisMethod()
        card = model_card(pipe)
        recipe = Recipe().completed(method.name, card)
        pictures: list[Any] = [
            person_images(denoiser, own, method, recipe, card, g) for own, g in zip(faces, generators, strict=True)
        ]
        # The class takes part as if it were one more person.
        pictures.append(model.prior)
        generators.append(torch.Generator().manual_seed(0))
        tokens = [f"<person-{i}>" for i in range(len(people))]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        weight = torch.tensor([1.0] * len(people) + [self.prior_weight], device=pipe.device)
        first = [first_quantile(g) for g in generators]
        yield
        for step in range(self.steps):
            quantiles = golden_ratio_sequence(first, step * self.batch, self.batch)
            batch = [
                own[torch.randint(len(own), (self.batch,), generator=g)].to(pipe.device)
                for own, g in zip(pictures, generators, strict=True)
            ]
            with torch.enable_grad(), worn(pipe, unet):
                with placeholders(pipe, dict(zip(tokens, vectors_of(), strict=True))):
                    states, pooled = encode(pipe, token_ids(pipe, [*map(FACE_CROP.format, tokens), CLASS]))
                losses = denoiser.predict(torch.stack(batch), states, pooled, generators, quantiles).error()
                (losses * weight).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            yield


def _copy(unet: nn.Module) -> nn.Module:
    return copy.deepcopy(unet).requires_grad_(False)


def _trained(unet: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in unet.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class DreamBooth(OwnUNet):
    """The whole UNet is fine-tuned to an unused name (Ruiz et al., 2023)."""

    steps: int = 400
    learning_rate: float = 3e-4

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the start and every step."""
        unet = _copy(model.pipe.unet).requires_grad_(True)
        vectors = model.identifiers(len(people))
        trained = _trained(unet)
        parameters = sum(p.numel() for p in trained.values())
        for _ in self.train(model, people, unet, lambda: vectors, [{"params": list(unet.parameters())}]):
            yield Learnt(vectors, parameters, unet, trained)


@dataclass(frozen=True)
class DreamBoothLoRA(OwnUNet):
    """DreamBooth with low-rank adapters on the UNet's attention (Hu et al., 2021), by peft."""

    steps: int = 400
    learning_rate: float = 1e-3
    rank: int = 4

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the start and every step."""
        unet = _copy(model.pipe.unet)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            unet.add_adapter(
                LoraConfig(
                    r=self.rank,
                    lora_alpha=self.rank,
                    init_lora_weights="gaussian",
                    target_modules=["to_q", "to_k", "to_v", "to_out.0"],
                )
            )
        vectors = model.identifiers(len(people))
        weights = get_peft_model_state_dict(unet)
        trained = [p for p in unet.parameters() if p.requires_grad]
        parameters = sum(p.numel() for p in trained)
        for _ in self.train(model, people, unet, lambda: vectors, [{"params": trained}]):
            yield Learnt(vectors, parameters, unet, weights)


@dataclass(frozen=True)
class CustomDiffusion(OwnUNet):
    """Keys and values of the cross-attention, and one vector, the last name (Kumari et al., 2023)."""

    vector_learning_rate: float = 5e-3
    people: ClassVar[Mapping[int, int]] = {1: 50, 2: 20}

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the start and every step."""
        unet = _copy(model.pipe.unet)
        for name, weight in unet.named_parameters():
            weight.requires_grad_("attn2.to_k" in name or "attn2.to_v" in name)
        trained = _trained(unet)
        free = model.mean[1].repeat(len(people), 1).requires_grad_()

        def vectors_of() -> Tensor:
            return torch.stack([model.mean[0].expand_as(free), free], dim=1)

        groups = [
            {"params": [p for p in unet.parameters() if p.requires_grad]},
            {"params": [free], "lr": self.vector_learning_rate, "weight_decay": 0},
        ]
        parameters = sum(p.numel() for p in trained.values()) + free[0].numel()
        for _ in self.train(model, people, unet, vectors_of, groups):
            yield Learnt(vectors_of().detach(), parameters, unet, trained)
