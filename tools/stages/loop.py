"""One training loop for every network: seeded, logged, resumable after a kill, with an averaged copy of the weights."""

from __future__ import annotations

import json
import math
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
    learning_rate: float,
    batch_size: int,
    steps: int | None = None,
    minutes: float = math.inf,
    cooldown_minutes: float = 0.0,
    weight_decay: float = 0.01,
    warmup: int = 100,
    ema: float = 0.9995,
    matrices: Callable[[str], bool] = lambda name: False,
    save_every: float = 120,
    after_saving: Callable[[dict[str, Tensor], int], None] = lambda average, pictures: None,
) -> tuple[dict[str, Tensor], int]:
    """Minimise `loss(step)`; returns the averaged weights and the number of pictures seen.

    With `steps` the rate falls as a cosine over all of them. Without, the end is not known: the rate stays as it is and
    the average over a ninth of all steps so far stands for what a falling rate would give; a call with
    `cooldown_minutes` lets it fall for so long, in a checkpoint of its own, and the first goes on as if nothing was.

    Under `torchrun` every process takes its share of each batch; `batch_size` is that of all together.
    Parameters whose names `matrices` accepts are learnt with Muon, the others with AdamW.
    The checkpoint `folder/name.ckpt.safetensors` is written every `save_every` seconds and at the end; a second call
    goes on from it, warming up again if it holds no state of the optimizers.
    """
    rank, size = int(os.environ.get("RANK", "0")), processes()
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    checkpoint = folder / f"{name}.ckpt.safetensors"
    target = folder / f"{name}-cooled.ckpt.safetensors" if cooldown_minutes else checkpoint
    curve = (folder / f"{target.name.split('.')[0]}.jsonl").open("a")
    named = [(key, p) for key, p in module.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([p for key, p in named if not matrices(key)], learning_rate, betas=(0.9, 0.98),
                          weight_decay=weight_decay)
    ]  # fmt: skip
    if some := [p for key, p in named if matrices(key)]:
        optimizers.append(Muon(some, learning_rate, weight_decay=weight_decay))
    average = {key: value.detach().clone() for key, value in module.state_dict().items()}
    start, spent, warm = 0, 0.0, False
    if (source := target if target.exists() else checkpoint).exists():
        start, spent, warm = _resume(source, module, optimizers, parameters, average)
    cool_from = start

    def save(step: int) -> None:
        state = {f"weights.{key}": value for key, value in module.state_dict().items()}
        state |= {f"average.{key}": value for key, value in average.items()}
        for optimizer in optimizers:
            for i, parameter in enumerate(parameters):
                state |= {f"optimizer.{i}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
        temporary = target.with_suffix(".part")
        metadata = {"step": str(step), "seconds": str(spent + time.monotonic() - began)}
        # Copies, as the file holds no tensor twice, and networks that learn together share some.
        save_file(
            {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()},
            temporary,
            metadata,
        )
        temporary.replace(target)
        after_saving(average, step * batch_size)

    began = saved = time.monotonic()
    shown: dict[str, float] = {}
    step = start
    bar = tqdm(initial=start, total=steps, desc=name, mininterval=10, disable=rank > 0)
    while steps is None or step < steps:
        seconds = time.monotonic() - began
        cooled = seconds / (60 * cooldown_minutes) if cooldown_minutes else 0.0
        cooled, over = _agreed([cooled, float(cooled >= 1 or seconds >= 60 * minutes)], size)
        if over:
            break
        rate = learning_rate * min(1.0, (step + 1 - (start if not warm else 0)) / warmup) * max(0.0, 1 - cooled)
        if steps is not None:
            rate *= 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
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
        # While the rate falls a shorter average follows it.
        window = step - cool_from + 1 if cooldown_minutes else step + 1
        decay = min(ema, window / (window + 9))
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
            record = {"step": step, "pictures": (step + 1) * batch_size, "seconds": round(spent + seconds)}
            curve.write(json.dumps(record | {key: round(part, 5) for key, part in shown.items()}) + "\n")
            curve.flush()
        step += 1
        bar.update()
        if time.monotonic() - saved > save_every and rank == 0:
            save(step)
            saved = time.monotonic()
    if rank == 0:
        save(step)
    curve.close()
    bar.close()
    return average, step * batch_size


def compile_blocks(module: nn.Module, *kinds: type[nn.Module]) -> None:
    """Compile every block of these kinds, each alone.

    The whole UNet, compiled at once, gave its attention no gradients (torch 2.13 on CPUs).
    """
    for block in module.modules():
        if isinstance(block, kinds):
            block.compile()


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return os.environ.get("RANK", "0") == "0"


def _agreed(values: list[float], size: int) -> list[float]:
    """The first process's clock, so that all take the same step and stop together."""
    if size == 1:
        return values
    shared = torch.tensor(values, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return shared.tolist()


def _average_gradients(parameters: list[Tensor], size: int) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, whole in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(whole.view(gradient.shape) / size)


def _resume(checkpoint, module, optimizers, parameters, average) -> tuple[int, float, bool]:
    """Steps and seconds so far, and whether the optimizers know their state."""
    with safe_open(checkpoint, "pt") as file:
        metadata = file.metadata()
    state = load_file(checkpoint, device=str(parameters[0].device))
    module.load_state_dict({k.removeprefix("weights."): v for k, v in state.items() if k.startswith("weights.")})
    for key in average:
        average[key].copy_(state[f"average.{key}"])
    owner = {id(p): optimizer for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]}
    warm = False
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, i, slot = key.split(".")
            parameter = parameters[int(i)]
            owner[id(parameter)].state[parameter][slot] = value
            warm = True
    return int(metadata["step"]), float(metadata["seconds"]), warm
