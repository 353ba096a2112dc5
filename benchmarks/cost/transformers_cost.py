"""Transformers with the published shapes: the basis of true vocabularies, what a fit costs, and what it leaves behind.

    python benchmarks transformers_cost --model flux --layers 2 --tokenizers clip=DIR t5=DIR qwen=DIR

The weights are random and, with --layers, the stacks shorter: shapes, files and equality are real, pictures are not.
A step of a fit takes turns with its floor: two passes without gradients through text encoders and transformer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from architectures import stand_in
from safetensors.torch import load_file
from torch import nn
from transformers_published import KINDS, make_pipeline
from worlds import REPORTED

from celeb_basis import CelebBasis, Identity, Recipe
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.text_encoders import text_encoders
from celeb_basis.basis import celebrity_names
from celeb_basis.fit.captions import TEMPLATES
from celeb_basis.fit.loop import fit_steps
from celeb_basis.generate import generate

TOKEN = "<one>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=KINDS, default="sd3")
    parser.add_argument("--layers", type=int, help="of each stack at most so many (klein reads 27 of its text encoder)")
    parser.add_argument("--tokenizers", nargs="+", metavar="NAME=DIR", required=True, help="folders of clip, t5, qwen")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folders = {name: Path(folder) for name, _, folder in (given.partition("=") for given in args.tokenizers)}
    pipe = make_pipeline(args.model, getattr(torch, args.dtype), layers=args.layers, tokenizers=folders)
    pipe.set_progress_bar_config(disable=True)
    pipe.register_to_config(_name_or_path=f"{args.model} as published")
    basis = CelebBasis.from_pipeline(pipe, celebrity_names())
    before = checksum(pipe)
    report: dict[str, Any] = {
        "model": args.model, "layers": args.layers, "dtype": args.dtype, "resolution": args.resolution,
        "weights_gib": round(sum(p.nbytes for m in modules(pipe) for p in m.parameters()) / 2**30, 2),
        "names": len(basis.names), "rank": basis.rank, "encoder_dims": basis.encoder_dims,
    }  # fmt: skip
    report |= cost(pipe, basis, args.resolution, args.rounds)
    person = Identity.sample(basis, TOKEN, torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder:
        person.save(file := Path(folder) / "one.safetensors")
        report["keys"] = {key: list(tensor.shape) for key, tensor in load_file(file).items()}
    report["largest_difference_to_stock"] = difference(pipe, person, basis.names[0], args.resolution)
    report["weights_as_before"] = checksum(pipe) == before
    print(json.dumps(report))
    if args.out:
        with args.out.open("a") as out:
            out.write(json.dumps(report) + "\n")


def modules(pipe: Any) -> list[nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, nn.Module)]


def checksum(pipe: Any) -> str:
    """A hash of every weight."""
    known = hashlib.sha256()
    for part in modules(pipe):
        for weight in part.state_dict().values():
            known.update(weight.contiguous().flatten().view(torch.uint8).numpy())
    return known.hexdigest()


def cost(pipe: Any, basis: CelebBasis, resolution: int, rounds: int) -> dict[str, float]:
    """Seconds of a step and of its floor, in turns, after one of each that does not count."""
    denoiser = get_denoiser(pipe)
    recipe = Recipe(resolution=resolution, train_batch_size=1, num_train_images=1)
    steps = fit_steps(pipe, basis, [[stand_in(REPORTED)]], ["<annika>"], recipe)
    next(steps)
    pixels = torch.zeros(1, 3, resolution, resolution)
    latents = denoiser.encode(pixels)[None]

    @torch.no_grad()
    def floor() -> None:
        for seed in range(2):
            states, pooled = denoiser.encode_prompts([TEMPLATES[0].format("somebody")])
            denoiser.predict(latents, states, pooled, [torch.Generator().manual_seed(seed)])

    taken: dict[str, list[float]] = {"step_s": [], "floor_s": []}
    for _ in range(rounds + 1):
        for name, call in (("step_s", lambda: next(steps)), ("floor_s", floor)):
            taken[name].append(seconds(call))
    own = {name: round(statistics.median(values[1:]), 2) for name, values in taken.items()}
    ratios = [a / b for a, b in zip(taken["step_s"][1:], taken["floor_s"][1:], strict=True)]
    return own | {"step_by_floor": round(statistics.median(ratios), 2), "rounds": rounds}


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def difference(pipe: Any, person: Identity, name: str, resolution: int) -> float:
    """The largest difference of a picture to stock code's, whose table has the person in the rows of a name."""
    size = {"height": resolution, "width": resolution, "num_inference_steps": 1}
    [ours] = generate(pipe, f"a photo of {TOKEN}", [person], **size)
    before = []
    parts = person.vectors.split(person.encoder_dims, dim=-1)
    for (_, tokenizer, encoder), part in zip(text_encoders(pipe), parts, strict=True):
        table, ids = encoder.get_input_embeddings().weight, tokenizer(f" {name}", add_special_tokens=False).input_ids
        before.append((table, ids, table[ids].clone()))
        table[ids] = part.to(table)
    [theirs] = pipe(prompt=[f"a photo of {name}"], generator=[torch.Generator().manual_seed(0)], **size).images
    for table, ids, rows in before:
        table[ids] = rows
    differences = [abs(a - b) for a, b in zip(ours.tobytes(), theirs.tobytes(), strict=True)]
    return max(differences)


if __name__ == "__main__":
    main()
