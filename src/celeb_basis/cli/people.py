"""Commands that make a person: fit, blend, sample."""

from __future__ import annotations

import argparse
import logging
import shlex
import time
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BasisError, OutputError, PhotoError, PromptError
from ..models.card import DEFAULT_MODEL, card_of
from ..programs import name_advice
from ..training.recipe import DEFAULTS, FROM_MEAN, Recipe
from .info import describe_identity
from .options import (
    Progress,
    add_command,
    add_face_reader,
    add_model,
    check_file,
    check_folder,
    count,
    load_model,
    make_folder,
    model_again,
    person,
    placeholder,
    positive,
    share,
    whole,
)
from .signals import at_once

if TYPE_CHECKING:
    from ..basis.basis import CelebBasis
    from ..basis.instant_map import InstantMap
    from ..training.methods import Method

logger = logging.getLogger(__name__)

METHOD = "celeb-basis"


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    fit = add_command(
        commands,
        "fit",
        fit_people,
        "learn a person from one photo, or several of the same person; or several people at once",
        """
        fit me.jpg --name annika
        fit 1.jpg 2.png --name annika --largest-face -o people/annika.safetensors
        fit --person annika=me.jpg --person tovik=1.jpg,2.jpg -o people
        fit photos-of-annika --name annika
        fit me.jpg --name annika --steps 0
        fit me.jpg --name annika --method textual-inversion
        fit me.jpg --name annika --model stable-diffusion-v1-5/stable-diffusion-v1-5 --basis sd15.safetensors
        fit me.jpg --name annika --minutes 3 --batch-size 1 --resolution 256 --model sd15 --basis sd15.safetensors""",
        "With --steps 0 the instant map alone places the person, without any training.",
    )
    fit.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="photos of one person, or a folder of them")
    fit.add_argument("--name", type=placeholder, help="the name in prompts: annika for <annika>")
    fit.add_argument(
        "--person",
        type=person,
        action="append",
        default=[],
        metavar="NAME=PHOTO[,PHOTO...]",
        help="one of several people, instead of PHOTO and --name; repeat for each",
    )
    fit.add_argument(
        "-o", "--out", type=Path, metavar="FILE|DIR", help="(default: NAME.safetensors); with --person a folder"
    )
    add_fitting(fit)

    blend = add_command(
        commands,
        "blend",
        blend_people,
        "mix two people into a third",
        """
        blend annika.safetensors tovik.safetensors --name bodil
        blend annika.safetensors tovik.safetensors --weight .25 --name bodil -o bodil.safetensors""",
    )
    blend.add_argument("first", type=Path, metavar="A")
    blend.add_argument("second", type=Path, metavar="B")
    blend.add_argument("--weight", type=share, default=0.5, help="share of B, from 0 to 1 (default: .5)")
    blend.add_argument("--name", required=True, type=placeholder, help="the name in prompts")
    blend.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: NAME.safetensors)")

    sample = add_command(
        commands,
        "sample",
        sample_person,
        "make up a person who does not exist, the same in every picture",
        """
        sample --name mirelle --seed 3
        sample --name mirelle --seed 3 --basis sd15.safetensors -o mirelle.safetensors""",
    )
    sample.add_argument("--name", required=True, type=placeholder, help="the name in prompts")
    sample.add_argument("--seed", type=whole, default=0, help="which person (default: 0)")
    sample.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: NAME.safetensors)")
    sample.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"the model that will draw the person (default: {DEFAULT_MODEL})"
    )
    _add_basis(sample)


