"""The small world's people: celebrities, whose names its model was trained on, and everybody else."""

from __future__ import annotations

from functools import cache

import torch
from PIL import Image
from torch import Tensor

from . import world

FIRST_NAMES, LAST_NAMES = 140, 700
_STARTS = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh st t th tr v w y z".split()
_MIDDLES = "a e i o u ai ea ie oo".split()
_FIRST_ENDS = "na ra la ly ny da mi to ro vin son bel lia mus net dy".split()
_LAST_ENDS = "ker man ford well ster ley ton ber den mont wick gard nell shaw lund dorf vale grove rick sen".split()
# Every stream of random numbers in the world has its own range of seeds; people are numbered from here on.
_PEOPLE_SEED = 1_000_000


@cache
def celebrities() -> tuple[str, ...]:
    """The 700 names the miniature knows: a last name of one's own, a first name shared by five."""
    generator = torch.Generator().manual_seed(7)

    def words(ends: list[str], count: int) -> list[str]:
        pool = sorted({a + b + c for a in _STARTS for b in _MIDDLES for c in ends})
        return [pool[i] for i in torch.randperm(len(pool), generator=generator)[:count].tolist()]

    first, last = words(_FIRST_ENDS, FIRST_NAMES), words(_LAST_ENDS, LAST_NAMES)
    return tuple(f"{first[i % FIRST_NAMES]} {name}" for i, name in enumerate(last))


@cache
def celebrity_identities() -> Tensor:
    """The celebrities' traits, `(700, len(TRAITS))`: 0.6 of the first name's and 0.8 of the last name's draw."""
    generator = torch.Generator().manual_seed(8)
    first = torch.randn(FIRST_NAMES, len(world.TRAITS), generator=generator)
    last = torch.randn(LAST_NAMES, len(world.TRAITS), generator=generator)
    return 0.6 * first[torch.arange(LAST_NAMES) % FIRST_NAMES] + 0.8 * last


def identity(seed: int) -> Tensor:
    """The traits `(len(TRAITS),)` of citizen number `seed`, whom no model was trained on."""
    return torch.randn(len(world.TRAITS), generator=torch.Generator().manual_seed(_PEOPLE_SEED + seed))


def portrait_scene(identities: Tensor) -> world.Scene:
    """Plain close-up photographs of people `(n, len(TRAITS))`: a studio, a red shirt, a neutral face."""
    n = len(identities)
    zero = torch.zeros(n, dtype=torch.long)
    each = zero[:, None]
    return world.Scene(
        identity=identities[:, None], x=torch.full((n, 1), 32.0), framing=zero + 1, scene=zero, style=zero,
        place=torch.zeros(n), clothes=each, headwear=each, expression=each, pose=each, object=each,
    )  # fmt: skip


def portraits(identities: Tensor, size: int = 512) -> list[Image.Image]:
    """Photographs, `size` pixels square, of people `(n, len(TRAITS))`."""
    pictures = world.draw(portrait_scene(identities), size)
    return [Image.fromarray((p.permute(1, 2, 0) * 255).round().byte().numpy()) for p in pictures]


def photograph(seed: int, size: int = 512) -> Image.Image:
    """The photograph, `size` pixels square, of citizen number `seed`: any number, always the same person."""
    return portraits(identity(seed)[None], size)[0]
