"""The sample command: make up a person who does not exist, or several."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import BasisError, OutputError, PromptError
from ..limits import MAX_AMOUNT, MAX_CAST
from .fit import advise
from .info import describe_identity
from .options import (
    Progress,
    add_basis,
    add_command,
    add_face_reader,
    add_model,
    check_file,
    check_folder,
    load_model,
    make_folder,
    nonnegative_int,
    placeholder,
    positive_int,
)


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    sample = add_command(
        commands,
        "sample",
        sample_people,
        "make up a person who does not exist, the same in every picture",
        """
        sample --name mirelle --seed 3
        sample --name mirelle --seed 3 --more glasses=1 beard=-1
        sample --name mirelle --seed 3 --basis sd15.safetensors -o mirelle.safetensors
        sample --name extra --cast 5 --unlike .3 --basis sd15 -o people""",
        "--more takes the traits of which the model has directions; an amount is in standard deviations of its "
        "celebrities. With --cast the model draws people until so many were found who look the same in four pictures "
        "and are like no celebrity of the basis, nor like one another; a table says how like they are.",
    )
    sample.add_argument(
        "--name", required=True, type=placeholder, help="the name in prompts; NAME-1 to NAME-N of a cast"
    )
    sample.add_argument("--seed", type=nonnegative_int, default=0, help="which person (default: 0)")
    sample.add_argument(
        "--more", nargs="+", type=trait, default=[], metavar="TRAIT=AMOUNT", help="more of a trait, or less: glasses=1"
    )
    sample.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="(default: NAME.safetensors); of a cast the folder"
    )
    add_model(sample)
    add_basis(sample)
    casting = sample.add_argument_group("several people")
    casting.add_argument("--cast", type=positive_int, metavar="N", help="how many people")
    casting.add_argument(
        "--unlike",
        type=cosine,
        metavar="C",
        help="highest cosine of one face to another, or to a celebrity's (default: as celebrities have it)",
    )
    add_face_reader(casting)


def trait(text: str) -> tuple[str, float]:
    """Read glasses=1.5 as a trait and how much more of it."""
    name, _, number = text.partition("=")
    try:
        amount = float(number)
    except ValueError:
        amount = float("nan")
    if not name or not -MAX_AMOUNT <= amount <= MAX_AMOUNT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not TRAIT=AMOUNT with a number from -{MAX_AMOUNT} to {MAX_AMOUNT}, like glasses=1"
        )
    return name, amount


def cosine(text: str) -> float:
    """Read a number from -1 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not -1 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a cosine, from -1 to 1")
    return number


def sample_people(args: argparse.Namespace) -> dict[str, Any]:
    twice = [name for name, _ in args.more if [each for each, _ in args.more].count(name) > 1]
    if twice:
        raise PromptError(f"{twice[0]} is there twice: give one amount", argument="more")
    return _sample_one(args) if args.cast is None else _cast(args)


def _sample_one(args: argparse.Namespace) -> dict[str, Any]:
    from ..backend.known_models import known_vocabulary
    from ..model import NO_DIRECTIONS, resolve_basis, resolve_beside, sample_person

    for name in ("unlike", "face_reader"):
        if getattr(args, name) is not None:
            raise PromptError(f"--{name.replace('_', '-')} is for --cast: add --cast, or leave it out")
    out = check_file(args.out or Path(f"{args.name[1:-1]}.safetensors"), ".safetensors")
    # A basis that is there already says enough of a model: its weights are loaded only where one has to be made.
    basis = resolve_basis(args.model, args.basis)[0]
    directions = resolve_beside(args.model, args.basis)["directions"]
    if args.more and directions is None:
        raise BasisError(NO_DIRECTIONS.format(args.basis or args.model), argument="more")
    basis = basis or load_model(args).basis
    advise([out], known_vocabulary(basis.model, basis.fingerprint))
    identity = sample_person(basis, directions, args.name, args.seed, dict(args.more))
    identity.save(out)
    return describe_identity(identity, basis) | {"seed": args.seed, "file": str(out)}


def _cast(args: argparse.Namespace) -> dict[str, Any]:
    from ..backend.known_models import known_vocabulary
    from ..model import NO_FACES, resolve_basis, resolve_beside, sample_person

    if args.cast > MAX_CAST:
        raise PromptError(f"at most {MAX_CAST} people are cast at once", argument="cast")
    folder = args.out or Path()
    if folder.suffix == ".safetensors":
        raise OutputError(f"{folder} is the name of a file: name a folder for the people of a cast", argument="out")
    check_folder(folder)
    basis, beside = resolve_basis(args.model, args.basis)[0], resolve_beside(args.model, args.basis)
    if basis is None or beside["faces"] is None:
        raise BasisError(NO_FACES.format(args.basis or args.model), argument="cast")
    sample_person(basis, beside["directions"], args.name, args.seed, dict(args.more))  # raises what more would raise
    model = load_model(args, basis=args.basis)
    with Progress(quiet=args.quiet) as bar:
        for audition in model.cast(args.name, args.cast, unlike=args.unlike, seed=args.seed, more=dict(args.more)):
            found = f"{len(audition.cast)} of {args.cast} found"
            bar(audition.tries, audition.tries + audition.left, "casting", found)
    make_folder(folder)
    people = []
    for member in audition.cast:
        token = member.identity.placeholder_token
        file = folder / f"{token[1:-1]}.safetensors"
        member.identity.save(file)
        people.append(
            {
                "identity": token,
                "seed": member.seed,
                "own_pictures": member.same,
                "nearest_celebrity": member.like_celebrity,
                "celebrity": member.celebrity,
                "nearest_of_cast": member.like_cast,
                "file": str(file),
            }
        )
    advise([folder / f"{args.name[1:-1]}-1.safetensors"], known_vocabulary(model.basis.model, model.basis.fingerprint))
    return {
        "cosines": people,
        "allowed": audition.most,
        "least_of_own_pictures": audition.least,
        "tries": audition.tries,
        "refused": audition.refused,
    }
