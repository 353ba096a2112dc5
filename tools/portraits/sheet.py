"""Sheets to look at: the world as it is trained on, and the pictures that the model makes."""

from __future__ import annotations

from pathlib import Path

import torch
from stages.sheet import tiled

from . import pack
from .data import celebrities_in
from .features import images

KINDS = {"single": 63, "pair": 18, "three": 18, "face": 27}


def world(folder: Path, *, device: str) -> None:
    """Write `world-sheet.png`: pictures to train on, of each kind."""
    heads = pack.load(folder)
    torch.manual_seed(0)
    pictures = []
    for kind, n in KINDS.items():
        described = celebrities_in(kind, n, 7, heads)
        pictures += images(described.draw(heads))
        print("\n".join(described.captions[:9]))
    tiled(pictures, 9).save(folder / "world-sheet.png", optimize=True)
