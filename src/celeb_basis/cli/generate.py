"""The generate command: draw images of a prompt, with the people you fitted in it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BasisError, IdentityError, ModelError, OutputError, PhotoError, PromptError
from ..notation import Box
from .options import (
    add_command,
    add_face_reader,
    add_largest_face,
    add_model,
    add_sampling,
    check_file,
    check_folder,
    fraction,
    load_model,
    make_folder,
    named_file,
    nonnegative_int,
    placeholder,
    positive_int,
    read_prompts,
    region,
)
from .redraw import check_same, find_people, model_of, take_settings

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..identity import Identity
    from ..image_files import Drawn
    from ..model import Model
    from ..signing import Signer

logger = logging.getLogger(__name__)

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
        generate "a photo of <annika>, watercolour" --identity annika.safetensors --lora watercolour.safetensors=.8
        generate "a photo of <annika> in a café" --identity annika.safetensors --image café.jpg --image-strength .6
        generate "a photo of <annika> in a café" --identity annika.safetensors --reference annika.jpg
        generate "a pencil sketch of <bodil>" --identity bodil=annika.safetensors -o sketch.png
        generate "a photo of <annika> in the snow" --identity annika.safetensors --photo me.jpg -n 16 --best 4
        generate --like a-photo-of-annika-on-the-beach-0.png --seed 5
        generate --prompts prompts.txt --identity annika -n 4 -o pictures""",
    )
    generate.add_argument("prompt", nargs="?", metavar="PROMPT", help="text in which <name> stands for a person")
    generate.add_argument(
        "--like",
        type=Path,
        metavar="PICTURE",
        help="draw a picture of generate again, with what else is given here; its people are found by name",
    )
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
    start = generate.add_argument_group("starting from a picture")
    start.add_argument("--image", type=Path, metavar="FILE", help="a picture to draw anew")
    start.add_argument("--mask-image", type=Path, metavar="FILE", help="draw only what is white in this picture anew")
    start.add_argument(
        "--reference",
        dest="reference_image",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a picture that FLUX.2 klein looks at beside the prompt, such as a photo of somebody; repeat for several",
    )
    start.add_argument(
        "--image-strength", type=fraction, metavar="S", help="how much is drawn anew, up to 1 (default: the pipeline's)"
    )
    add_model(generate, default=None, described="that of the identities, or miniature")
    generate.add_argument(
        "-n", "--num-images", type=positive_int, default=1, metavar="N", help="pictures of each prompt (default: 1)"
    )
    generate.add_argument(
        "--photo",
        type=named_file,
        action="append",
        default=[],
        metavar="[NAME=]PHOTO",
        help="a photo of a person, or a folder, to say how alike they are in each picture; repeat for several",
    )
    add_largest_face(generate)
    generate.add_argument(
        "--best",
        type=positive_int,
        metavar="K",
        help="of the -n pictures of a prompt, keep the K in which the people are most alike, the best first",
    )
    add_face_reader(generate)
    add_sampling(generate)
    generate.add_argument("--width", type=positive_int, metavar="N", help="in pixels (default: the model's)")
    generate.add_argument("--height", type=positive_int, metavar="N", help="in pixels (default: the model's)")
    generate.add_argument(
        "--lora",
        type=_lora,
        action="append",
        default=[],
        metavar="FILE[=WEIGHT]",
        help="a LoRA beside the people; repeat for several",
    )
    generate.add_argument("--negative-prompt", metavar="TEXT", help="what the picture should not show")
    generate.add_argument(
        "--sign",
        type=Path,
        metavar="FILE.pem",
        help="sign the pictures by C2PA with the private key and the certificates in this file",
    )
    generate.add_argument("--seed", type=nonnegative_int, help="picture i starts from seed + i (default: 0)")
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
    from ..backend.families import check_references
    from ..backend.hub import local_pipeline, local_vocabulary
    from ..backend.lora import check_loras, loras
    from ..generate import check_people
    from ..image_files import how_drawn
    from ..regions import columns
    from ..signing import Signer

    like = how_drawn(args.like) if args.like else None
    prompts = _prompts(args, like)
    people = _people(args)
    found = find_people(like, prompts[0], people) if like else {}
    people |= found
    tokens = list(people)
    if like:
        take_settings(args, like, prompts[0], tokens)
    args.seed = args.seed or 0
    if args.apart and not any(len(columns(prompt, tokens)) > 1 for prompt in prompts):
        raise PromptError("no prompt names two people to keep apart: leave it out", argument="apart")
    starts = _starts(args)
    signer = Signer.load(args.sign) if args.sign else None
    lora_files = check_loras(args.lora)
    jobs = _jobs(args, prompts)
    strengths = _strengths(args, tokens)
    regions = _regions(args.region, tokens, prompts)
    args.model = args.model or model_of(list(people.values()), like)
    check_people(prompts, tokens, local_vocabulary(args.model), args.negative_prompt)
    if args.reference_image and (pipeline := local_pipeline(args.model)):
        check_references(pipeline)
    photos = _photos(args, tokens)
    _check_best(args, people, photos)
    model = load_model(args, basis=args.basis)
    people |= {token: people[token].scaled(model.basis, strength) for token, strength in strengths.items()}
    if like:
        check_same(args, model, like, {token: people[token] for token in found})
    features = _features(args, model, people, photos)
    pictures: list[Picture] = []
    model.pipe.set_progress_bar_config(disable=True if args.quiet else None, desc="drawing")
    with loras(model.pipe, lora_files):
        for _, own in groupby(jobs, lambda job: job.prompt):
            drawn: list[Picture] = []
            for job in own:
                drawn += _draw(args, model, job, people, regions, features, starts)
                if not args.best:  # what is done is kept, whatever comes after it
                    pictures += _save(args, drawn, signer)
                    drawn = []
            if args.best:
                pictures += _save(
                    args, sorted(drawn, key=lambda picture: picture.score, reverse=True)[: args.best], signer
                )
    return {
        **({"prompts": str(args.prompts)} if args.prompts else {"prompt": prompts[0]}),
        "seed": args.seed,
        "model": model.name,
        **({"strength": strengths} if strengths else {}),
        **({"from left to right": list(columns(prompts[0], tokens))} if args.apart and not args.prompts else {}),
        "pictures": [str(picture.file) for picture in pictures],
        **({"likeness": {str(picture.file): picture.likeness for picture in pictures}} if features else {}),
    }


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn, where it goes, and how alike the people in it are."""

    image: Image.Image
    file: Path
    likeness: Mapping[str, float | None]

    @property
    def score(self) -> float:
        """Return the mean likeness of the people; nobody can be less alike than somebody who is not seen."""
        return sum(-1.0 if alike is None else alike for alike in self.likeness.values()) / max(1, len(self.likeness))


def _draw(
    args: argparse.Namespace,
    model: Model,
    job: Job,
    people: Mapping[str, Identity],
    regions: Mapping[str, Box],
    features: Mapping[str, Tensor],
    starts: Mapping[str, Any],
) -> list[Picture]:
    """Draw the pictures of a job, and compare those in them with what is known of their faces."""
    from ..image_files import likeness_text
    from ..regions import mentions

    images = model.generate(
        job.prompt,
        [identity for token, identity in people.items() if mentions(f"{job.prompt} {args.negative_prompt}", token)],
        negative_prompt=args.negative_prompt,
        num_images_per_prompt=len(job.files),
        num_inference_steps=args.num_inference_steps,
        guidance_scale=args.guidance_scale,
        sampler=args.sampler,
        width=args.width,
        height=args.height,
        strength=args.image_strength,
        seed=job.seed,
        batch_size=AT_ONCE,
        regions="auto" if args.apart else {n: box for n, box in regions.items() if mentions(job.prompt, n)} or None,
        **starts,
    )
    known = {token: feature for token, feature in features.items() if mentions(job.prompt, token)}
    found = []
    for image, file in zip(images, job.files, strict=True):
        alike = model.likeness(image, known) if known else {}
        if alike:
            image.info["likeness"] = likeness_text(alike)
        found.append(Picture(image, file, alike))
    return found


def _starts(args: argparse.Namespace) -> dict[str, Any]:
    """Return the pictures from which drawing starts. Raises PromptError for options that need one."""
    from ..faces.photo import open_photo

    given = {name: getattr(args, name) for name in ("image", "mask_image") if getattr(args, name)}
    if args.image is None and (given or args.image_strength is not None):
        raise PromptError("--mask-image and --image-strength are for --image: give that too")
    if args.image_strength == 0:
        raise PromptError("--image-strength 0 draws nothing anew: give a number above 0")
    references = [open_photo(file) for file in args.reference_image]
    return {name: open_photo(file) for name, file in given.items()} | {"reference_image": references}


def _save(args: argparse.Namespace, pictures: Sequence[Picture], signer: Signer | None) -> list[Picture]:
    """Write pictures, where no other one is lost; return where they are."""
    from ..image_files import free_path, save_image

    written = []
    for picture in pictures:
        make_folder(picture.file.parent)
        file = picture.file if picture.file == args.out else free_path(picture.file, picture.image)
        save_image(picture.image, file, signer=signer)
        written.append(replace(picture, file=file))
    return written


def _people(args: argparse.Namespace) -> dict[str, Identity]:
    """Return the people given, by their tokens. Raises IdentityError for two of one name."""
    from ..identity import Identity
    from ..library import find_identity

    people: dict[str, Identity] = {}
    for file, name in args.identity:
        identity = Identity.load(find_identity(file), name)
        if identity.placeholder_token in people:
            raise IdentityError(f"two identities are called {identity.placeholder_token}: give one another token")
        people[identity.placeholder_token] = identity
    return people


def _photos(args: argparse.Namespace, tokens: Sequence[str]) -> dict[str, list[Path]]:
    """Return the photos given to compare with, by the people's tokens. Raises PhotoError for whose is unclear."""
    photos: dict[str, list[Path]] = {}
    for file, given in args.photo:
        if given is None and len(tokens) != 1:
            raise PhotoError(
                f"--photo {file}: say whose it is, as in --photo {(tokens or ['<annika>'])[0][1:-1]}={file}"
            )
        token = given or tokens[0]
        if token not in tokens:
            raise PhotoError(f"--photo names {token}: give that person with --identity")
        photos.setdefault(token, []).append(file)
    return photos


