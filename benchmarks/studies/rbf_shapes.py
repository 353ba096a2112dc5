"""Searches the shapes of RBF-Solver: in each step, the one that comes nearest to pictures drawn with many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from celeb_basis.backend.rbf_solver import RBFSolverScheduler

# From flat to narrow: gamma is 1 / shape, log gamma from 2 to -2.
SHAPES = (0.0, *np.exp(np.linspace(-2, 2, 33)).tolist())


class Searching(RBFSolverScheduler):  # type: ignore[misc]
    """Takes in each step the shape that leads nearest to `targets`, samples at the ends of the steps, and notes it."""

    targets: Sequence[Tensor]
    found: list[list[float]]

    def _between(
        self, step: int, sample: Tensor, known: Sequence[int], pictures: Sequence[Tensor], shape: float
    ) -> Tensor:
        tried = [super(Searching, self)._between(step, sample, known, pictures, each) for each in SHAPES]
        errors = [float((one - self.targets[step]).square().mean()) for one in tried]
        best = int(np.argmin(errors))
        corrects = known[0] == step + 1
        self.found[step][corrects] = SHAPES[best]
        return tried[best]


def search(
    draw: Callable[..., Tensor], config: Mapping[str, Any], counts: Sequence[int], reference: int
) -> dict[str, list[tuple[float, float]]]:
    """Shapes by number of steps, as RBFSolverScheduler is configured.

    draw: gives the latents of the same pictures under a scheduler, a number of steps and a callback of diffusers.
    """
    passed: list[Tensor] = []

    def keep(pipe: Any, step: int, timestep: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        passed.append(values["latents"])
        return {}

    draw(scheduler := UniPCMultistepScheduler.from_config(config), reference, keep)
    levels = [*scheduler.timesteps.tolist()[1:], 0]
    found = {}
    for count in counts:
        searching = Searching.from_config(config)
        searching.set_timesteps(count)
        ends = [*searching.timesteps.tolist()[1:], 0]
        searching.targets = [at(end, levels, passed) for end in ends]
        searching.found = [[0.0, 0.0] for _ in range(count)]
        draw(searching, count)
        found[str(count)] = [(p, c) for p, c in searching.found]
    return found


def at(timestep: float, levels: Sequence[float], samples: Sequence[Tensor]) -> Tensor:
    """The sample at a timestep, between the two that are nearest."""
    i = max(1, next(i for i, level in enumerate(levels) if level <= timestep))
    share = (timestep - levels[i]) / (levels[i - 1] - levels[i])
    return torch.lerp(samples[i], samples[i - 1], share)
