"""The three jobs of a fleet: people are fitted, drawn and evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from PIL import Image

from ..backend.families import get_denoiser
from ..backend.memory import check_trainable, drawn_bytes, fitted_bytes
from ..backend.text_encoders import check_placeholder
from ..basis import celebrity_names
from ..errors import OutputError, PromptError
from ..evaluation.evaluate import Person
from ..evaluation.image_cache import BATCH, ImageCache
from ..evaluation.judge import Judge
from ..evaluation.protocols import Protocol
from ..faces.face import Face
from ..faces.photo import open_photo
from ..fit.methods import Method, get_method
from ..fit.recipe import DEFAULTS, Recipe
from ..identity import Identity
from ..image_files import file_stem, save_image
from . import storage
from .job import Job, Line, line_of, photos_of
from .pool import Needs
from .table import Row

# People in a batch, which is lost with its worker. They are fitted side by side, and measured one after the other.
MAX_FITTED, MAX_PLACED, MAX_DRAWN, MAX_EVALUATED = 8, 32, 8, 1


@dataclass(frozen=True, eq=False)
class FitJob(Job):
    """Photos become identity files; a row's own seed, method and steps come before those of the job."""

    columns = ("photos",)

    method: str | Method
    recipe: Recipe
    largest_face: bool
    mixed: bool

    @property
    def settings(self) -> Mapping[str, Any]:
        # A basis that workers make of the shipped names may differ between machines in the last bit of a number.
        basis = self.basis.digest if self.basis else hashlib.sha256("\n".join(celebrity_names()).encode()).hexdigest()
        method = get_method(self.method)
        return {
            "basis": basis,
            "method": {"name": method.name} | method.settings(self.instant_map),
            "instant_map": self.instant_map and hashlib.sha256(self.instant_map.coef.numpy().tobytes()).hexdigest(),
            "recipe": asdict(self.recipe),
            "faces": [self.face_reader, self.largest_face, self.mixed],
        }

    @property
    def bytes_per_item(self) -> int:
        batch = self.recipe.train_batch_size or DEFAULTS[get_method(self.method).name].train_batch_size
        return batch * fitted_bytes(get_denoiser(self.model.pipe))

    @property
    def max_batch(self) -> int:
        return MAX_PLACED if self.recipe.max_train_steps == 0 else MAX_FITTED

    def load(self) -> Needs:
        """Load the model, its basis and its face reader. Raises the error that everybody would meet."""
        _ = self.model.basis, self.model.face_reader  # both are made when they are first asked for
        if self.recipe.max_train_steps != 0:
            check_trainable(self.model.pipe)
        return super().load()

    def inputs(self, row: Row) -> list[str]:
        return photos_of(row)

    def outputs(self, row: Row) -> list[str]:
        return [f"{row.name}.safetensors"]

    def group(self, row: Row) -> Hashable:
        return row.seed, row.method, row.steps

    def read(self, row: Row, files: Sequence[Path]) -> list[Face]:
        check_placeholder(self.model.pipe, f"<{row.name}>")
        return self.model.find_faces(files, largest_face=self.largest_face, mixed=self.mixed)

    def work(self, rows: Sequence[Row], contents: Sequence[list[Face]]) -> list[Line]:
        own: dict[str, Any] = {"seed": rows[0].seed, "max_train_steps": rows[0].steps}
        recipe = replace(self.recipe, **{name: value for name, value in own.items() if value is not None})
        people = {row.name: faces for row, faces in zip(rows, contents, strict=True)}
        *_, last = self.model.fit_steps(people, method=rows[0].method or self.method, **vars(recipe))
        return [self._write(*each) for each in zip(rows, contents, last.identities, strict=True)]

    def _write(self, row: Row, faces: Sequence[Face], identity: Identity) -> Line:
        [file] = self.outputs(row)
        try:
            with storage.written(self._path(file)) as temporary:
                identity.save(temporary)
        except OutputError as error:
            return line_of(row, error)
        radii = identity.coefficients(self.model.basis).norm(dim=-1) / self.model.basis.median_radius
        figures = {
            "photos_used": len(faces),
            "radii_from_mean": [round(radius, 4) for radius in radii.tolist()],
            "flaws": sorted({flaw for face in faces for flaw in face.flaws}),
        }
        return {"identity": file, "figures": figures}


