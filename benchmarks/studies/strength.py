"""What an identity's strength does: identity and prompt between the mean person and the fitted one, and beyond.

    python benchmarks strength

On the miniature, with people for tuning. Writes a table and a plot to results/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from plots import save
from tqdm import tqdm
from worlds import DRAWN, TUNED, Person

from celeb_basis import Identity, Model
from celeb_basis.evaluation.evaluate import PROMPTS, Scores, interval, score
from celeb_basis.evaluation.image_cache import ImageCache, ImageRequest
from celeb_basis.fit.loop import fit_steps
from celeb_basis.io import write_atomically
from celeb_basis.miniature.drawn.judge import MiniatureJudge

RESULTS = Path(__file__).parent / "results"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)
NAME = "<annika>"


def measure(people: int, prompts: int, seeds: int) -> dict[float, Scores]:
    """Scores (people, pictures) of the same fitted people in the same noise at each strength."""
    model, judge = Model.load("miniature", device="cpu"), MiniatureJudge()
    everybody = [DRAWN.person(TUNED + i) for i in range(people)]
    *_, last = fit_steps(
        model.pipe, model.basis, [person.faces for person in everybody], [NAME] * people,
        instant_map=model.instant_map,
    )  # fmt: skip

    def scores_of(person: Person, identity: Identity) -> Scores:
        wanted = [ImageRequest(p.format(NAME), 10 * person.number + i) for p in PROMPTS[:prompts] for i in range(seeds)]
        images = ImageCache(model.pipe).draw(wanted, [identity])
        return score(images, [w.prompt for w in wanted], person.feature.expand(len(images), -1), judge)

    found = {}
    for strength in tqdm(STRENGTHS, desc="strengths", disable=None):
        each = [scores_of(p, i.scaled(model.basis, strength)) for p, i in zip(everybody, last.identities, strict=True)]
        found[strength] = Scores(*(np.stack([vars(one)[key] for one in each]) for key in vars(each[0])))
    return found


def table(found: dict[float, Scores], title: str) -> str:
    """The means in Markdown, with 95% intervals over people."""
    rows = [
        f"| {strength:g} | " + " | ".join(cell(values) for values in vars(scores).values()) + " |"
        for strength, scores in found.items()
    ]
    head = "| strength | identity | prompt | one face |\n|---|---|---|---|\n"
    return f"# {title}\n\n{head}" + "\n".join(rows) + "\n"


def cell(values: NDArray[np.float64]) -> str:
    """0.912 (0.887 to 0.935)"""
    low, high = interval(values.mean(1))
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def plot(found: dict[float, Scores], path: Path, title: str) -> None:
    """Identity and prompt against strength."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for key in ("identity", "prompt"):
        values = np.stack([vars(scores)[key].mean(1) for scores in found.values()])
        bounds = np.array([interval(own) for own in values])
        axis.plot(list(found), values.mean(1), marker="o", markersize=4, label=key)
        axis.fill_between(list(found), *bounds.T, alpha=0.2)
    axis.set(xlabel="strength: 0 is the mean person, 1 the fitted one", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend()
    save(figure, path, title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = measure(args.people, args.prompts, args.seeds)
    title = f"{args.people} people, {args.prompts} prompts, {args.seeds} pictures of each, at each strength"
    with write_atomically(args.out / "strength.md") as temporary:
        temporary.write_text(table(found, title))
    plot(found, args.out / "strength.png", title)
    print(table(found, title))


if __name__ == "__main__":
    main()
