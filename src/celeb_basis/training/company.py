"""Company: pictures of two people side by side, under captions that name both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .pictures import TrainingLatents, pair_picture


class Company:
    """Shows a person of a job beside another, or beside a companion whom the model knows, in a share of the steps.

    crops: of the people of the job and then of the companions; companions: the latter's names in a prompt.
    A person's pictures with others are about `num_pictures` in all, drawn on a canvas as `pair_picture` says.
    """

    def __init__(
        self,
        pipe: Any,
        crops: Sequence[Sequence[Image.Image]],
        companions: Sequence[str],
        *,
        share: float,
        templates: Sequence[str],
        num_pictures: int,
        seed: int,
        **canvas: Any,
    ) -> None:
        self._pipe, self._crops, self._companions = pipe, crops, companions
        self._share, self._templates, self._seed, self._canvas = share, templates, seed, canvas
        # Pictures of two are met by both, so that each of n others may have 2 / n of them, on one side or the other.
        self._num_pictures = max(1, num_pictures // (len(crops) - 1))
        self._pictures: dict[tuple[int, int], TrainingLatents] = {}

    def captions(self, tokens: Sequence[str]) -> list[str]:
        """The longest captions there can be, for people of these tokens."""
        others = [tokens[-1], *self._companions]
        return [template.format(tokens[0], other) for template in self._templates for other in others]

    def met(
        self, person: int, tokens: Sequence[str], batch: int, generator: torch.Generator
    ) -> tuple[Tensor, str] | None:
        """Latents (batch, c, h, w) of a person beside somebody, and their caption; None for a step alone."""

        def pick(n: int) -> int:
            return int(torch.randint(n, (), generator=generator))

        if torch.rand((), generator=generator).item() >= self._share:
            return None
        other = pick(len(self._crops) - 1)
        other += other >= person
        left, right = (person, other) if pick(2) else (other, person)
        if (left, right) not in self._pictures:
            draw = partial(pair_picture, self._crops[left], self._crops[right], **self._canvas)
            seeds = torch.Generator().manual_seed(self._seed)
            self._pictures[left, right] = TrainingLatents(self._pipe, draw, self._num_pictures, seeds)
        pictures = self._pictures[left, right]
        latents = pictures[torch.randint(len(pictures), (batch,), generator=generator)]
        names = [*tokens, *self._companions]
        return latents, self._templates[pick(len(self._templates))].format(names[left], names[right])
