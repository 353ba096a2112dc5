"""The small world's pictures: people in places, drawn in batches with soft-edged signed-distance shapes.

Coordinates are those of a picture of 128 x 128 whatever the resolution drawn, so one description gives a training
picture of 128 pixels and a photograph of 512.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from . import face, wardrobe
from .backdrops import SCENES as SCENES
from .backdrops import backdrops
from .canvas import SIZE as SIZE
from .canvas import Canvas, colour

TRAITS = (
    "skin lightness", "skin warmth", "hair lightness", "hair redness", "hair length", "hair volume", "fringe",
    "parting", "curl", "face width", "jaw", "chin", "cheeks", "ears", "eye size", "eye spacing", "eye height",
    "eye tilt", "iris", "iris green", "brow thickness", "brow slant", "nose length", "nose width", "mouth width",
    "lips", "freckles", "beard", "moustache", "glasses",
)  # fmt: skip
WORN = 4
"""The last traits are there or not; all others are a matter of degree."""
CLOTHES = ("red shirt", "black suit", "spacesuit", "yellow jacket", "blue sweater")
HEADWEAR = ("none", "red hat", "crown", "blue cap")
EXPRESSIONS = ("neutral", "smiling", "sad", "surprised")
OBJECTS = ("none", "guitar", "balloon", "cup")
STYLES = ("photo", "pencil sketch", "pixel art")
POSES = ("front", "left", "right")
FRAMINGS = ("portrait", "close up", "far away", "pair", "three")

# Head half-height and the height of its centre, by framing.
HEAD = torch.tensor([[34.0, 56.0], [44.0, 64.0], [24.0, 64.0], [24.0, 56.0], [18.0, 56.0]])
# Where the heads of one, two or three people are; on the grid of eight pixels that is the autoencoder's.
PLACED = {1: (64.0,), 2: (32.0, 96.0), 3: (24.0, 64.0, 104.0)}
# The columns that each of them needs: nobody is drawn where nobody can be seen.
COLUMNS = {1: ((0, 128),), 2: ((0, 64), (64, 128)), 3: ((0, 48), (40, 88), (80, 128))}
# A face's square reaches this many head half-heights from the head's centre.
FACE_REACH = 1.45


@dataclass
class Scene:
    """What a batch of pictures shows: indices into the tuples above, and the people in it.

    `identity (n, people, len(TRAITS))` is standard normal; `x (n, people)` the heads' centres; `place (n,)` the
    background's variant; every other field is an index `(n,)`, or `(n, people)` for what each person has.
    """

    identity: Tensor
    x: Tensor
    framing: Tensor
    scene: Tensor
    style: Tensor
    place: Tensor
    clothes: Tensor
    headwear: Tensor
    expression: Tensor
    pose: Tensor
    object: Tensor

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, index: Tensor | slice) -> Scene:
        return Scene(**{key: value[index] for key, value in vars(self).items()})

    def boxes(self) -> Tensor:
        """Return the squares of the faces, `(n, people, 4)` as left, top, right, bottom in 128ths of the picture."""
        half, y = HEAD[self.framing].unbind(-1)
        reach = (half * FACE_REACH)[:, None].expand_as(self.x)
        y = (y - 0.12 * half)[:, None].expand_as(self.x)
        return torch.stack([self.x - reach, y - reach, self.x + reach, y + reach], -1)


def visible(identity: Tensor) -> Tensor:
    """Return the traits as they show: standard normal factors squashed to [-1, 1], those that are worn to [0, 1]."""
    soft = torch.tanh(0.8 * identity)
    worn = torch.sigmoid(10 * (identity[..., -WORN:] - 0.5))
    return torch.cat([soft[..., :-WORN], worn], -1)


def draw(scene: Scene, size: int = SIZE, person: Callable[..., Tensor] | None = None) -> Tensor:
    """Return pictures `(n, 3, size, size)` in [0, 1]; `person` may be a compiled `with_person`."""
    rgb = backdrops(scene.scene, scene.place, size)
    many = scene.x.shape[1]
    for i, columns in enumerate(COLUMNS[many]):
        left, right = (round(column * size / SIZE) for column in columns)
        rgb[..., left:right] = (person or with_person)(
            rgb[..., left:right].contiguous(), scene.identity[:, i].contiguous(), scene.x[:, i] - columns[0],
            HEAD[scene.framing].contiguous(), scene.clothes[:, i].clone(), scene.headwear[:, i].clone(),
            scene.expression[:, i].clone(), scene.pose[:, i].clone(), scene.object[:, i].clone(), alone=many == 1,
        )  # fmt: skip
    return restyled(rgb.clamp(0, 1), scene.style)


def restyled(rgb: Tensor, style: Tensor) -> Tensor:
    """Pictures `(n, 3, h, w)` in the styles `(n,)`; changed in place."""
    for index, restyle in ((1, _sketched), (2, _pixelated)):
        if len(rows := (style == index).nonzero()[:, 0]):
            rgb[rows] = restyle(rgb[rows])
    return rgb


@cache
def painter() -> Callable[..., Tensor]:
    """Return `with_person`, compiled for batches of one size: many times faster, after a minute or two."""
    return torch.compile(with_person, dynamic=False)


def with_person(
    rgb: Tensor, identity: Tensor, x: Tensor, head: Tensor, clothes: Tensor, headwear: Tensor, expression: Tensor,
    pose: Tensor, held: Tensor, *, alone: bool,
) -> Tensor:  # fmt: skip
    """Draw pictures `(n, 3, h, w)` with a person drawn over each, by `head (n, 2)`: half height, centre."""
    c = Canvas(rgb)
    scale = face.each(head[:, 0])
    p = face.Person(
        u=((c.x - face.each(x)) / scale).expand(-1, rgb.shape[-2], -1),
        v=((c.y - face.each(head[:, 1])) / scale).expand(-1, -1, rgb.shape[-1]),
        scale=scale,
        traits=dict(zip(TRAITS, visible(identity).unbind(-1), strict=True)),
        turn=face.each((pose == 2).float() - (pose == 1).float()),
        smiling=face.each((expression == 1).float()),
        sad=face.each((expression == 2).float()),
        surprised=face.each((expression == 3).float()),
    )
    face.hair_behind(c, p)
    face.neck(c, p)
    wardrobe.clothes(c, p, clothes)
    shape = face.head(c, p)
    face.beard(c, p, shape)
    face.eyes(c, p)
    face.nose(c, p)
    face.mouth(c, p)
    face.glasses(c, p)
    face.hair_in_front(c, p)
    if alone:  # several people wear no hats and hold nothing
        wardrobe.headwear(c, p, headwear)
        wardrobe.held(c, p, held)
    return c.rgb


def _sketched(rgb: Tensor) -> Tensor:
    grain = 2 * (rgb.shape[-1] // SIZE) + 1 if rgb.shape[-1] >= SIZE else 3
    grey = (rgb * colour(0.30, 0.59, 0.11)[:, None, None]).sum(1, keepdim=True)
    around = avg_pool2d(grey, grain, 1, grain // 2, count_include_pad=False)
    line = (grey - around).clamp(max=0)
    axis = (torch.arange(rgb.shape[-1]) + 0.5) * (SIZE / rgb.shape[-1])
    hatch = ((axis + axis[:, None]) * 1.3).sin() * 0.07 * (0.75 - around).clamp(min=0)
    return (0.36 + 0.62 * around.clamp(0, 1) ** 0.8 + 4.0 * line + hatch) * colour(1.0, 0.98, 0.93)[:, None, None]


def _pixelated(rgb: Tensor) -> Tensor:
    block = max(1, 4 * rgb.shape[-1] // SIZE)
    pixels = ((avg_pool2d(rgb, block) - 0.5) * 1.25 + 0.5).clamp(0, 1)
    return ((pixels * 5).round() / 5).repeat_interleave(block, -1).repeat_interleave(block, -2)
