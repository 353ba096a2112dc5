"""Draws sheets of pictures: all contenders side by side, pairs of new people, and the pictures that went most wrong.

    python benchmarks sheets

Fits and draws anew, with the seeds and the noise of the comparison, whose results name the worst pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CONTENDERS, REGIONS, Celebrities, Contender, learnt_alike
from matplotlib import pyplot as plt
from model import Learnt, Model, worn
from PIL import Image
from plots import save, until, wrapped
from record import STORED, Result, Row
from tables import OURS, load
from work import ALONE, GALLERY, PAIRED, Work
from worlds import REPORTED

from celeb_basis.miniature.drawn import world

EVERYBODY = CONTENDERS | REGIONS
COLUMNS = ("Textual Inversion", OURS, f"{OURS}, in regions")
SHOWN, WORST = 8, 8  # pairs on a sheet
OF_ONE, OF_TWO = (0, 3, 5, 7, 9, 12, 15), (0, 2)  # prompts on the sheet of all contenders


class Artist:
    """Draws pictures again as the comparison drew them; what was learnt is kept."""

    def __init__(self, seeds: int, model: Model | None = None, work: Work | None = None) -> None:
        self.model, self.work, self.seeds = model or Model(), work or Work(GALLERY, REPORTED), seeds
        self._learnt: dict[tuple[Contender, Sequence[int]], Learnt] = {}

    def draw(self, name: str, which: tuple[int, ...], prompts: Sequence[tuple[str, str]]) -> list[Image.Image]:
        """Pictures of one person or two, by their numbers: all seeds of the first prompt, then of the next."""
        contender = learnt_alike(EVERYBODY[name])
        everybody = self.work.celebrities if isinstance(contender, Celebrities) else self.work.people
        people = [everybody[i - self.work.first] for i in which]
        if (contender, which) not in self._learnt:
            *_, self._learnt[contender, which] = contender.learn(self.model, people)
        learnt, pipe = self._learnt[contender, which], self.model.pipe
        regions = EVERYBODY[name].regions and len(which) > 1
        with worn(pipe, learnt.unet):
            return self.work.draw(pipe, learnt.vectors, people, prompts, self.seeds, 15, regions)[0]

    def photographs(self, which: Sequence[int]) -> Image.Image:
        """Of these people, side by side."""
        photos = [self.work.people[i - self.work.first].photo.resize((world.SIZE, world.SIZE)) for i in which]
        return Image.fromarray(np.concatenate([np.asarray(photo) for photo in photos], axis=1))


def sheet(
    rows: Sequence[Sequence[Any]], heads: Sequence[str], path: Path, caption: str, *, side: float, font: int = 8
) -> None:
    """Rows of a text and pictures, under heads; `side` of a picture in inches."""
    size = (len(rows), len(heads))
    figure, axes = plt.subplots(
        *size, figsize=(side * size[1] + 2, 0.95 * side * size[0]), layout="constrained", squeeze=False
    )
    for (text, *pictures), line in zip(rows, axes, strict=True):
        line[0].set_ylabel(wrapped(text, 28), fontsize=font - 1, rotation=0, ha="right", va="center")
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(np.asarray(picture))
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title("\n".join(head.split(", ")), fontsize=font)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    save(figure, path, caption)


def side_by_side(artist: Artist, names: Sequence[str], path: Path, caption: str) -> None:
    """Contenders as columns, the same prompts from the same noise as rows, the photograph in front."""
    first = artist.work.first
    rows: list[list[Any]] = []
    for which, prompts, shown in (
        ((first,), ALONE, OF_ONE),
        ((first + 1,), ALONE, OF_ONE),
        ((first, first + 1), PAIRED, OF_TWO),
    ):
        # All prompts are drawn, as a prompt's place decides which celebrity stands beside the person.
        columns = [artist.draw(name, which, prompts)[:: artist.seeds] for name in names]
        for i in shown:
            text = prompts[i][1].format("A", "B" if len(which) > 1 else "a celebrity")
            rows.append([text, artist.photographs(which), *(pictures[i] for pictures in columns)])
    sheet(rows, ["photograph", *names], path, f"the same noise in every row; {caption}", side=1.25, font=7)


def pairs(artist: Artist, path: Path, caption: str) -> None:
    """The first pairs, with a prompt each."""
    rows: list[list[Any]] = []
    for i in range(SHOWN):
        which = (artist.work.first + 2 * i, artist.work.first + 2 * i + 1)
        prompt = PAIRED[i % len(PAIRED)]
        pictures = [artist.draw(name, which, [prompt])[0] for name in COLUMNS]
        rows.append([prompt[1].format("A", "B"), artist.photographs(which), *pictures])
    heads = ["photographs of A and B", *COLUMNS]
    sheet(rows, heads, path, f"the first {SHOWN} pairs; {caption}", side=1.7)


def failures(artist: Artist, results: dict[str, Result], path: Path, caption: str) -> None:
    """The worst pictures of ours, without and with regions."""
    rows = []
    for found in zip(*(worst(results[name]) for name in COLUMNS[1:]), strict=True):
        line: list[Any] = []
        for name, (which, row) in zip(COLUMNS[1:], found, strict=True):
            pictures = artist.draw(name, which, [(row["kind"], row["prompt"])])
            line += [artist.photographs(which), pictures[row["seed"]]]
        texts = [f"{row['prompt'].format('A', 'B')} ({row['identity']:.2f})" for _, row in found]
        rows.append([" / ".join(texts), *line])
    heads = [text for name in COLUMNS[1:] for text in ("A and B", name)]
    sheet(rows, heads, path, f"the worst of all pictures of two, identity in brackets; {caption}", side=1.7)


def worst(result: Result) -> list[tuple[tuple[int, ...], Row]]:
    """The people and the row of the pictures in which people are least themselves."""
    rows = [(tuple(map(int, pair.split("+"))), row) for pair, found in result.pairs.items() for row in found]
    return sorted(rows, key=lambda found: (found[1]["sides"], found[1]["identity"]))[:WORST]


def main() -> None:
    """Draw the three sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=STORED, help="of compare.py's results")
    folder = parser.parse_args().folder
    results = load(folder)
    artist, caption = Artist(results[OURS].header["seeds"]), until(results)
    names = [name for name in results if name in CONTENDERS and name != "celebrities"]
    side_by_side(artist, names, folder.with_name(f"{folder.name}-sheet.png"), caption)
    pairs(artist, folder.with_name(f"{folder.name}-pairs.png"), caption)
    failures(artist, results, folder.with_name(f"{folder.name}-failures.png"), caption)


if __name__ == "__main__":
    main()
