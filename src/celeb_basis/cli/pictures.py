"""Commands that draw or look at pictures: generate, demo, miniature person."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError, PromptError
from ..notation import Box
from .options import (
    Progress,
    add_command,
    add_model,
    add_sampling,
    check_file,
    check_folder,
    count,
    hide_loading_bars,
    load_model,
    make_folder,
    named_file,
    region,
    whole,
)
from .strength import add_strength, at_strength

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
        generate "a pencil sketch of <bodil>" --identity bodil=annika.safetensors -o sketch.png""",
    )
    generate.add_argument("prompt", metavar="PROMPT", help="text in which <name> stands for a person")
    generate.add_argument(
        "--identity",
        type=named_file,
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="a person in the prompt, under another name if NAME= is given; repeat for each",
    )
    add_strength(generate)
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
    add_model(generate)
    generate.add_argument(
        "-n", "--num-images", type=count, default=1, metavar="N", help="number of pictures (default: 1)"
    )
    add_sampling(generate)
    generate.add_argument("--negative-prompt", metavar="TEXT", help="what the picture should not show")
    generate.add_argument("--seed", type=whole, default=0, help="picture i starts from seed + i (default: 0)")
    generate.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("."),
        metavar="DIR|FILE.png",
        help="folder for files named by prompt and seed, or a file for one picture (default: this folder)",
    )

    demo = add_command(
        commands,
        "demo",
        show,
        "run the whole method on the miniature: a photo, a fit, a contact sheet",
        """
        demo
        demo --photo me.jpg -o demo""",
    )
    demo.add_argument("--photo", type=Path, help="your own photo (default: one of a person the model has never seen)")
    demo.add_argument("--largest-face", action="store_true", help="if the photo shows several faces, take the largest")
    demo.add_argument("--seed", type=whole, default=0, help="which person and which noise (default: 0)")
    demo.add_argument("-o", "--out", type=Path, default=Path("demo"), metavar="DIR", help="(default: demo)")

    miniature = commands.add_parser("miniature", help="look into the small drawn world that ships with the package")
    parts = miniature.add_subparsers(required=True, metavar="COMMAND")
    person = add_command(
        parts,
        "person",
        photograph,
        "draw the photo of a person the miniature has never seen",
        """
        miniature person --seed 7 -o annika.jpg""",
    )
    person.add_argument("--seed", type=whole, default=0, metavar="N", help="which person (default: 0)")
    person.add_argument(
        "-o", "--out", type=Path, default=Path("person.jpg"), metavar="FILE.jpg", help="(default: person.jpg)"
    )


def draw(args: argparse.Namespace) -> dict[str, Any]:
    from ..drawing.generate import generate
    from ..drawing.picture_file import save_picture
    from ..drawing.regions import columns
    from ..identity import Identity
    from ..models.pipeline import model_name

    files = _picture_files(args)
    identities, strengths = at_strength(args, [Identity.load(file, token) for file, token in args.identity])
    tokens = [identity.placeholder_token for identity in identities]
    regions = _regions(args.region, tokens)
    pipe = load_model(args)
    pipe.set_progress_bar_config(disable=None, desc="drawing")
    for first in range(0, len(files), AT_ONCE):  # what is done is kept, whatever comes after it
        batch = files[first : first + AT_ONCE]
        pictures = generate(
            pipe,
            args.prompt,
            identities,
            negative_prompt=args.negative_prompt,
            num_images_per_prompt=len(batch),
            num_inference_steps=args.steps,
            guidance_scale=args.guidance,
            sampler=args.sampler,
            seed=args.seed + first,
            batch_size=AT_ONCE,
            regions="auto" if args.apart else regions,
        )
        make_folder(batch[0].parent)
        for seed, (picture, file) in enumerate(zip(pictures, batch, strict=True), start=args.seed + first):
            save_picture(picture, file, prompt=args.prompt, seed=seed, model=model_name(pipe), strength=strengths)
    return {
        "prompt": args.prompt,
        "seed": args.seed,
        "model": model_name(pipe),
        **({"strength": strengths} if strengths else {}),
        **({"from left to right": list(columns(args.prompt, tokens))} if args.apart else {}),
        "pictures": [str(file) for file in files],
    }


def _regions(given: Sequence[tuple[str, Box]], tokens: Collection[str]) -> dict[str, Box] | None:
    """The boxes by the names as the prompt has them: <annika> for an identity annika, other words as they are."""
    regions: dict[str, Box] = {}
    for name, box in given:
        token = f"<{name.strip('<>').lower()}>"
        name = token if token in tokens else name
        if name in regions:
            raise PromptError(f"--region {name} is given twice: one person is in one place")
        regions[name] = box
    return regions or None


def _picture_files(args: argparse.Namespace) -> list[Path]:
    """One path for each picture: -o itself if it is a file, else files in it named by prompt and seed."""
    if args.out.suffix and not args.out.is_dir():
        if args.num_images > 1:
            raise OutputError(f"{args.num_images} pictures do not fit in {args.out}: name a folder")
        return [check_file(args.out, ".png")]
    from ..drawing.picture_file import file_stem

    check_folder(args.out)
    return [args.out / f"{file_stem(args.prompt, args.seed + i)}.png" for i in range(args.num_images)]


def show(args: argparse.Namespace) -> dict[str, Any]:
    from ..miniature.demo import run

    check_folder(args.out)
    hide_loading_bars()
    with Progress() as progress:
        return run(args.out, args.photo, args.seed, progress, largest=args.largest_face)


def photograph(args: argparse.Namespace) -> dict[str, Any]:
    from .. import miniature
    from ..files import write_buffered

    out = check_file(args.out, ".jpg", ".jpeg", ".png")
    photo = miniature.person(args.seed)
    with write_buffered(out) as buffer:
        photo.save(buffer, format="PNG" if out.suffix.lower() == ".png" else "JPEG", quality=95)
    return {"seed": args.seed, "picture": f"{photo.width} x {photo.height}", "file": str(out)}
