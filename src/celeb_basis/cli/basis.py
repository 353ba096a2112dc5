"""The command that looks at a model's celebrities: basis."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backend.card import FILE, ModelCard, lay_card
from ..errors import BasisError
from ..fit.recipe import recipe_for_card
from .info import describe_basis, describe_directions, describe_instant_map
from .options import (
    Progress,
    add_command,
    add_face_reader,
    add_model,
    add_sampling,
    check_file,
    check_folder,
    load_model,
    loading,
    make_folder,
    nonnegative_int,
    positive_float,
    positive_int,
)
from .signals import at_once

if TYPE_CHECKING:
    from ..basis import CelebBasis
    from ..directions import Directions
    from ..instant_map import InstantMap
    from ..known_names import Portraits
    from ..model import Model

logger = logging.getLogger(__name__)

NUM_IMAGES = 4  # as in known_names, which imports torch
MIN_NAMES = 40  # drawn before a first basis is made of them
SOME = 400  # names of which the log says how long they take
SAVE_EVERY = 30  # seconds of drawing that may have to be done again, or longer where making the files takes long


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
        basis --model stable-diffusion-v1-5/stable-diffusion-v1-5 --filter -o sd15
        basis --model stable-diffusion-v1-5/stable-diffusion-v1-5 --filter --minutes 20 -o sd15
        basis --model stable-diffusion-v1-5/stable-diffusion-v1-5 --filter --fleet -o sd15
        basis --model stable-diffusion-v1-5/stable-diffusion-v1-5 --filter --directions -o sd15
        basis --from OWNER/REPOSITORY -o sd15
        basis --model stable-diffusion-v1-5/stable-diffusion-v1-5 --any-length -o paper.safetensors
        basis --n-components 32 --json""",
        "Names that are not exactly two of the model's tokens are left out. With --filter the model draws every name "
        "twice in few steps, and again where that leaves a doubt. Names whose pictures do not show one and the same "
        "person are then left out too, and the pictures also give the instant map. Files that can be used are there "
        "from the first minute on: stop at any time, and the same command goes on. --directions reads traits off such "
        "pictures of the names, and keeps the directions of those that the names hold enough of, for sample --more. A "
        "folder (-o without .safetensors) "
        "can be given to others, who name it with --basis.",
    )
    add_model(basis)
    basis.add_argument(
        "--from",
        dest="repository",
        metavar="OWNER/REPO",
        help="download a basis, with its instant map if it has one, instead of making it",
    )
    basis.add_argument("--names", type=Path, metavar="FILE", help="one name per line (default: the list that ships)")
    basis.add_argument(
        "--any-length",
        action="store_true",
        help="take the first two tokens of names of any length, as the paper's program does for its method",
    )
    basis.add_argument(
        "--n-components", type=positive_int, metavar="K", help="components per token (default: the rank, up to 512)"
    )
    basis.add_argument("--spectrum", type=Path, metavar="FILE.png", help="also plot the spread of the celebrities")
    basis.add_argument(
        "--num-names", type=positive_int, metavar="N", help="only the first N names, the most famous ones"
    )
    basis.add_argument(
        "--filter", action="store_true", help="draw the names and leave out those the model does not know"
    )
    basis.add_argument(
        "--directions",
        action="store_true",
        help="draw the names and learn directions of traits, such as glasses or age",
    )
    basis.add_argument(
        "--clip",
        metavar="MODEL",
        help="folder or hub id of the CLIP that sees traits (default: openai/clip-vit-large-patch14; the miniature "
        "needs none)",
    )
    drawing = basis.add_argument_group("drawing the names (with --filter or --directions)")
    drawing.add_argument(
        "--minutes",
        type=positive_float,
        metavar="M",
        help="stop after this time, each of --filter and --directions; run again to go on",
    )
    drawing.add_argument(
        "--num-images",
        type=positive_int,
        metavar="N",
        help=f"pictures of a doubtful name at most (default: {NUM_IMAGES})",
    )
    add_sampling(drawing, "the cheapest that tells names from made-up ones")
    add_face_reader(drawing)
    drawing.add_argument(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help="pictures drawn at once (default: by the memory that is free)",
    )
    drawing.add_argument("--seed", type=nonnegative_int, help="seed of the noise (default: 0)")
    drawing.add_argument(
        "--fleet",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="draw on many processes of this machine, or on the Ray cluster at ADDRESS",
    )
    basis.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("basis.safetensors"),
        metavar="FILE|DIR",
        help="(default: basis.safetensors)",
    )


