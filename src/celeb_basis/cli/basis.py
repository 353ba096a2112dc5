"""The command that looks at a model's celebrities: basis."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BasisError
from .info import describe_basis, describe_instant_map
from .options import Progress, add_command, add_face_reader, add_model, check_file, count, load_model, positive, whole
from .signals import at_once

if TYPE_CHECKING:
    from ..basis.portraits import Portraits
    from ..models.pipeline import Pipeline

NUM_IMAGES, BATCH_SIZE = 4, 8
MADE_UP = 40  # names among those drawn, to see what the model draws for people it does not know
SAVE_EVERY = 30  # seconds of drawing that may have to be done again


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    basis = add_command(
        commands,
        "basis",
        make_basis,
        "make the celeb basis of a model from the names of people it knows",
        """
        basis -o basis.safetensors
        basis --model stable-diffusion-v1-5/stable-diffusion-v1-5 -o sd15.safetensors
        basis --model stable-diffusion-v1-5/stable-diffusion-v1-5 --filter -o sd15.safetensors
        basis --n-components 32 --json""",
        "Names that are not exactly two of the model's tokens are left out. With --filter the model draws every name a "
        "few times, which takes hours with a large model. Names whose pictures do not show one and the same person are "
        "then left out too, and the pictures also give the instant map. After an interruption, the same command "
        "continues with the names that are not drawn yet.",
    )
    add_model(basis)
    basis.add_argument("--names", type=Path, metavar="FILE", help="one name per line (default: the list that ships)")
    basis.add_argument(
        "--n-components", type=count, metavar="K", help="components per token (default: the rank, up to 512)"
    )
    basis.add_argument("--spectrum", type=Path, metavar="FILE.png", help="also plot the spread of the celebrities")
    basis.add_argument("--filter", action="store_true", help="draw the names and keep those the model knows")
    drawing = basis.add_argument_group("drawing the names (with --filter only)")
    drawing.add_argument("--num-images", type=count, metavar="N", help=f"pictures per name (default: {NUM_IMAGES})")
    drawing.add_argument("--steps", type=count, metavar="N", help="sampler steps (default: the model's)")
    drawing.add_argument("--guidance", type=positive, metavar="SCALE", help="guidance scale (default: the model's)")
    add_face_reader(drawing)
    drawing.add_argument(
        "--batch-size", type=count, metavar="N", help=f"pictures drawn at once (default: {BATCH_SIZE})"
    )
    drawing.add_argument("--seed", type=whole, help="seed of the noise (default: 0)")
    basis.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("basis.safetensors"),
        metavar="FILE",
        help="(default: basis.safetensors)",
    )


def make_basis(args: argparse.Namespace) -> dict[str, Any]:
    from ..basis import celebrities
    from ..basis.basis import CelebBasis
    from ..basis.instant_map import SUFFIX
    from ..models.encoders import nonsense_names, unusable_names
    from ..models.pipeline import model_card

    out = check_file(args.out, ".safetensors")
    if args.spectrum:
        check_file(args.spectrum, ".png")
    _check_filter_options(args)
    listed = celebrities.read(args.names) if args.names else None
    pipe = load_model(args)
    own = model_card(pipe).basis
    shipped = list(CelebBasis.load(own).names) if own else celebrities.celebrities()
    people = listed or shipped
    dropped = unusable_names(pipe, people)
    people = [name for name in people if name not in dropped]
    faces: Portraits | None = None
    if args.filter:
        made_up = nonsense_names(pipe, [*people, *shipped], MADE_UP)
        faces = _draw(args, pipe, [*made_up, *people], out.with_suffix(".faces.safetensors"))
        unknown = faces.unknown(made_up)
        dropped |= unknown
        people = [name for name in people if name not in unknown]
        if len(people) < 3:
            raise BasisError(
                f"{args.model} draws {len(people)} of these names as one person each: at least 3 are needed"
            )
    basis = CelebBasis.from_pipeline(pipe, people, args.n_components)
    basis.save(out)
    reasons = list(dropped.values())
    report = describe_basis(basis) | {
        "dropped": {why: reasons.count(why) for why in dict.fromkeys(reasons)},
        "dropped_names": dropped if args.json else list(dropped),
        "file": str(out),
    }
    if args.spectrum:
        from ..measuring.spectrum import plot_spectrum

        plot_spectrum(basis, args.spectrum)
        report["spectrum"] = str(args.spectrum)
    if faces is not None:
        instant = faces.instant_map(pipe, basis)
        instant.save(out.with_suffix(SUFFIX))
        report |= describe_instant_map(instant) | {"instant_map_file": str(out.with_suffix(SUFFIX))}
    return report


def _check_filter_options(args: argparse.Namespace) -> None:
    """Raise BasisError for options of drawing where nothing is drawn, and for too few pictures to compare."""
    options = ("num_images", "steps", "guidance", "face_reader", "batch_size", "seed")
    given = [name for name in options if getattr(args, name) is not None]
    if given and not args.filter:
        raise BasisError(f"--{given[0].replace('_', '-')} is for --filter: add --filter, or leave it out")
    if args.filter and args.num_images == 1:
        raise BasisError("--filter compares pictures of one name: --num-images must be at least 2")


def _draw(args: argparse.Namespace, pipe: Pipeline, people: list[str], kept: Path) -> Portraits:
    """The faces of all names, those drawn earlier read from the file `kept`, in which all of them end up."""
    from ..basis.portraits import Portraits
    from ..drawing.portraits import draw_portraits
    from ..faces.face_reader import face_reader

    faces = Portraits.load(kept) if kept.exists() else None
    with at_once():
        reader = face_reader(pipe, args.face_reader)
    saved = time.monotonic()
    drawing = draw_portraits(
        pipe,
        people,
        reader,
        pictures=args.num_images or NUM_IMAGES,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        seed=args.seed or 0,
        batch_size=args.batch_size or BATCH_SIZE,
        start=faces,
    )
    try:
        with Progress() as bar:
            for faces in drawing:
                bar(len(faces.names), len(people), "drawing names")
                if time.monotonic() - saved > SAVE_EVERY:
                    faces.save(kept)
                    saved = time.monotonic()
    finally:
        if faces is not None:
            faces.save(kept)
    assert faces is not None
    return faces.of(people)
