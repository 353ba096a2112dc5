"""Muon (Jordan et al., 2024): momentum whose matrices are orthogonalised before each step, in the fast precision."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from .precision import fast_dtype


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """The matrix with all its singular values brought near 1, by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(fast_dtype(matrix.device.type))
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """For matrices and convolutions; steps have the size AdamW's would have at the same learning rate.

    Several processes share the work: each orthogonalises a part of the matrices and all exchange the results.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ):
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for group in self.param_groups:
            parameters = sorted((p for p in group["params"] if p.grad is not None), key=lambda p: (p.numel(), p.shape))
            updates = []
            for i, parameter in enumerate(parameters):
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                if i % size == rank:
                    ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)
                    updates.append(orthogonalised(ahead).flatten())
                else:
                    updates.append(torch.zeros(parameter.numel(), device=parameter.device))
            flat = torch.cat(updates)
            if size > 1:
                dist.all_reduce(flat)
            for parameter, update in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                length = 0.2 * max(parameter.flatten(1).shape) ** 0.5 * group["lr"]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(length * update.view(parameter.shape))
