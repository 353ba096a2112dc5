"""Cards of foreign models with values of every kind: each is refused in one line, or is what a card may say."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

from files import Tally
from mutate import NASTY, NUMBERS

from celeb_basis import ModelCard, ModelError

FIELDS = [field.name for field in fields(ModelCard)]
VALUES: list[Any] = [
    *NUMBERS, *NASTY, float("nan"), float("inf"), False, [[]], [{}], [None], [0.5], [1e-300], ["{}"], ["{}{}"],
    ["{0.x}{}"], ["{}"] * 10**5, ["x" * 10**6 + "{}"], "../x.safetensors", "/etc/passwd", ".", "a\\b", "x" * 5000,
    "os:system", "ddim",
]  # fmt: skip
TEXTS = ["", "[]", "null", "{", "[" * 10**5, '{"a":' * 5000, '{"num_inference_steps": 1' + "0" * 5000 + "}", "\0" * 99]


def attack(times: int, seed: str, folder: Path) -> Tally:
    """Read so many cards with one to three values of any kind, and some that are no JSON."""
    chance, tally = random.Random(f"cards {seed}"), Tally()
    card = folder / "celeb_basis.json"
    for _ in range(times):
        content = {chance.choice([*FIELDS, "other"]): chance.choice(VALUES) for _ in range(chance.randint(1, 3))}
        card.write_text(chance.choice(TEXTS) if chance.random() < 0.1 else json.dumps(content))
        with tally.attempt(str(content)[:80], ModelError):
            ModelCard.of(folder)
    return tally
