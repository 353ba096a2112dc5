"""The drawn world with photographed heads: places, clothes, hats and things are drawn, the people's heads are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ..drawn import wardrobe
from ..drawn.backdrops import backdrops
from ..drawn.canvas import Canvas, colour, soft
from ..drawn.face import Person, across, each
from ..drawn.world import HEAD, SIZE, Scene, restyled
from .heads import Heads

COLUMNS = {1: ((0, 128),), 2: ((0, 72), (56, 128)), 3: ((0, 56), (36, 92), (72, 128))}
"""The columns each person may reach into: hair is wider than drawn heads are."""
LIGHT = torch.tensor(
    [[1.0, 1.0, 1.0], [1.04, 1.02, 0.97], [0.95, 1.0, 0.92], [0.84, 0.83, 0.94], [0.98, 1.01, 1.05], [0.88, 0.86, 0.98],
     [1.05, 0.97, 0.88]]
)  # fmt: skip
"""The light of each place that falls on people."""
COVERED = -0.85
"""Hair above this height is under a hat or a cap."""


class Body(Person):
    """What clothes, hats and things need to know of a person: where the head is, how wide, and the skin's colour."""

    def __init__(self, c: Canvas, x: Tensor, head: Tensor, skin: Tensor, breadth: Tensor) -> None:
        self.scale = each(head[:, 0])
        height, width = c.rgb.shape[-2:]
        self.u = ((c.x - each(x)) / self.scale).expand(-1, height, -1)
        self.v = ((c.y - each(head[:, 1])) / self.scale).expand(-1, -1, width)
        self.skin, self.shadow = skin, skin * colour(0.56, 0.44, 0.42)
        self.width, self.volume = each(breadth - 0.12), 0.12 + 0 * each(breadth)
        self.turn = 0 * self.scale


def draw(scene: Scene, heads: Heads, size: int = SIZE, person: Callable[..., Tensor] | None = None) -> Tensor:
    """Draw pictures `(n, 3, size, size)` in [0, 1].

    `scene.identity (n, people, 2)` holds the number of each person's photograph and whether it is mirrored; `person`
    may be a compiled `with_person`.
    """
    rgb = backdrops(scene.scene, scene.place, size)
    zoom, light = size / SIZE, LIGHT[scene.scene]
    for i, columns in enumerate(COLUMNS[scene.x.shape[1]]):
        left, right = (round(column * zoom) for column in columns)
        picture, mirrored = scene.identity[:, i].long().unbind(-1)
        x, head = scene.x[:, i] - columns[0], HEAD[scene.framing]
        layers = heads.laid(("head", "front"), picture, mirrored, zoom * x, zoom * head[:, 1], zoom * head[:, 0],
                            size, right - left)  # fmt: skip
        rgb[..., left:right] = (person or with_person)(
            rgb[..., left:right].contiguous(), layers, light, heads.skin[picture], heads.breadth[picture], x,
            head.contiguous(), scene.clothes[:, i].clone(), scene.headwear[:, i].clone(), scene.object[:, i].clone(),
            alone=scene.x.shape[1] == 1,
        )  # fmt: skip
    return restyled(rgb.clamp(0, 1), scene.style)


@cache
def painter() -> Callable[..., Tensor]:
    """Return `with_person`, compiled for batches of one size: many times faster, after a minute."""
    return torch.compile(with_person, dynamic=False)


def with_person(
    rgb: Tensor, layers: Tensor, light: Tensor, skin: Tensor, breadth: Tensor, x: Tensor, head: Tensor, clothes: Tensor,
    headwear: Tensor, held: Tensor, *, alone: bool,
) -> Tensor:  # fmt: skip
    """Draw a person over each of the pictures `(n, 3, h, w)`, by `head (n, 2)`: half height, centre."""
    c = Canvas(rgb)
    p = Body(c, x, head, skin * light, breadth)
    photograph, whole, front = (layers[:, :3] * across(light)).clamp(0, 1), layers[:, 3], layers[:, 4]
    hidden = each(((headwear == 1) | (headwear == 3)).float()) * (p.v < COVERED)
    _neck(c, p)
    c.paint(photograph, whole * (1 - hidden))
    wardrobe.clothes(c, p, clothes)
    c.paint(photograph, front * (1 - hidden))
    if alone:  # several people wear no hats and hold nothing
        wardrobe.headwear(c, p, headwear)
        wardrobe.held(c, p, held)
    return c.rgb


def _neck(c: Canvas, p: Person) -> None:
    """Draw a neck, of which little is seen: the photograph has one of its own."""
    shape = torch.maximum(torch.maximum(p.u.abs() - 0.36, 0.5 - p.v), p.v - 1.75)
    shade = 0.70 * soft(1.02 - p.v + 0.25 * p.u**2, 0.4) + 0.18 - 0.25 * p.u
    c.paint(across(p.shadow).lerp(across(p.skin), shade.clamp(0, 1)[:, None]), c.cover(shape * p.scale))
