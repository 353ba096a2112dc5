"""Compares ways of putting unseen people into a model that ships, one photograph each: fits, draws, scores.

    python benchmarks compare --people 60                 # then: python benchmarks report
    python benchmarks compare --people 4 --seeds 1 --course 0 --only DreamBooth --tune learning_rate=3e-4 steps=200
    python benchmarks compare --people 40 --seeds 1 --course 0 --portraits DIR    # photographs, in the model portraits

Results are added to one file a contender as they come, so the same command continues where it stopped; a second
process with --backwards does the last jobs first. People 5000 and up are kept for reports: --tune takes those from 3000
on, with other settings, and prints the scores.
"""

from __future__ import annotations

import argparse
import ast
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import (
    CONTENDERS,
    NOT_DRAWN,
    REGIONS,
    Celebrities,
    Contender,
    WithFaceLoss,
    as_by_default,
    learnt_alike,
    settings,
    tuned,
)
from cost import peak, synchronise
from model import Learnt, Model, digest, worn
from record import STORED, Record, read, weights_of
from tqdm import tqdm
from work import ALONE, PAIRED, SHORT, THREES, TOKENS, Work
from worlds import REPORTED, TUNED, Person, world_of

SIZES = (1, 2, 3)
CHECKPOINTS = (0, 5, 10, 15, 25, 50, 100, 200)


class Comparison:
    """One contender at work; what its file already holds is not done again."""

    def __init__(
        self, name: str, contender: Contender, model: Model, work: Work, out: Path, *, seeds: int, batch_size: int
    ) -> None:
        self.name, self.contender, self.model, self.work = name, contender, model, work
        self.seeds, self.batch_size = seeds, batch_size
        self.record = Record(
            out,
            {
                "name": name,
                "settings": settings(contender),
                "seeds": seeds,
                "first": work.first,  # whose neighbours a face has to be told from
                "weights": weights_of(model.pipe),
                "prompts": [
                    [kind, text, list(work.world.asked(text.format(*TOKENS)))]
                    for kind, text in work.said(ALONE + PAIRED + THREES)
                ],
            },
        )

    @property
    def people(self) -> list[Person]:
        """Whom it puts into pictures."""
        return self.work.celebrities if isinstance(self.contender, Celebrities) else self.work.people

    def run(self, which: Sequence[int], sizes: Sequence[int]) -> None:
        """Fit the people number `which`, draw and score them; sizes: how many in a picture, 1, 2 or 3."""
        done = self.record.done()
        jobs = [job for size in sizes for job in self._groups(which, size) if self._who(job) not in done]
        if not jobs:
            return
        learnt = self._fit(which)
        for job in tqdm(jobs, desc=f"{self.name}, people {which[0]} to {which[-1]}", disable=None):
            people = [self.people[i] for i in job]
            rows = self._draw(learnt(job), people, (ALONE, PAIRED, THREES)[len(job) - 1], self.seeds)
            self.record.add(self._who(job), rows)

    def course(self, i: int) -> None:
        """Fit one person alone, with pictures and seconds at several steps and the most memory in use."""
        if self._who([i]) in self.record.courses():
            return
        person = self.people[i]
        memory: dict[str, float] = {}
        if not self.contender.side_by_side:
            _ = self.model.prior  # the same for everybody: no part of a person's cost
        longest = self.contender
        if longest.steps:
            longest = replace(longest, steps=max(longest.steps, *CHECKPOINTS))
        with peak(self.model.pipe, memory):
            list(islice(longest.learn(self.model, [person]), 4))
        steps, seconds, points = longest.learn(self.model, [person]), 0.0, []
        for step in tqdm(range(longest.steps + 1), desc=f"{self.name}, course of {person.number}", disable=None):
            start = time.perf_counter()
            learnt = next(steps)
            synchronise(self.model.pipe)
            seconds += time.perf_counter() - start
            if step in (*CHECKPOINTS, self.contender.steps):
                rows = self._draw(learnt, [person], SHORT, 1)
                points.append((step, seconds, float(np.mean([row["identity"] for row in rows]))))
        cost = {"parameters": learnt.parameters, "bytes": learnt.bytes, "peak_gb": memory["peak_gb"]}
        device = torch.cuda.get_device_name() if self.model.pipe.device.type == "cuda" else "CPU"
        self.record.add_course(self._who([i]), points, cost | {"device": device, "threads": torch.get_num_threads()})

    def summary(self) -> str:
        """Means over all its pictures."""
        result = read(self.record.path)
        rows = [row for found in result.units.values() for row in found]
        means = {key: np.mean([row[key] for row in rows]) for key in ("identity", "rank1", "found")}
        means["prompt"] = np.mean([hit for row in rows for hit in row["asked"].values()])
        return f"{self.contender}: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items())

    def _groups(self, which: Sequence[int], size: int) -> list[tuple[int, ...]]:
        """Who stands with whom in pictures of `size` people, as many as the contender is drawn."""
        if self.name in NOT_DRAWN[size]:
            return []
        groups = [tuple(which[k : k + size]) for k in range(0, len(which) - size + 1, size)]
        return [group for group in groups if group[-1] < self.contender.people[size]]

    def _fit(self, which: Sequence[int]) -> Callable[[Sequence[int]], Learnt]:
        """What has been learnt of some of the people: all side by side, or freshly for whoever is asked for."""

        def last(people: list[Person]) -> Learnt:
            total, label = self.contender.steps + 1, f"{self.name}, fitting {len(people)}"
            for step in tqdm(self.contender.learn(self.model, people), label, total, leave=False, mininterval=10):
                learnt = step
            return learnt

        if not self.contender.side_by_side:
            return lambda job: last([self.people[i] for i in job])
        key = learnt_alike(self.contender), tuple(which)
        if key not in self.model.fitted:
            self.model.fitted[key] = last([self.people[i] for i in which])
        return lambda job: self.model.fitted[key].of([which.index(i) for i in job])

    def _draw(
        self, learnt: Learnt, people: Sequence[Person], prompts: Sequence[tuple[str, str]], seeds: int
    ) -> list[dict[str, Any]]:
        regions = self.contender.regions and len(people) > 1
        # Regions are read through hooks, which compiled code does not know of.
        unet = None if regions else learnt.unet or self.model.faster(len(prompts) * seeds, self.batch_size)
        with worn(self.model.pipe, unet):
            _, rows = self.work.draw(self.model.pipe, learnt.vectors, people, prompts, seeds, self.batch_size, regions)
        return rows

    def _who(self, job: Sequence[int]) -> str:
        """The people's numbers, as the file names them."""
        return "+".join(str(self.work.first + i) for i in job)


