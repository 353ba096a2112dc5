"""Every artefact and every kind of picture, damaged: each is refused in one line, or is what it should be."""

from __future__ import annotations

import random
import resource
import signal
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutate import ANY, TENSORS, Mutation
from PIL import Image

from celeb_basis import CelebBasis, CelebBasisError, Identity, InstantMap, open_photo
from celeb_basis.cli.command import as_text
from celeb_basis.cli.info import info_of_file
from celeb_basis.directions import Directions
from celeb_basis.inversion import SIDE, Inversion
from celeb_basis.known_names import Portraits

LIMIT = 20  # seconds that a file may take
PICTURES = {
    "jpg": {"quality": 90},
    "png": {},
    "webp": {"quality": 80},
    "gif": {},
    "tiff": {"compression": "tiff_lzw"},
    "bmp": {},
    "avif": {},
    "jp2": {},
    "ppm": {},
}


@dataclass
class Tally:
    """What became of the files of one kind, or of a command; `refused` counts those that ended in one line."""

    tried: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slow: int = 0

    @contextmanager
    def attempt(self, what: str, refusal: type[Exception] = CelebBasisError) -> Iterator[None]:
        """Count the block, which either does what it should or raises a refusal of one line, and in time."""
        self.tried += 1
        begun = time.monotonic()
        try:
            with limited(LIMIT):
                yield
        except refusal as error:
            self.refused += 1
            if not str(error) or not str(error).isprintable():
                self.failures.append(f"{what}: it says {str(error)[:80]!r}")
        except BaseException as error:
            self.failures.append(f"{what}: {type(error).__name__} {str(error)[:80]}")
            if isinstance(error, KeyboardInterrupt):
                raise
        took = time.monotonic() - begun
        self.slowest = max(self.slowest, took)
        if took > LIMIT:  # the library may have taken the alarm for an error of a file
            self.slow += 1
            self.failures.append(f"{what}: it takes {took:.0f} s")

    def row(self) -> dict[str, Any]:
        """For the table."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "tried": self.tried,
            "refused": self.refused,
            "failed": len(self.failures),
            "slow": self.slow,
            "slowest_s": round(self.slowest, 2),
            "peak_mb": round(peak),
            "kinds": dict(Counter(self.failures)),
        }


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where the block takes longer."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def artefacts(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A sound file of each kind, and what reads it."""
    torch.manual_seed(0)
    rows = torch.randn(24, 2, 16)
    basis = CelebBasis.fit(rows, [f"n{i} m{i}" for i in range(24)], 6, model="tiny", fingerprint="f")
    features = torch.nn.functional.normalize(torch.randn(24, 8), dim=-1)
    instant_map = InstantMap.fit(features, torch.randn(24, 2, 6), basis=basis, face_reader="r")
    inversion = Inversion("a face of {}", torch.randn(3, 1 + 3 * SIDE * SIDE), torch.randn(3, 17))
    portraits = Portraits(features[:, None].repeat(1, 2, 1), torch.full((len(features),), 2), basis.names, "[]", "r")
    directions = Directions.fit(features[:, :2], torch.randn(24, 2, 6), ["age", "smile"], basis=basis, seen_by="r")
    identity = Identity.sample(basis, "<ada>")
    sound = {
        "identity": (identity, Identity.load),
        "basis": (basis, CelebBasis.load),
        "map": (instant_map, InstantMap.load),
        "inversion": (replace(instant_map, inversion=inversion), InstantMap.load),
        "directions": (directions, Directions.load),
        "portraits": (portraits, Portraits.load),
    }
    result: dict[str, tuple[Path, Callable[[Path], Any]]] = {}
    for name, (artefact, load) in sound.items():
        artefact.save(folder / f"{name}.safetensors")
        result[name] = folder / f"{name}.safetensors", load
    torch.save({"string_to_param": {"*": identity.vectors}}, folder / "foreign.pt")
    result["foreign"] = folder / "foreign.pt", Identity.load
    return result


def pictures(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A small picture in each format."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    for suffix, options in PICTURES.items():
        Image.fromarray(pixels).save(folder / f"picture.{suffix}", **options)
    return {suffix: (folder / f"picture.{suffix}", open_photo) for suffix in PICTURES}


def attack(
    file: Path, read: Callable[[Path], Any], times: int, seed: str, folder: Path, mutations: Sequence[Mutation] = ()
) -> Tally:
    """Read a file damaged in so many ways, by the library and by the info command.

    mutations: by default those of files of its kind.
    """
    chance, sound, tally = random.Random(f"{file.name} {seed}"), file.read_bytes(), Tally()
    damaged = folder / f"damaged{file.suffix}"
    mutations = mutations or (TENSORS if file.suffix == ".safetensors" else ANY)
    for _ in range(times):
        mutation = chance.choice(mutations)
        damaged.write_bytes(mutation(sound, chance))
        with tally.attempt(mutation.__name__):
            read(damaged)
            text = as_text(info_of_file(Namespace(file=damaged, basis=None)))
            assert text.replace("\n", "").isprintable(), "control characters are printed"
    return tally
