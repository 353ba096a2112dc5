"""Sheets to look at: the world as it is trained on, and new people in the model that ships."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from stages.sheet import tiled

from celeb_basis import Model
from celeb_basis.image_files import save_image

from . import pack
from .data import celebrities_in
from .drawing import PROMPTS
from .features import images

PUBLIC_DOMAIN = "public domain"
"""In the licence of whoever may be shown."""
SEED = 3000
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


def people(folder: Path, *, portraits: Path, device: str, rows: int = 8) -> None:
    """Write `people-sheet.png` and `.jpg`: a row a new person, the photograph first, then pictures after a default fit.

    They are of those for tuning, whose portraits are in the public domain.
    """
    model = Model.load("portraits", device=device)
    shown = {}
    for row in pack.rows(portraits):
        person = int(row["person"])
        if row["role"] == "new" and person % 2 == 0 and PUBLIC_DOMAIN in row["licence"]:
            shown.setdefault(person, f"{person:04d}_{row['picture']}.jpg")
    pictures, prompts = [], [prompt.format("<somebody>") for prompt in PROMPTS[1:]]
    for name in list(shown.values())[:rows]:
        photo = pack.opened(portraits / "portraits-crops.zip", name)
        made = model.generate(prompts, [model.fit(photo, "somebody")], seed=SEED)
        pictures += [photo.resize(made[0].size), *made]
    sheet = folder / "people-sheet.png"
    save_image(tiled(pictures, len(PROMPTS)), sheet, prompt=" | ".join(prompts), seed=SEED, model=model.name)
    with Image.open(sheet) as saved:
        saved.save(sheet.with_suffix(".jpg"), quality=88, optimize=True, xmp=saved.info["XML:com.adobe.xmp"].encode())
