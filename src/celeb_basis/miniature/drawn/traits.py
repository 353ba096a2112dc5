"""What the drawn world's readers see of a face: traits, learnt from drawn people whose traits are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...faces.face import Face
from ...instant_map import ridge
from . import world
from .captions import Sampler

# What may be ordered of a person, by the trait of the world; its other traits cannot be read off a reader's feature.
ORDERS = {
    "glasses": "glasses",
    "beard": "beard",
    "moustache": "moustache",
    "long-hair": "hair length",
    "thick-hair": "hair volume",
    "fair-hair": "hair lightness",
    "red-hair": "hair redness",
    "fringe": "fringe",
    "light-skin": "skin lightness",
    "wide-face": "face width",
}
PEOPLE, SEED = 500, 77_000
ALPHAS = tuple(10.0**e for e in range(-4, 3))


def learn_rows(read: Callable[[Sequence[Image.Image]], list[list[Face]]]) -> dict[str, Tensor]:
    """Return the row (d,) of each trait, whose product with a face's feature says how much of it is seen.

    read: of a face reader. It is shown people whom nobody has met, each in one picture of any scene.
    """
    sampler = Sampler(SEED)
    people = sampler.people(PEOPLE)
    features, known = [], []
    for some in people.split(50):
        scene = sampler.scenes(some)
        pictures = [
            Image.fromarray(np.asarray((each.permute(1, 2, 0) * 255).round().byte())) for each in world.draw(scene)
        ]
        for faces, identity in zip(read(pictures), some[:, 0], strict=True):
            if len(faces) == 1:
                features.append(faces[0].feature)
                known.append(world.visible(identity))
    x, y = torch.stack(features).double(), torch.stack(known).double()
    rows = {}
    for order, name in ORDERS.items():
        rows[order] = ridge(x, y[:, [world.TRAITS.index(name)]], ALPHAS).coef[0].float()
    return rows