def add_fitting(parser: argparse.ArgumentParser) -> None:
    """Add the model and how people are learnt in it."""
    add_model(parser)
    _add_basis(parser)
    parser.add_argument("--instant", type=Path, metavar="FILE", help="instant map (default: the one beside the basis)")
    parser.add_argument(
        "--method", choices=DEFAULTS, default=METHOD, help=f"what is learnt, and how (default: {METHOD})"
    )
    parser.add_argument(
        "--init", choices=("instant", "mean"), help="where to start (default: instant if there is a map)"
    )
    parser.add_argument("--steps", type=whole, metavar="N", help=f"steps of training ({_steps()})")
    parser.add_argument("--minutes", type=positive, metavar="M", help="time limit: take as many steps as it allows")
    parser.add_argument("--lr", type=positive, metavar="RATE", help=f"learning rate ({_defaults('learning_rate')})")
    parser.add_argument(
        "--batch-size", type=count, metavar="N", help=f"pictures per step ({_defaults('train_batch_size')})"
    )
    parser.add_argument(
        "--num-pictures",
        type=count,
        default=Recipe.num_pictures,
        metavar="N",
        help=f"different training pictures; fewer start faster on a CPU (default: {Recipe.num_pictures})",
    )
    parser.add_argument(
        "--resolution", type=count, metavar="PIXELS", help="side of a training picture (default: the model's)"
    )
    parser.add_argument("--largest-face", action="store_true", help="if a photo shows several faces, take the largest")
    add_face_reader(parser)
    parser.add_argument("--seed", type=whole, default=0, help="the same seed gives the same person (default: 0)")


def _defaults(setting: str) -> str:
    """The default of a setting, and the methods that have another."""
    usual = getattr(DEFAULTS[METHOD], setting)
    others = [f"{name}: {value:g}" for name, own in DEFAULTS.items() if (value := getattr(own, setting)) != usual]
    return f"default: {usual:g}; {', '.join(others)}" if others else f"default: {usual:g}"


def _steps() -> str:
    """How many steps the methods take."""
    others = [f"{name}: {own.max_train_steps}" for name, own in DEFAULTS.items() if name != METHOD]
    ours = f"{DEFAULTS[METHOD].max_train_steps} from the instant map, {FROM_MEAN} from the mean"
    return f"default: {ours}; {', '.join(others)}"


