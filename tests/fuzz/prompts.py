"""Prompts of any content: each is refused in one line, or draws a picture that says what it was drawn of."""

from __future__ import annotations

import random
import string
from functools import cache
from pathlib import Path

from files import Tally
from mutate import NASTY
from PIL import Image

from celeb_basis import Identity, Model
from celeb_basis.cli.info import describe_image
from celeb_basis.generate import check_people, generate
from celeb_basis.image_files import file_stem, save_image

DRAWN = 0.1  # of the prompts
PIECES = [
    "a photo of", "<ada>", "<bo>", "<ADA>", "<ada>_1", "<bo>_0", "<nobody>", "<|endoftext|>", "<|startoftext|>", "</w>",
    "<", ">", "<>", "<<ada>>", "< ada >", "ada", "{}", "{0}", "{x.y}", "%s", "%", "\\", "(ada:1.3)", "[ada]", "女",
    "🙂", "e\u0301", "\u0130", "\u200b", "\u2028", "\ufffd", "\ud800", "\0", "\n", "\t", "\x1b[31m", "/", "../..",
    "word " * 90, "x" * 9990, "&lt;ada&gt;", "<a" * 500, "-", ".", "on the left", "and", '"', "'", "$(id)", "nul",
]  # fmt: skip
TOKENS = [["<ada>"], ["<ada>", "<bo>"], [], ["<ada>", "<ada>"], ["<bo>"]]


@cache
def miniature() -> tuple[Model, dict[str, Identity]]:
    """Return the model and two people."""
    model = Model.load()
    return model, {f"<{name}>": model.sample(name) for name in ("ada", "bo")}


def prompt(chance: random.Random) -> str:
    """Return some pieces, letters of any kind among them."""
    pieces = [chance.choice([*PIECES, *NASTY]) for _ in range(chance.randint(0, 6))]
    if chance.random() < 0.3:
        pieces.append("".join(chr(chance.randrange(0x110000)) for _ in range(chance.randrange(30))))
    if chance.random() < 0.3:
        pieces.append("".join(chance.choices(string.printable, k=chance.randrange(60))))
    return chance.choice([" ", " ", "", ", "]).join(pieces)


def attack(times: int, seed: str, folder: Path) -> Tally:
    """Check so many prompts, and draw some of those that name their people."""
    chance, tally = random.Random(f"prompts {seed}"), Tally()
    model, people = miniature()
    for _ in range(times):
        text, tokens = prompt(chance), chance.choice(TOKENS)
        if chance.random() < 0.5:
            text = f"{text} {' '.join(tokens)}"
        with tally.attempt(repr(text[:60])):
            check_people(text, tokens)
            if chance.random() < DRAWN:
                regions = "auto" if chance.random() < 0.3 else None
                given = [people[token] for token in tokens]
                [image] = generate(model.pipe, text, given, num_inference_steps=1, regions=regions)
                file = folder / f"{file_stem(text, 0)}.png"
                save_image(image, file)
                with Image.open(file) as again:
                    again.load()
                described = describe_image(file)
                assert file.parent == folder and described["prompt"], "the picture does not say its prompt"
    return tally
