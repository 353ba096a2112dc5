"""What each way of putting a person into the model learns, step by step, from the same photograph."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize
from work import Person

from celeb_basis import CelebBasis, Identity, InstantMap, Recipe, fit_steps, generate, load_pipeline, miniature
from celeb_basis.miniature.captions import FACE_CROP
from celeb_basis.models.denoiser import denoising_loss, noise_scheduler
from celeb_basis.models.encoders import encode, name_rows, placeholders, token_ids
from celeb_basis.training.fit import minimise, person_latents
from celeb_basis.training.pictures import encode_pictures

CLASS = "a photo of person"  # the prompt of prior preservation


# Weights become constants of the compiled code, which is for drawing only.
torch._inductor.config.freezing = True


class Model:
    """The miniature with what contenders share; `class_pictures` are drawn once for all people."""

    def __init__(self, device: str = "cpu", class_pictures: int = 64, compiled: bool = False) -> None:
        self.pipe = load_pipeline("miniature", device=device, dtype=torch.float32)
        # A third faster on a CPU than the usual order, in large batches.
        self.pipe.unet.to(memory_format=torch.channels_last)
        self.compiled = torch.compile(self.pipe.unet, dynamic=False) if compiled else None
        self.basis = CelebBasis.load(miniature.basis())
        self.instant = InstantMap.load(miniature.instant())
        self.class_pictures = class_pictures
        self.fitted: dict[tuple[Contender, tuple[int, ...]], Learnt] = {}  # people who are drawn in several ways

    @cached_property
    def prior(self) -> Tensor:
        """Latents (n, c, h, w) of what the model itself draws of the class."""
        pictures = generate(self.pipe, CLASS, num_images_per_prompt=self.class_pictures, seed=10**6, batch_size=16)
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        return encode_pictures(self.pipe, pixels.permute(0, 3, 1, 2) / 127.5 - 1)

    def faster(self, pictures: int, batch_size: int) -> nn.Module | None:
        """The compiled UNet, where it would not have to be compiled once more for a last, smaller batch."""
        return None if pictures % batch_size else self.compiled

    @property
    def mean(self) -> Tensor:
        """Vectors (2, dim) of the mean celebrity."""
        return self.basis.inverse_transform(torch.zeros_like(self.basis.sigma))

    @cached_property
    def celebrities(self) -> Tensor:
        """Vectors (n, 2, dim) of all celebrities."""
        return name_rows(self.pipe, self.basis.names)[0]

    def identifiers(self, count: int) -> Tensor:
        """Vectors (count, 2, dim) of "V person": V is a first name nobody has, as seldom words are all zeros here."""
        drawn = [Identity.sample(self.basis, "<v>", torch.Generator().manual_seed(i)).vectors[0] for i in range(count)]
        table = self.pipe.text_encoder.get_input_embeddings().weight
        word = table[self.pipe.tokenizer.convert_tokens_to_ids("person</w>")].detach().cpu()
        return torch.stack([torch.stack([v, word]) for v in drawn])


@dataclass(frozen=True, eq=False)
class Learnt:
    """People as a contender knows them after some step; a UNet of their own is live, later steps change it."""

    vectors: Tensor  # (people, 2, dim), detached
    parameters: int = 0  # learnt for one person, or for all who share a UNet
    unet: nn.Module | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)  # of that UNet, that a file has to hold

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
    """The pipeline draws and learns with another UNet inside the block; its own is not touched."""
    own = pipe.unet
    try:
        pipe.unet = own if unet is None else unet
        yield
    finally:
        pipe.unet = own


class Fixed:
    """What needs no photograph and no step."""

    steps: ClassVar[int] = 0
    side_by_side: ClassVar[bool] = True  # several people in one fit, each as if alone
    regions: ClassVar[bool] = False  # two people are kept apart while they are drawn


@dataclass(frozen=True)
class Celebrities(Fixed):
    """The model's own people, by their own names: the ceiling."""

    regions: bool = False

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        yield Learnt(name_rows(model.pipe, [person.name for person in people])[0])


