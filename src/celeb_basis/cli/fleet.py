"""Commands for many people at once, on many machines: fleet fit, fleet generate, fleet evaluate."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..backend.card import DEFAULT_MODEL
from .evaluate import add_measuring, protocol_of
from .fit import add_fitting, method_and_recipe, resolve
from .options import (
    Progress,
    add_command,
    add_largest_face,
    add_model,
    add_sampling,
    hide_loading_bars,
    loading,
    model_again,
    nonnegative_int,
    positive_int,
)

if TYPE_CHECKING:
    from ..fleet import FleetStep

logger = logging.getLogger(__name__)

SAY_EVERY = 60  # seconds, where no bar can be drawn
ERRORS = 3  # in the report; all of them are in the manifest


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    fleet = commands.add_parser("fleet", help="fit, draw or measure a table of people, on all GPUs or CPUs there are")
    parts = fleet.add_subparsers(required=True, metavar="COMMAND")

    fit = add_command(
        parts,
        "fit",
        fit_table,
        "learn all people of a table",
        """
        fleet fit people.csv -o people
        fleet fit people.parquet -o people --steps 0
        fleet fit folder-of-folders -o people
        fleet fit s3://bucket/people.csv -o s3://bucket/people --address auto""",
        "The table has the columns name and photo (or photos, separated by semicolons), and may have seed, method and "
        "steps; a folder has a folder of photos for each person. A photo that cannot be used is an error in the line "
        "of that person in DIR/manifest.jsonl. The same command again does only what is missing or has changed.",
    )
    _add_fleet(fit, "people", "identity files")
    add_model(fit)
    add_fitting(fit)

    generate = add_command(
        parts,
        "generate",
        generate_table,
        "draw all people of a table",
        """
        fleet generate people/manifest.jsonl "a photo of {} on the beach"
        fleet generate people/manifest.jsonl "{} in the snow" "a pencil sketch of {}" -n 4 -o pictures""",
        "The table has the column identity, and may have name and seed; the manifest of fleet fit is such a table.",
    )
    _add_fleet(generate, "pictures", "pictures, in a folder for each person")
    generate.add_argument("prompts", nargs="+", metavar="PROMPT", help="text with {} where a person's name stands")
    add_model(generate)
    generate.add_argument(
        "-n", "--num-images", type=positive_int, default=1, metavar="N", help="pictures of each prompt (default: 1)"
    )
    add_sampling(generate)
    generate.add_argument("--negative-prompt", metavar="TEXT", help="what the pictures should not show")
    generate.add_argument("--seed", type=nonnegative_int, default=0, help="picture i starts from seed + i (default: 0)")

    evaluate = add_command(
        parts,
        "evaluate",
        evaluate_table,
        "measure likeness and prompt fidelity of all people of a table",
        """
        fleet evaluate people/manifest.jsonl -o evaluation
        fleet evaluate people.csv --seeds 4 --protocol paper --json""",
        "The table has the columns identity and photo (or photos), and may have name and seed; the manifest of fleet "
        "fit is such a table. The pictures are not kept, and the model's celebrities are not measured beside them.",
    )
    _add_fleet(evaluate, "evaluation", "manifest with the figures")
    add_model(evaluate)
    evaluate.add_argument("--basis", metavar="FILE", help="whose names stand beside people (default: the model's)")
    add_measuring(evaluate)
    add_largest_face(evaluate)


def _add_fleet(parser: argparse.ArgumentParser, out: str, what: str) -> None:
    parser.add_argument("table", metavar="TABLE", help="a .csv, .tsv, .jsonl or .parquet file, or a folder of folders")
    parser.add_argument("-o", "--out", default=out, metavar="DIR", help=f"{what} (default: {out})")
    fleet = parser.add_argument_group("the fleet (files may be anything that fsspec opens, such as s3://)")
    fleet.add_argument("--address", default="local", help="of a Ray cluster (default: workers on this machine)")
    fleet.add_argument(
        "--workers", type=positive_int, metavar="N", help="(default: one for each GPU, or what CPUs and memory allow)"
    )
    fleet.add_argument(
        "--people-at-once", type=positive_int, metavar="N", help="people in each worker (default: as memory allows)"
    )


