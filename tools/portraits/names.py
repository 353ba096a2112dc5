"""Invents the celebrities' names: first names by gender, shared unevenly, and last names, some of them shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from celeb_basis.basis import celebrity_names
from celeb_basis.miniature.portraits.people import NAMES

from . import pack

FIRST_NAMES = 140
"""First names of each gender."""
SHARED = 0.2
"""Share of the celebrities whose last name is somebody else's, too."""
_STARTS = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh st t th tr v w y z".split()
_MIDDLES = "a e i o u ai ea ie oo".split()
_ENDS = {"f": "na ra la lia ny da mi sa bel ria leth".split(), "m": "to ro vin son mus dor ric net lan gor dy".split()}
_LINKS = "l n r v d m".split()
_LAST_ENDS = (
    "aker orman ord ewell oster ley ton iber den mont wick gard inell shaw lund dorf vale grove rick sen".split()
)
_SEED = 12


def run(folder: Path, *, portraits: Path, device: str) -> None:
    """Write the package's list of names."""
    NAMES.write_text(
        "\n".join(invented(pack.genders(pack.rows(portraits)), [name.lower() for name in celebrity_names()])) + "\n"
    )


def invented(genders: Sequence[str], avoid: Sequence[str] = ()) -> list[str]:
    """Return a full name for each person of gender m, f or unknown; nobody of `avoid` is called so."""
    generator = torch.Generator().manual_seed(_SEED)

    def words(pool: set[str], count: int) -> list[str]:
        ordered = sorted(pool)
        return [ordered[i] for i in torch.randperm(len(ordered), generator=generator)[:count].tolist()]

    firsts, taken = {}, set(_pool(_ENDS["f"]) & _pool(_ENDS["m"]))
    for gender, ends in _ENDS.items():
        firsts[gender] = words(_pool(ends) - taken, FIRST_NAMES)
    own = round((1 - SHARED) * len(genders))
    lasts = words({a + b + c + d for a in _STARTS for b in _MIDDLES for c in _LINKS for d in _LAST_ENDS}, own)
    # As in reality the k-th name is chosen as often as 1 / k or so.
    common = 1 / (torch.arange(FIRST_NAMES) + 8.0)
    shared = torch.multinomial(1 / (torch.arange(own) + 30.0), len(genders) - own, True, generator=generator)
    order = torch.randperm(len(genders), generator=generator)
    last = torch.cat([torch.arange(own), shared])[order].tolist()
    names: list[str] = []
    seen = set(avoid)
    for gender, family in zip(genders, last, strict=True):
        pool = firsts[gender or "fm"[len(names) % 2]]
        while (name := f"{pool[int(torch.multinomial(common, 1, generator=generator))]} {lasts[family]}") in seen:
            pass
        seen.add(name)
        names.append(name)
    return names


def _pool(ends: Sequence[str]) -> set[str]:
    return {a + b + c for a in _STARTS for b in _MIDDLES for c in ends}
