"""Measuring on a fleet: rows with identity files and photos become figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backend.families import get_denoiser
from ..backend.memory import drawn_bytes
from ..basis import CelebBasis
from ..evaluation.evaluate import Person, evaluate_people
from ..evaluation.image_cache import BATCH
from ..evaluation.image_cache import ImageCache as Pictures
from ..evaluation.judge import Judge, get_judge
from ..faces.photo import open_photo
from ..identity import Identity
from .job import Job, Line, photos_of
from .table import Row

TOGETHER = 4  # people in a batch, one after the other


@dataclass(frozen=True, eq=False)
class EvaluateJob(Job):
    """How people are measured: see `measuring.evaluate_people`. The model's own celebrities are not measured.

    judge, clip: of `get_judge`.
    """

    needed = ("identity", "photos")

    basis: CelebBasis | None
    prompts: Mapping[str, Sequence[str]]
    seeds: int
    seed: int
    num_inference_steps: int | None
    guidance_scale: float | None
    sampler: str | None
    judge: str | None
    clip: str | None
    largest_face: bool
    _judges: dict[str, Judge] = field(default_factory=dict)  # by the face reader that fitted a person

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "basis": self.basis and self.basis.digest,
            "prompts": dict(self.prompts),
            "pictures": [self.seeds, self.seed, self.num_inference_steps, self.guidance_scale, self.sampler],
            "judge": [self.judge, self.clip, self.largest_face],
        }

    @property
    def bytes_each(self) -> int:
        return BATCH * drawn_bytes(get_denoiser(self.pipe))

    @property
    def most(self) -> int:
        return TOGETHER

    def files(self, row: Row) -> list[str]:
        return [row.identity, *photos_of(row)]

    def opened(self, row: Row, files: Sequence[Path]) -> Person:
        identity = Identity.load(files[0], f"<{row.name}>")
        identity.check(self.pipe)
        return Person(identity, [open_photo(file) for file in files[1:]])

    def done(self, rows: Sequence[Row], read: Sequence[Person]) -> list[Line]:
        return [self._measured(row, person) for row, person in zip(rows, read, strict=True)]

    def _measured(self, row: Row, person: Person) -> Line:
        fitted_with = person.identity.provenance.get("face_reader", "")
        if fitted_with not in self._judges:
            self._judges[fitted_with] = get_judge(self.pipe, [person.identity], reader=self.judge, clip=self.clip)
        report, _ = evaluate_people(
            self.pipe,
            [person],
            judge=self._judges[fitted_with],
            basis=self.basis,
            prompts=self.prompts,
            seeds=self.seeds,
            seed=self.seed if row.seed is None else row.seed,
            celebrities=0,
            drawing=Pictures(self.pipe, self.num_inference_steps, self.guidance_scale, sampler=self.sampler),
            largest_face=self.largest_face,
        )
        means = {key: round(report[key]["mean"], 4) for key in ("identity", "prompt", "detection") if key in report}
        return {
            "identity": row.identity,
            "figures": means | {"n_images": report["n_images"], "judge": report["judge"]},
        }
