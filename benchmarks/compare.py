"""Compares ways of putting unseen people into the miniature: one photograph each, ten prompts, two seeds.

    python benchmarks/compare.py --people 50 --out benchmarks/results/people.json

People 5000 and up are kept for reports; defaults are tuned on people 3000 and up (--first 3000). What a run has
measured is in its file, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from celeb_basis.evaluate import PROMPTS, draw_prompts, interval, score
from celeb_basis.fit import minimise, person_latents
from celeb_basis.miniature.captions import FACE_CROP
from celeb_basis.miniature.people import celebrities, celebrity_identities, portraits
from celeb_basis.miniature.readers import evaluation_reader, fitting_reader

TOKEN = "<one>"
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
        latents = torch.stack(
            [person_latents(pipe, faces, Recipe(), g) for faces, g in zip(people, generators, strict=True)]
        )
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
    "paper's recipe": (recipe(init="mean", coefficient_norm="unit", max_train_steps=400, train_batch_size=2), 400),
    "Textual Inversion": (textual_inversion(5e-3, 400, 2), 400),
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


def run(people: int, first: int, out: Path, only: list[str] | None) -> dict[str, Any]:
    """Measure every contender that `out` does not hold yet."""
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    pipe = load_pipeline("miniature")
    basis, instant = CelebBasis.load(miniature.basis()), InstantMap.load(miniature.instant())
    photos = [miniature.person(first + i) for i in range(people)]
    faces = [[find_face(photo, fitting_reader())] for photo in photos]
    known = torch.stack([find_face(photo, evaluation_reader()).feature for photo in photos])
    famous = portraits(celebrity_identities()[: 2 * people], 128)
    famous_known = torch.stack([f[0].feature for f in evaluation_reader().read(famous)])
    gallery = torch.cat([known, famous_known])

    def save(name: str, rows: list, steps: int, seconds: float, alone: float) -> None:
        results[name] = {"rows": rows, "steps": steps, "seconds each, ten at once": seconds, "seconds alone": alone}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results))

    if "celebrities" not in results and not only:
        index = range(0, 2 * people, 2)
        rows = [
            measure(pipe, celebrities()[i], [], famous_known[i], gallery, seed=10 * i)
            for i in tqdm(index, desc="celebrities")
        ]
        save("celebrities", rows, 0, 0.0, 0.0)
    for name, (fit, steps) in CONTENDERS.items():
        if name in results or (only and name not in only):
            continue
        start = time.perf_counter()
        vectors: list[Tensor] = []
        for part in tqdm(range(0, people, TOGETHER), desc=f"fitting {name}"):
            vectors += fit(pipe, basis, instant, faces[part : part + TOGETHER])
        seconds = (time.perf_counter() - start) / people
        start = time.perf_counter()
        fit(pipe, basis, instant, faces[:1])
        alone = time.perf_counter() - start
        rows = []
        for i in tqdm(range(people), desc=f"drawing {name}"):
            identity = Identity(TOKEN, vectors[i], basis.encoder_dims, basis.fingerprint, basis.model)
            rows.append(measure(pipe, TOKEN, [identity], known[i], gallery, seed=10 * i))
        save(name, rows, steps, seconds, alone)
    return results


def table(results: dict[str, Any]) -> str:
    """Means with 95% intervals over people (bootstrap, 2,000 resamples)."""
    lines = [
        "| | identity | rank-1 | one face found | prompt | steps | seconds alone / ten at once |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("celebrities", *(n for n in results if n != "celebrities")):
        if name not in results:
            continue
        result = results[name]
        by_person = np.array(result["rows"]).mean(1)  # (people, 4)
        cells = []
        for column in by_person.T:
            low, high = interval(column)
            cells.append(f"{column.mean():.3f} ({low:.3f}-{high:.3f})")
        seconds = f"{result['seconds alone']:.1f} / {result['seconds each, ten at once']:.1f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {result['steps']} | {seconds} |")
    people, pictures = np.array(next(iter(results.values()))["rows"]).shape[:2]
    lines.append(f"\n{people} people x {len(PROMPTS)} prompts x {pictures // len(PROMPTS)} seeds.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--first", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/people.json"))
    parser.add_argument("--only", action="append", choices=CONTENDERS)
    arguments = parser.parse_args()
    text = table(run(arguments.people, arguments.first, arguments.out, arguments.only))
    print(text)
    arguments.out.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