@dataclass(frozen=True)
class MeanPerson(Fixed):
    """Nobody: the floor."""

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        yield Learnt(model.mean.expand(len(people), -1, -1))


@dataclass(frozen=True)
class Ours:
    """The library's own fit, as its users call it: coefficients in the celebrities' own spread."""

    steps: int = Recipe.max_train_steps
    learning_rate: float | None = Recipe.learning_rate
    batch: int = Recipe.train_batch_size
    init: str = Recipe.init
    momentum: float | None = Recipe.momentum
    max_radius: float = Recipe.max_radius
    company: float = Recipe.company
    regions: bool = False

    @property
    def side_by_side(self) -> bool:
        return not self.company

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        recipe = Recipe(
            max_train_steps=self.steps, learning_rate=self.learning_rate, train_batch_size=self.batch,
            init=self.init, momentum=self.momentum, max_radius=self.max_radius,
            company=self.company,
        )  # fmt: skip
        faces = [person.faces for person in people]
        for step in fit_steps(model.pipe, model.basis, faces, recipe, instant=model.instant):
            learnt = step.coefficients[0].numel() if self.steps else 0
            yield Learnt(model.basis.inverse_transform(step.coefficients), learnt)


@dataclass(frozen=True)
class Vectors:
    """Free numbers that become a person's two vectors, under the library's own loss."""

    steps: int = 400
    learning_rate: float = 5e-3
    batch: int = 2
    side_by_side: ClassVar[bool] = True
    regions: ClassVar[bool] = False

    def minimise(
        self, model: Model, people: Sequence[Person], free: Tensor, vectors_of: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor]:
        """Yield free (people, ...) before the first step and after each, in place."""
        generators = [torch.Generator().manual_seed(0) for _ in people]
        latents = [person_latents(model.pipe, p.faces, Recipe(), g) for p, g in zip(people, generators, strict=True)]
        free = free.requires_grad_()
        yield free.detach()
        for _ in minimise(
            model.pipe, latents, free, vectors_of, generators, max_train_steps=self.steps,
            learning_rate=self.learning_rate, train_batch_size=self.batch, templates=(FACE_CROP,),
        ):  # fmt: skip
            yield free.detach()


@dataclass(frozen=True)
class PaperRecipe(Vectors):
    """The recipe of Yuan et al. (2023): a linear layer over the face feature, leaky ReLU, unit norm, an average."""

    momentum: float = 0.99

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        features = _features(people)
        sizes = (features.shape[1], model.basis.sigma.numel())

        def coefficients_of(free: Tensor) -> Tensor:
            return normalize(leaky_relu(_perceptron(free, features, sizes), 0.2).unflatten(-1, (2, -1)), dim=-1)

        start = _layers(sizes, len(people))
        average = coefficients_of(start)
        steps = self.minimise(model, people, start, lambda free: model.basis.inverse_transform(coefficients_of(free)))
        for step, free in enumerate(steps):
            # There is little to average in the first steps.
            decay = min(self.momentum, (1 + step) / (10 + step))
            average = torch.lerp(coefficients_of(free), average, decay)
            yield Learnt(model.basis.inverse_transform(average), free[0].numel())


@dataclass(frozen=True)
class TextualInversion(Vectors):
    """Free vectors under the same loss (Gal et al., 2022), from the mean celebrity: both, or the last name alone."""

    vectors: int = 2

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        fixed = model.mean[: 2 - self.vectors].expand(len(people), -1, -1)  # the first name of nobody, or nothing

        def vectors_of(free: Tensor) -> Tensor:
            return torch.cat([fixed, free], dim=1)

        start = model.mean[2 - self.vectors :].repeat(len(people), 1, 1)
        for free in self.minimise(model, people, start, vectors_of):
            yield Learnt(vectors_of(free), free[0].numel())


