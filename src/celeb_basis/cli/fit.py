"""The fit command: learn a person from one photo or several, or several people at once."""

from __future__ import annotations

import argparse
import logging
import shlex
import time
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BasisError, OutputError, PhotoError, PromptError
from ..fit.recipe import DEFAULT_METHOD, DEFAULTS, Recipe
from .options import (
    Progress,
    add_basis,
    add_command,
    add_face_reader,
    add_largest_face,
    add_model,
    check_file,
    check_folder,
    load_model,
    make_folder,
    model_again,
    nonnegative_int,
    person,
    placeholder,
    positive_float,
    positive_int,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..basis import CelebBasis
    from ..fit.methods import Method
    from ..identity import Identity
    from ..instant_map import InstantMap
    from ..model import Model

logger = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    fit = add_command(
        commands,
        "fit",
        fit_people,
        "learn a person from one photo, or several of the same person; or several people at once",
        """
        fit me.jpg
        fit me.jpg --name annika
        fit 1.jpg 2.png --name annika --largest-face -o people/annika.safetensors
        fit --person annika=me.jpg --person tovik=1.jpg,2.jpg -o people
        fit photos-of-annika --name annika
        fit me.jpg --name annika --steps 0
        fit me.jpg --name annika --method textual-inversion
        fit me.jpg --name annika --model stable-diffusion-v1-5/stable-diffusion-v1-5
        fit me.jpg --name annika --minutes 3 --milestones 8
        fit me.jpg --name annika --minutes 3 --batch-size 1 --resolution 256 --model sd15 --basis sd15.safetensors""",
        "Without --basis, a model whose card names none gets one that is made of the shipped names and kept for the "
        "next time. With --steps 0 the instant map alone places the person, without any training.",
    )
    fit.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="photos of one person, or a folder of them")
    fit.add_argument(
        "--name", type=placeholder, help="the name in prompts: annika for <annika> (default: that of the photo's file)"
    )
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
    fit.add_argument(
        "--keep-feature",
        action="store_true",
        help="keep the numbers that describe the face in the file, so that pictures are compared with it; they are "
        "biometric data",
    )
    add_model(fit, None, "portraits, or miniature for a drawn face")
    add_fitting(fit)


def add_fitting(parser: argparse.ArgumentParser) -> None:
    """Add how people are learnt in the model."""
    add_basis(parser)
    parser.add_argument(
        "--instant-map", type=Path, metavar="FILE", help="instant map (default: the one beside the basis)"
    )
    parser.add_argument(
        "--method",
        choices=DEFAULTS,
        default=DEFAULT_METHOD,
        help=f"what is learnt, and how (default: {DEFAULT_METHOD})",
    )
    parser.add_argument(
        "--init", choices=("instant", "mean"), help="where to start (default: instant if there is a map)"
    )
    parser.add_argument(
        "--steps", dest="max_train_steps", type=nonnegative_int, metavar="N", help=f"steps of training ({_steps()})"
    )
    parser.add_argument(
        "--minutes",
        dest="max_train_minutes",
        type=positive_float,
        metavar="M",
        help="time limit, by whose end the learning rate has fallen (default: none on a CPU or with --steps; else "
        f"{DEFAULTS[DEFAULT_METHOD].max_gpu_minutes:g} a person)",
    )
    parser.add_argument(
        "--lr",
        dest="learning_rate",
        type=positive_float,
        metavar="RATE",
        help=f"learning rate ({_defaults('learning_rate')})",
    )
    parser.add_argument(
        "--batch-size",
        dest="train_batch_size",
        type=positive_int,
        metavar="N",
        help=f"images per step ({_defaults('train_batch_size')})",
    )
    parser.add_argument(
        "--milestones",
        dest="num_milestones",
        type=nonnegative_int,
        metavar="N",
        help="how often the person is drawn on the way, to keep the best; 0 takes the last step (default: as the "
        f"model's card says, or {DEFAULTS[DEFAULT_METHOD].num_milestones})",
    )
    parser.add_argument(
        "--max-radius",
        type=positive_float,
        metavar="R",
        help="how far the person may be from the mean, where a typical celebrity is at 1 (default: 1)",
    )
    parser.add_argument(
        "--num-train-images",
        type=positive_int,
        metavar="N",
        help="different training images; fewer start faster on a CPU (default: "
        f"{DEFAULTS[DEFAULT_METHOD].num_train_images}; other methods make new ones for every step)",
    )
    parser.add_argument(
        "--resolution", type=positive_int, metavar="PIXELS", help="side of a training image (default: the model's)"
    )
    parser.add_argument(
        "--face-loss",
        action=argparse.BooleanOptionalAction,
        help="go on with the face loss: the model draws the person, the face reader compares (default: as the model's "
        "card says)",
    )
    add_largest_face(parser)
    parser.add_argument("--mixed", action="store_true", help="take photos of different people for a mix of them")
    add_face_reader(parser)
    parser.add_argument(
        "--seed", type=nonnegative_int, default=0, help="the same seed gives the same person (default: 0)"
    )


