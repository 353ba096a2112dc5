"""Fitting on a fleet: rows with photos become identity files."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..backend.families import get_denoiser
from ..backend.memory import check_trainable, fitted_bytes
from ..backend.text_encoders import check_placeholder
from ..basis import CelebBasis
from ..faces.face import Face, FaceReader, find_person
from ..faces.photo import open_photo
from ..faces.reader import get_face_reader
from ..fit.loop import fit_steps
from ..fit.methods import Method, get_method
from ..fit.recipe import DEFAULTS, Recipe
from ..identity import Identity
from ..instant_map import InstantMap
from ..model import basis_of_celebrities
from . import storage as storage
from .job import Job, Line, photos_of
from .pool import Needs
from .table import Row

FITTED, PLACED = 8, 32  # people in a batch; what is in one is lost with its worker


@dataclass(frozen=True, eq=False)
class FitJob(Job):
    """How people are learnt; a row's own seed, method and steps come before those of the job."""

    needed = ("photos",)

    given_basis: CelebBasis | None
    instant_map: InstantMap | None
    method: str | Method
    recipe: Recipe
    face_reader: str | None
    largest_face: bool

    @cached_property
    def basis(self) -> CelebBasis:
        """Return the basis given, or the one that is made of the shipped names."""
        return self.given_basis or basis_of_celebrities(self.pipe)

    @cached_property
    def reader(self) -> FaceReader:
        """Who reads the photographs."""
        return get_face_reader(self.pipe, self.face_reader)

    @property
    def settings(self) -> Mapping[str, Any]:
        method = get_method(self.method)
        return {
            "basis": self.given_basis and self.given_basis.digest,
            "method": {"name": method.name} | method.settings(self.instant_map),
            "instant": self.instant_map and hashlib.sha256(self.instant_map.coef.numpy().tobytes()).hexdigest(),
            "recipe": asdict(self.recipe),
            "reads": [self.face_reader, self.largest_face],
        }

    @property
    def bytes_each(self) -> int:
        batch = self.recipe.train_batch_size or DEFAULTS[get_method(self.method).name].train_batch_size
        return batch * fitted_bytes(get_denoiser(self.pipe))

    @property
    def most(self) -> int:
        return PLACED if self.recipe.max_train_steps == 0 else FITTED

    def start(self) -> Needs:
        """Refuse what would fail for everybody."""
        self.basis.check(self.pipe)
        if self.instant_map is not None:
            self.instant_map.check(self.basis)
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
        return find_person([open_photo(file) for file in files], self.reader, largest_face=self.largest_face)

    def done(self, rows: Sequence[Row], read: Sequence[list[Face]]) -> list[Line]:
        own: dict[str, Any] = {"seed": rows[0].seed, "max_train_steps": rows[0].steps}
        recipe = replace(self.recipe, **{name: value for name, value in own.items() if value is not None})
        tokens = [f"<{row.name}>" for row in rows]
        method = rows[0].method or self.method
        steps = fit_steps(self.pipe, self.basis, read, tokens, recipe, method=method, instant_map=self.instant_map)
        *_, last = steps
        return [self._kept(*each) for each in zip(rows, read, last.identities, strict=True)]

    def _kept(self, row: Row, faces: Sequence[Face], identity: Identity) -> Line:
        [file] = self.outputs(row)
        with storage.written(storage.join(self.out, file)) as temporary:
            identity.save(temporary)
        radii = identity.coefficients(self.basis).norm(dim=-1) / self.basis.median_radius
        figures = {
            "photos_used": len(faces),
            "radii_from_mean": [round(radius, 4) for radius in radii.tolist()],
            "flaws": sorted({flaw for face in faces for flaw in face.flaws}),
        }
        return {"identity": file, "figures": figures}