@dataclass(frozen=True)
class Files:
    """Where the basis and what is learnt in it go, and the faces drawn for it: files, or a folder with a card."""

    basis: Path
    instant_map: Path
    directions: Path
    faces: Path
    folder: Path | None = None

    @classmethod
    def of(cls, out: Path) -> Files:
        """Return the files of an output: with an ending the basis itself, else a folder. Raises OutputError."""
        from ..instant_map import SUFFIX

        if out.suffix[1:].isalpha() and not out.is_dir():
            check_file(out, ".safetensors")
            directions, faces = (out.with_suffix(f".{name}.safetensors") for name in ("directions", "faces"))
            return cls(out, out.with_suffix(SUFFIX), directions, faces)
        check_folder(out)
        ModelCard.of(out)  # raises for one that nothing can be added to
        names = ("basis", "instant_map", "directions", "faces")
        basis, instant_map, directions, faces = (out / f"{name}.safetensors" for name in names)
        return cls(basis, instant_map, directions, faces, folder=out)

    @property
    def seen(self) -> Path:
        """Return the file of the faces as a CLIP sees them, from which drawing them goes on."""
        return self.faces.with_name(f"{self.faces.name.removesuffix('faces.safetensors')}seen.safetensors")

    def save(
        self,
        basis: CelebBasis,
        instant_map: InstantMap | None,
        recipe: Mapping[str, Any],
        directions: Directions | None = None,
    ) -> None:
        """Write what there is; the recipe stands in a card that does not say otherwise."""
        if self.folder:
            make_folder(self.folder)
        basis.save(self.basis)
        if instant_map is not None:
            instant_map.save(self.instant_map)
        if directions is not None:
            directions.save(self.directions)
        stale = directions is None and self._holds_directions_of_another(basis)
        if self.folder:
            there = {"instant_map": instant_map, "directions": directions, "faces": self.faces.is_file()}
            names = {"basis": self.basis.name} | {key: f"{key}.safetensors" for key, found in there.items() if found}
            lay_card(self.folder, names | ({"directions": None} if stale else {}), recipe)
        if stale:
            self.directions.unlink()

    def _holds_directions_of_another(self, basis: CelebBasis) -> bool:
        """Return whether there are directions from before that mean nothing in the basis."""
        from ..directions import Directions

        return self.directions.is_file() and Directions.load(self.directions).basis_digest != basis.digest


