"""Pictures to train on, drawn afresh: one, two or three people, and faces pasted on black."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from celeb_basis.miniature.drawn import world
from celeb_basis.miniature.drawn.captions import FACE_CROP, Sampler
from celeb_basis.miniature.drawn.people import celebrities, celebrity_identities, fame
from celeb_basis.miniature.drawn.readers import crop_faces

COUNT = {"single": 1, "pair": 2, "three": 3, "face": 1}
"""Kinds of pictures and how many people each shows; a `face` is pasted on black."""
# Batches whose buffers fit the processor's cache are drawn fastest.
_BATCH = 16


def signed(pictures: Tensor) -> Tensor:
    """Bytes as networks read them: floats in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def draw(scene: world.Scene, label: str = "drawing") -> Tensor:
    """Pictures as bytes, `(n, 3, 128, 128)`."""
    pictures = torch.empty(len(scene), 3, world.SIZE, world.SIZE, dtype=torch.uint8)
    for start in tqdm(
        range(0, len(scene), _BATCH), label, unit_scale=_BATCH, unit=" pictures", leave=False, mininterval=10
    ):
        # All batches have one shape, for which the painter was compiled.
        index = torch.arange(start, start + _BATCH).clamp(max=len(scene) - 1)
        picture = world.draw(scene[index], person=world.painter())[: len(scene) - start]
        pictures[start : start + _BATCH] = (picture * 255).round().byte()
    return pictures


def squares_on_black(n: int, generator: torch.Generator) -> Tensor:
    """Where `n` faces go on black: squares `(n, 4)` of half, three quarters or all of it, on a grid of eight pixels."""
    size = torch.tensor([64, 96, 128])[torch.randint(3, (n,), generator=generator)]
    corner = (torch.rand(n, 2, generator=generator) * ((world.SIZE - size) // 8 + 1)[:, None]).floor() * 8
    return torch.cat([corner, corner + size[:, None]], -1)


def faces_on_black(scene: world.Scene, squares: Tensor) -> Tensor:
    """The method's own training pictures, bytes `(n, 3, 128, 128)`: the faces of `scene` pasted into `squares`."""
    zero = torch.zeros_like(scene.style)
    close_up = replace(
        scene, style=zero, framing=zero + 1, object=zero[:, None], headwear=zero[:, None],
        x=torch.full_like(scene.x, world.SIZE / 2),
    )  # fmt: skip
    pictures, boxes = draw(close_up), close_up.boxes()[:, 0]
    canvas = torch.zeros_like(pictures)
    for i, (left, top, right, bottom) in enumerate(squares.int().tolist()):
        face = crop_faces(pictures[i : i + 1].float(), boxes[i : i + 1], world.SIZE)
        small = interpolate(face, (bottom - top, right - left), mode="bilinear", antialias=True)
        canvas[i, :, top:bottom, left:right] = small[0].round().byte()
    return canvas


@dataclass
class Described:
    """Captioned pictures, described and not yet drawn; `who` and `boxes` `(n, people, ...)` are its celebrities."""

    kind: str
    scene: world.Scene
    captions: list[str]
    who: Tensor
    boxes: Tensor

    def draw(self) -> Tensor:
        """Bytes `(n, 3, 128, 128)`."""
        return faces_on_black(self.scene, self.boxes[:, 0]) if self.kind == "face" else draw(self.scene, self.kind)


def celebrities_in(kind: str, n: int, seed: int) -> Described:
    """`n` scenes of celebrities, each as often as fame has it."""
    generator = torch.Generator().manual_seed(seed)
    many = COUNT[kind]
    who = torch.stack([torch.multinomial(fame(), many, generator=generator) for _ in range(n)])
    sampler = Sampler(seed)
    return describe(kind, who, sampler.scenes(celebrity_identities()[who]), sampler, generator)


def describe(kind: str, who: Tensor, scene: world.Scene, sampler: Sampler, generator: torch.Generator) -> Described:
    """Captions for scenes of the celebrities `who (n, people)`."""
    names = celebrities()
    if kind == "face":
        captions = [FACE_CROP.format(names[i]) for i in who[:, 0].tolist()]
        return Described(kind, scene, captions, who, squares_on_black(len(who), generator)[:, None])
    captions = sampler.captions(scene, [tuple(names[i] for i in row) for row in who.tolist()])
    return Described(kind, scene, captions, who, scene.boxes())


def strangers(n: int, seed: int, people: int = 1) -> tuple[Tensor, world.Scene]:
    """`n` pictures of people nobody has met: bytes `(n, 3, 128, 128)` and their scene."""
    sampler = Sampler(seed)
    scene = sampler.scenes(sampler.people(n, people))
    return draw(scene, "strangers"), scene
