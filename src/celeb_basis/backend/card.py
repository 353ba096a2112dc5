"""ModelCard: what a model recommends for itself, read from a JSON file beside its weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..limits import (
    MAX_COUNT,
    MAX_GUIDANCE,
    MAX_LEARNING_RATE,
    MAX_MILESTONES,
    MAX_SAMPLER_STEPS,
    MAX_SIDE,
    MAX_TEMPLATES,
    MIN_FACE_SCALE,
)
from ..notation import excerpt, is_template

DEFAULT_MODEL, PORTRAITS = "miniature", "portraits"
# Models in this package, by name: each is a folder in diffusers' format with a card.
_WORLDS = Path(__file__).parents[1] / "miniature"
SHIPPED = {DEFAULT_MODEL: _WORLDS / "drawn" / "pipeline", PORTRAITS: _WORLDS / "portraits" / "pipeline"}
FILE = "celeb_basis.json"
LEARNT = ("instant_map", "directions", "faces")  # what belongs to a basis
METHOD_FIELDS = ("max_train_steps", "learning_rate", "train_batch_size")  # that a card may hold of a method
# Schedulers, as module:class.
SAMPLERS = {
    "ddim": "diffusers:DDIMScheduler",
    "dpm++2m": "diffusers:DPMSolverMultistepScheduler",
    "euler": "diffusers:EulerDiscreteScheduler",
    "rbf": "celeb_basis.backend.rbf_solver:RBFSolverScheduler",
    "unipc": "diffusers:UniPCMultistepScheduler",
}


@dataclass(frozen=True)
class ModelCard:
    """What a model recommends for itself; None leaves the library's default.

    num_inference_steps, guidance_scale: for drawing.
    resolution: side of its pictures in pixels, where it is not what the model's family draws by itself.
    sampler: one of ddim, dpm++2m, euler, rbf, unipc, instead of the scheduler that the model brings.
    templates: captions of the training pictures, with {} for the name.
    scales: the only sizes of faces that the model has learnt, as shares of a training picture's side; such faces are
        whole, and cover whole latents.
    max_train_steps, learning_rate, num_milestones: of a fit by the default method; the steps are those from the mean
        person, of which a fit from an instant map takes fewer.
    methods: max_train_steps, learning_rate and train_batch_size of other methods, by their names, where the published
        ones do not suit the model.
    face_loss_steps: how many steps with the face loss follow a fit; without it, or with 0, they follow where they are
        asked for.
    scenes: prompts in which the model draws the person for it, with {} for the name.
    portraits: prompts that show what the model knows of a name, with {} for the name.
    face_reader: the installed reader of this model's faces; None where the model draws photographs.
    judge: the installed judge that evaluates this model's pictures.
    basis, instant_map, directions, faces: .safetensors files; in the JSON file, names of files in the same folder. The
        faces are those that the model draws for the names of its basis.

    Raises ModelError for values that cannot be meant.
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    resolution: int | None = None
    sampler: str | None = None
    templates: tuple[str, ...] | None = None
    scales: tuple[float, ...] | None = None
    max_train_steps: int | None = None
    learning_rate: float | None = None
    num_milestones: int | None = None
    methods: Mapping[str, Mapping[str, float]] | None = None
    face_loss_steps: int | None = None
    scenes: tuple[str, ...] | None = None
    portraits: tuple[str, ...] | None = None
    face_reader: str | None = None
    judge: str | None = None
    basis: Path | None = None
    instant_map: Path | None = None
    directions: Path | None = None
    faces: Path | None = None

    def __post_init__(self) -> None:
        steps, guidance = self.num_inference_steps, self.guidance_scale
        if steps is not None and not (type(steps) is int and 1 <= steps <= MAX_SAMPLER_STEPS):
            raise ModelError(f"num_inference_steps={steps!r} must be a whole number from 1 to {MAX_SAMPLER_STEPS}")
        if guidance is not None and not (_is_number(guidance) and 0 <= guidance < MAX_GUIDANCE):
            raise ModelError(f"guidance_scale={guidance!r} must be a number from 0, below {MAX_GUIDANCE}")
        side = self.resolution
        if side is not None and not (type(side) is int and 8 <= side <= MAX_SIDE and side % 8 == 0):
            raise ModelError(f"resolution={side!r} must be a multiple of 8, up to {MAX_SIDE}")
        if self.sampler is not None and self.sampler not in tuple(SAMPLERS):
            raise ModelError(f"sampler={self.sampler!r} must be one of {', '.join(SAMPLERS)}")
        for name in ("templates", "scenes", "portraits"):
            texts = getattr(self, name)
            if texts is not None and not (_is_list(texts) and all(map(is_template, texts))):
                raise ModelError(
                    f"{name} must be prompts with {{}} once in each, where the name stands, and no other brace"
                )
        scales = self.scales
        if scales is not None and not (
            _is_list(scales) and all(_is_number(s) and MIN_FACE_SCALE <= s <= 1 for s in scales)
        ):
            raise ModelError(f"scales must be shares of the picture, from {MIN_FACE_SCALE} to 1")
        own = ("max_train_steps", "learning_rate", "num_milestones", "face_loss_steps")
        _check_fit({name: getattr(self, name) for name in own})
        for method, values in ({} if self.methods is None else _mapping("methods", self.methods)).items():
            if others := sorted(set(_mapping(f"methods of {method}", values)) - set(METHOD_FIELDS)):
                raise ModelError(f"methods of {method} has {others[0]!r}: there are {', '.join(METHOD_FIELDS)}")
            _check_fit(values)
        for name in ("face_reader", "judge"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ModelError(f"{name}={value!r} must be the name of one that is installed")
        for name in LEARNT:
            if getattr(self, name) is not None and self.basis is None:
                raise ModelError(f"{name} needs the basis that it was learnt in: name that file as basis")

    @classmethod
    def of(cls, model: str | Path) -> ModelCard:
        """Return the card beside a model: celeb_basis.json in its folder, or NAME.celeb_basis.json beside its file.

        No weights are loaded. Without such a file, and for a hub id, the card is empty.

        Raises ModelError, in one line, for a file that is no card.
        """
        from ..io import read_text  # imports torch, which --help does without

        place = local_path(model)
        path = place / FILE if os.path.isdir(place) else place.with_suffix(f".{FILE}")
        if not os.path.isfile(path):
            return cls()
        try:
            content = json.loads(read_text(path, ModelError))
            if not isinstance(content, dict):
                raise ValueError("it must hold one JSON object")
            return cls(**_values(content, path.parent))
        except (ValueError, RecursionError, ModelError) as error:
            raise ModelError(f"{path} is no model card: {excerpt(str(error), 300)}") from error


def lay_card(folder: Path, values: Mapping[str, Any], where_silent: Mapping[str, Any]) -> None:
    """Write values into the card of a folder, and others where it says nothing else; what else it says is kept.

    Raises ModelError for a file that is no card.
    """
    from ..io import write_atomically  # which needs torch

    path = folder / FILE
    ModelCard.of(folder)
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps({**where_silent, **old, **values}, indent=2) + "\n", encoding="utf-8")