def _add_basis(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--basis", type=Path, metavar="FILE|DIR", help="celeb basis (default: the model's own)")


def _out(args: argparse.Namespace) -> Path:
    return check_file(args.out or Path(f"{args.name[1:-1]}.safetensors"), ".safetensors")


def load_basis(args: argparse.Namespace) -> CelebBasis:
    """The basis asked for, else the one that comes with the model."""
    from ..basis.basis import CelebBasis

    if args.basis:
        return CelebBasis.load(args.basis)
    card = card_of(args.model)
    if card.basis is None:
        made = f"celeb-basis basis --model {shlex.quote(args.model)} -o FILE"
        raise BasisError(f"{args.model} needs --basis FILE; this makes it: {made}")
    return CelebBasis.from_card(card)


def _instant_map(args: argparse.Namespace) -> InstantMap | None:
    """The instant map asked for, else the one beside the basis or model, else None."""
    from ..basis.instant_map import InstantMap

    if args.method != METHOD:
        for option in ("instant", "init"):
            if getattr(args, option):
                raise BasisError(f"--{option} is for --method {METHOD}: leave it out")
        return None
    if args.init == "mean":
        if args.instant:
            raise BasisError("--init mean starts without --instant: leave one of the two out")
        return None
    if args.instant:
        return InstantMap.load(args.instant)
    if args.basis:
        found = InstantMap.beside(args.basis)
    else:
        found = InstantMap.from_card(card_of(args.model))
    if found is None and args.init == "instant":
        raise BasisError("an instant start needs a map for this basis: give --instant FILE, or --init mean")
    return found


def fitting(args: argparse.Namespace) -> tuple[CelebBasis, InstantMap | None, str | Method, Recipe]:
    """Basis, instant map, method and recipe asked for."""
    from ..training.methods import CelebBasisMethod

    basis, instant = load_basis(args), _instant_map(args)
    if args.steps == 0 and instant is None:
        raise BasisError(
            "--steps 0 needs an instant map of this basis (--instant FILE): "
            "without one every person would be the mean person"
        )
    recipe = Recipe(
        max_train_steps=args.steps,
        max_train_minutes=args.minutes,
        learning_rate=args.lr,
        train_batch_size=args.batch_size,
        num_pictures=args.num_pictures,
        resolution=args.resolution,
        seed=args.seed,
    )
    return basis, instant, CelebBasisMethod(init=args.init) if args.method == METHOD else args.method, recipe


def _people(args: argparse.Namespace) -> dict[str, list[Path]]:
    """Everybody's photos by name. Raises PhotoError or PromptError if it is unclear whose photo one is."""
    if not args.person:
        if not (args.photos and args.name):
            raise PhotoError("give one person's PHOTO and --name NAME, or --person NAME=PHOTO for each of several")
        return {args.name: args.photos}
    if args.photos or args.name:
        raise PhotoError("--person NAME=PHOTO says whose photo it is: leave out --name and PHOTO without a name")
    people = dict(args.person)
    for name, _ in args.person:
        if [name for name, _ in args.person].count(name) > 1:
            raise PromptError(f"--person {name} is given twice: write {name[1:-1]}=PHOTO,PHOTO for one person's photos")
    return people


def _outs(args: argparse.Namespace, names: Iterable[str]) -> list[Path]:
    """One file for each person: -o itself, or with --person a file in that folder, which need not exist yet."""
    if not args.person:
        return [_out(args)]
    folder = args.out or Path(".")
    if folder.suffix == ".safetensors":
        raise OutputError(f"cannot write {folder}: with --person name a folder, each person gets a file in it")
    check_folder(folder)
    files = [folder / f"{name[1:-1]}.safetensors" for name in names]
    return [check_file(file, ".safetensors") if folder.exists() else file for file in files]


def fit_people(args: argparse.Namespace) -> dict[str, Any]:
    from ..faces.face_reader import face_reader
    from ..faces.person import find_person
    from ..faces.photo import open_photos, photos_in
    from ..models.encoders import vocabulary
    from ..training.fit import fit_identities

    people = _people(args)
    names = list(people)
    outs = _outs(args, names)
    files = [
        [file for path in paths for file in (photos_in(path) if path.is_dir() else [path])] for paths in people.values()
    ]
    photos = [open_photos(own) for own in files]
    basis, instant, method, recipe = fitting(args)
    pipe = load_model(args)
    basis.check(pipe)
    with at_once():
        reader = face_reader(pipe, args.face_reader)
    faces = [find_person(own, reader, largest=args.largest_face) for own in photos]
    _advise(outs, vocabulary(pipe))
    start = time.perf_counter()
    what = f"fitting {names[0] if len(names) == 1 else f'{len(names)} people'}"
    with Progress() as bar:
        identities = fit_identities(
            pipe,
            basis,
            faces,
            names,
            recipe,
            method=method,
            instant=instant,
            progress=lambda at: bar(at.step, at.max_train_steps, what),
        )
    seconds = time.perf_counter() - start
    make_folder(outs[0].parent)
    for identity, out in zip(identities, outs, strict=True):
        identity.save(out)
    reports = [
        describe_identity(identity, basis)
        | {"photos": len(own), "seconds": seconds, "file": str(out), "next": _next(args, [name], [out])}
        for identity, own, out, name in zip(identities, faces, outs, names, strict=True)
    ]
    return {"people": reports, "next": _next(args, names[:2], outs[:2])} if args.person else reports[0]


def _advise(files: Iterable[Path], vocabulary: Container[str]) -> None:
    """Say of names that break another program which it is, and what name does not."""
    for file in files:
        if advice := name_advice(file.stem, vocabulary):
            logger.info(f"{file.name}: {advice}")


def _next(args: argparse.Namespace, names: Sequence[str], files: Sequence[Path]) -> str:
    """The command that draws one person, or two of them together."""
    prompt, together = f"a photo of {names[0]} on the beach", ""
    if len(names) > 1:
        prompt, together = f"a photo of {names[0]} on the left and {names[1]} on the right", " --apart"
    given = "".join(f" --identity {shlex.quote(str(file))}" for file in files)
    return f'celeb-basis generate "{prompt}"{given}{together}{model_again(args)}'


def blend_people(args: argparse.Namespace) -> dict[str, Any]:
    from ..identity import Identity
    from ..models.vocabulary import local_vocabulary

    out = _out(args)
    identity = Identity.load(args.first).blend(Identity.load(args.second), args.weight, args.name)
    _advise([out], local_vocabulary(identity.model))
    identity.save(out)
    return describe_identity(identity) | {"file": str(out)}


def sample_person(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from ..identity import Identity
    from ..models.vocabulary import local_vocabulary

    out = _out(args)
    basis = load_basis(args)
    _advise([out], local_vocabulary(basis.model))
    identity = Identity.sample(basis, args.name, torch.Generator().manual_seed(args.seed))
    identity.save(out)
    return describe_identity(identity, basis) | {"seed": args.seed, "file": str(out)}
