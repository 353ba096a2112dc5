"""Pictures to train on, made afresh: one, two or three people in places, and faces pasted on black."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from stages.data import COUNT
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from celeb_basis.miniature.drawn.backdrops import SCENES, VARIANTS, backdrops
from celeb_basis.miniature.drawn.captions import FACE_CROP
from celeb_basis.miniature.drawn.world import SIZE, Scene
from celeb_basis.miniature.portraits import world
from celeb_basis.miniature.portraits.captions import Sampler
from celeb_basis.miniature.portraits.heads import CROP_REACH, Heads
from celeb_basis.miniature.portraits.people import celebrities, fame

SIDES = (48, 64, 80, 96, 128)
"""Sides of the faces on black."""
OWN_GROUND, DRAWN_GROUND = 0.15, 0.6
"""Up to these shares a face on black is a crop with its photograph's ground, or a head in a drawn place; others get
plain colours. Few are crops, for their eyes are not in one place, and a name does not tell where they are."""
_BATCH = 16


def pictures_of(heads: Heads) -> list[Tensor]:
    """Return the numbers of each celebrity's photographs, the most famous first."""
    order = heads.celebrity.argsort(stable=True)
    order = order[heads.celebrity[order] >= 0]
    return list(order.split(heads.celebrity[order].bincount().tolist()))


def draw(scene: Scene, heads: Heads, label: str = "drawing") -> Tensor:
    """Draw pictures as bytes, `(n, 3, 128, 128)`."""
    pictures = torch.empty(len(scene), 3, SIZE, SIZE, dtype=torch.uint8)
    for start in tqdm(range(0, len(scene), _BATCH), label, unit_scale=_BATCH, leave=False, mininterval=10):
        # All batches have one shape, for which the painter was compiled.
        index = torch.arange(start, start + _BATCH).clamp(max=len(scene) - 1)
        picture = world.draw(scene[index], heads, person=world.painter())[: len(scene) - start]
        pictures[start : start + _BATCH] = (picture * 255).round().byte()
    return pictures


def squares_on_black(n: int, generator: torch.Generator) -> Tensor:
    """Return where `n` faces go on black: squares `(n, 4)` of `SIDES`, on the autoencoder's grid."""
    side = torch.tensor(SIDES)[torch.randint(len(SIDES), (n,), generator=generator)]
    corner = (torch.rand(n, 2, generator=generator) * ((SIZE - side) // 8 + 1)[:, None]).floor() * 8
    return torch.cat([corner, corner + side[:, None]], -1)


def faces_on_black(picture: Tensor, mirrored: Tensor, squares: Tensor, heads: Heads, seed: int) -> Tensor:
    """Paste faces into `squares (n, 4)`: bytes `(n, 3, 128, 128)`.

    Their grounds differ, so that a name means the person and not the wall behind.
    """
    generator = torch.Generator().manual_seed(seed)
    canvas = torch.zeros(len(picture), 3, SIZE, SIZE, dtype=torch.uint8)
    for i, (left, top, right, bottom) in enumerate(squares.int().tolist()):
        side = right - left
        kind = float(torch.rand((), generator=generator))
        if kind < OWN_GROUND:
            face = interpolate(heads.crops[picture[i]][None].float() / 255, (side, side), mode="area")
            face = face.flip(-1) if mirrored[i] else face
        else:
            ground = _drawn_ground(side, generator) if kind < DRAWN_GROUND else _plain_ground(side, generator)
            middle = torch.tensor([side / 2])
            laid = heads.laid(("whole",), picture[i : i + 1], mirrored[i : i + 1], middle, middle, middle / CROP_REACH,
                              side, side)  # fmt: skip
            face = ground + (laid[:, :3] - ground) * laid[:, 3:]
        canvas[i, :, top:bottom, left:right] = (face[0].clamp(0, 1) * 255).round().byte()
    return canvas


def _drawn_ground(side: int, generator: torch.Generator) -> Tensor:
    scene, place = (torch.randint(n, (1,), generator=generator) for n in (len(SCENES), VARIANTS))
    return interpolate(backdrops(scene, place), (side, side), mode="area")


def _plain_ground(side: int, generator: torch.Generator) -> Tensor:
    """Return one colour that fades into another from top to bottom."""
    top, bottom = torch.rand(2, 3, 1, 1, generator=generator)
    down = torch.linspace(0, 1, side)[:, None]
    return (top + (bottom - top) * down).expand(3, side, side)[None]


@dataclass
class Described:
    """Captioned pictures, described and not yet drawn; `who (n, people)` are ranks of fame."""

    kind: str
    scene: Scene
    captions: list[str]
    who: Tensor
    boxes: Tensor
    seed: int

    def draw(self, heads: Heads) -> Tensor:
        """Draw them: bytes `(n, 3, 128, 128)`."""
        if self.kind != "face":
            return draw(self.scene, heads, self.kind)
        picture, mirrored = self.scene.identity[:, 0].unbind(-1)
        return faces_on_black(picture, mirrored, self.boxes[:, 0], heads, self.seed)


def celebrities_in(kind: str, n: int, seed: int, heads: Heads) -> Described:
    """Describe `n` pictures of celebrities, each as often as fame has it, by any of the person's photographs."""
    generator = torch.Generator().manual_seed(seed)
    photographs, names = pictures_of(heads), celebrities()
    often = fame(len(photographs))
    who = torch.stack([torch.multinomial(often, COUNT[kind], generator=generator) for _ in range(n)])
    many = torch.tensor([len(own) for own in photographs])
    first = many.cumsum(0) - many
    chosen = (torch.rand(who.shape, generator=generator) * many[who]).long() + first[who]
    sampler = Sampler(seed, heads)
    scene = sampler.scenes(torch.cat(photographs)[chosen])
    if kind == "face":
        captions = [FACE_CROP.format(names[i]) for i in who[:, 0].tolist()]
        boxes = squares_on_black(n, generator)[:, None]
    else:
        captions = sampler.captions(scene, [tuple(names[i] for i in row) for row in who.tolist()])
        boxes = scene.boxes()
    return Described(kind, scene, captions, who, boxes, seed)