def local_path(model: str | Path) -> Path:
    """Return where a model lies on this machine, if it does."""
    return SHIPPED.get(str(model)) or Path(model).expanduser()


def _values(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return JSON values as the card's own: lists as tuples, names of files as paths in the card's folder."""
    known = {field.name for field in fields(ModelCard)}
    if unknown := sorted(set(content) - known):
        raise ValueError(f"{unknown[0]!r} is no field of a card; there are {', '.join(sorted(known))}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    for key in ("basis", *LEARNT):
        if (name := values.get(key)) is None:
            continue
        if not isinstance(name, str) or Path(name).name != name or name.startswith("."):
            raise ValueError(f"{key} must be the name of a file in the same folder")
        if not os.path.isfile(folder / name):  # unlike Path.is_file, False for a name too long
            raise ValueError(f"there is no {folder / name}, which it names as {key}")
        values[key] = folder / name
    return values


def _check_fit(values: Mapping[str, object]) -> None:
    """Raise ModelError for settings of a fit that cannot be meant; None leaves the default."""
    for name, least, most in (
        ("max_train_steps", 1, MAX_COUNT),
        ("train_batch_size", 1, MAX_COUNT),
        ("num_milestones", 0, MAX_MILESTONES),
        ("face_loss_steps", 0, MAX_COUNT),
    ):
        count = values.get(name)
        if count is not None and not (type(count) is int and least <= count <= most):
            raise ModelError(f"{name}={count!r} must be a whole number from {least} to {most}")
    rate = values.get("learning_rate")
    if rate is not None and not (isinstance(rate, int | float) and _is_number(rate) and 0 < rate <= MAX_LEARNING_RATE):
        raise ModelError(f"learning_rate={rate!r} must be a number above 0, up to {MAX_LEARNING_RATE}")


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    """Return a value that must be an object of JSON. Raises ModelError for another one."""
    if not isinstance(value, Mapping):
        raise ModelError(f'{name} must be an object such as {{"paper": {{"max_train_steps": 200}}}}')
    return value


def _is_list(value: object) -> bool:
    """Return whether a value is a tuple with some entries, but not too many."""
    return isinstance(value, tuple) and 0 < len(value) <= MAX_TEMPLATES


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
