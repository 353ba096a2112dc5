"""Commands that make a person: fit, blend, sample."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BasisError, OutputError, PhotoError, PromptError
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

if TYPE_CHECKING:
    from ..basis.basis import CelebBasis
    from ..basis.instant_map import InstantMap


def add_commands(commands: Any) -> None:
    """Add this room's commands to the parser."""
    fit = add_command(
        commands,
        "fit",
        fit_people,
        "learn a person from one photo, or several of the same person; or several people at once",
        """
        fit me.jpg --name ada
        fit ada1.jpg ada2.png --name ada --largest-face -o people/ada.safetensors
        fit --person ada=ada.jpg --person bo=bo1.jpg,bo2.jpg -o people
        fit --person ada=ada.jpg --person bo=bo.jpg --company .3
        fit me.jpg --name ada --steps 0
        fit me.jpg --name ada --model stable-diffusion-v1-5/stable-diffusion-v1-5 --basis sd15.safetensors
        fit me.jpg --name ada --minutes 3 --batch-size 1 --resolution 256 --model sd15 --basis sd15.safetensors""",
        "With --steps 0 the closed form alone places the person, at once.",
    )
    fit.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="of one person, with --name")
    fit.add_argument("--name", type=placeholder, help="what prompts call the person: ada for <ada>")
    fit.add_argument(
        "--person",
        type=person,
        action="append",
        default=[],
        metavar="NAME=PHOTO[,PHOTO...]",
        help="instead, one of several people; may be given several times",
    )
    fit.add_argument(
        "-o", "--out", type=Path, metavar="FILE|DIR", help="(default: NAME.safetensors); with --person a folder"
    )
    add_model(fit)
    _add_basis(fit)
    fit.add_argument("--instant", type=Path, metavar="FILE", help="instant map (default: the basis' own)")
    fit.add_argument("--init", choices=("instant", "mean"), help="start (default: instant where there is a map)")
    fit.add_argument("--steps", type=whole, metavar="N", help="of optimisation (default: the library's)")
    fit.add_argument("--minutes", type=positive, metavar="M", help="stop in time, with as many steps as fit")
    fit.add_argument("--batch-size", type=count, metavar="N", help="pictures a step (default: the library's)")
    fit.add_argument("--num-pictures", type=count, metavar="N", help="different ones; few are faster on a CPU")
    fit.add_argument("--resolution", type=count, metavar="PIXELS", help="of the pictures (default: the model's)")
    fit.add_argument(
        "--company", type=share, metavar="SHARE", help="of the steps that show two people of --person (default: 0)"
    )
    fit.add_argument("--lr", type=positive, metavar="RATE", help="learning rate (default: the library's)")
    fit.add_argument("--unit-norm", action="store_true", help="coefficients of length 1, as in the paper")
    fit.add_argument("--largest-face", action="store_true", help="of several faces take the largest")
    add_face_reader(fit)
    fit.add_argument("--seed", type=whole, default=0, help="the same seed gives the same person (default: 0)")

    blend = add_command(
        commands,
        "blend",
        blend_people,
        "mix two people into a third",
        """
        blend ada.safetensors bo.safetensors --name cy
        blend ada.safetensors bo.safetensors --weight .25 --name cy -o cy.safetensors""",
    )
    blend.add_argument("first", type=Path, metavar="A")
    blend.add_argument("second", type=Path, metavar="B")
    blend.add_argument("--weight", type=share, default=0.5, help="share of B, 0 to 1 (default: .5)")
    blend.add_argument("--name", required=True, type=placeholder, help="what prompts call the new person")
    blend.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: NAME.safetensors)")

    sample = add_command(
        commands,
        "sample",
        sample_person,
        "make up a person who does not exist, the same in every picture",
        """
        sample --name eve --seed 3
        sample --name eve --seed 3 --basis sd15.safetensors -o eve.safetensors""",
    )
    sample.add_argument("--name", required=True, type=placeholder, help="what prompts call the person")
    sample.add_argument("--seed", type=whole, default=0, help="which person (default: 0)")
    sample.add_argument("-o", "--out", type=Path, metavar="FILE", help="(default: NAME.safetensors)")
    _add_basis(sample)