@dataclass(frozen=True)
class CrossInitialization(Vectors):
    """Textual Inversion that starts from what the text encoder makes of the mean celebrity (Pang et al., 2024).

    Without its regulariser, a pull to the start with weight 1e-5.
    """

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        pipe = model.pipe
        with torch.no_grad(), placeholders(pipe, {"<v>": model.mean}):
            [ids] = token_ids(pipe, [FACE_CROP.format("<v>")])
            own = torch.isin(ids[0], torch.tensor(pipe.tokenizer.convert_tokens_to_ids(["<v>", "<v>_1"])).to(ids))
            start = encode(pipe, [ids])[0][0, own].float().cpu()
        for free in self.minimise(model, people, start.repeat(len(people), 1, 1), lambda free: free):
            yield Learnt(free.clone(), free[0].numel())


@dataclass(frozen=True)
class StableIdentity(Vectors):
    """Two layers over the face feature, brought to the celebrities' mean and spread by AdaIN (Wang et al., 2024).

    Their masked loss, and features of several layers of a face encoder, are left out.
    """

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        features = _features(people)
        mean, spread = model.celebrities.mean(0), model.celebrities.std(0)
        sizes = (features.shape[1], features.shape[1], mean.numel())

        def vectors_of(free: Tensor) -> Tensor:
            plain = _perceptron(free, features, sizes).unflatten(-1, mean.shape)
            return nn.functional.layer_norm(plain, plain.shape[-1:]) * spread + mean

        for free in self.minimise(model, people, _layers(sizes, len(people)), vectors_of):
            yield Learnt(vectors_of(free), free[0].numel())


def _features(people: Sequence[Person]) -> Tensor:
    return torch.stack([person.faces[0].feature for person in people])


def _layers(sizes: Sequence[int], people: int) -> Tensor:
    """Weights and biases of linear layers as nn.Linear starts them, flat, the same for everybody: (people, n)."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        (torch.rand(outputs * (inputs + 1), generator=generator) * 2 - 1) / math.sqrt(inputs)
        for inputs, outputs in pairwise(sizes)
    ]
    return torch.cat(parts).repeat(people, 1)


def _perceptron(free: Tensor, features: Tensor, sizes: Sequence[int]) -> Tensor:
    """Each person's features (people, d) through their own layers, leaky ReLU between them."""
    pairs = list(pairwise(sizes))
    for i, part in enumerate(free.split([outputs * (inputs + 1) for inputs, outputs in pairs], dim=1)):
        inputs, outputs = pairs[i]
        layer = part.unflatten(1, (outputs, inputs + 1))
        features = leaky_relu(features, 0.2) if i else features
        features = torch.einsum("poi,pi->po", layer[..., :-1], features) + layer[..., -1]
    return features


@dataclass(frozen=True)
class OwnUNet:
    """Weights of the UNet, in a copy of it; several people are learnt jointly in one."""

    steps: int = 200
    learning_rate: float = 1e-4
    batch: int = 2
    prior_weight: float = 1.0
    side_by_side: ClassVar[bool] = False
    regions: ClassVar[bool] = False

    def train(
        self, model: Model, people: Sequence[Person], unet: nn.Module, vectors_of: Callable[[], Tensor], groups: Any
    ) -> Iterator[None]:
        """Yield before the first step and after each that AdamW takes on `groups`, with prior preservation.

        vectors_of() are the people's vectors (people, 2, dim) at this step.
        Source of prior preservation: Ruiz et al., "DreamBooth" (2023).
        """
        pipe, prior = model.pipe, model.prior
        generators = [torch.Generator().manual_seed(0) for _ in people]
        latents = [person_latents(pipe, p.faces, Recipe(), g) for p, g in zip(people, generators, strict=True)]
        generators.append(torch.Generator().manual_seed(0))
        pictures = [*latents, prior]
        tokens = [f"<person-{i}>" for i in range(len(people))]
        scheduler = noise_scheduler(pipe)
        optimiser = torch.optim.AdamW(groups, lr=self.learning_rate)
        weight = torch.tensor([1.0] * len(people) + [self.prior_weight], device=pipe.device)
        yield
        for _ in range(self.steps):
            batch = [
                each[torch.randint(len(each), (self.batch,), generator=g)].to(pipe.device)
                for each, g in zip(pictures, generators, strict=True)
            ]
            with torch.enable_grad(), worn(pipe, unet):
                with placeholders(pipe, dict(zip(tokens, vectors_of(), strict=True))):
                    states, pooled = encode(pipe, token_ids(pipe, [*map(FACE_CROP.format, tokens), CLASS]))
                # The class takes part as if it were one more person.
                losses = denoising_loss(pipe, scheduler, torch.stack(batch), states, pooled, generators)
                (losses * weight).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
            yield


