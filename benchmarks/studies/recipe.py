"""Which recipe a fit deserves: courses of long and short fits, from the mean and from maps that tell much or little.

    python benchmarks recipe --people 8

At five points of each fit everybody is drawn in the eight scenes of the comparison, and as a milestone. Writes lines of
JSON to results/recipe.jsonl; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model import Model
from record import kept, origin, short, weights_of
from tables import table
from torch import Tensor
from work import SHORT
from worlds import DRAWN, Person

from celeb_basis import Identity, InstantMap, Recipe
from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.faces.face import mean_features
from celeb_basis.fit.loop import fit_steps
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.fit.recipe import steps_from_map
from celeb_basis.generate import generate
from celeb_basis.milestones import likeness
from celeb_basis.miniature.drawn.captions import asked
from celeb_basis.miniature.drawn.people import celebrities, celebrity_identities, portraits
from celeb_basis.miniature.drawn.readers import evaluation_reader, fitting_reader, shown

RESULTS = Path(__file__).parent / "results"
FIRST = 3040  # people for tuning whom no other study has tuned on
POINTS = 5
FEW_NAMES = 150  # of which the map that tells little is learnt, and not from pictures that the model drew


def weak_map(model: Model) -> InstantMap:
    """A map of fewer celebrities."""
    names = list(model.basis.names)
    known = {name: i for i, name in enumerate(celebrities())}
    chosen = [name for name in names if name in known][:: len(names) // FEW_NAMES][:FEW_NAMES]
    traits = celebrity_identities()[[known[name] for name in chosen]]
    faces = [own for some in traits.split(10) for own in fitting_reader().read(portraits(some, 192))]
    found = [(name, own[0].feature) for name, own in zip(chosen, faces, strict=True) if len(own) == 1]
    rows = name_rows(model.pipe, [name for name, _ in found])[0]
    features = torch.stack([feature for _, feature in found])
    reader = fitting_reader().name
    return InstantMap.fit(features, model.basis.transform(rows), basis=model.basis, face_reader=reader)


def scores(model: Model, people: Sequence[Person], vectors: Tensor) -> list[list[float]]:
    """Each person's mean identity and prompt fidelity in the scenes, one picture each, by the evaluation's judges."""
    identities, prompts = [], []
    for person, own in zip(people, vectors.cpu(), strict=True):
        texts = [text.format("<one>") for _, text in SHORT]
        images = generate(
            model.pipe, texts, [Identity("<one>", own, own.shape[-1:])], seed=10 * person.number, batch_size=8
        )
        faces = evaluation_reader().read(images)
        identities.append(np.mean([float(f[0].feature @ person.feature) if len(f) == 1 else 0.0 for f in faces]))
        wanted = [(seen.get(key) == value) for seen, text in zip(shown(images), texts, strict=True)
                  for key, value in asked(text).items()]  # fmt: skip
        prompts.append(np.mean(wanted))
    return [[short(float(value)) for value in values] for values in (identities, prompts)]


def follow(model: Model, people: Sequence[Person], recipe: Recipe, instant_map: InstantMap | None) -> list[list[Any]]:
    """Learn some people side by side: steps, and everybody's identity, prompt and likeness as a milestone then."""
    faces = [person.faces for person in people]
    tokens = [f"<p{i}>" for i in range(len(people))]
    method = CelebBasisMethod(init="mean" if instant_map is None else "instant")
    found, passed = [], 0
    for at in fit_steps(model.pipe, model.basis, faces, tokens, recipe, method=method, instant_map=instant_map):
        if int(at.share * POINTS + 1e-9) > passed or at.step == 0:
            passed = int(at.share * POINTS + 1e-9)
            alike = likeness(model.pipe, at.identities, mean_features(faces), fitting_reader())
            found.append([at.step, *scores(model, people, at.vectors), [short(value) for value in alike]])
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is lacking, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    args = parser.parse_args(argv)
    model = Model()
    people = [DRAWN.person(number) for number in range(FIRST, FIRST + args.people)]
    weak = weak_map(model)
    strong = model.instant_map
    fewer = steps_from_map(80, weak.loo_r2)
    settings: dict[str, tuple[InstantMap | None, Recipe]] = {
        "map, 40": (strong, Recipe(max_train_steps=40)),
        "mean, 80": (None, Recipe(max_train_steps=80)),
        "mean, 400": (None, Recipe(max_train_steps=400)),
        "map, 400": (strong, Recipe(max_train_steps=400)),
        "weak map, 40": (weak, Recipe(max_train_steps=40)),
        f"weak map, {fewer}": (weak, Recipe(max_train_steps=fewer)),
    }
    path = RESULTS / "recipe.jsonl"
    header = {"people": [p.number for p in people], "weights": weights_of(model.pipe), "weak": short(weak.loo_r2)}
    lines = kept(path, header, needs="setting")
    found = {line["setting"]: line["points"] for line in lines[1:]}
    with path.open("a") as file:
        if not lines:
            file.write(json.dumps(header | origin()) + "\n")
        for name, (instant_map, recipe) in settings.items():
            if name not in found:
                found[name] = follow(model, people, recipe, instant_map)
                file.write(json.dumps({"setting": name, "points": found[name]}, separators=(",", ":")) + "\n")
                file.flush()
    print(table(["from, steps", "after", "identity", "prompt", "milestone"], rows(found)))


def rows(found: dict[str, list[list[Any]]]) -> list[list[str]]:
    """Each setting's points, and what the milestone with the greatest likeness has."""
    result = []
    for name, points in found.items():
        for step, *values in points:
            result.append([name, str(step), *(f"{np.mean(value):.3f}" for value in values)])
        identity, prompt, alike = (np.array([point[k] for point in points[1:]]) for k in (1, 2, 3))
        best, person = alike.argmax(0), np.arange(alike.shape[1])
        gain = identity[best, person] - identity[-1]
        error = 2 * gain.std(ddof=1) / len(gain) ** 0.5
        chosen = [identity[best, person], prompt[best, person], alike[best, person]]
        result.append([name, "the best", *(f"{value.mean():.3f}" for value in chosen)])
        result.append([name, "the best less the last", f"{gain.mean():.3f} +- {error:.3f}", "", ""])
    return result


if __name__ == "__main__":
    main()