def _defaults(setting: str) -> str:
    """Return the default of a setting, and the methods that have another."""
    usual = getattr(DEFAULTS[DEFAULT_METHOD], setting)
    others = [f"{name}: {value:g}" for name, own in DEFAULTS.items() if (value := getattr(own, setting)) != usual]
    return f"default: {usual:g}; {', '.join(others)}" if others else f"default: {usual:g}"


def _steps() -> str:
    """Return how many steps the methods take."""
    others = [f"{name}: {own.max_train_steps}" for name, own in DEFAULTS.items() if name != DEFAULT_METHOD]
    ours = f"as the model's card says, or {DEFAULTS[DEFAULT_METHOD].max_train_steps}, and fewer from an instant map"
    return f"default: {ours}; {', '.join(others)}"


def resolve(args: argparse.Namespace) -> tuple[CelebBasis | None, InstantMap | None]:
    """Return the basis and the instant map asked for, or those of the model; its weights are not loaded for it."""
    from ..model import resolve_basis

    starts_instant = args.method == DEFAULT_METHOD and args.init != "mean"
    if not starts_instant and args.instant_map:
        raise BasisError("this start needs no instant map: leave it out", argument="instant_map")
    for name, value in (("init", args.init), ("max_radius", args.max_radius)):
        if args.method != DEFAULT_METHOD and value is not None:
            raise BasisError(f"this option is for --method {DEFAULT_METHOD} alone: leave it out", argument=name)
    if args.face_loss and args.method != DEFAULT_METHOD:
        raise BasisError(f"only --method {DEFAULT_METHOD} has a face loss: leave it out", argument="face_loss")
    basis, instant_map = resolve_basis(args.model, args.basis, args.instant_map)
    if not starts_instant:
        instant_map = None
    if instant_map is None and args.init == "instant":
        raise BasisError(
            "an instant start needs a map for this basis: give one, or --init mean", argument="instant_map"
        )
    if instant_map is None and args.max_train_steps == 0:
        way, argument = "give an instant map of this basis, or take steps", "instant_map"
        if not starts_instant:
            way, argument = "take steps", "max_train_steps"
        raise BasisError(f"without training every person would be the mean person: {way}", argument=argument)
    return basis, instant_map


def method_and_recipe(args: argparse.Namespace) -> tuple[str | Method, dict[str, Any]]:
    """Return the method and the recipe asked for."""
    from ..fit.methods import CelebBasisMethod

    recipe = {name: getattr(args, name) for name in RECIPE}
    if args.method != DEFAULT_METHOD:
        return args.method, recipe
    radius = {} if args.max_radius is None else {"max_radius": args.max_radius}
    return CelebBasisMethod(init=args.init, **radius), recipe


RECIPE = (
    "max_train_steps",
    "max_train_minutes",
    "learning_rate",
    "train_batch_size",
    "num_train_images",
    "resolution",
    "num_milestones",
    "face_loss",
    "seed",
)


