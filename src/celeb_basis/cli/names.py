"""The command that looks at a model's celebrities: basis."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..basis import celebrities as names
from ..errors import BasisError
from .info import describe_basis, describe_instant
from .options import Progress, add_command, add_face_reader, add_model, check_file, count, load_model, positive, whole

if TYPE_CHECKING:
    from ..basis.portraits import Portraits

MADE_UP = 40  # names among those drawn, to see what the model draws for people it does not know
SAVE_EVERY = 30  # seconds of drawing that may have to be done again


def add_commands(commands: Any) -> None:
    """Add this room's command to the parser."""
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
        "Names that are not exactly two tokens of the model are left out. With --filter the model draws every name "
        "a few times (hours, for a large model): names it draws as nobody in particular are left out too, and the "
        "same pictures give the instant map. Stopped, it goes on where it was when called again.",
    )
    add_model(basis)
    basis.add_argument("--names", type=Path, metavar="FILE", help="one name a line (default: celebrities)")
    basis.add_argument("--n-components", type=count, metavar="K", help="of each token (default: the data's rank)")
    basis.add_argument("--filter", action="store_true", help="keep the names whose pictures show one person")
    basis.add_argument("--num-images", type=count, default=4, metavar="N", help="of each name, to filter (default: 4)")
    basis.add_argument("--steps", type=count, metavar="N", help="of the sampler, to filter (default: the model's)")
    basis.add_argument("--guidance", type=positive, metavar="SCALE", help="to filter (default: the model's)")
    add_face_reader(basis)
    basis.add_argument("--batch-size", type=count, default=8, metavar="N", help="pictures drawn at once (default: 8)")
    basis.add_argument("--seed", type=whole, default=0, help="of the pictures (default: 0)")
    basis.add_argument("-o", "--out", type=Path, default=Path("basis.safetensors"), metavar="FILE")


def make_basis(args: argparse.Namespace) -> dict[str, Any]:
    from ..basis.basis import CelebBasis
    from ..basis.instant_map import SUFFIX
    from ..measuring.spectrum import plot_spectrum
    from ..models.encoders import nonsense_names, unusable_names

    out = check_file(args.out, ".safetensors")
    if args.filter and args.num_images < 2:
        raise BasisError("--filter compares pictures of one name: --num-images must be at least 2")
    people = names.read(args.names) if args.names else _shipped(args.model)
    pipe = load_model(args)
    dropped = unusable_names(pipe, people)
    people = [name for name in people if name not in dropped]
    faces: Portraits | None = None
    if args.filter:
        made_up = nonsense_names(pipe, [*people, *_shipped(args.model)], MADE_UP)
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
    plot_spectrum(basis, out.with_suffix(".png"))
    reasons = list(dropped.values())
    report = describe_basis(basis) | {
        "dropped": {why: reasons.count(why) for why in dict.fromkeys(reasons)},
        "dropped_names": dropped if args.json else list(dropped),
        "file": str(out),
        "spectrum": str(out.with_suffix(".png")),
    }
    if faces is not None:
        instant = faces.instant_map(pipe, basis)
        instant.save(out.with_suffix(SUFFIX))
        report |= describe_instant(instant) | {"instant_file": str(out.with_suffix(SUFFIX))}
    return report


def _shipped(model: str) -> list[str]:
    """The names that come with a model."""
    if model != "miniature":
        return names.celebrities()
    from .. import miniature

    return list(miniature.names())


def _draw(args: argparse.Namespace, pipe: Any, people: list[str], kept: Path) -> Portraits:
    """The faces of all names, those drawn earlier read from the file `kept`, in which all of them end up."""
    from ..basis.portraits import Portraits, draw_portraits
    from ..models.load import face_reader

    faces = Portraits.load(kept) if kept.exists() else None
    saved = time.monotonic()
    drawing = draw_portraits(
        pipe,
        people,
        face_reader(pipe, args.face_reader),
        pictures=args.num_images,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        seed=args.seed,
        batch_size=args.batch_size,
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
