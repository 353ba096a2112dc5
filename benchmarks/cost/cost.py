"""What a fit costs on the published architectures: time and memory beside the physical floor and the usual loop.

    python benchmarks cost --model sd1 --resolution 256 --out benchmarks/cost/results/cost.jsonl

The weights are random, which changes no time. Contenders take turns, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import KINDS, make_pipeline, stand_in
from diffusers import DDPMScheduler
from tqdm import tqdm
from worlds import REPORTED

from celeb_basis import CelebBasis, Face, Identity, Recipe
from celeb_basis.backend.text_encoders import encode, token_ids
from celeb_basis.basis import celebrity_names
from celeb_basis.fit.captions import TEMPLATES
from celeb_basis.fit.loop import fit_steps
from celeb_basis.generate import generate

TOKEN = "<one>"


def floor(pipe: Any, latents: torch.Tensor) -> Callable[[], None]:
    """Two UNet forwards without gradients: what a forward and the backward through activations must cost."""
    states, added = conditions(pipe, len(latents))

    @torch.no_grad()
    def step() -> None:
        for _ in range(2):
            pipe.unet(latents, 500, states, added_cond_kwargs=added)
        synchronise(pipe)

    return step


def ours(pipe: Any, basis: CelebBasis, face: Face, recipe: Recipe) -> Callable[[], None]:
    """A step of the library's own fit, training pictures encoded beforehand."""
    steps = fit_steps(pipe, basis, [[face]], ["<annika>"], recipe)
    next(steps)

    def step() -> None:
        next(steps)
        synchronise(pipe)

    return step


def usual_loop(pipe: Any, face: Face, resolution: int, batch: int) -> Callable[[], None]:
    """A step of Textual Inversion as it is usually written (Gal et al., 2022; diffusers' training example).

    Pictures go through the autoencoder in every step, the optimiser runs over the whole embedding table, and the
    rows of all other tokens are put back afterwards.
    """
    table = pipe.text_encoder.get_input_embeddings().weight
    original = table.detach().clone()
    optimizer = torch.optim.AdamW([table], lr=5e-3)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    picture = torch.from_numpy(np.array(face.crop.resize((resolution, resolution)))).permute(2, 0, 1) / 127.5 - 1
    pictures = picture.to(table).expand(batch, -1, -1, -1)
    ids = token_ids(pipe, [TEMPLATES[0].format("sks")] * batch)
    learnt = torch.tensor(pipe.tokenizer.convert_tokens_to_ids("sks</w>"))
    _, added = conditions(pipe, batch)

    def step() -> None:
        table.requires_grad_(True)
        with torch.no_grad():
            latents = pipe.vae.encode(pictures).latent_dist.sample() * pipe.vae.config.scaling_factor
        noise, t = torch.randn_like(latents), torch.randint(1000, (batch,), device=latents.device)
        states, _ = encode(pipe, ids)
        noisy = scheduler.add_noise(latents, noise, t)
        predicted = pipe.unet(noisy, t, states, added_cond_kwargs=added).sample
        target = noise if scheduler.config.prediction_type == "epsilon" else scheduler.get_velocity(latents, noise, t)
        torch.nn.functional.mse_loss(predicted.float(), target.float()).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            others = torch.ones(len(table), dtype=torch.bool, device=table.device)
            others[learnt] = False
            table[others] = original[others]
        table.requires_grad_(False)
        synchronise(pipe)

    return step