BEST = "--best chooses by likeness: give --photo, or people who were fitted with --keep-feature by this face reader"


def _check_best(args: argparse.Namespace, people: Mapping[str, Identity], photos: Mapping[str, Any]) -> None:
    """Raise PromptError where the best pictures cannot be chosen."""
    if args.best is None:
        return
    if args.best > args.num_images:
        raise PromptError(f"--best {args.best} of {args.num_images}: draw more with -n")
    if not photos and all(identity.feature is None for identity in people.values()):
        raise PromptError(BEST)


def _features(
    args: argparse.Namespace, model: Model, people: Mapping[str, Identity], photos: Mapping[str, Sequence[Path]]
) -> dict[str, Tensor]:
    """Return the face features of people who have a photo, or keep one in their file."""
    from ..faces.face import mean_feature

    kept = {token: identity.feature for token, identity in people.items()}
    features = {token: feature for token, feature in kept.items() if feature is not None and token not in photos}
    if not features and not photos:
        return {}
    try:
        reader = model.face_reader.name
    except ModelError as error:
        if photos or args.best:
            raise
        logger.info(f"likeness is not measured: {error.message}")
        return {}
    for token in list(features):
        if (other := people[token].provenance.get("face_reader")) != reader:
            logger.warning(f"{token}: likeness is not measured, as the face was described by {other}, not by {reader}")
            del features[token]
    if args.best and not features and not photos:
        raise PromptError(BEST)
    return features | {
        token: mean_feature(model.find_faces(own, largest_face=args.largest_face)) for token, own in photos.items()
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


def _prompts(args: argparse.Namespace, like: Drawn | None) -> list[str]:
    """Return the prompts asked for. Raises PromptError unless they come from one place."""
    if like and args.prompts:
        raise PromptError("--like draws one picture again: leave out --prompts")
    prompt = like.prompt if like and args.prompt is None else args.prompt
    if (prompt is None) == (args.prompts is None):
        raise PromptError("give one PROMPT, or --prompts FILE with one on each line")
    return [prompt] if args.prompts is None else read_prompts(args.prompts)


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


def _lora(text: str) -> tuple[Path, float]:
    """Read detail.safetensors=.8 as the file and .8, and detail.safetensors as the file and 1."""
    file, separator, number = text.rpartition("=")
    try:
        return (Path(file), float(number)) if separator else (Path(text), 1.0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not FILE or FILE=WEIGHT, like detail.safetensors=.8") from None


def _strength(text: str) -> tuple[str | None, float]:
    """Read annika=.8 as <annika> and .8, and .8 as everybody and .8."""
    name, _, number = text.rpartition("=")
    try:
        strength = float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not S or NAME=S, like .8 or annika=.8") from None
    return placeholder(name) if name else None, strength
