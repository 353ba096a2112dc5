"""Compares ways of putting unseen people into the miniature: one photograph each, ten prompts, two seeds.

    python benchmarks/compare.py --people 50 --out benchmarks/results/people

People 5000 and up are kept for reports; defaults are tuned on people 3000 and up (--first 3000). Each contender's
rows are in a file of their own, so the same command goes on where it stopped, and two may share the contenders.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from celeb_basis import (
    CelebBasis,
    Face,
    Identity,
    InstantMap,
    Recipe,
    find_face,
    fit_identities,
    load_pipeline,
    miniature,
)
from celeb_basis.artefact import write_atomically
from celeb_basis.evaluate import PROMPTS, draw_prompts, interval, score
from celeb_basis.fit import minimise, person_latents
from celeb_basis.miniature.captions import FACE_CROP
from celeb_basis.miniature.people import celebrities, celebrity_identities, portraits
from celeb_basis.miniature.readers import evaluation_reader, fitting_reader

TOKEN = "<one>"
GALLERY = 50  # at least so many people, and twice as many celebrities, are there to be mistaken for
TOGETHER = 10  # people fitted side by side; each as if alone

Fit = Callable[[Any, CelebBasis, InstantMap, list[list[Face]]], list[Tensor]]


def recipe(**options: Any) -> Fit:
    """Ours, as the library's users would call it."""

    def fit(pipe: Any, basis: CelebBasis, instant: InstantMap, people: list[list[Face]]) -> list[Tensor]:
        tokens = [f"<p{i}>" for i in range(len(people))]
        fitted = fit_identities(pipe, basis, people, tokens, Recipe(**options), instant=instant)
        return [identity.vectors for identity in fitted]

    return fit


def mean_person(pipe: Any, basis: CelebBasis, instant: InstantMap, people: list[list[Face]]) -> list[Tensor]:
    """Nobody: the floor."""
    return [basis.inverse_transform(torch.zeros_like(basis.sigma))] * len(people)


def textual_inversion(learning_rate: float, steps: int, batch: int) -> Fit:
    """Two free vectors under the same loss (Gal et al., 2022), from the mean celebrity."""

    def fit(pipe: Any, basis: CelebBasis, instant: InstantMap, people: list[list[Face]]) -> list[Tensor]:
        generators = [torch.Generator().manual_seed(0) for _ in people]
        latents = [person_latents(pipe, faces, Recipe(), g) for faces, g in zip(people, generators, strict=True)]
        free = torch.stack(mean_person(pipe, basis, instant, people)).clone().requires_grad_()
        for _ in minimise(
            pipe, latents, free, lambda vectors: vectors, generators,
            max_train_steps=steps, learning_rate=learning_rate, train_batch_size=batch, templates=(FACE_CROP,),
        ):  # fmt: skip
            pass
        return list(free.detach())

    return fit


CONTENDERS: dict[str, tuple[Fit, int]] = {
    "mean person": (mean_person, 0),
    "instant": (recipe(max_train_steps=0), 0),
    "fitted (default)": (recipe(), Recipe().max_train_steps),
    "paper recipe": (recipe(init="mean", coefficient_norm="unit", max_train_steps=400, train_batch_size=2), 400),
    "Textual Inversion": (textual_inversion(5e-3, 200, 2), 200),
}


def measure(pipe: Any, name: str, identities: list[Identity], person: Tensor, gallery: Tensor, seed: int) -> list:
    """Rows (identity, rank-1, detection, prompt) for each picture of one person."""
    images, texts = draw_prompts(pipe, name, identities, 2, seed=seed)
    scores = score(images, texts, person.expand(len(images), -1), evaluation_reader())
    nearest = [
        float(bool(faces) and bool((gallery @ faces[0].feature).max() <= person @ faces[0].feature + 1e-6))
        for faces in evaluation_reader().read(images)
    ]
    columns = zip(scores.identity.tolist(), nearest, scores.detection.tolist(), scores.prompt.tolist(), strict=True)
    return [list(row) for row in columns]