@torch.no_grad()
def conditions(pipe: Any, batch: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Encoded captions and, for SDXL, the added conditions of a 1,024-pixel picture."""
    states, pooled = encode(pipe, token_ids(pipe, [TEMPLATES[0].format("somebody")] * batch))
    if pooled is None:
        return states, {}
    sizes = torch.tensor([[1024, 1024, 0, 0, 1024, 1024]] * batch).to(pooled)
    return states, {"text_embeds": pooled, "time_ids": sizes}


def synchronise(pipe: Any) -> None:
    if pipe.device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def peak(pipe: Any, result: dict[str, float]) -> Any:
    """Puts the most memory in use inside the block, in GB above what the pipeline takes, into `result["peak_gb"]`."""
    if pipe.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        result["peak_gb"] = (torch.cuda.max_memory_allocated() - before) / 1e9
        return
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that an earlier contender freed would hide what this one takes
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of this process
    before = _resident("VmRSS")
    yield
    result["peak_gb"] = (_resident("VmHWM") - before) / 1e6


def _resident(key: str) -> float:
    """A line of this process's memory, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


def take_turns(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender's step in every round, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for i in tqdm(range(rounds + 1), desc="rounds", disable=None):
        for name, step in contenders.items():
            start = time.perf_counter()
            step()
            taken = time.perf_counter() - start
            tqdm.write(f"{name}: {taken:.2f} s")
            if i:
                seconds[name].append(taken)
    return seconds


def ratio(of: list[float], to: list[float]) -> list[float]:
    """Least, median and greatest of the rounds' ratios."""
    each = np.array(of) / np.array(to)
    return [float(each.min()), float(np.median(each)), float(each.max())]


def add_device(parser: argparse.ArgumentParser) -> None:
    """Options for where a model is, and in which precision."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="float16 on a GPU, bfloat16 on a CPU by default"
    )


def dtype_of(args: argparse.Namespace) -> torch.dtype:
    """The precision that --dtype names, or that of the device."""
    dtype: torch.dtype = getattr(torch, args.dtype or ("float16" if args.device == "cuda" else "bfloat16"))
    return dtype


def publish(result: dict[str, Any], out: Path | None) -> None:
    """Print a result, and add it as a line to a file if one is named."""
    print(json.dumps(result, indent=1))
    if out:
        with out.open("a") as file:
            file.write(json.dumps(result) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=KINDS, default="sd1")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of a drawn picture")
    add_device(parser)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    dtype = dtype_of(args)
    pipe = make_pipeline(args.model, dtype).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    basis = CelebBasis.from_pipeline(pipe, celebrity_names())
    face = stand_in(REPORTED)
    # One training picture, encoded in the step that warms up: what is timed is a step, not the start of a fit.
    recipe = Recipe(max_train_steps=10_000, train_batch_size=args.batch, num_train_images=1, resolution=args.resolution)
    side = args.resolution // pipe.vae_scale_factor
    noise = torch.randn(args.batch, 4, side, side).to(args.device, dtype)
    result: dict[str, Any] = {
        "benchmark": "cost",
        "model": args.model, "resolution": args.resolution, "batch": args.batch, "rounds": args.rounds,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads",
        "dtype": str(dtype).removeprefix("torch."), "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip

    identity = Identity.from_coefficients(basis, torch.zeros_like(basis.sigma), TOKEN)
    size = {"height": args.resolution, "width": args.resolution, "num_inference_steps": args.steps}

    def bare() -> None:
        pipe("a photo of Ada Lovelace on the beach", generator=torch.Generator().manual_seed(0), **size)

    def with_identity() -> None:
        generate(pipe, f"a photo of {TOKEN} on the beach", [identity], **size)

    seconds = take_turns({"bare": bare, "generate": with_identity}, args.rounds)
    result["seconds"] = {name: float(np.median(s)) for name, s in seconds.items()}
    result["generate / bare"] = ratio(seconds["generate"], seconds["bare"])

    # Last, as the usual loop leaves the model changed.
    contenders = {"floor": floor(pipe, noise), "fit": ours(pipe, basis, face, recipe)}
    if args.model != "sdxl":  # the usual loop has one table; with two it would cost more still
        contenders["usual loop"] = usual_loop(pipe, face, args.resolution, args.batch)
    memory: dict[str, dict[str, float]] = {name: {} for name in contenders}
    for name, step in contenders.items():
        with peak(pipe, memory[name]):
            step()
    seconds = take_turns(contenders, args.rounds)
    result["seconds"] |= {name: float(np.median(s)) for name, s in seconds.items()}
    result["peak_gb"] = {name: m["peak_gb"] for name, m in memory.items()}
    result["fit / floor"] = ratio(seconds["fit"], seconds["floor"])
    if "usual loop" in seconds:
        result["fit / usual loop"] = ratio(seconds["fit"], seconds["usual loop"])
    publish(result, args.out)


if __name__ == "__main__":
    main()