def _copy(unet: nn.Module) -> nn.Module:
    return copy.deepcopy(unet).requires_grad_(False)


def _trained(unet: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in unet.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class DreamBooth(OwnUNet):
    """The whole UNet is fine-tuned to an unused name (Ruiz et al., 2023)."""

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        unet = _copy(model.pipe.unet).requires_grad_(True)
        vectors = model.identifiers(len(people))
        trained = _trained(unet)
        parameters = sum(p.numel() for p in trained.values())
        for _ in self.train(model, people, unet, lambda: vectors, [{"params": list(unet.parameters())}]):
            yield Learnt(vectors, parameters, unet, trained)


@dataclass(frozen=True)
class DreamBoothLoRA(OwnUNet):
    """DreamBooth with low-rank adapters on the UNet's attention (Hu et al., 2021), by peft."""

    learning_rate: float = 1e-3
    rank: int = 4

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        unet = _copy(model.pipe.unet)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            unet.add_adapter(
                LoraConfig(
                    r=self.rank, lora_alpha=self.rank, init_lora_weights="gaussian",
                    target_modules=["to_q", "to_k", "to_v", "to_out.0"],
                )
            )  # fmt: skip
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

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
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


Contender = Celebrities | MeanPerson | Ours | Vectors | OwnUNet


def learnt_alike(contender: Contender) -> Contender:
    """The contender that learns the same and is drawn without regions."""
    return replace(contender, regions=False) if contender.regions else contender


# Settings are the best of those tried on people for tuning, at three or four numbers of steps. Ten people: Textual
# Inversion with 2 vectors at 2e-3 and 5e-3; with 1 vector, Cross Initialization and StableIdentity at the rate below
# alone. Three people: LoRA at 1e-3 and 2e-3, Custom Diffusion at 1e-4 and 5e-4, DreamBooth at 1e-4 (3e-4 on one
# person). The paper's own are as published. Textual Inversion stands there with more steps as well: 25 are best on the
# people for tuning, but of those reported the few whose fit is followed still gain.
CONTENDERS: dict[str, Contender] = {
    "celebrities": Celebrities(),
    "mean person": MeanPerson(),
    "Celeb Basis, instant": Ours(steps=0),
    "Celeb Basis, refined": Ours(),
    "the paper's recipe": PaperRecipe(),
    "Textual Inversion, 1 vector": TextualInversion(vectors=1, steps=25),
    "Textual Inversion, 1 vector, 200 steps": TextualInversion(vectors=1, steps=200),
    "Textual Inversion, 2 vectors": TextualInversion(vectors=2, steps=25),
    "Textual Inversion, 2 vectors, 100 steps": TextualInversion(vectors=2, steps=100),
    "Cross Initialization": CrossInitialization(steps=200, learning_rate=5e-2),
    "StableIdentity": StableIdentity(steps=200, learning_rate=1e-3),
    "DreamBooth": DreamBooth(),
    "DreamBooth-LoRA": DreamBoothLoRA(),
    "Custom Diffusion": CustomDiffusion(),
}
# What matters to two people in one picture only: nobody is drawn alone.
PAIRS: dict[str, Contender] = {
    "celebrities, in regions": Celebrities(regions=True),
    "Celeb Basis, refined, in regions": Ours(regions=True),
    "Celeb Basis, refined in company": Ours(company=0.3),
}
