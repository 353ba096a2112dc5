"""Pictures to train on, drawn afresh: single people, pairs, and faces pasted on black."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from celeb_basis.miniature import world
from celeb_basis.miniature.captions import FACE_CROP, Sampler
from celeb_basis.miniature.people import celebrities, celebrity_identities
from celeb_basis.miniature.readers import crop_faces


@cache
def painter(compiled: bool):
    """The renderer; compiled it is six times faster, after a minute."""
    return torch.compile(world.draw, dynamic=False) if compiled else world.draw


def draw(scene: world.Scene, *, compiled: bool = True, batch_size: int = 256) -> Tensor:
    """Pictures `(n, 3, 64, 64)` in [0, 1], as bytes would round them, drawn in batches of one shape."""
    pictures = []
    for start in range(0, len(scene), batch_size):
        index = torch.arange(start, start + batch_size).clamp(max=len(scene) - 1)
        picture = painter(compiled)(scene[index])[: len(scene) - start]
        pictures.append((picture * 255).round().byte())
    return torch.cat(pictures)


def paste_on_black(faces: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Faces `(n, 3, 64, 64)` at half, three quarters or full size, somewhere on black, on a grid of four pixels.

    Returns the pictures and the faces' squares `(n, 4)`.
    """
    canvas, boxes = torch.zeros_like(faces), torch.zeros(len(faces), 4)
    for i, face in enumerate(faces):
        size = (32, 48, 64)[int(torch.randint(3, (1,), generator=generator))]
        free = (world.SIZE - size) // 4 + 1
        x, y = (4 * torch.randint(free, (2,), generator=generator)).tolist()
        small = interpolate(face[None], (size, size), mode="bilinear", antialias=True)[0]
        canvas[i, :, y : y + size, x : x + size] = small
        boxes[i] = torch.tensor([x, y, x + size, y + size])
    return canvas, boxes


def faces_on_black(scene: world.Scene, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The method's own training pictures of the people in `scene`: bytes `(n, 3, 64, 64)` and squares `(n, 4)`."""
    zero = torch.zeros_like(scene.style)
    scene.style, scene.framing = zero, zero + 1
    scene.object, scene.headwear = zero[:, None], zero[:, None]
    scene.x = torch.full_like(scene.x, 32.0)
    faces = crop_faces(draw(scene).float() / 255, scene.boxes()[:, 0], world.SIZE)
    pictures, boxes = paste_on_black(faces, generator)
    return (pictures * 255).round().byte(), boxes


def celebrity_pictures(n: int, kind: str, seed: int) -> tuple[Tensor, list[str], Tensor]:
    """`n` captioned pictures of celebrities: bytes `(n, 3, 64, 64)`, captions, and who is in them `(n, people)`.

    `kind` is `single`, `pair`, or `face` (pasted on black).
    """
    sampler = Sampler(seed)
    generator = torch.Generator().manual_seed(seed)
    names, identities = celebrities(), celebrity_identities()
    who = torch.randint(len(names), (n, 2 if kind == "pair" else 1), generator=generator)
    scene = sampler.scenes(identities[who])
    if kind == "face":
        captions = [FACE_CROP.format(names[i]) for i in who[:, 0].tolist()]
        return faces_on_black(scene, generator)[0], captions, who
    called = [tuple(names[i] for i in row) for row in who.tolist()]
    return draw(scene), sampler.captions(scene, called), who


def everyday_pictures(n: int, seed: int, *, pair: bool = False) -> tuple[Tensor, world.Scene]:
    """`n` pictures of people nobody has met: bytes `(n, 3, 64, 64)` and their scene."""
    sampler = Sampler(seed)
    scene = sampler.scenes(sampler.people(n, 2 if pair else 1))
    return draw(scene), scene