@dataclass(frozen=True, eq=False)
class GenerateJob(Job):
    """Identity files become images, in a folder for each person; a row's own seed comes before that of the job.

    prompts: with {} where the name stands.
    options: of `generate`; None takes the model's own.
    """

    columns = ("identity",)

    prompts: Sequence[str]
    num_images_per_prompt: int
    seed: int
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        for text in self.prompts:
            if "{}" not in text:
                raise PromptError(f"the prompt {text!r} needs {{}} where the name stands", argument="prompts")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "prompts": self.prompts,
            "images": self.num_images_per_prompt,
            "seed": self.seed,
            "options": dict(self.options),
        }

    @property
    def bytes_per_item(self) -> int:
        return drawn_bytes(get_denoiser(self.model.pipe))

    @property
    def max_batch(self) -> int:
        return MAX_DRAWN

    def inputs(self, row: Row) -> list[str]:
        return [row.identity]

    def outputs(self, row: Row) -> list[str]:
        """Return the image files, each prompt's in a row; prompts whose names would be alike are numbered."""
        stems: dict[str, None] = {}
        for text in self.prompts:
            stem = file_stem(self._prompt(text, row), 0).removesuffix("-0")
            numbered = chain([stem], (f"{stem}-{i}" for i in count(2)))
            stems[next(name for name in numbered if name not in stems)] = None
        return [f"{row.name}/{stem}-{seed}.png" for stem in stems for seed in self._seeds(row)]

    def read(self, row: Row, files: Sequence[Path]) -> Identity:
        return _load_identity(self, row, files[0])

    def work(self, rows: Sequence[Row], contents: Sequence[Identity]) -> list[Line]:
        lines = {row.name: {"identity": row.identity, "pictures": self.outputs(row)} for row in rows}
        files = {row.name: iter(self.outputs(row)) for row in rows}
        for text in self.prompts:
            prompts = [self._prompt(text, row) for row in rows]
            images = self.model.generate(
                prompts,
                contents,
                num_images_per_prompt=self.num_images_per_prompt,
                seed=self._seeds(rows[0])[0],
                batch_size=len(rows),
                **self.options,
            )
            drawn = (
                (row, prompt, seed) for row, prompt in zip(rows, prompts, strict=True) for seed in self._seeds(row)
            )
            for image, (row, prompt, seed) in zip(images, drawn, strict=True):
                try:
                    self._write(image, next(files[row.name]), prompt, seed)
                except OutputError as error:
                    lines[row.name] = line_of(row, error)
        return [lines[row.name] for row in rows]

    def _seeds(self, row: Row) -> range:
        seed = self.seed if row.seed is None else row.seed
        return range(seed, seed + self.num_images_per_prompt)

    def _prompt(self, text: str, row: Row) -> str:
        return text.replace("{}", f"<{row.name}>")

    def _write(self, image: Image.Image, file: str, prompt: str, seed: int) -> None:
        with storage.written(self._path(file)) as temporary:
            save_image(image, temporary)


FIGURES = ("identity", "identity_where_found", "prompt", "detection", "any_face")


@dataclass(frozen=True, eq=False)
class EvaluateJob(Job):
    """Identity files and photos become figures; the model's own celebrities are not measured.

    protocol, seeds, seed: see `evaluate_people`. judge, clip: see `get_judge`.
    """

    columns = ("identity", "photos")

    protocol: Protocol
    seeds: int
    seed: int
    num_inference_steps: int | None
    guidance_scale: float | None
    sampler: str | None
    negative_prompt: str | None
    judge: str | None
    clip: str | None
    largest_face: bool
    _judges: dict[str, Judge] = field(default_factory=dict)  # by the face reader that fitted a person

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "basis": self.basis and self.basis.digest,
            "protocol": asdict(self.protocol),
            "images": [
                self.seeds,
                self.seed,
                self.num_inference_steps,
                self.guidance_scale,
                self.sampler,
                self.negative_prompt,
            ],
            "judge": [self.judge, self.clip, self.largest_face],
        }

    @property
    def bytes_per_item(self) -> int:
        return BATCH * drawn_bytes(get_denoiser(self.model.pipe))

    @property
    def max_batch(self) -> int:
        return MAX_EVALUATED

    def inputs(self, row: Row) -> list[str]:
        return [row.identity, *photos_of(row)]

    def read(self, row: Row, files: Sequence[Path]) -> Person:
        return Person(_load_identity(self, row, files[0]), [open_photo(file) for file in files[1:]])

    def work(self, rows: Sequence[Row], contents: Sequence[Person]) -> list[Line]:
        return [self._evaluate(row, person) for row, person in zip(rows, contents, strict=True)]

    def _evaluate(self, row: Row, person: Person) -> Line:
        fitted_with = person.identity.provenance.get("face_reader", "")
        if fitted_with not in self._judges:
            self._judges[fitted_with] = self.model.get_judge(
                [person.identity], reader=self.judge, clip=self.clip, default_clip=self.protocol.clip
            )
        report = self.model.evaluate(
            person.identity,
            person.photos,
            judge=self._judges[fitted_with],
            protocol=self.protocol,
            seeds=self.seeds,
            seed=self.seed if row.seed is None else row.seed,
            celebrities=0,
            image_cache=ImageCache(
                self.model.pipe, self.num_inference_steps, self.guidance_scale, None, self.sampler, self.negative_prompt
            ),
            largest_face=self.largest_face,
        )
        means = {key: round(report[key]["mean"], 4) for key in FIGURES if key in report}
        return {
            "identity": row.identity,
            "figures": means | {"n_images": report["n_images"], "judge": report["judge"]},
        }


def _load_identity(job: Job, row: Row, file: Path) -> Identity:
    """Return a row's identity. Raises IdentityError where it belongs to another model."""
    identity = Identity.load(file, f"<{row.name}>")
    identity.check(job.model.pipe)
    return identity