def _add_basis(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--basis", type=Path, metavar="FILE", help="celeb basis (default: the miniature's own)")


def _out(args: argparse.Namespace) -> Path:
    return check_file(args.out or Path(f"{args.name[1:-1]}.safetensors"), ".safetensors")


def _basis(file: Path | None, model: str = "miniature") -> CelebBasis:
    """The basis asked for, else the one that comes with the model."""
    from ..basis.basis import CelebBasis

    if file:
        return CelebBasis.load(file)
    if model != "miniature":
        raise BasisError(f"{model} needs --basis FILE; this makes it: celeb-basis basis --model {model} -o FILE")
    from .. import miniature

    return CelebBasis.load(miniature.basis())


def _instant(args: argparse.Namespace) -> InstantMap | None:
    """The map from face to coefficients asked for, else the miniature's own, else none."""
    from ..basis.instant_map import SUFFIX, InstantMap

    if args.init == "mean":
        if args.instant:
            raise BasisError("--init mean starts without --instant: leave one of the two out")
        return None
    if args.instant:
        return InstantMap.load(args.instant)
    if args.basis and args.basis.with_suffix(SUFFIX).exists():
        return InstantMap.load(args.basis.with_suffix(SUFFIX))
    if args.model == "miniature" and not args.basis:
        from .. import miniature

        return InstantMap.load(miniature.instant())
    if args.init == "instant":
        raise BasisError("an instant start needs a map for this basis: give --instant FILE, or --init mean")
    return None


def _people(args: argparse.Namespace) -> dict[str, list[Path]]:
    """Everybody's photos by name. Raises PhotoError or PromptError for words that do not say whose they are."""
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
    """One file for each person: the one asked for, or with --person in the folder asked for, which need not exist."""
    if not args.person:
        return [_out(args)]
    folder = args.out or Path(".")
    if folder.suffix == ".safetensors":
        raise OutputError(f"cannot write {folder}: with --person name a folder, each person gets a file in it")
    check_folder(folder)
    files = [folder / f"{name[1:-1]}.safetensors" for name in names]
    return [check_file(file, ".safetensors") if folder.exists() else file for file in files]


def fit_people(args: argparse.Namespace) -> dict[str, Any]:
    from ..faces.face import find_face, open_photo
    from ..models.load import face_reader
    from ..training.fit import fit_identities
    from ..training.recipe import Recipe

    people = _people(args)
    names = list(people)
    outs = _outs(args, names)
    photos = [[open_photo(path) for path in paths] for paths in people.values()]
    basis, instant = _basis(args.basis, args.model), _instant(args)
    if args.steps == 0 and instant is None:
        raise BasisError(
            "--steps 0 needs an instant map of this basis (--instant FILE): "
            "without one it would be nobody in particular"
        )
    pipe = load_model(args)
    basis.check(pipe)
    reader = face_reader(pipe, args.face_reader)
    faces = [[find_face(photo, reader, largest=args.largest_face) for photo in own] for own in photos]
    chosen = {
        "max_train_steps": args.steps,
        "max_train_minutes": args.minutes,
        "train_batch_size": args.batch_size,
        "num_pictures": args.num_pictures,
        "resolution": args.resolution,
        "learning_rate": args.lr,
        "company": args.company,
    }
    recipe = Recipe(
        init="instant" if instant else "mean",
        coefficient_norm="unit" if args.unit_norm else "calibrated",
        seed=args.seed,
        **{key: value for key, value in chosen.items() if value is not None},
    )
    if instant is None and args.init is None:
        print("no instant map for this basis: starting from the mean person", file=sys.stderr)
    start = time.perf_counter()
    what = f"fitting {names[0] if len(names) == 1 else f'{len(names)} people'}"
    with Progress() as bar:
        identities = fit_identities(
            pipe,
            basis,
            faces,
            names,
            recipe,
            instant=instant,
            progress=lambda at: bar(at.step, recipe.max_train_steps, what),
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


def _next(args: argparse.Namespace, names: Sequence[str], files: Sequence[Path]) -> str:
    """The command that draws one person, or two of them together."""
    prompt, together = f"a photo of {names[0]} on the beach", ""
    if len(names) > 1:
        prompt, together = f"a photo of {names[0]} on the left and {names[1]} on the right", " --apart"
    given = "".join(f" --identity {shlex.quote(str(file))}" for file in files)
    return f'celeb-basis generate "{prompt}"{given}{together}{model_again(args)}'


def blend_people(args: argparse.Namespace) -> dict[str, Any]:
    from ..identity import Identity

    out = _out(args)
    identity = Identity.load(args.first).blend(Identity.load(args.second), args.weight, args.name)
    identity.save(out)
    return describe_identity(identity) | {"file": str(out)}


def sample_person(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from ..identity import Identity

    out = _out(args)
    basis = _basis(args.basis)
    identity = Identity.sample(basis, args.name, torch.Generator().manual_seed(args.seed))
    identity.save(out)
    return describe_identity(identity, basis) | {"seed": args.seed, "file": str(out)}
