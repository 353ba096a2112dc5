"""One training loop for every network: seeded, logged, resumable after a kill, with an averaged copy of the weights."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from .muon import Muon

Loss = Callable[[int], tuple[Tensor, dict[str, float]]]


def train(
    name: str,
    module: nn.Module,
    loss: Loss,
    folder: Path,
    *,
    steps: int,
    learning_rate: float,
    batch_size: int,
    weight_decay: float = 0.01,
    warmup: int = 100,
    ema: float = 0.998,
    minutes: float = float("inf"),
    matrices: Callable[[str], bool] = lambda name: False,
    save_every: float = 120,
) -> tuple[dict[str, Tensor], int]:
    """Minimise `loss(step)` with a cosine schedule over `steps` or `minutes`, whichever ends first.

    Under `torchrun` every process takes its share of each batch; `batch_size` is that of all together.
    Parameters whose names `matrices` accepts are learnt with Muon, the others with AdamW.
    The checkpoint `folder/name.ckpt.safetensors` is written every `save_every` seconds and at the end; a second call
    continues from it. Returns the averaged weights and the number of pictures seen.
    """
    rank, size = int(os.environ.get("RANK", "0")), processes()
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    checkpoint = folder / f"{name}.ckpt.safetensors"
    curve = (folder / f"{name}.jsonl").open("a")
    named = [(key, p) for key, p in module.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [p for key, p in named if not matrices(key)],
            learning_rate,
            betas=(0.9, 0.98),
            weight_decay=weight_decay,
        )
    ]
    if some := [p for key, p in named if matrices(key)]:
        optimizers.append(Muon(some, learning_rate, weight_decay=weight_decay))
    average = {key: value.detach().clone() for key, value in module.state_dict().items()}
    start, spent = 0, 0.0
    if checkpoint.exists():
        start, spent = _resume(checkpoint, module, optimizers, parameters, average)

    def save(step: int) -> None:
        state = {f"weights.{key}": value for key, value in module.state_dict().items()}
        state |= {f"average.{key}": value for key, value in average.items()}
        for optimizer in optimizers:
            for i, parameter in enumerate(parameters):
                state |= {f"optimizer.{i}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
        temporary = checkpoint.with_suffix(".part")
        metadata = {"step": str(step), "seconds": str(spent + time.monotonic() - began)}
        save_file({key: value.contiguous() for key, value in state.items()}, temporary, metadata)
        temporary.replace(checkpoint)

    began = saved = time.monotonic()
    shown: dict[str, float] = {}
    step = start
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=name, mininterval=5, disable=rank > 0)
    for step in bar:
        seconds = spent + time.monotonic() - began
        progress = _agreed(min(1.0, max(step / steps, seconds / (60 * minutes))), size)
        rate = learning_rate * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + _cos(progress)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        torch.manual_seed(step * size + rank)
        value, parts = loss(step)
        module.zero_grad(set_to_none=True)
        value.backward()
        if size > 1:
            _average_gradients(parameters, size)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        decay = min(ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for key, weight in module.state_dict().items():
                if weight.is_floating_point():
                    average[key].lerp_(weight, 1 - decay)
                else:
                    average[key].copy_(weight)
        for key, part in (parts | {"loss": value.item()}).items():
            shown[key] = shown.get(key, part) * 0.98 + part * 0.02
        if step % 50 == 0 and rank == 0:
            bar.set_postfix({key: f"{part:.4f}" for key, part in shown.items()})
            record = {"step": step, "pictures": (step + 1) * batch_size, "seconds": round(seconds)}
            curve.write(json.dumps(record | shown) + "\n")
            curve.flush()
        if time.monotonic() - saved > save_every and rank == 0:
            save(step + 1)
            saved = time.monotonic()
        if progress >= 1:
            break
    if rank == 0:
        save(step + 1)
    curve.close()
    return average, (step + 1) * batch_size


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return os.environ.get("RANK", "0") == "0"


def _agreed(progress: float, size: int) -> float:
    """The first process's clock, so that all take the same step and stop together."""
    if size == 1:
        return progress
    shared = torch.tensor([progress], dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)


def _average_gradients(parameters: list[Tensor], size: int) -> None:
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad.copy_(gradient.view(parameter.shape) / size)


def _cos(progress: float) -> float:
    return float(torch.cos(torch.tensor(progress * torch.pi)))


def _resume(checkpoint, module, optimizers, parameters, average) -> tuple[int, float]:
    with safe_open(checkpoint, "pt") as file:
        metadata = file.metadata()
    state = load_file(checkpoint, device=str(parameters[0].device))
    module.load_state_dict({k.removeprefix("weights."): v for k, v in state.items() if k.startswith("weights.")})
    average.update({k.removeprefix("average."): v for k, v in state.items() if k.startswith("average.")})
    owner = {id(p): optimizer for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, i, slot = key.split(".")
            parameter = parameters[int(i)]
            owner[id(parameter)].state[parameter][slot] = value
    return int(metadata["step"]), float(metadata["seconds"])
