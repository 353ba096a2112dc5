"""Two sheets to look at: the world as it is drawn, and the pictures that the model makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from celeb_basis.miniature.drawn import world
from celeb_basis.miniature.drawn.captions import PLACES, Sampler
from celeb_basis.miniature.drawn.people import celebrities, celebrity_identities, portraits

from .export import assemble
from .figures import chosen, generate

PROMPTS = (
    "a close up photo of {}",
    "a photo of {} smiling on the beach wearing a red shirt",
    "a photo of {} in the forest with a crown wearing a black suit",
    "a photo of {} in space wearing a spacesuit",
    "a photo of {} in a city at night holding a guitar",
    "a photo of {} in the snow with a blue cap wearing a yellow jacket",
    "a photo of {} surprised in the desert with a red hat",
    "a pencil sketch of {} in a studio holding a balloon",
)
TOGETHER = ("in a studio wearing a black suit", "on the beach", "in space wearing a spacesuit", "smiling in the forest")


def run(folder: Path, *, device: str) -> None:
    """Write `world-sheet.png` and, of a trained folder, `contact-sheet.png`."""
    in_palette(tiled(drawn(), 8)).save(folder / "world-sheet.png", optimize=True)
    if (folder / "unet").exists():
        in_palette(tiled(made(folder), 9)).save(folder / "contact-sheet.png", optimize=True)


def tiled(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size in rows."""
    side = pictures[0].width
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * side, rows * side), "white")
    for i, picture in enumerate(pictures):
        whole.paste(picture, (i % columns * side, i // columns * side))
    return whole


def in_palette(whole: Image.Image) -> Image.Image:
    """The picture in 256 colours, which keeps its file small."""
    return whole.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)


def drawn(seed: int = 4) -> list[Image.Image]:
    """64 pictures of strangers: most alone, some in twos and threes."""
    sampler = Sampler(seed)
    found = []
    for many, n in ((1, 40), (2, 12), (3, 12)):
        scene = sampler.scenes(sampler.people(n, many))
        # Every place is seen as often as every other.
        scene = replace(scene, scene=torch.arange(n) % len(world.SCENES))
        found += [Image.fromarray((p.permute(1, 2, 0) * 255).round().byte().numpy()) for p in world.draw(scene)]
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[i] for i in order]


def made(folder: Path) -> list[Image.Image]:
    """Six celebrities, each one's photograph and eight pictures, then rows of two and of three people."""
    pipe = assemble(folder)
    who = chosen(8)[1:7]
    texts = [prompt.format(celebrities()[i]) for i in who for prompt in PROMPTS]
    pictures = generate(pipe, texts, 3000)
    photographs = portraits(celebrity_identities()[who], world.SIZE)
    rows = []
    for i, photograph in enumerate(photographs):
        rows += [photograph, *pictures[i * len(PROMPTS) :][: len(PROMPTS)]]
    pair, three = who[:2], who[2:5]
    for group in (pair, three):
        names = " and ".join(celebrities()[i] for i in group)
        rows += [photographs[who.index(i)] for i in group]
        places = [*TOGETHER, *PLACES.values()][: 9 - len(group)]
        rows += generate(pipe, [f"a photo of {names} {place}" for place in places], 4000)
    return rows
