"""What several people in one job and in one picture cost: a fit of all beside a fit of one, regions beside none.

    python benchmarks together --out benchmarks/cost/results/cost.jsonl
    python benchmarks together --model sd1 --people 2 --steps 2 --resolution 256

Contenders take turns. On a published architecture the weights are random: costs, shapes and errors are real, likeness
is not.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import KINDS, make_pipeline, stand_in
from cost import publish, ratio, take_turns
from safetensors.torch import load_file
from worlds import REPORTED

from celeb_basis import CelebBasis, Identity, Model, PromptError, Recipe, miniature
from celeb_basis.basis import celebrity_names
from celeb_basis.faces.face import find_face
from celeb_basis.fit.loop import fit_steps
from celeb_basis.generate import generate
from celeb_basis.miniature.drawn.readers import fitting_reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["miniature", *KINDS], default="miniature")
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sampler-steps", type=int, help="of the drawn pictures")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    instant_map = None
    if args.model == "miniature":
        model = Model.load("miniature", device="cpu")
        pipe, basis, instant_map = model.pipe, model.basis, model.instant_map
    else:
        pipe = make_pipeline(args.model, torch.float32)
        basis = CelebBasis.from_pipeline(pipe, celebrity_names())
    pipe.set_progress_bar_config(disable=True)
    numbers = range(REPORTED, REPORTED + args.people)
    if instant_map:
        faces = [find_face(miniature.person(number), fitting_reader()) for number in numbers]
    else:
        faces = [stand_in(number) for number in numbers]
    recipe = Recipe(max_train_steps=args.steps, train_batch_size=args.batch, resolution=args.resolution)
    tokens = [f"<one-{i}>" for i in range(args.people)]

    def fit(count: int) -> list[Identity]:
        people = [[face] for face in faces[:count]]
        *_, last = fit_steps(pipe, basis, people, tokens[:count], recipe, instant_map=instant_map)
        return last.identities

    fits = take_turns({"one": lambda: fit(1), "all": lambda: fit(args.people)}, args.rounds)
    people = fit(args.people)
    apart = (people[0].coefficients(basis) - fit(1)[0].coefficients(basis)).abs() / basis.sigma
    each = [seconds / args.people for seconds in fits["all"]]

    prompt = f"a photo of {tokens[0]} on the left and {tokens[1]} on the right"
    size = {"height": args.resolution, "width": args.resolution, "num_inference_steps": args.sampler_steps}

    def draw(regions: Any) -> None:
        generate(pipe, prompt, people[:2], regions=regions, **size)

    drawn = take_turns({"plain": lambda: draw(None), "regions": lambda: draw("auto")}, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        people[0].save(Path(folder) / "one.safetensors")
        tensors = {key: list(value.shape) for key, value in load_file(Path(folder) / "one.safetensors").items()}
    refusal = ""
    try:
        generate(pipe, f"{prompt} {'on the beach ' * 40}", people[:2], regions="auto")
    except PromptError as error:
        refusal = str(error)
    publish(
        {
            "benchmark": "together",
            "model": args.model, "people": args.people, "steps": args.steps, "batch": args.batch,
            "resolution": args.resolution, "rounds": args.rounds, "threads": torch.get_num_threads(),
            "seconds of one alone": float(np.median(fits["one"])), "seconds each of all": float(np.median(each)),
            "each of all / one alone": ratio(each, fits["one"]),
            "greatest difference of a coefficient, in the celebrities' standard deviations": float(apart.max()),
            "seconds of a picture of two": float(np.median(drawn["plain"])),
            "with regions / without": ratio(drawn["regions"], drawn["plain"]),
            "file": tensors, "refusal of a prompt too long": refusal[:100],
        },
        args.out,
    )  # fmt: skip


if __name__ == "__main__":
    main()
