"""Many people on many machines, on Ray: fitted, drawn and measured from a table, each once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..backend.card import DEFAULT_MODEL, SHIPPED, local_path
from ..basis import CelebBasis
from ..errors import BasisError
from ..evaluation.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from ..fit.methods import Method
from ..fit.recipe import Recipe
from ..instant_map import InstantMap
from ..model import resolve_basis
from . import storage as storage
from .drawing import GenerateJob
from .fitting import FitJob
from .measuring import EvaluateJob
from .people import FleetStep, steps_of
from .pool import LOCAL
from .portraits import draw_portraits

__all__ = ["FleetStep", "draw_portraits", "evaluate", "fit", "generate"]


def fit(
    table: str,
    out: str,
    *,
    model: Mapping[str, Any] | str = DEFAULT_MODEL,
    basis: CelebBasis | None = None,
    instant_map: InstantMap | None = None,
    method: str | Method = "celeb-basis",
    recipe: Recipe = Recipe(),
    face_reader: str | None = None,
    largest_face: bool = False,
    address: str = LOCAL,
    workers: int | None = None,
    people_at_once: int | None = None,
) -> Iterator[FleetStep]:
    """Learn the people of a table; yield each when their identity file is written.

    table, out: a table with the columns name and photo or photos (see `table.read_rows`), and the folder for the
        identity files and the manifest; local, or anything that fsspec opens and every worker reaches.
    model: of `load_pipeline`, or all its arguments, as a dict.
    basis, instant: by default those that the model brings along.
    method, recipe: see `fit_steps`. People with the same method and seed are learnt side by side.
    address: of a Ray cluster; by default workers are started on this machine.
    workers, people_at_once: by default a worker for every GPU, or else as many as CPUs and memory allow, and as many
        people in each as its memory allows, at most 8.

    Raises BasisError where there is no basis, PhotoError for a wrong table, FleetError where no worker can be started.
    A photo without a face, or one that cannot be read, is an error in that person's line of the manifest.
    """
    given = _model(model)
    if basis is None:
        basis, own_map = resolve_basis(given["model"])
        instant_map = instant_map or own_map
    if instant_map is None and recipe.max_train_steps == 0:
        raise BasisError("without training every person would be the mean person: give an instant map of this basis")
    job = FitJob(given, storage.absolute(out), basis, instant_map, method, recipe, face_reader, largest_face)
    return steps_of(job, storage.absolute(table), address=address, workers=workers, people_at_once=people_at_once)


def generate(
    table: str,
    out: str,
    prompts: Sequence[str],
    *,
    model: Mapping[str, Any] | str = DEFAULT_MODEL,
    num_images_per_prompt: int = 1,
    seed: int = 0,
    address: str = LOCAL,
    workers: int | None = None,
    people_at_once: int | None = None,
    **options: Any,
) -> Iterator[FleetStep]:
    """Draw the people of a table; yield each when their pictures are written, in a folder of their name.

    table: with the column identity, such as the manifest of `fit`.
    prompts: with {} where the name stands.
    options: negative_prompt, num_inference_steps, guidance_scale, sampler, height and width of `celeb_basis.generate`.
    The rest is as in `fit`.
    """
    job = GenerateJob(_model(model), storage.absolute(out), prompts, num_images_per_prompt, seed, options)
    return steps_of(job, storage.absolute(table), address=address, workers=workers, people_at_once=people_at_once)


def evaluate(
    table: str,
    out: str,
    *,
    model: Mapping[str, Any] | str = DEFAULT_MODEL,
    basis: CelebBasis | None = None,
    prompts: Mapping[str, Sequence[str]] = PROTOCOLS[DEFAULT_PROTOCOL],
    seeds: int = 2,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    judge: str | None = None,
    clip: str | None = None,
    largest_face: bool = False,
    address: str = LOCAL,
    workers: int | None = None,
    people_at_once: int | None = None,
) -> Iterator[FleetStep]:
    """Measure the people of a table; yield each when they are measured. The figures are in the manifest.

    table: with the columns identity and photo or photos, such as the manifest of `fit`.
    prompts, seeds, seed, basis: see `celeb_basis.evaluate_people`; the model's own celebrities are not measured.
    judge, clip: see `measuring.judge.get_judge`. The rest is as in `fit`.
    """
    job = EvaluateJob(
        _model(model), storage.absolute(out), basis, prompts, seeds, seed, num_inference_steps, guidance_scale,
        sampler, judge, clip, largest_face,
    )  # fmt: skip
    return steps_of(job, storage.absolute(table), address=address, workers=workers, people_at_once=people_at_once)


def _model(model: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """The arguments of `load_pipeline`, local models named as every process finds them."""
    given = {"model": model} if isinstance(model, str) else dict(model)
    name = given.setdefault("model", DEFAULT_MODEL)
    if name not in SHIPPED and os.path.exists(local_path(name)):
        given["model"] = str(local_path(name).absolute())
    return given
