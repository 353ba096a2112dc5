"""How many passes through the UNet a fit needs: likeness on the way, before and now, from both starts.

    python benchmarks fitting --people 20

Writes lines of JSON and a plot to results/; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from matplotlib import pyplot as plt
from model import Model
from numpy.typing import NDArray
from plots import save
from record import kept, origin, short, weights_of
from tables import table
from torch import Tensor, nn
from tqdm import tqdm
from work import SHORT, Work
from worlds import REPORTED, Person

from celeb_basis import Recipe
from celeb_basis.backend.denoiser import Prediction
from celeb_basis.evaluation.scores import interval
from celeb_basis.fit.loop import fit_steps
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.fit.methods.method import Method

RESULTS = Path(__file__).parent / "results"
TOGETHER = 10  # people fitted side by side
LOOKED_AT = (0, 5, 15, 25, 40, 60, 100)  # steps after which pictures are drawn


@dataclass(frozen=True)
class Before(CelebBasisMethod):
    """The method before: the error of all latents, black ones too, a constant rate, an average over the steps.

    Timesteps are spread evenly here as well, which makes no difference in so many steps.
    """

    lr_scheduler: ClassVar[Literal["constant", "cosine"]] = "constant"
    momentum: float = 0.9

    def loss(self, prediction: Prediction, face_weights: Callable[[], Tensor]) -> Tensor:
        """The plain denoising loss."""
        return prediction.error()


HUNDRED = Recipe(max_train_steps=100, train_batch_size=4, learning_rate=2e-2)
SETTINGS: dict[str, tuple[Method, Recipe]] = {
    "from the instant map, before": (Before(init="instant"), HUNDRED),
    "from the instant map, now": (CelebBasisMethod(init="instant"), Recipe()),
    "from the mean, before": (Before(init="mean"), HUNDRED),
    "from the mean, now": (CelebBasisMethod(init="mean"), Recipe()),
}


@contextmanager
def counting(unet: nn.Module, counted: Counter[str]) -> Iterator[None]:
    """Count the pictures that go through the UNet inside the block: forwards, and backwards for a gradient."""

    def hook(module: nn.Module, args: Any, options: Any, output: Any) -> None:
        counted["forward"] += len(args[0])
        counted["backward"] += len(args[0]) * output.sample.requires_grad

    handle = unet.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def follow(model: Model, work: Work, people: Sequence[Person], method: Method, recipe: Recipe) -> dict[str, Any]:
    """Learn some people side by side: what it had cost a person after some steps, and what pictures showed then."""
    faces = [person.faces for person in people]
    steps = fit_steps(
        model.pipe, model.basis, faces, ["<annika>"] * len(faces), recipe, method=method, instant_map=model.instant_map
    )
    points, counted, seconds, at = [], Counter[str](), 0.0, None
    while at is None or not at.is_last:
        start = time.perf_counter()
        with counting(model.pipe.unet, counted):
            at = next(steps)
        seconds += time.perf_counter() - start
        if at.is_last or at.step in LOOKED_AT:
            cost = [counted.total() / len(people), short(seconds / len(people))]
            points.append([at.step, *cost, *scores(model, work, people, at.vectors)])
    return {"people": [p.number for p in people], "points": points}


def scores(model: Model, work: Work, people: Sequence[Person], vectors: Tensor) -> list[list[float]]:
    """Each person's mean identity and prompt fidelity in the scenes, one picture each."""
    rows = [work.draw(model.pipe, own[None], [p], SHORT, 1, 8)[1] for p, own in zip(people, vectors, strict=True)]
    identity = [float(np.mean([row["identity"] for row in of_one])) for of_one in rows]
    prompt = [float(np.mean([hit for row in of_one for hit in row["asked"].values()])) for of_one in rows]
    return [[short(value) for value in values] for values in (identity, prompt)]


def measure(model: Model, work: Work, path: Path) -> list[dict[str, Any]]:
    """Follow what the file lacks, and return its lines."""
    header = {"people": [p.number for p in work.people], "scenes": len(SHORT), "weights": weights_of(model.pipe)}
    lines = kept(path, header, needs="setting")
    found = lines[1:]
    done = {(line["setting"], line["people"][0]) for line in found}
    groups = [work.people[i : i + TOGETHER] for i in range(0, len(work.people), TOGETHER)]
    left = [(name, group) for group in groups for name in SETTINGS if (name, group[0].number) not in done]
    with path.open("a") as file:
        if not lines:
            file.write(json.dumps(header | origin()) + "\n")
        for name, group in tqdm(left, desc="fits", disable=None):
            line = {"setting": name} | follow(model, work, group, *SETTINGS[name])
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            found.append(line)
    return found


def curve(found: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """Of a setting: steps, passes and seconds of a person, identity and prompt; means over people."""
    groups = [line["points"] for line in found if line["setting"] == name]
    return np.array([[np.mean(values) for values in zip(*at, strict=True)] for at in zip(*groups, strict=True)])


def ends(found: Sequence[dict[str, Any]], name: str) -> list[str]:
    """Where a setting arrives, as the cells of a row: steps, passes, seconds, identity, prompt, people."""
    lines = [line for line in found if line["setting"] == name]
    last = curve(found, name)[-1]
    identity, prompt = (np.array([v for line in lines for v in line["points"][-1][k]]) for k in (3, 4))
    return [name, *(f"{v:.0f}" for v in last[:2]), f"{last[2]:.1f}", cell(identity), cell(prompt), str(len(identity))]


def cell(values: NDArray[np.float64]) -> str:
    """0.812 (0.790-0.834)"""
    low, high = interval(values)
    return f"{values.mean():.3f} ({low:.3f}-{high:.3f})"


def plot(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Identity and prompt against passes through the UNet."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name in SETTINGS:
        points = curve(found, name)
        for axis, k in zip(axes, (3, 4), strict=True):
            style = {"linestyle": "--" if name.endswith("before") else "-", "color": f"C{'mean' in name:d}"}
            axis.plot(points[:, 1], points[:, k], marker="o", markersize=4, label=name, **style)
    for axis, what in zip(axes, ("identity", "prompt"), strict=True):
        axis.set(xlabel="pictures through the UNet, forwards and backwards, a person", title=what)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    people = sum(len(line["people"]) for line in found if line["setting"] == next(iter(SETTINGS)))
    save(figure, path, f"{people} people on the miniature, {len(SHORT)} scenes each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument(
        "--first", type=int, default=REPORTED, help="number of the first person, %(default)s by default"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "fitting.jsonl")
    args = parser.parse_args()
    found = measure(Model(), Work(args.people, args.first), args.out)
    plot(found, args.out.with_suffix(".png"))
    head = ["a fit", "steps", "passes", "seconds", "identity", "prompt", "people"]
    print(table(head, [ends(found, name) for name in SETTINGS]))


if __name__ == "__main__":
    main()
