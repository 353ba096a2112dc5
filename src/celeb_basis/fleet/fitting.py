"""Fitting on a fleet: rows with photos become identity files."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..basis.basis import CelebBasis
from ..basis.instant_map import InstantMap
from ..faces.face import Face, FaceReader
from ..faces.face_reader import face_reader
from ..faces.person import find_person
from ..faces.photo import open_photo
from ..identity import Identity
from ..models.encoders import check_placeholder
from ..models.families import denoiser_of
from ..models.memory import check_trainable, fitted_bytes
from ..training.fit import fit_identities
from ..training.methods import Method, method_of
from ..training.recipe import DEFAULTS, Recipe
from . import places
from .job import Job, Line, photos_of
from .pool import Needs
from .table import Row

FITTED, PLACED = 8, 32  # people in a batch; what is in one is lost with its worker


@dataclass(frozen=True, eq=False)
class Fitting(Job):
    """How people are learnt; a row's own seed, method and steps come before those of the job."""

    needed = ("photos",)

    basis: CelebBasis
    instant: InstantMap | None
    method: str | Method
    recipe: Recipe
    face_reader: str | None
    largest: bool

    @cached_property
    def reader(self) -> FaceReader:
        """Who reads the photographs."""
        return face_reader(self.pipe, self.face_reader)

    @property
    def settings(self) -> Mapping[str, Any]:
        method = method_of(self.method)
        return {
            "basis": self.basis.digest,
            "method": {"name": method.name} | method.settings(self.instant),
            "instant": self.instant and hashlib.sha256(self.instant.coef.numpy().tobytes()).hexdigest(),
            "recipe": asdict(self.recipe),
            "reads": [self.face_reader, self.largest],
        }

    @property
    def bytes_each(self) -> int:
        batch = self.recipe.train_batch_size or DEFAULTS[method_of(self.method).name].train_batch_size
        return batch * fitted_bytes(denoiser_of(self.pipe))

    @property
    def most(self) -> int:
        return PLACED if self.recipe.max_train_steps == 0 else FITTED

    def start(self) -> Needs:
        """Refuse what would fail for everybody."""
        self.basis.check(self.pipe)
        if self.instant is not None:
            self.instant.check(self.basis)
        if self.recipe.max_train_steps != 0:
            check_trainable(self.pipe)
        assert self.reader  # what it runs on may be missing
        return super().start()

    def files(self, row: Row) -> list[str]:
        return photos_of(row)

    def outputs(self, row: Row) -> list[str]:
        return [f"{row.name}.safetensors"]

    def together(self, row: Row) -> Hashable:
        return row.seed, row.method, row.steps

    def opened(self, row: Row, files: Sequence[Path]) -> list[Face]:
        check_placeholder(self.pipe, f"<{row.name}>")
        return find_person([open_photo(file) for file in files], self.reader, largest=self.largest)

    def done(self, rows: Sequence[Row], read: Sequence[list[Face]]) -> list[Line]:
        own: dict[str, Any] = {"seed": rows[0].seed, "max_train_steps": rows[0].steps}
        recipe = replace(self.recipe, **{name: value for name, value in own.items() if value is not None})
        tokens = [f"<{row.name}>" for row in rows]
        method = rows[0].method or self.method
        found = fit_identities(self.pipe, self.basis, read, tokens, recipe, method=method, instant=self.instant)
        return [self._kept(*each) for each in zip(rows, read, found, strict=True)]

    def _kept(self, row: Row, faces: Sequence[Face], identity: Identity) -> Line:
        [file] = self.outputs(row)
        with places.written(places.join(self.out, file)) as temporary:
            identity.save(temporary)
        radii = identity.coefficients(self.basis).norm(dim=-1) / self.basis.radius
        figures = {
            "photos_used": len(faces),
            "radii_from_mean": [round(radius, 4) for radius in radii.tolist()],
            "flaws": sorted({flaw for face in faces for flaw in face.flaws}),
        }
        return {"identity": file, "figures": figures}