def setting(text: str) -> tuple[str, Any]:
    """learning_rate=3e-4 -> ("learning_rate", 0.0003)"""
    key, _, value = text.partition("=")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=60, help="an even number, %(default)s by default")
    parser.add_argument("--first", type=int, help=f"number of the first: {REPORTED}, for tuning {TUNED}")
    parser.add_argument("--only", action="append", choices=CONTENDERS | REGIONS, metavar="CONTENDER")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=SIZES, help="people in a picture")
    parser.add_argument("--course", type=int, default=10, help="people whose fit is followed step by step")
    parser.add_argument("--tune", nargs="+", type=setting, metavar="SETTING=VALUE")
    parser.add_argument("--portraits", type=Path, metavar="DIR", help="with photographs: measure the model portraits")
    parser.add_argument("--another", action="store_true", help="compare with another photograph than the fitted one")
    parser.add_argument("--backwards", action="store_true", help="from the last job to the first")
    parser.add_argument("--together", type=int, default=10, help="people fitted side by side, an even number")
    parser.add_argument("--batch-size", type=int, default=20, help="pictures drawn at once")
    parser.add_argument("--compile", action="store_true", help="takes a minute once, then draws 1.7 times as fast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    first = args.first if args.first is not None else TUNED if args.tune else REPORTED
    if args.people % 2 or args.together % 2:
        parser.error("--people and --together must be even: people are also drawn in pairs")
    if args.tune and first + args.people > REPORTED:
        parser.error(f"people from {REPORTED} on are for reports: tune on others")
    if args.another and not args.portraits:
        parser.error("--another is for --portraits: give that too")
    world = world_of(args.portraits, args.another)
    model = Model(args.device, compiled=args.compile, world=world)
    work = Work(args.people, first, world=world)
    stored = STORED / (f"{world.model}-another" if args.another else world.model) if args.portraits else STORED
    chunks = [range(i, min(i + args.together, args.people)) for i in range(0, args.people, args.together)]
    everybody = {name: as_by_default(own, model) for name, own in (CONTENDERS | REGIONS).items()}
    chosen = {name: tuned(everybody[name], dict(args.tune or [])) for name in args.only or everybody}
    comparisons = []
    for name, contender in chosen.items():
        out = args.out or (Path("runs/tune") / digest(contender) if args.tune else stored)
        comparisons.append(Comparison(name, contender, model, work, out, seeds=args.seeds, batch_size=args.batch_size))
    jobs = [partial(c.run, chunk, args.sizes) for chunk in chunks for c in comparisons]
    # The face loss comes after the last step that is looked at.
    followed = [c for c in comparisons if c.name in CONTENDERS and not isinstance(c.contender, WithFaceLoss)]
    jobs += [partial(c.course, i) for c in followed for i in range(min(args.course, args.people))]
    for job in reversed(jobs) if args.backwards else jobs:
        job()
    for comparison in comparisons if args.tune else ():
        print(comparison.summary())


if __name__ == "__main__":
    main()
