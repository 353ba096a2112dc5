"""Courses of rivals: identity and prompt after so many steps at each rate, on people for tuning.

    python benchmarks courses --people 4 --only StableIdentity

The published steps and rate are among the candidates. People are fitted side by side, each as if alone, unless the
method learns jointly. One line a person and rate in results/courses; the same command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import CONTENDERS, Fitted
from model import Model
from record import STORED, kept, origin, short, weights_of
from tables import table
from tqdm import tqdm
from work import SHORT, Work
from worlds import REPORTED, TUNED, world_of

from celeb_basis.fit.recipe import DEFAULTS

RATES: Mapping[str, Sequence[float]] = {
    "the paper's recipe": (3e-3, 1e-2, 3e-2),
    "StableIdentity": (5e-5, 1e-3, 3e-3),
    "Cross Initialization": (5e-3, 2e-2, 5e-2),
    "Textual Inversion": (1e-2, 5e-3, 2e-3),
}
STEPS = (25, 50, 100, 200, 400, 800)
COURSE_PEOPLE = 50  # of a report


def candidates(name: str) -> tuple[Fitted, tuple[int, ...]]:
    """A contender with its published batch, and after which steps it is looked at, the published ones among them."""
    contender = CONTENDERS[name]
    assert isinstance(contender, Fitted)
    published = DEFAULTS[contender.method.name]
    steps = sorted({*(step for step in STEPS if step < published.max_train_steps), published.max_train_steps})
    return replace(contender, steps=steps[-1], batch=published.train_batch_size), tuple(steps)


def follow(
    name: str, rate: float, model: Model, work: Work, numbers: Sequence[int], longest: int
) -> list[dict[str, Any]]:
    """Fit people side by side, and look at eight scenes of each after some of the steps.

    A point is [step, seconds so far for one of them, identity, prompt].
    """
    contender, looked_at = candidates(name)
    looked_at = tuple(step for step in looked_at if step <= longest)
    contender = replace(contender, learning_rate=rate, steps=looked_at[-1])
    people = [work.people[number - work.first] for number in numbers]
    points: list[list[list[float]]] = [[] for _ in people]
    seconds, begun = 0.0, time.perf_counter()
    steps = tqdm(contender.learn(model, people), f"{name} at {rate:g}", contender.steps + 1, mininterval=10)
    for step, learnt in enumerate(steps):
        seconds += time.perf_counter() - begun
        for i, person in enumerate(people) if step in looked_at else ():
            _, rows = work.draw(model.pipe, learnt.of([i]).vectors, [person], SHORT, 1, len(SHORT))
            asked = [hit for row in rows for hit in row["asked"].values()]
            means = float(np.mean([row["identity"] for row in rows])), float(np.mean(asked))
            points[i].append([step, short(seconds / len(people), 1), *map(short, means)])
        begun = time.perf_counter()
    return [
        {"name": name, "rate": rate, "person": number, "points": own, **origin()}
        for number, own in zip(numbers, points, strict=True)
    ]


def summary(lines: Sequence[Mapping[str, Any]]) -> str:
    """A table in markdown of means over people, and what a report of all people would take."""
    rows = []
    for name, rates in RATES.items():
        published = DEFAULTS[candidates(name)[0].method.name]
        for rate in rates:
            own = [line["points"] for line in lines if line["name"] == name and line["rate"] == rate]
            for points in zip(*own, strict=False):
                step, seconds = points[0][0], float(np.mean([point[1] for point in points]))
                identity, prompt = (np.array([point[k] for point in points]) for k in (2, 3))
                is_published = (step, rate) == (published.max_train_steps, published.learning_rate)
                rows.append(
                    [
                        name + (", as published" if is_published else ""),
                        f"{rate:g}",
                        str(step),
                        str(len(points)),
                        f"{identity.mean():.3f} ({identity.min():.3f} to {identity.max():.3f})",
                        f"{prompt.mean():.3f}",
                        f"{seconds:.0f}",
                        f"{seconds * COURSE_PEOPLE / 3600:.1f}",
                    ]
                )
    head = ["contender", "rate", "steps", "people", "identity (least to most)", "prompt", "seconds a fit"]
    return table([*head, f"hours for {COURSE_PEOPLE}"], rows) + "\n"


def main() -> None:
    """Follow what was not followed yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--first", type=int, default=TUNED)
    parser.add_argument("--only", action="append", choices=RATES, metavar="CONTENDER")
    parser.add_argument("--longest", type=int, default=max(STEPS), help="steps, %(default)s by default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--portraits", type=Path, metavar="DIR", help="with photographs: measure the model portraits")
    parser.add_argument("--out", type=Path, help="the file of the points")
    args = parser.parse_args()
    if args.first + args.people > REPORTED:
        parser.error(f"people from {REPORTED} on are for reports: follow others")
    world = world_of(args.portraits)
    model, work = Model(args.device, world=world), Work(args.people, args.first, crowded=False, world=world)
    out = args.out or STORED / "courses" / (f"{world.model}.jsonl" if args.portraits else "courses.jsonl")
    header = {"weights": weights_of(model.pipe), "longest": args.longest}
    lines = kept(out, header, "name")
    if not lines:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(header) + "\n")
    lines = lines[1:]
    done = {(line["name"], line["rate"], line["person"]) for line in lines}
    for name in args.only or RATES:
        for rate in RATES[name]:
            left = [n for n in range(args.first, args.first + args.people) if (name, rate, n) not in done]
            at_once = args.people if candidates(name)[0].side_by_side else 1
            for numbers in (left[i : i + at_once] for i in range(0, len(left), at_once)):
                found = follow(name, rate, model, work, numbers, args.longest)
                lines += found
                with out.open("a") as file:
                    file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in found)
    print(summary(lines))


if __name__ == "__main__":
    main()
