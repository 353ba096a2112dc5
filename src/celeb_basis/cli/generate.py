"""The generate command: draw images of a prompt, with the people you fitted in it."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BasisError, IdentityError, OutputError, PromptError
from ..notation import Box
from .options import (
    add_command,
    add_model,
    add_sampling,
    check_file,
    check_folder,
    load_model,
    make_folder,
    named_file,
    nonnegative_int,
    placeholder,
    positive_int,
    read_prompts,
    region,
)

AT_ONCE = 4  # pictures


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    generate = add_command(
        commands,
        "generate",
        draw,
        "draw pictures of a prompt, with the people you fitted in it",
        """
        generate "a photo of <annika> on the beach" --identity annika.safetensors
        generate "a photo of <annika> on the beach" --identity annika.safetensors -n 4 --seed 7 -o pictures
        generate "<annika> and <tovik> in the snow" --identity annika.safetensors --identity tovik.safetensors
        generate "<annika> and <tovik>" --identity annika.safetensors --identity tovik.safetensors --apart
        generate "<annika> and tom hanks" --identity annika.safetensors --region annika=0,0,.5,1
        generate "a photo of <annika> smiling" --identity annika.safetensors --strength .8
        generate "a pencil sketch of <bodil>" --identity bodil=annika.safetensors -o sketch.png
        generate --prompts prompts.txt --identity annika -n 4 -o pictures""",
    )
    generate.add_argument("prompt", nargs="?", metavar="PROMPT", help="text in which <name> stands for a person")
    generate.add_argument("--prompts", type=Path, metavar="FILE", help="many prompts, one a line, instead of PROMPT")
    generate.add_argument(
        "--identity",
        type=named_file,
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="a person in the prompt, under another name if NAME= is given; repeat for each. FILE may be the name of "
        "somebody you keep (celeb-basis people)",
    )
    generate.add_argument(
        "--strength",
        type=_strength,
        action="append",
        default=[],
        metavar="[NAME=]S",
        help="how strongly the people, or one of them, show: 0 is the mean person, 1 the fitted one (default), "
        "1.25 a little beyond",
    )
    generate.add_argument(
        "--basis", type=Path, metavar="FILE|DIR", help="celeb basis, for --strength (default: the model's own)"
    )
    where = generate.add_mutually_exclusive_group()
    where.add_argument(
        "--apart", action="store_true", help="keep people apart: a column for each, by their sides in the prompt"
    )
    where.add_argument(
        "--region",
        type=region,
        action="append",
        default=[],
        metavar="NAME=LEFT,TOP,RIGHT,BOTTOM",
        help="box of one person, in shares of the picture from left and top; repeat for each",
    )
    add_model(generate, default=None, described="that of the identities, or miniature")
    generate.add_argument(
        "-n", "--num-images", type=positive_int, default=1, metavar="N", help="pictures of each prompt (default: 1)"
    )
    add_sampling(generate)
    generate.add_argument("--negative-prompt", metavar="TEXT", help="what the picture should not show")
    generate.add_argument("--seed", type=nonnegative_int, default=0, help="picture i starts from seed + i (default: 0)")
    generate.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("."),
        metavar="DIR|FILE.png",
        help="folder for files named by prompt and seed, where no other picture is overwritten; or a file for one "
        "picture (default: this folder)",
    )


def draw(args: argparse.Namespace) -> dict[str, Any]:
    from ..backend.hub import local_vocabulary
    from ..generate import check_people
    from ..identity import Identity
    from ..image_files import free_path, save_image
    from ..library import find_identity
    from ..model import model_of_identities
    from ..regions import columns, mentions

    prompts = _prompts(args)
    jobs = _jobs(args, prompts)
    identities = [Identity.load(find_identity(file), token) for file, token in args.identity]
    tokens = [identity.placeholder_token for identity in identities]
    strengths = _strengths(args, tokens)
    regions = _regions(args.region, tokens, prompts)
    args.model = args.model or model_of_identities(identities)
    check_people(prompts, tokens, local_vocabulary(args.model))
    model = load_model(args, basis=args.basis)
    if strengths:
        identities = [
            identity.scaled(model.basis, strengths[token]) if token in strengths else identity
            for token, identity in zip(tokens, identities, strict=True)
        ]
    written: list[Path] = []
    model.pipe.set_progress_bar_config(disable=None, desc="drawing")
    for job in jobs:  # what is done is kept, whatever comes after it
        images = model.generate(
            job.prompt,
            [identity for identity in identities if mentions(job.prompt, identity.placeholder_token)],
            negative_prompt=args.negative_prompt,
            num_images_per_prompt=len(job.files),
            num_inference_steps=args.num_inference_steps,
            guidance_scale=args.guidance_scale,
            sampler=args.sampler,
            seed=job.seed,
            batch_size=AT_ONCE,
            regions="auto" if args.apart else {n: box for n, box in regions.items() if mentions(job.prompt, n)} or None,
        )
        make_folder(job.files[0].parent)
        for image, file in zip(images, job.files, strict=True):
            written.append(file if file == args.out else free_path(file, image))
            save_image(image, written[-1])
    return {
        **({"prompts": str(args.prompts)} if args.prompts else {"prompt": args.prompt}),
        "seed": args.seed,
        "model": model.name,
        **({"strength": strengths} if strengths else {}),
        **({"from left to right": list(columns(args.prompt, tokens))} if args.apart and args.prompt else {}),
        "pictures": [str(file) for file in written],
    }


@dataclass(frozen=True)
class Job:
    """Pictures of one prompt that are drawn at once; the first starts from the seed, each from the next one."""

    prompt: str
    seed: int
    files: list[Path]


def _jobs(args: argparse.Namespace, prompts: Sequence[str]) -> list[Job]:
    """Return what is drawn, in its order, and where it goes. Raises OutputError for pictures that do not fit there."""
    jobs = []
    for prompt in prompts:
        files = _image_files(args, prompt, len(prompts) * args.num_images)
        for first in range(0, len(files), AT_ONCE):
            jobs.append(Job(prompt, args.seed + first, files[first : first + AT_ONCE]))
    return jobs


def _prompts(args: argparse.Namespace) -> list[str]:
    """Return the prompts asked for. Raises PromptError unless they come from one place."""
    if (args.prompt is None) == (args.prompts is None):
        raise PromptError("give one PROMPT, or --prompts FILE with one on each line")
    return [args.prompt] if args.prompts is None else read_prompts(args.prompts)


def _regions(given: Sequence[tuple[str, Box]], tokens: Collection[str], prompts: Sequence[str]) -> dict[str, Box]:
    """Return the boxes by the names as the prompt has them: <annika> for an identity, other words as they are."""
    from ..regions import mentions

    regions: dict[str, Box] = {}
    for name, box in given:
        token = f"<{name.strip('<>').lower()}>"
        name = token if token in tokens else name
        if name in regions:
            raise PromptError(f"--region {name} is given twice: one person is in one place")
        if not any(mentions(prompt, name) for prompt in prompts):
            raise PromptError(f"the prompt does not mention {name!r}: write a region's name as the prompt does")
        regions[name] = box
    return regions


def _image_files(args: argparse.Namespace, prompt: str, total: int) -> list[Path]:
    """Return one path for each picture of a prompt: -o itself if it is a file, else files in it by prompt and seed."""
    if args.out.suffix and not args.out.is_dir():
        if total > 1:
            raise OutputError(f"{total} pictures do not fit in {args.out}: name a folder")
        return [check_file(args.out, ".png")]
    from ..image_files import file_stem

    check_folder(args.out)
    return [args.out / f"{file_stem(prompt, args.seed + i)}.png" for i in range(args.num_images)]


def _strengths(args: argparse.Namespace, tokens: Sequence[str]) -> dict[str, float]:
    """Return the strengths asked for, other than 1, by the people's tokens.

    Raises IdentityError for a name that is nobody's, or one that is given twice.
    """
    if args.basis and not args.strength:
        raise BasisError("--basis is for --strength: give both, or leave it out")
    asked: dict[str | None, float] = {}
    for token, strength in args.strength:
        if token in asked:
            raise IdentityError(f"--strength{f' of {token}' if token else ''} is given twice: give it once")
        if token not in [None, *tokens]:
            raise IdentityError(f"--strength names {token}: give that person with --identity")
        asked[token] = strength
    return {token: s for token in tokens if (s := asked.get(token, asked.get(None, 1.0))) != 1}


def _strength(text: str) -> tuple[str | None, float]:
    """Read annika=.8 as <annika> and .8, and .8 as everybody and .8."""
    name, _, number = text.rpartition("=")
    try:
        strength = float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not S or NAME=S, like .8 or annika=.8") from None
    return placeholder(name) if name else None, strength