def make_basis(args: argparse.Namespace) -> dict[str, Any]:
    from ..backend.text_encoders import unusable_names
    from ..basis import CelebBasis, read_names

    files = Files.of(args.out)
    if args.spectrum:
        check_file(args.spectrum, ".png")
    _check_filter_options(args)
    if args.repository:
        return _download(args, files)
    listed = read_names(args.names) if args.names else None
    model = load_model(args)
    pipe = model.pipe
    people = (listed or model.names)[: args.num_names]
    dropped = {} if args.any_length else unusable_names(pipe, people)
    people = [name for name in people if name not in dropped]
    unknown: dict[str, str] = {}
    instant_map: InstantMap | None = None
    drawn: dict[str, Any] = {}
    recipe = recipe_for_card(model.card) if args.filter else {}
    if args.filter:
        made_up = model.made_up_names(people)
        wanted = {*made_up, *people}

        def make(faces: Portraits) -> tuple[CelebBasis, InstantMap | None]:
            nonlocal unknown
            faces = faces.of([name for name in faces.names if name in wanted])
            unknown = faces.unknown(made_up)
            known = [name for name in people if name not in unknown]
            if len(known) < 3:
                raise BasisError(
                    f"{args.model} draws {len(known)} of these names as one person each: at least 3 are needed"
                )
            made = CelebBasis.from_pipeline(pipe, known, args.n_components)
            seen = set(known) & {name for name, found in zip(faces.names, faces.found.tolist(), strict=True) if found}
            return made, faces.instant_map(pipe, made) if len(seen) > 2 else None

        faces = _draw(args, model, people, made_up, files, make)
        basis, instant_map = make(faces)
        drawn = {
            "names_drawn": len(set(people) & set(faces.names)),
            "undecided": len(set(faces.undecided(made_up)) & set(people)),
            "pictures": int(faces.num_images.sum()),
        }
    else:
        basis = CelebBasis.from_pipeline(pipe, people, args.n_components, any_length=args.any_length)
        known = set(basis.names)
        dropped |= {name: "a token the model does not know" for name in people if name not in known}
    directions, learnt = _learn_directions(args, model, basis, files) if args.directions else (None, {})
    files.save(basis, instant_map, recipe, directions)
    dropped |= unknown
    reasons = list(dropped.values())
    report = describe_basis(basis) | drawn | {
        "dropped": {why: reasons.count(why) for why in dict.fromkeys(reasons)},
        "dropped_names": dropped if args.json else list(dropped),
        "file": str(files.basis),
    }  # fmt: skip
    if args.spectrum:
        from ..evaluation.plots import plot_spectrum

        plot_spectrum(basis, args.spectrum)
        report["spectrum"] = str(args.spectrum)
    if instant_map is not None:
        report |= describe_instant_map(instant_map) | {"instant_map_file": str(files.instant_map)}
    report |= learnt
    if files.folder:
        report["card"] = str(files.folder / FILE)
    return report


def _download(args: argparse.Namespace, files: Files) -> dict[str, Any]:
    """Write the basis and the instant map of a repository."""
    from ..backend.sharing import INSTANT_MAP, find
    from ..basis import CelebBasis
    from ..instant_map import InstantMap

    for name in ("names", "any_length", "n_components", "num_names", "filter", "directions", "spectrum"):
        if getattr(args, name):
            raise BasisError(f"--from takes a basis as it is: leave out --{name.replace('_', '-')}")
    with at_once():
        basis = CelebBasis.from_pretrained(args.repository, revision=args.revision)
        found = find(args.repository, INSTANT_MAP, revision=args.revision)
    instant_map = None if found is None else InstantMap.load(found)
    if instant_map is not None:
        instant_map.check(basis)
    files.save(basis, instant_map, {})
    report = describe_basis(basis) | {"file": str(files.basis)}
    if instant_map is not None:
        report |= describe_instant_map(instant_map) | {"instant_map_file": str(files.instant_map)}
    return report


def _check_filter_options(args: argparse.Namespace) -> None:
    """Raise BasisError for options of drawing where nothing is drawn, and for too few pictures to compare."""
    options = (
        "minutes",
        "num_images",
        "num_inference_steps",
        "guidance_scale",
        "sampler",
        "face_reader",
        "batch_size",
        "seed",
        "fleet",
    )
    given = [name for name in options if getattr(args, name) is not None]
    if args.clip and not args.directions:
        raise BasisError("--clip is for --directions: add --directions, or leave it out")
    if args.directions:
        given = [name for name in given if name in ("num_images", "fleet")]
    if given and not args.filter:
        raise BasisError(f"--{given[0].replace('_', '-')} is for --filter: add --filter, or leave it out")
    if (args.filter or args.directions) and args.any_length:
        raise BasisError("names that are drawn must be two tokens: leave --any-length out")
    if args.filter and args.num_images == 1:
        raise BasisError("images of one name are compared: draw at least 2", argument="num_images")


