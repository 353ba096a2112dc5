"""Compares ways of putting unseen people into the miniature, one photograph each: fits, draws, scores.

    python benchmarks/compare.py --people 60                 # then: python benchmarks/report.py
    python benchmarks/compare.py --people 4 --seeds 1 --course 0 --only DreamBooth --tune learning_rate=3e-4 steps=200

Each person of each contender is a file of its own, so the same command goes on where it stopped; a second process with
--backwards comes to meet it. People 5000 and up are kept for reports: --tune takes those from 3000 on, with other
settings, and prints what they bring.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import CONTENDERS, PAIRS, Celebrities, Contender, Learnt, Model, learnt_alike, worn
from cost import peak, synchronise
from PIL import Image
from tqdm import tqdm
from work import ALONE, PAIRED, REPORTED, SHORT, TUNED, Person, Work

from celeb_basis.files import write_atomically

OUT = Path("benchmarks/results/comparison")
CHECKPOINTS = (0, 5, 10, 15, 25, 50, 100, 200)
SHOWN = 2  # people of whom pictures are kept


class Comparison:
    """One contender at work; what its files hold already for these settings is not done again."""

    def __init__(
        self, name: str, contender: Contender, model: Model, work: Work, out: Path, *, seeds: int, batch_size: int
    ) -> None:
        self.name, self.contender, self.model, self.work = name, contender, model, work
        self.folder = out / name.replace(" ", "-").replace("'", "").replace(",", "")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seeds, self.batch_size = seeds, batch_size
        self.same = {
            "name": name,
            "settings": asdict(contender),
            "seeds": seeds,
            "prompts": _digest((ALONE, PAIRED)),
            "weights": _digest({key: float(t.double().sum()) for key, t in model.pipe.unet.state_dict().items()}),
            "first": work.first,  # whose neighbours a face has to be told from
        }
        self.people = work.celebrities if isinstance(contender, Celebrities) else work.people

    def run(self, which: Sequence[int], sizes: Sequence[int]) -> None:
        """Fit the people number `which`, an even number of them, draw and score them one by one and two by two.

        sizes: 1 for the former, 2 for the latter.
        """
        alone = [(i,) for i in which] if self.name in CONTENDERS else []
        jobs = [job for job in (*alone, *zip(which[::2], which[1::2], strict=False)) if len(job) in sizes]
        jobs = [job for job in jobs if not self._has(self._path(job))]
        if not jobs:
            return
        learnt = self._fit(which)
        for job in tqdm(jobs, desc=f"{self.name}, people {which[0]} to {which[-1]}", disable=None):
            people = [self.people[i] for i in job]
            pictures, rows = self._draw(learnt(job), people, ALONE if len(job) == 1 else PAIRED, self.seeds)
            path = self._path(job)
            if max(job) < SHOWN:
                with write_atomically(path.with_suffix(".png")) as temporary:
                    _strip(pictures[:: self.seeds]).save(temporary)
            self._write(path, {"rows": rows})

    def course(self, i: int) -> None:
        """Fit one person alone, with pictures and seconds at several steps and the most memory in use."""
        person, path = self.people[i], self.folder / f"course-{self.people[i].number}.json"
        if self._has(path):
            return
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
                _, rows = self._draw(learnt, [person], SHORT, 1)
                points.append({"step": step, "seconds": seconds, "rows": rows})
        cost = {"parameters": learnt.parameters, "bytes": learnt.bytes, "peak_gb": memory["peak_gb"]}
        device = torch.cuda.get_device_name() if self.model.pipe.device.type == "cuda" else "CPU"
        self._write(path, {"points": points, **cost, "device": device, "threads": torch.get_num_threads()})

    def summary(self) -> str:
        """Means over all pictures of its people and pairs."""
        files = [json.loads(path.read_text()) for path in self.folder.glob("[0-9]*.json")]
        rows = [row for record in files for row in record["rows"]]
        means = {key: np.mean([row[key] for row in rows]) for key in ("identity", "rank1", "found")}
        means["prompt"] = np.mean([hit for row in rows for hit in row["asked"].values()])
        return f"{self.contender}: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items())

    def _fit(self, which: Sequence[int]) -> Callable[[Sequence[int]], Learnt]:
        """What has been learnt of some of the people: all side by side, or freshly for whoever is asked for."""

        def last(people: list[Person]) -> Learnt:
            for step in self.contender.learn(self.model, people):
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
    ) -> tuple[list[Image.Image], list[dict[str, Any]]]:
        regions = self.contender.regions and len(people) > 1
        # Regions are read through hooks, which compiled code does not know of.
        unet = None if regions else learnt.unet or self.model.faster(len(prompts) * seeds, self.batch_size)
        with worn(self.model.pipe, unet):
            return self.work.draw(self.model.pipe, learnt.vectors, people, prompts, seeds, self.batch_size, regions)

    def _path(self, job: Sequence[int]) -> Path:
        return self.folder / ("+".join(str(self.people[i].number) for i in job) + ".json")

    def _has(self, path: Path) -> bool:
        return path.exists() and self.same.items() <= json.loads(path.read_text()).items()

    def _write(self, path: Path, result: dict[str, Any]) -> None:
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(self.same | {"commit": _commit()} | result) + "\n")


def _digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def _commit() -> str:
    """The commit that is measured, marked where the working tree differs from it."""
    described = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _strip(pictures: Sequence[Image.Image]) -> Image.Image:
    width, height = pictures[0].size
    strip = Image.new("RGB", (width * len(pictures), height))
    for i, picture in enumerate(pictures):
        strip.paste(picture, (i * width, 0))
    return strip


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
    parser.add_argument("--only", action="append", choices=CONTENDERS | PAIRS, metavar="CONTENDER")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", choices=(1, 2), default=(1, 2), help="people in a picture")
    parser.add_argument("--course", type=int, default=5, help="people whose fit is followed step by step")
    parser.add_argument("--tune", nargs="+", type=setting, metavar="SETTING=VALUE")
    parser.add_argument("--backwards", action="store_true", help="from the last job to the first")
    parser.add_argument("--together", type=int, default=10, help="people fitted side by side, an even number")
    parser.add_argument("--batch-size", type=int, default=15, help="pictures drawn at once")
    parser.add_argument("--compile", action="store_true", help="a minute once, then pictures come 1.7 times as fast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    first = args.first if args.first is not None else TUNED if args.tune else REPORTED
    if args.people % 2 or args.together % 2:
        parser.error("--people and --together must be even: people are also drawn in pairs")
    if args.tune and first + args.people > REPORTED:
        parser.error(f"people from {REPORTED} on are for reports: tune on others")
    model, work = Model(args.device, compiled=args.compile), Work(args.people, first)
    chunks = [range(i, min(i + args.together, args.people)) for i in range(0, args.people, args.together)]
    everybody = CONTENDERS | PAIRS
    tuned = {name: replace(everybody[name], **dict(args.tune or [])) for name in args.only or everybody}
    comparisons = []
    for name, contender in tuned.items():
        out = args.out or (Path("runs/tune") / _digest(contender) if args.tune else OUT)
        comparisons.append(Comparison(name, contender, model, work, out, seeds=args.seeds, batch_size=args.batch_size))
    jobs = [partial(c.run, chunk, args.sizes) for chunk in chunks for c in comparisons]
    followed = range(min(args.course, args.people))
    jobs += [partial(c.course, i) for c in comparisons if c.name in CONTENDERS for i in followed]
    for job in reversed(jobs) if args.backwards else jobs:
        job()
    for comparison in comparisons if args.tune else ():
        print(comparison.summary())


if __name__ == "__main__":
    main()
