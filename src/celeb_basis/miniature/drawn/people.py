"""The small world's people: celebrities, whose names its model is trained on, and everybody else."""

from __future__ import annotations

from functools import cache

import torch
from PIL import Image
from torch import Tensor

from . import world

CELEBRITIES, FIRST_NAMES, LAST_NAMES = 2048, 256, 1600
_STARTS = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh st t th tr v w y z".split()
_MIDDLES = "a e i o u ai ea ie oo".split()
_FIRST_ENDS = "na ra la ly ny da mi to ro vin son bel lia mus net dy".split()
_LAST_ENDS = "ker man ford well ster ley ton ber den mont wick gard nell shaw lund dorf vale grove rick sen".split()
# Every stream of random numbers in the world has its own range of seeds; people are numbered from here on.
_PEOPLE_SEED = 1_000_000
_NAMES_SEED = 7
_TRAITS_SEED = 8


@cache
def _who() -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Return full names, and each one's first and last name as an index."""
    generator = torch.Generator().manual_seed(_NAMES_SEED)

    def words(ends: list[str], count: int, taken: set[str]) -> list[str]:
        pool = sorted({a + b + c for a in _STARTS for b in _MIDDLES for c in ends} - taken)
        return [pool[i] for i in torch.randperm(len(pool), generator=generator)[:count].tolist()]

    firsts = words(_FIRST_ENDS, FIRST_NAMES, set())
    lasts = words(_LAST_ENDS, LAST_NAMES, set(firsts))
    # First names are shared unevenly, as in reality: the k-th is chosen as often as 1 / k or so.
    common = 1 / (torch.arange(FIRST_NAMES) + 8.0)
    first = torch.multinomial(common, CELEBRITIES, True, generator=generator)
    # Everybody of the first 1,600 has a last name of one's own; the others share one with somebody.
    shared = torch.multinomial(
        1 / (torch.arange(LAST_NAMES) + 30.0), CELEBRITIES - LAST_NAMES, True, generator=generator
    )
    last = torch.cat([torch.arange(LAST_NAMES), shared])[torch.randperm(CELEBRITIES, generator=generator)]
    seen: set[tuple[int, int]] = set()
    for i in range(CELEBRITIES):
        while (pair := (int(first[i]), int(last[i]))) in seen:
            first[i] = (first[i] + 1) % FIRST_NAMES
        seen.add(pair)
    names = tuple(f"{firsts[i]} {lasts[j]}" for i, j in zip(first.tolist(), last.tolist(), strict=True))
    return names, first, last


def celebrities() -> tuple[str, ...]:
    """Return the 2,048 names that the miniature knows, the most famous first; some first and last names recur."""
    return _who()[0]


@cache
def celebrity_identities() -> Tensor:
    """Return the celebrities' traits `(2048, len(TRAITS))`: 0.6 of the first name, 0.64 of the last, 0.48 of their own.

    A first name makes people a little alike and a shared last name makes relatives, of whom each is somebody.
    """
    _, first, last = _who()
    generator = torch.Generator().manual_seed(_TRAITS_SEED)
    of_first, of_last, own = (
        torch.randn(n, len(world.TRAITS), generator=generator) for n in (FIRST_NAMES, LAST_NAMES, CELEBRITIES)
    )
    return 0.6 * of_first[first] + 0.8 * (0.8 * of_last[last] + 0.6 * own)


def fame() -> Tensor:
    """Return how often each celebrity is pictured, `(2048,)` of mean 1: the first nine times as often as the last."""
    often = (torch.arange(CELEBRITIES) + 100.0) ** -0.7
    return often / often.mean()


def identity(seed: int) -> Tensor:
    """Return the traits `(len(TRAITS),)` of citizen number `seed`, whom no model was trained on."""
    return torch.randn(len(world.TRAITS), generator=torch.Generator().manual_seed(_PEOPLE_SEED + seed))


def portrait_scene(identities: Tensor) -> world.Scene:
    """Return plain close-up photographs of people `(n, len(TRAITS))`: a studio, a red shirt, a neutral face."""
    n = len(identities)
    zero = torch.zeros(n, dtype=torch.long)
    each = zero[:, None]
    return world.Scene(
        identity=identities[:, None], x=torch.full((n, 1), world.SIZE / 2), framing=zero + 1, scene=zero, style=zero,
        place=zero, clothes=each, headwear=each, expression=each, pose=each, object=each,
    )  # fmt: skip


def portraits(identities: Tensor, size: int = 512) -> list[Image.Image]:
    """Return photographs, `size` pixels square, of people `(n, len(TRAITS))`."""
    pictures = world.draw(portrait_scene(identities), size)
    return [Image.fromarray((p.permute(1, 2, 0) * 255).round().byte().numpy()) for p in pictures]


def photograph(seed: int, size: int = 512) -> Image.Image:
    """Return the photograph, `size` pixels square, of citizen number `seed`: any number, always the same person."""
    return portraits(identity(seed)[None], size)[0]
