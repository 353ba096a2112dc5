"""Two new people in one picture, to look at: a sheet of pairs, and the pictures that went most wrong.

    python benchmarks/pairs.py benchmarks/results/comparison

Draws anew, from the same fits and noise as the comparison, and writes comparison-pairs.png and comparison-failures.png
beside its folder.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare import OUT
from contenders import CONTENDERS, PAIRS, Contender, Learnt, Model, learnt_alike
from matplotlib import pyplot as plt
from PIL import Image
from report import OURS, Result, load, save, wrapped
from work import GALLERY, PAIRED, REPORTED, Work

EVERYBODY = CONTENDERS | PAIRS
COLUMNS = ("Textual Inversion, 2 vectors", OURS, f"{OURS}, in regions")
SHOWN, WORST = 8, 8


class Artist:
    """Draws pairs again as the comparison drew them; what was learnt of a pair is kept."""

    def __init__(self, seeds: int) -> None:
        self.model, self.work, self.seeds = Model(), Work(GALLERY, REPORTED), seeds
        self._learnt: dict[tuple[Contender, int], Learnt] = {}

    def draw(self, name: str, first: int, prompt: str, seed: int) -> Image.Image:
        """The picture of people number `first` and the next."""
        contender = learnt_alike(EVERYBODY[name])
        people = self.work.people[first - REPORTED :][:2]
        if (contender, first) not in self._learnt:
            *_, self._learnt[contender, first] = contender.learn(self.model, people)
        vectors = self._learnt[contender, first].vectors
        prompts = [("two new people", prompt)]
        pictures, _ = self.work.draw(
            self.model.pipe, vectors, people, prompts, self.seeds, self.seeds, EVERYBODY[name].regions
        )
        return pictures[seed]


def sheet(rows: Sequence[Sequence[Any]], heads: Sequence[str], path: Path, caption: str) -> None:
    """Rows of a text, two photographs side by side and pictures."""
    size = (len(rows), len(heads))
    figure, axes = plt.subplots(*size, figsize=(1.7 * size[1] + 2, 1.6 * size[0]), layout="constrained", squeeze=False)
    for (text, *pictures), line in zip(rows, axes, strict=True):
        line[0].set_ylabel("\n".join(wrapped(text, 28)), fontsize=7, rotation=0, ha="right", va="center")
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(np.asarray(picture))
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title("\n".join(head.split(", ")), fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.suptitle(textwrap.fill(caption, 100), fontsize=8)
    save(figure, path)


def photographs(artist: Artist, first: int) -> Image.Image:
    """Of person `first` and the next, in this order."""
    both = [person.photo.resize((64, 64)) for person in artist.work.people[first - REPORTED :][:2]]
    return Image.fromarray(np.concatenate([np.asarray(photo) for photo in both], axis=1))


def worst(result: Result) -> list[tuple[int, dict[str, Any]]]:
    """The number of the first person and the row of the pictures in which people are least themselves."""
    rows = [(int(pair.split("+")[0]), row) for pair, found in result.pairs.items() for row in found]
    return sorted(rows, key=lambda found: (found[1]["sides"], found[1]["identity"]))[:WORST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=OUT)
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison")
    args = parser.parse_args()
    results, commits = load(args.folder)
    artist = Artist(args.seeds)
    rows: list[list[Any]] = []
    for i in range(SHOWN):
        first, (_, prompt) = REPORTED + 2 * i, PAIRED[i % len(PAIRED)]
        pictures = [artist.draw(name, first, prompt, 0) for name in COLUMNS]
        rows.append([prompt.format("A", "B"), photographs(artist, first), *pictures])
    path = args.folder.with_name(f"{args.folder.name}-pairs.png")
    sheet(rows, ["photographs of A and B", *COLUMNS], path, f"the first {SHOWN} pairs; commit {commits}")
    rows = []
    for plain, apart in zip(*(worst(results[name]) for name in COLUMNS[1:]), strict=True):
        line: list[Any] = []
        for name, (first, row) in zip(COLUMNS[1:], (plain, apart), strict=True):
            line += [photographs(artist, first), artist.draw(name, first, row["prompt"], row["seed"])]
        texts = [f"{row['prompt'].format('A', 'B')} ({row['identity']:.2f})" for _, row in (plain, apart)]
        rows.append([" / ".join(texts), *line])
    heads = [text for name in COLUMNS[1:] for text in ("A and B", name)]
    path = args.folder.with_name(f"{args.folder.name}-failures.png")
    sheet(rows, heads, path, f"the worst of all pictures of two, identity in brackets; commit {commits}")


if __name__ == "__main__":
    main()
