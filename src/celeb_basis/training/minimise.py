"""The steps that minimise the denoising loss over a few free numbers, and over nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from ..errors import ModelError
from ..models.denoiser import Prediction, frozen
from ..models.encoders import placeholders
from ..models.families import denoiser_of
from ..models.memory import pictures_at_once
from ..models.pipeline import Pipeline
from .pictures import TrainingPictures

Loss = Callable[[Prediction, Callable[[], Tensor]], Tensor]
GOLDEN = (5**0.5 - 1) / 2
BELOW_ONE = 1 - 2**-24  # the last number before it in float32


def minimise(
    pipe: Pipeline,
    pictures: Sequence[TrainingPictures],
    free: Tensor,
    vectors_of: Callable[[Tensor], Tensor],
    generators: Sequence[torch.Generator],
    *,
    max_train_steps: int,
    learning_rate: float,
    lr_scheduler: Literal["constant", "cosine"],
    train_batch_size: int,
    templates: Sequence[str],
    loss: Loss,
) -> Iterator[float]:
    """Take AdamW steps on `free`, in place, towards less loss; yield the mean loss of each.

    pictures and generators: of each person; a person meets only their own, so people do not mix.
    free: (people, ...), requires grad; vectors_of(free) are the people's vectors (people, 2, dim).
    loss: of `Method.loss`.

    A person's timesteps, one after the other, are spread evenly over their distribution.
    So many people go through the denoiser at once as memory allows, and at least one.
    Raises ModelError where the loss is not a number.
    """
    tokens = [f"<person-{i}>" for i in range(len(pictures))]
    weights = [p for part in pipe.components.values() if isinstance(part, nn.Module) for p in part.parameters()]
    denoiser = denoiser_of(pipe)
    optimiser = torch.optim.AdamW([free], lr=learning_rate, weight_decay=0)
    rate = get_scheduler(lr_scheduler, optimiser, num_warmup_steps=0, num_training_steps=max_train_steps)
    # Gradients of a half-precision model would round to zero: they travel multiplied.
    scale = 1024.0 if denoiser.dtype == torch.float16 else 1.0
    with placeholders(pipe, dict(zip(tokens, vectors_of(free.detach()), strict=True))):
        denoiser.check_lengths([template.format(tokens[0]) for template in templates])

    at_once = max(1, pictures_at_once(denoiser) // train_batch_size)
    everybody = list(range(len(pictures)))
    groups = [everybody[i : i + at_once] for i in everybody[::at_once]]
    first = [first_quantile(g) for g in generators]
    for step in range(max_train_steps):
        quantiles = spread_evenly(first, step * train_batch_size, train_batch_size)
        index, captions = [], []
        for own, token, g in zip(pictures, tokens, generators, strict=True):
            index.append(torch.randint(len(own), (train_batch_size,), generator=g))
            captions.append(templates[int(torch.randint(len(templates), (), generator=g))].format(token))
        total, gradient = 0.0, torch.zeros_like(free)
        for group in groups:
            batch = torch.stack([pictures[i][index[i]] for i in group])
            face_weights = partial(_stacked, [partial(pictures[i].face_weights, index[i]) for i in group])
            with torch.enable_grad(), frozen(weights):
                with placeholders(pipe, dict(zip(tokens, vectors_of(free), strict=True))):
                    states, pooled = denoiser.read([captions[i] for i in group])
                prediction = denoiser.predict(batch, states, pooled, [generators[i] for i in group], quantiles[group])
                losses = loss(prediction, face_weights)
                gradient += torch.autograd.grad(losses.sum() * scale, [free])[0]
            total += losses.detach().sum().item()
        free.grad = gradient / scale
        if not free.grad.isfinite().all():
            raise ModelError(f"the loss of {denoiser.dtype} is not a number in this model: load it in float32")
        optimiser.step()
        rate.step()
        free.grad = None
        yield total / len(pictures)


def first_quantile(generator: torch.Generator) -> float:
    """Where a person's timesteps begin in their distribution: a random number in 0..1."""
    return int(torch.randint(2**53, (), generator=generator)) / 2**53


def spread_evenly(first: Sequence[float], start: int, count: int) -> Tensor:
    """Numbers (people, count) in 0..1: those from `start` on of each person's sequence, which begins at `first`.

    Each is the golden ratio's fraction farther than the one before, modulo 1, so any piece of the sequence is spread
    evenly, whatever the size of a batch.
    """
    # In Python's numbers, as some devices have no float64 and float32 rounds long sequences.
    numbers = [[(begun + GOLDEN * k) % 1 for k in range(start, start + count)] for begun in first]
    return torch.tensor(numbers).clamp_max(BELOW_ONE)


def _stacked(parts: Sequence[Callable[[], Tensor]]) -> Tensor:
    return torch.stack([part() for part in parts])