def _learn_directions(
    args: argparse.Namespace, model: Model, basis: CelebBasis, files: Files
) -> tuple[Directions | None, dict[str, Any]]:
    """Draw names of a basis until each has two pictures; return the directions, and what to report of them."""
    from ..known_names import Portraits

    with at_once():  # a CLIP may have to be downloaded
        reader = model.trait_reader(args.clip)
    file = files.faces if reader is model.face_reader else files.seen
    seen = Portraits.load(file) if file.exists() else None
    until = time.monotonic() + 60 * args.minutes if args.minutes else float("inf")
    if files.folder:
        make_folder(files.folder)
    settings = {key: getattr(args, key) for key in ("num_inference_steps", "guidance_scale", "sampler", "batch_size")}
    with Progress(quiet=args.quiet) as bar:
        drawing = model.draw_traits(basis.names, reader, start=seen, seed=args.seed or 0, **settings)
        for seen in drawing:
            seen.save(file)
            bar(len(set(seen.names) & set(basis.names)), len(basis.names), "drawing names")
            if time.monotonic() > until:
                break
    assert seen is not None
    every = seen.directions(model.pipe, basis, reader.trait_rows())
    scores = dict(zip(every.traits, every.r2.tolist(), strict=True))
    try:
        directions = every.worthwhile()
    except BasisError as error:
        logger.warning(error.message)
        return None, {"traits_left_out": scores}
    left_out = {trait: score for trait, score in scores.items() if trait not in directions.traits}
    return directions, describe_directions(directions) | {
        "traits_left_out": left_out, "directions_file": str(files.directions)
    }  # fmt: skip


def _draw(
    args: argparse.Namespace,
    model: Model,
    people: Sequence[str],
    made_up: Sequence[str],
    files: Files,
    make: Callable[[Portraits], tuple[CelebBasis, InstantMap | None]],
) -> Portraits:
    """Draw as many names as time allows; now and then save their faces and what `make` makes of them."""
    from ..known_names import Portraits

    faces = Portraits.load(files.faces) if files.faces.exists() else None
    begun = time.monotonic()
    until = begun + 60 * args.minutes if args.minutes else float("inf")
    draw = None
    if args.fleet:
        from .. import fleet

        draw = partial(
            fleet.draw_portraits, model=loading(args), face_reader=args.face_reader, address=args.fleet,
            batch_size=args.batch_size or 8,
        )  # fmt: skip
    with at_once():  # the face reader may have to be downloaded
        finding = model.find_known_names(
            people,
            num_images=args.num_images or NUM_IMAGES,
            num_inference_steps=args.num_inference_steps,
            guidance_scale=args.guidance_scale,
            sampler=args.sampler,
            seed=args.seed or 0,
            batch_size=args.batch_size,
            start=faces,
            draw=draw,
        )
    if files.folder:
        make_folder(files.folder)
    due, note, first = begun, "", None
    try:
        with Progress(quiet=args.quiet) as bar:
            for faces, left in finding:
                now = time.monotonic()
                if first is None:  # it took longer than the others will
                    first = now, int(faces.num_images.sum())
                elif first[1] and (speed := (int(faces.num_images.sum()) - first[1]) / (now - first[0]) * 30):
                    some, first = min(len(people), SOME), (now, 0)
                    logger.info(
                        f"draws {speed:.3g} names a minute here, two pictures each: {some / speed:.1f} minutes for "
                        f"{'the first ' if some < len(people) else ''}{some}"
                    )
                if now >= due and len(set(faces.names) - set(made_up)) > MIN_NAMES:
                    faces.save(files.faces)
                    basis, instant_map = make(faces)
                    files.save(basis, instant_map, recipe_for_card(model.card))
                    note = f"leave-one-out R2 of the map {instant_map.loo_r2:.2f}" if instant_map else ""
                    due = time.monotonic() + max(SAVE_EVERY, 10 * (time.monotonic() - now))
                done = int(faces.num_images.sum())
                bar(done, done + left, "drawing names", note)
                if now > until:
                    break
    finally:
        if faces is not None:
            faces.save(files.faces)
    assert faces is not None
    if not faces.found.any():
        logger.warning(
            f"none of the {int(faces.num_images.sum())} pictures so far shows exactly one face, so there is no instant "
            "map yet"
        )
    return faces