class Work:
    """The people, their photographs, and everybody they could be mistaken for."""

    def __init__(self, people: int, first: int) -> None:
        self.pipe = load_pipeline("miniature")
        self.basis = CelebBasis.load(miniature.basis())
        self.instant = InstantMap.load(miniature.instant())
        photos = [miniature.person(first + i) for i in range(max(people, GALLERY))]
        self.faces = [[find_face(photo, fitting_reader())] for photo in photos[:people]]
        self.known = torch.stack([find_face(photo, evaluation_reader()).feature for photo in photos])
        famous = evaluation_reader().read(portraits(celebrity_identities()[: 2 * len(photos)]))
        self.famous = torch.stack([faces[0].feature for faces in famous])
        self.gallery = torch.cat([self.known, self.famous])

    def celebrities(self) -> dict[str, Any]:
        """The model's own people: the ceiling."""
        rows = [
            measure(self.pipe, celebrities()[2 * i], [], self.famous[2 * i], self.gallery, seed=10 * i)
            for i in tqdm(range(len(self.faces)), desc="celebrities")
        ]
        return {"rows": rows}

    def contender(self, name: str) -> dict[str, Any]:
        """Fit everybody, ten at once, then draw and score them."""
        fit, steps = CONTENDERS[name]

        def seconds(people: list[list[Face]]) -> tuple[list[Tensor], float]:
            start = time.perf_counter()
            return fit(self.pipe, self.basis, self.instant, people), time.perf_counter() - start

        _, alone = seconds(self.faces[:1])
        vectors: list[Tensor] = []
        together = 0.0
        for part in tqdm(range(0, len(self.faces), TOGETHER), desc=f"fitting {name}"):
            fitted, taken = seconds(self.faces[part : part + TOGETHER])
            vectors += fitted
            together += taken / len(self.faces)
        rows = []
        for i in tqdm(range(len(vectors)), desc=f"drawing {name}"):
            basis = self.basis
            identity = Identity(TOKEN, vectors[i], basis.encoder_dims, basis.fingerprint, basis.model)
            rows.append(measure(self.pipe, TOKEN, [identity], self.known[i], self.gallery, seed=10 * i))
        return {"rows": rows, "steps": steps, "alone": alone, "together": together}


def run(people: int, first: int, out: Path, only: list[str]) -> None:
    """Measure the contenders of `only` that `out` does not hold yet for these people and weights."""
    out.mkdir(parents=True, exist_ok=True)
    weights = miniature.WEIGHTS / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {key: float(value.double().sum()) for key, value in load_file(weights).items()}
    same = {"people": people, "first": first, "weights": hashlib.sha256(repr(tensors).encode()).hexdigest()[:12]}
    work = Work(people, first)
    for name in only:
        path = out / f"{name.replace(' ', '-')}.json"
        if path.exists() and same.items() <= json.loads(path.read_text()).items():
            continue
        result = work.celebrities() if name == "celebrities" else work.contender(name)
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(same | {"name": name} | result) + "\n")


def table(out: Path) -> str:
    """Means with 95% intervals over people (bootstrap, 2,000 resamples)."""
    lines = [
        "| | people | identity | rank-1 | one face found | prompt | steps | seconds alone / ten at once |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {result["name"]: result for result in (json.loads(path.read_text()) for path in out.glob("*.json"))}
    if len({(r["first"], r["weights"]) for r in found.values()}) > 1:
        raise SystemExit(f"{out} holds results of different people or weights: run them again")
    for name in ("celebrities", *CONTENDERS):
        if name not in found:
            continue
        result = found[name]
        by_person = np.array(result["rows"]).mean(1)  # (people, 4)
        cells = []
        for column in by_person.T:
            low, high = interval(column)
            cells.append(f"{column.mean():.3f} ({low:.3f}-{high:.3f})")
        cost = f"{result['steps']} | {result['alone']:.1f} / {result['together']:.1f}" if "steps" in result else " | "
        lines.append(f"| {name} | {len(by_person)} | {' | '.join(cells)} | {cost} |")
    lines.append(f"\n{len(PROMPTS)} prompts x 2 seeds for each person.")
    return "\n".join(lines)


def main() -> None:
    everybody = ["celebrities", *CONTENDERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--first", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/people"))
    parser.add_argument("--only", action="append", choices=everybody)
    arguments = parser.parse_args()
    run(arguments.people, arguments.first, arguments.out, arguments.only or everybody)
    text = table(arguments.out)
    print(text)
    arguments.out.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
