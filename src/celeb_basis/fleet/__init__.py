"""Many people on many machines, on Ray: fitted, drawn and evaluated from a table, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend.card import DEFAULT_MODEL
from ..basis import CelebBasis
from ..errors import BasisError, FleetError, PhotoError
from ..evaluation.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol
from ..fit.methods import Method
from ..fit.recipe import Recipe
from ..instant_map import InstantMap
from ..model import resolve_basis
from . import storage
from .job import Job, line_of, loading_of
from .jobs import EvaluateJob, FitJob, GenerateJob
from .known_names import draw_portraits
from .manifest import Manifest
from .pool import LOCAL, run
from .table import read_rows

__all__ = ["FleetStep", "draw_portraits", "evaluate", "fit", "generate"]


@dataclass(frozen=True)
class FleetStep:
    """One more person is through.

    line: what the manifest says of them: name, error (None where all went well), photos, the files that were made,
        figures, seconds, inputs.
    kept: they were there from an earlier run, and their inputs are what they were.
    done, total: people of the table.
    """

    line: Mapping[str, Any]
    kept: bool
    done: int
    total: int


def fit(
    table: str,
    out: str,
    *,
    model: Mapping[str, Any] | str = DEFAULT_MODEL,
    basis: CelebBasis | str | Path | None = None,
    instant_map: InstantMap | str | Path | None = None,
    method: str | Method = "celeb-basis",
    recipe: Recipe = Recipe(),
    face_reader: str | None = None,
    largest_face: bool = False,
    mixed: bool = False,
    address: str = LOCAL,
    workers: int | None = None,
    people_at_once: int | None = None,
) -> Iterator[FleetStep]:
    """Learn the people of a table; yield each when their identity file is written.

    table, out: a table with the columns name and photo or photos (see `table.read_rows`), and the folder for the
        identity files and the manifest; local, or anything that fsspec opens and every worker reaches.
    model: its name, or all arguments of `load_pipeline`, as a dict.
    basis, instant_map, face_reader: see `Model.load`.
    method, recipe: see `fit_steps`. People with the same method and seed are learnt side by side.
    address: of a Ray cluster; by default workers are started on this machine.
    workers, people_at_once: by default a worker for every GPU, or else as many as CPUs and memory allow, and as many
        people in each as its memory allows, at most 8.

    Raises BasisError where everybody would be the mean person, PhotoError for a wrong table, FleetError where no worker
    can be started. A photo without a face, or one that cannot be read, is an error in that person's line of the
    manifest.
    """
    loading = loading_of(model)
    basis, instant_map = resolve_basis(loading["model"], basis, instant_map)
    if instant_map is None and recipe.max_train_steps == 0:
        raise BasisError(
            "without training every person would be the mean person: give an instant map of this basis",
            argument="instant_map",
        )
    out = storage.absolute(out)
    job = FitJob(loading, basis, instant_map, face_reader, out, method, recipe, largest_face, mixed)
    return _steps(job, table, address=address, workers=workers, at_once=people_at_once)


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
    """Draw the people of a table; yield each when their images are written, in a folder of their name.

    table: with the column identity, such as the manifest of `fit`.
    prompts: with {} where the name stands.
    options: negative_prompt, num_inference_steps, guidance_scale, sampler, height and width of `celeb_basis.generate`.
    The rest is as in `fit`.
    """
    loading, out = loading_of(model), storage.absolute(out)
    job = GenerateJob(loading, None, None, None, out, prompts, num_images_per_prompt, seed, options)
    return _steps(job, table, address=address, workers=workers, at_once=people_at_once)


def evaluate(
    table: str,
    out: str,
    *,
    model: Mapping[str, Any] | str = DEFAULT_MODEL,
    basis: CelebBasis | str | Path | None = None,
    protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL],
    seeds: int = 2,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    negative_prompt: str | None = None,
    judge: str | None = None,
    clip: str | None = None,
    largest_face: bool = False,
    address: str = LOCAL,
    workers: int | None = None,
    people_at_once: int | None = None,
) -> Iterator[FleetStep]:
    """Measure the people of a table; yield each when they are measured. The figures are in the manifest.

    table: with the columns identity and photo or photos, such as the manifest of `fit`.
    protocol, seeds, seed: see `evaluate_people`; the model's own celebrities are not measured.
    num_inference_steps, guidance_scale, sampler, negative_prompt: see `ImageCache`; None takes the protocol's.
    judge, clip: see `get_judge`. The rest is as in `fit`.
    """
    loading, out = loading_of(model), storage.absolute(out)
    basis, _ = resolve_basis(loading["model"], basis)
    job = EvaluateJob(
        loading, basis, None, None, out, protocol, seeds, seed, num_inference_steps, guidance_scale, sampler,
        negative_prompt, judge, clip, largest_face,
    )  # fmt: skip
    return _steps(job, table, address=address, workers=workers, at_once=people_at_once)


def _steps(job: Job, table: str, *, address: str, workers: int | None, at_once: int | None) -> Iterator[FleetStep]:
    """Yield each person of a table as they are through the job; those whose inputs are as before are not done again.

    The table is read twice, the first time to count its people and to refuse what is wrong with it. Raises PhotoError
    for a table, FleetError for workers, OutputError for the job's folder.
    """
    table = storage.absolute(table)
    manifest = Manifest(job.out)
    total = 0
    for row in read_rows(table, job.columns):
        manifest.expect(row.name)
        total += 1
    if not total:
        raise PhotoError(f"{table} names nobody")
    manifest.begin()
    items = ((row, manifest.get(row.name).get("inputs")) for row in read_rows(table, job.columns))
    done = 0
    try:
        for batch, answers in run(job, items, total, address=address, workers=workers, at_once=at_once):
            rows = [row for row, _ in batch]
            lines = [line_of(row, answers) for row in rows] if isinstance(answers, FleetError) else answers
            manifest.add(line for line in lines if line is not None)
            for row, line in zip(rows, lines, strict=True):
                done += 1
                yield FleetStep(line or manifest.get(row.name), line is None, done, total)
    finally:
        manifest.close()
