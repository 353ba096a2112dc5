"""Pictures to train on, drawn afresh: single people, pairs, and faces pasted on black."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from celeb_basis.miniature import world
from celeb_basis.miniature.captions import FACE_CROP, Sampler
from celeb_basis.miniature.people import celebrities, celebrity_identities
from celeb_basis.miniature.readers import crop_faces


@cache
def painter():
    """The renderer, compiled: six times faster, after a minute."""
    return torch.compile(world.draw, dynamic=False)


def draw(scene: world.Scene, *, batch_size: int = 256) -> Tensor:
    """Pictures as bytes, `(n, 3, 64, 64)`, drawn in batches of one shape."""
    pictures = []
    for start in range(0, len(scene), batch_size):
        index = torch.arange(start, start + batch_size).clamp(max=len(scene) - 1)
        picture = painter()(scene[index])[: len(scene) - start]
        pictures.append((picture * 255).round().byte())
    return torch.cat(pictures)


def squares_on_black(n: int, generator: torch.Generator) -> Tensor:
    """Where `n` faces go on black: squares `(n, 4)` of half, three quarters or all of it, on a grid of four pixels."""
    squares = torch.zeros(n, 4)
    for i in range(n):
        size = (32, 48, 64)[int(torch.randint(3, (1,), generator=generator))]
        x, y = (4 * torch.randint((world.SIZE - size) // 4 + 1, (2,), generator=generator)).tolist()
        squares[i] = torch.tensor([x, y, x + size, y + size])
    return squares


def faces_on_black(scene: world.Scene, squares: Tensor) -> Tensor:
    """The method's own training pictures, bytes `(n, 3, 64, 64)`: the faces of `scene` pasted into `squares`."""
    zero = torch.zeros_like(scene.style)
    close_up = replace(
        scene, style=zero, framing=zero + 1, object=zero[:, None], headwear=zero[:, None], x=scene.x * 0 + 32
    )
    faces = crop_faces(draw(close_up).float() / 255, close_up.boxes()[:, 0], world.SIZE)
    canvas = torch.zeros_like(faces)
    for picture, face, (left, top, right, bottom) in zip(canvas, faces, squares.int().tolist(), strict=True):
        small = interpolate(face[None], (bottom - top, right - left), mode="bilinear", antialias=True)[0]
        picture[:, top:bottom, left:right] = small
    return (canvas * 255).round().byte()


@dataclass
class Celebrities:
    """Captioned pictures of celebrities, described and not yet drawn; `boxes (n, people, 4)` are their faces."""

    kind: str
    scene: world.Scene
    captions: list[str]
    boxes: Tensor

    def draw(self) -> Tensor:
        """Bytes `(n, 3, 64, 64)`."""
        return faces_on_black(self.scene, self.boxes[:, 0]) if self.kind == "face" else draw(self.scene)


def celebrities_in(kind: str, n: int, seed: int) -> Celebrities:
    """`n` scenes of celebrities: `single`, `pair`, or `face` (pasted on black)."""
    sampler = Sampler(seed)
    generator = torch.Generator().manual_seed(seed)
    names, identities = celebrities(), celebrity_identities()
    who = torch.randint(len(names), (n, 2 if kind == "pair" else 1), generator=generator)
    scene = sampler.scenes(identities[who])
    if kind == "face":
        captions = [FACE_CROP.format(names[i]) for i in who[:, 0].tolist()]
        return Celebrities(kind, scene, captions, squares_on_black(n, generator)[:, None])
    captions = sampler.captions(scene, [tuple(names[i] for i in row) for row in who.tolist()])
    return Celebrities(kind, scene, captions, scene.boxes())


def everyday_pictures(n: int, seed: int, *, pair: bool = False) -> tuple[Tensor, world.Scene]:
    """`n` pictures of people nobody has met: bytes `(n, 3, 64, 64)` and their scene."""
    sampler = Sampler(seed)
    scene = sampler.scenes(sampler.people(n, 2 if pair else 1))
    return draw(scene), scene
