"""Directions of traits: what moving invented people along them changes in their pictures, and what it should not.

    python benchmarks directions
    python benchmarks directions --strip docs/directions.jpg

On the miniature, with the directions that ship. Judge is the recogniser that no fit sees, in whose features the traits
of drawn people are learnt anew; the directions come from the other reader. Each trait is a line of
results/directions.jsonl, beside a random direction of the same length.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from record import origin
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from celeb_basis import Identity, Model
from celeb_basis.directions import Direction
from celeb_basis.miniature.drawn import world
from celeb_basis.miniature.drawn.readers import evaluation_reader
from celeb_basis.miniature.drawn.traits import ORDERS

RESULTS = Path(__file__).parent / "results/directions.jsonl"
FIRST = 9000  # seed of the first invented person
MOVES = (-2.0, -1.0, 1.0, 2.0)
PROMPTS = (
    "a close up photo of {}",
    "a photo of {} smiling in a city at night",
    "a photo of {} in the snow wearing a black suit",
    "a photo of {} looking right on the beach",
)
SETTINGS = {"num_inference_steps": 3, "sampler": "unipc"}  # with which the names were drawn
RANDOM = "random"


class Bench:
    """The model, the people, and what the judge sees of them as they are."""

    def __init__(self, people: int, prompts: int) -> None:
        self.model = Model.load("miniature", device="cpu")
        self.reader = evaluation_reader()
        spread = world.visible(torch.randn(100_000, len(world.TRAITS), generator=torch.Generator().manual_seed(0)))
        scale = dict(zip(world.TRAITS, spread.std(0).tolist(), strict=True))
        rows = self.reader.trait_rows()
        self.rows = torch.stack([rows[trait] / scale[name] for trait, name in ORDERS.items()])
        self.people = [self.model.sample(f"invented-{i}", seed=FIRST + i) for i in range(people)]
        self.prompts = PROMPTS[:prompts]
        self.unmoved = self.features(self.people)

    def features(self, people: Sequence[Identity]) -> Tensor:
        """Return the judge's features (people, prompts, d), zeros where not exactly one face is seen."""
        texts = [prompt.format(person.placeholder_token) for person in people for prompt in self.prompts]
        found = self.reader.read(self.model.generate(texts, people, seed=1, batch_size=32, **SETTINGS))
        features = torch.stack([each[0].feature if len(each) == 1 else torch.zeros(64) for each in found])
        return features.unflatten(0, (len(people), -1))

    def direction(self, trait: str) -> Direction:
        """Return the direction of a trait, or a random one: a standard deviation of the celebrities along it."""
        basis = self.model.basis
        if trait != RANDOM:
            return self.model.directions.of(basis, trait)
        way = torch.randn(basis.sigma.shape, generator=torch.Generator().manual_seed(0))
        return Direction(trait, basis, way / way.norm() * basis.sigma)

    def measure(self, trait: str) -> dict[str, Any]:
        """Return what each amount does to the readings of all traits, in the world's standard deviations."""
        direction = self.direction(trait)
        at = {0.0: self.unmoved} | {m: self.features([p.moved(direction, m) for p in self.people]) for m in MOVES}
        amounts = sorted(at)
        there = torch.stack([at[a].any(-1) for a in amounts]).all(0)  # (people, prompts), a face at every amount
        seen = torch.stack([at[a] @ self.rows.T for a in amounts])  # (amounts, people, prompts, traits)
        means = (seen * there[..., None]).sum(2) / there.sum(1).clamp(min=1)[..., None]  # (amounts, people, traits)
        x = torch.tensor(amounts)
        slopes = (x[:, None, None] * means).sum(0) / x.square().sum()  # (people, traits)
        average = slopes.mean(0)
        own = list(ORDERS).index(trait) if trait != RANDOM else None
        others = [i for i in range(len(ORDERS)) if i != own]
        most = max(others, key=lambda i: abs(float(average[i])))
        line = {
            "trait": trait,
            "cosine": [round(float(self.alike(at[a])), 3) for a in amounts],
            "one_face": [round(float(at[a].any(-1).float().mean()), 3) for a in amounts],
            "others": round(float(average[others].abs().mean()), 3),
            "most_moved": [list(ORDERS)[most], round(float(average[most]), 3)],
        }
        if own is not None:
            line |= {
                "reading": [round(float(each[:, own].mean()), 3) for each in means],
                "slope": round(float(average[own]), 3),
                "spread": round(float(slopes[:, own].std()), 3),
                "rising": round(float((slopes[:, own] > 0).float().mean()), 3),
            }
        return line

    def alike(self, features: Tensor) -> Tensor:
        """Return the mean cosine of pictures to the same person, unmoved, in the other prompts."""
        others = normalize(self.unmoved.sum(1, keepdim=True) - self.unmoved, dim=-1)
        there = features.any(-1) & self.unmoved.any(-1)
        return (features * others).sum(-1)[there].mean()


def strip(model: Model, traits: Sequence[str], seed: int, path: Path) -> None:
    """Draw one invented person with less and more of some traits, a row each."""
    person = model.sample("annika", seed=seed)
    amounts = (-2.0, -1.0, 0.0, 1.0, 2.0)
    sheet = Image.new("RGB", (128 * len(amounts), 128 * len(traits)))
    for row, trait in enumerate(traits):
        direction = model.directions.of(model.basis, trait)
        for column, amount in enumerate(amounts):
            [image] = model.generate(PROMPTS[0].format("<annika>"), [person.moved(direction, amount)], seed=1)
            sheet.paste(image, (128 * column, 128 * row))
    sheet.save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--traits", nargs="+", default=None)
    parser.add_argument("--strip", type=Path, metavar="FILE.jpg", help="only draw one person with less and more")
    parser.add_argument("--seed", type=int, default=FIRST, help="the person of the strip")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.strip:
        model = Model.load("miniature", device="cpu")
        strip(model, args.traits or model.directions.traits[:3], args.seed, args.strip)
        return
    bench = Bench(args.people, args.prompts)
    scores = dict(zip(bench.model.directions.traits, bench.model.directions.r2.tolist(), strict=True))
    traits = args.traits or [*scores, RANDOM]
    with args.out.open("a") as file:
        for trait in tqdm(traits, disable=None):
            line = bench.measure(trait) | ({"r2": round(scores[trait], 3)} if trait in scores else {})
            file.write(json.dumps({"people": args.people, "prompts": args.prompts, **line, **origin()}) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
