"""The check command: the whole way on a checkpoint, and a page that tells of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    FACE_READERS,
    Progress,
    add_basis,
    add_command,
    add_face_reader,
    add_model,
    check_folder,
    load_model,
    make_folder,
    positive_float,
    positive_int,
)

if TYPE_CHECKING:
    from ..check import Stage


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    check = add_command(
        commands,
        "check",
        check_model,
        "go the whole way on a model, and write a page that can be pasted into an issue",
        """
        check
        check --model stable-diffusion-v1-5/stable-diffusion-v1-5 --photos photos-of-annika
        check --model sd15 --basis sd15-basis --minutes 3 --clip none -o sd15-check""",
        "The model is loaded; its basis is made; ten names are drawn; a person is learnt, with milestones, drawn in "
        "four scenes, and measured. The page says what came of each stage, with seconds and memory; after an error, "
        "how far it went. Its pictures show the person: without --photos that is somebody whom the model makes up.",
    )
    add_model(check)
    add_basis(check)
    check.add_argument("--photos", type=Path, metavar="DIR", help="a folder with photos of one person (default: none)")
    check.add_argument(
        "--steps", dest="max_train_steps", type=positive_int, metavar="N", help="of the fit (default: the model's)"
    )
    check.add_argument(
        "--minutes", dest="max_train_minutes", type=positive_float, metavar="M", help="time limit of the fit"
    )
    add_face_reader(check)
    check.add_argument(
        "--judge", choices=FACE_READERS, help="who measures photographs (default: one that fitted nobody)"
    )
    check.add_argument(
        "--clip", metavar="MODEL", help="folder or hub id of the CLIP for prompts (default: OpenAI's ViT-L/14), or none"
    )
    check.add_argument("-o", "--out", type=Path, default=Path("check"), metavar="DIR", help="(default: check)")


def check_model(args: argparse.Namespace) -> dict[str, Any]:
    from ..check import check_stages, write_page
    from ..faces.photo import open_photos, photos_in

    check_folder(args.out)
    photos = open_photos(photos_in(args.photos)) if args.photos else []
    stages: list[Stage] = []
    make_folder(args.out)
    with Progress(quiet=args.quiet) as progress:
        try:
            for stage in check_stages(
                lambda: load_model(args, basis=args.basis),
                photos,
                judge=args.judge,
                clip=args.clip,
                progress=progress,
                max_train_steps=args.max_train_steps,
                max_train_minutes=args.max_train_minutes,
            ):
                stages.append(stage)
        except Exception as error:
            write_page(args.out, args.model, stages, error)
            raise
    page = write_page(args.out, args.model, stages)
    return {stage.name: {"seconds": round(stage.seconds, 1), **stage.facts} for stage in stages} | {"page": str(page)}