def _fleet_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the model and the workers asked for."""
    hide_loading_bars()
    return {
        "model": loading(args),
        "address": args.address,
        "workers": args.workers,
        "people_at_once": args.people_at_once,
    }


def fit_table(args: argparse.Namespace) -> dict[str, Any]:
    """Fit the people of a table and return the report."""
    from .. import fleet
    from ..fit.recipe import Recipe

    basis, instant_map = resolve(args)
    method, recipe = method_and_recipe(args)
    steps = fleet.fit(
        args.table,
        args.out,
        basis=basis,
        instant_map=instant_map,
        method=method,
        recipe=Recipe(**recipe),
        face_reader=args.face_reader,
        largest_face=args.largest_face,
        mixed=args.mixed,
        **_fleet_options(args),
    )
    report = _report(args, steps, "fitting")
    table = shlex.quote(report["manifest"])
    again = model_again(args, (DEFAULT_MODEL,))
    return report | {"next": f'celeb-basis fleet generate {table} "a photo of {{}} on the beach"{again}'}


def generate_table(args: argparse.Namespace) -> dict[str, Any]:
    """Draw the people of a table and return the report."""
    from .. import fleet

    steps = fleet.generate(
        args.table,
        args.out,
        args.prompts,
        num_images_per_prompt=args.num_images,
        seed=args.seed,
        negative_prompt=args.negative_prompt,
        num_inference_steps=args.num_inference_steps,
        guidance_scale=args.guidance_scale,
        sampler=args.sampler,
        **_fleet_options(args),
    )
    return _report(args, steps, "drawing")


def evaluate_table(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the people of a table and return the report."""
    import numpy as np

    from .. import fleet
    from ..basis import CelebBasis
    from ..evaluation.scores import estimate
    from ..fleet.jobs import FIGURES

    steps = fleet.evaluate(
        args.table,
        args.out,
        basis=CelebBasis.load(args.basis) if args.basis else None,
        protocol=protocol_of(args),
        seeds=args.seeds,
        seed=args.seed,
        num_inference_steps=args.num_inference_steps,
        guidance_scale=args.guidance_scale,
        sampler=args.sampler,
        negative_prompt=args.negative_prompt,
        judge=args.judge,
        clip=args.clip,
        largest_face=args.largest_face,
        **_fleet_options(args),
    )
    found: dict[str, list[float]] = {}

    def noted() -> Iterator[FleetStep]:
        with closing(steps):  # type: ignore[type-var]
            for step in steps:
                for key, value in step.line.get("figures", {}).items():
                    if key in FIGURES and isinstance(value, int | float):
                        found.setdefault(key, []).append(value)
                yield step

    report = _report(args, noted(), "measuring")
    return report | {key: estimate(np.array(values)) for key, values in found.items()}


def _report(args: argparse.Namespace, steps: Iterator[FleetStep], what: str) -> dict[str, Any]:
    """Go through all steps with a bar, or a line a minute; return the report."""
    done = total = kept = 0
    errors: list[str] = []
    wrong, begun = 0, time.monotonic()
    said = begun
    with Progress(quiet=args.quiet) as bar, closing(steps):  # type: ignore[type-var]
        for step in steps:
            done, total, kept = step.done, step.total, kept + step.kept
            if step.line["error"]:
                wrong += 1
                errors = [*errors, f"{step.line['name']}: {step.line['error']}"][:ERRORS]
            now = time.monotonic()
            rate = 60 * done / max(1e-3, now - begun)
            note = f"{rate:,.0f} a minute, {wrong:,} errors"
            bar(done, total, what, note)
            if not sys.stderr.isatty() and now - said > SAY_EVERY:
                left = (total - done) / rate
                logger.info(f"{what}: {done:,} of {total:,} people, {note}, {left:,.0f} minutes left")
                said = now
    seconds = time.monotonic() - begun
    return {
        "people": total,
        "done": done - kept - wrong,
        "there_already": kept,
        "errors": wrong,
        "first_errors": errors,
        "people_per_minute": 60 * (done - kept) / seconds,
        "manifest": f"{args.out.rstrip('/')}/manifest.jsonl",
    }