def fit_people(args: argparse.Namespace) -> dict[str, Any]:
    from ..backend.text_encoders import vocabulary
    from ..faces.face import mean_feature
    from ..faces.photo import open_photos
    from ..miniature import model_for

    people = _people(args)
    names = list(people)
    outs = _outs(args, names)
    photos = {name: open_photos(paths) for name, paths in people.items()}
    if args.model is None:
        models = {model_for(own) for own in photos.values()}
        if len(models) > 1:
            raise PhotoError("drawn and photographed people need two models: fit them one after the other")
        [args.model] = models
    basis, instant_map = resolve(args)
    method, recipe = method_and_recipe(args)
    Recipe(**recipe)  # raises for what cannot be followed, before anything is loaded
    model = load_model(args, basis=basis, instant_map=instant_map)
    faces = {
        name: model.find_faces(own, largest_face=args.largest_face, mixed=args.mixed) for name, own in photos.items()
    }
    advise(outs, vocabulary(model.pipe))
    start = time.perf_counter()
    what = f"fitting {names[0] if len(names) == 1 else f'{len(names)} people'}"
    note = ""
    with Progress(quiet=args.quiet) as bar:
        for step in model.fit_steps(faces, method=method, **recipe):
            if step.likeness:
                note = f"likeness {sum(step.likeness) / len(step.likeness):.2f} at step {step.step}"
            bar(step.step, step.max_train_steps, what, note)
    seconds = time.perf_counter() - start
    make_folder(outs[0].parent)
    features = {name: mean_feature(own) for name, own in faces.items()}
    fitted = dict(zip(names, step.identities, strict=True))
    for name, out in zip(names, outs, strict=True):
        if args.keep_feature:
            fitted[name] = fitted[name].with_feature(features[name], faces[name][0].face_reader)
        fitted[name].save(out)
    reports = [
        {
            "identity": name,
            "file": str(out),
            "seconds": seconds,
            "likeness": _likeness(model, fitted[name], features[name]),
            "next": _next(args, [name], [out]),
        }
        for name, out in zip(names, outs, strict=True)
    ]
    return {"people": reports, "next": _next(args, names[:2], outs[:2])} if args.person else reports[0]


def _likeness(model: Model, identity: Identity, feature: Tensor) -> float | None:
    """Return how alike a person is in a first picture of them, None where no face is seen in it."""
    token = identity.placeholder_token
    [image] = model.generate(f"a photo of {token}", [identity])
    return model.likeness(image, {token: feature})[token]


def _people(args: argparse.Namespace) -> dict[str, list[Path]]:
    """Return everybody's photos by name. Raises PhotoError or PromptError if it is unclear whose photo one is."""
    if not args.person:
        if not args.photos:
            raise PhotoError("give one person's PHOTO, or --person NAME=PHOTO for each of several")
        return {args.name or _name_of(args.photos[0]): args.photos}
    if args.photos or args.name:
        raise PhotoError("--person NAME=PHOTO says whose photo it is: leave out --name and PHOTO without a name")
    people = dict(args.person)
    for name, _ in args.person:
        if [name for name, _ in args.person].count(name) > 1:
            raise PromptError(f"--person {name} is given twice: write {name[1:-1]}=PHOTO,PHOTO for one person's photos")
    return people


def _name_of(photo: Path) -> str:
    """Return the placeholder token for a person whom nobody named: the name of the photo's file or folder."""
    from ..notation import placeholder_token, slugify

    path = photo.absolute()
    return placeholder_token(slugify(path.name if path.is_dir() else path.stem))


def _outs(args: argparse.Namespace, names: Iterable[str]) -> list[Path]:
    """Return one file for each person: -o itself, or with --person a file in that folder, which need not exist yet."""
    if not args.person:
        [name] = names
        return [check_file(args.out or Path(f"{name[1:-1]}.safetensors"), ".safetensors")]
    folder = args.out or Path(".")
    if folder.suffix == ".safetensors":
        raise OutputError(f"cannot write {folder}: with --person name a folder, each person gets a file in it")
    check_folder(folder)
    files = [folder / f"{name[1:-1]}.safetensors" for name in names]
    return [check_file(file, ".safetensors") if folder.exists() else file for file in files]


def advise(files: Iterable[Path], vocabulary: Container[str]) -> None:
    """Log which names break another program, and a name that does not."""
    from ..embedding_io import name_advice

    for file in files:
        if advice := name_advice(file.stem, vocabulary):
            logger.info(f"{file.name}: {advice}")


def _next(args: argparse.Namespace, names: Sequence[str], files: Sequence[Path]) -> str:
    """Return the command that draws one person, or two of them together."""
    prompt, together = f"a photo of {names[0]} on the beach", ""
    if len(names) > 1:
        prompt, together = f"a photo of {names[0]} on the left and {names[1]} on the right", " --apart"
    given = "".join(f" --identity {shlex.quote(str(file))}" for file in files)
    return f'celeb-basis generate "{prompt}"{given}{together}{model_again(args)}'
