"""The evaluate command: numbers for a fitted person, for a folder of somebody's pictures, or for a face reader."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CelebBasisError, PhotoError, PromptError
from .options import (
    FACE_READERS,
    Progress,
    add_command,
    add_largest_face,
    add_model,
    add_sampling,
    check_folder,
    load_model,
    make_folder,
    nonnegative_int,
    positive_int,
    read_prompts,
)
from .signals import at_once

if TYPE_CHECKING:
    from ..evaluation.evaluate import Measured, Person
    from ..evaluation.protocols import Protocol

PROTOCOL_NAMES = ("short", "paper", "stable-identity", "celeba-hq", "ffhq-100")
SHEET_PICTURES = 80  # pictures on a contact sheet at most
USED = {"reader_check": ("judge",), "multiid_bench": ("judge", "clip", "basis")}
"""Which options have an effect on what is measured without a model."""


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    evaluate = add_command(
        commands,
        "evaluate",
        measure,
        "measure likeness and prompt fidelity, next to those of the model's own celebrities",
        """
        evaluate --identity annika.safetensors --photo me.jpg
        evaluate --identity annika.safetensors --photo me.jpg --seeds 4 --diversity --json
        evaluate --identity annika.safetensors --photo me.jpg --model sd15 --basis sd15.safetensors
        evaluate --people people.csv --protocol stable-identity --model sd15 -o results
        evaluate --people people.csv --protocol paper --guidance 7.5 --negative-prompt "" --model sd15
        evaluate --multiid-bench outputs --clip none --basis sd15.safetensors
        evaluate --reader-check my-photos""",
        "Likeness is the cosine of two faces in a network that the fit did not use. The pictures are kept: the same "
        "command continues where it was stopped, and draws nothing twice.",
    )
    what = evaluate.add_argument_group("what is measured (one of these)")
    what.add_argument("--identity", type=Path, metavar="FILE|NAME", help="a fitted person, with --photo")
    what.add_argument("--people", type=Path, metavar="TABLE", help="many: a CSV file of identity,photo[,name]")
    what.add_argument(
        "--multiid-bench", type=Path, metavar="DIR", help="pictures of any program, in the folders of MultiID-Bench"
    )
    what.add_argument(
        "--reader-check",
        type=Path,
        metavar="DIR",
        help="the face readers themselves: a folder of photos for each person, or files called PERSON__ANYTHING.jpg",
    )
    evaluate.add_argument(
        "--photo", type=Path, action="append", help="a photo of the person, or a folder; repeat for several"
    )
    add_largest_face(evaluate)
    add_model(evaluate, default=None, described="that of the identities, or miniature")
    evaluate.add_argument(
        "--basis",
        type=Path,
        metavar="FILE|DIR",
        help="whose names are drawn too; people of these names are left out (default: the model's)",
    )
    how = add_measuring(evaluate)
    how.add_argument(
        "--celebrities", type=nonnegative_int, metavar="N", help="names of the basis drawn for comparison (default: 10)"
    )
    how.add_argument(
        "--diversity", action="store_true", help="also measure how different pictures of a prompt are (by CLIP)"
    )
    evaluate.add_argument(
        "-o", "--out", type=Path, default=Path("evaluation"), metavar="DIR", help="pictures, sheet, report (evaluation)"
    )


def add_measuring(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add which pictures are drawn to measure somebody, and who judges them; return their group."""
    how = parser.add_argument_group("how it is measured")
    how.add_argument(
        "--protocol", choices=PROTOCOL_NAMES, help="which prompts, drawn as published (default: short, ten of them)"
    )
    how.add_argument("--prompts", type=Path, metavar="FILE", help="your own: one a line, {} where the name stands")
    how.add_argument("--seeds", type=positive_int, default=2, metavar="N", help="pictures per prompt (default: 2)")
    how.add_argument(
        "--seed", type=nonnegative_int, default=0, help="picture i of a prompt starts from seed + i (default: 0)"
    )
    add_sampling(how, "the protocol's, or the model's")
    how.add_argument(
        "--negative-prompt",
        metavar="TEXT",
        help='what pictures should not show (default: the protocol\'s; "" for none)',
    )
    how.add_argument(
        "--judge", choices=FACE_READERS, help="face reader of photographs (default: dlib, or one that fitted nobody)"
    )
    how.add_argument(
        "--clip",
        metavar="MODEL",
        help="folder or hub id of the CLIP for prompts (default: the protocol's, or OpenAI's ViT-L/14), or none",
    )
    return how


def measure(args: argparse.Namespace) -> dict[str, Any]:
    given = [name for name in ("identity", "people", "multiid_bench", "reader_check") if getattr(args, name)]
    if len(given) != 1:
        raise PhotoError(
            "say what is measured with one of --identity FILE, --people TABLE, --multiid-bench DIR, --reader-check DIR"
        )
    if bool(args.photo) != bool(args.identity):
        raise PhotoError("--identity FILE and --photo FILE belong together: give both")
    for what, measured in (("reader_check", _check_readers), ("multiid_bench", _measure_bench)):
        if getattr(args, what):
            _check_unused(args, what)
            return measured(args)
    return _measure_people(args)


def _check_unused(args: argparse.Namespace, what: str) -> None:
    """Raise PromptError for an option without effect on what is measured."""
    kept = {"help", "json", "quiet", "verbose", what, *USED[what]}
    for action in args.parser._actions:
        if action.dest not in kept and getattr(args, action.dest) != action.default:
            raise PromptError(f"{action.option_strings[-1]} is not for --{what.replace('_', '-')}: leave it out")


def _check_readers(args: argparse.Namespace) -> dict[str, Any]:
    from ..evaluation.face_verification import measure_reader, people_in
    from ..faces.reader import PhotoReader

    people = people_in(args.reader_check)
    names = [args.judge] if args.judge else ["sface-int8", "dlib"]
    reports: list[dict[str, Any]] = []
    with Progress(quiet=args.quiet) as progress:
        for name in names:
            try:
                with at_once():
                    reader = PhotoReader(name)
            except CelebBasisError as error:
                if not reports:
                    raise
                reports.append({"face_reader": name, "missing": str(error)})
                continue
            reports.append(measure_reader(reader, people, progress))
    return {"readers": reports}


def _measure_bench(args: argparse.Namespace) -> dict[str, Any]:
    from ..basis import CelebBasis
    from ..evaluation.clip import Clip
    from ..evaluation.judge import PhotoJudge
    from ..evaluation.multiid_bench import evaluate_samples
    from ..faces.reader import PhotoReader

    celebrities = CelebBasis.load(args.basis).names if args.basis else ()
    with at_once():
        clip = None if args.clip == "none" else Clip.load(args.clip)
        judge = PhotoJudge(PhotoReader(args.judge or "dlib"), clip)
    with Progress(quiet=args.quiet) as progress:
        return evaluate_samples(args.multiid_bench, judge, progress, celebrities=celebrities)


def _measure_people(args: argparse.Namespace) -> dict[str, Any]:
    from ..evaluation.evaluate import evaluate_people, without_celebrities
    from ..evaluation.image_cache import ImageCache
    from ..model import model_of_identities, resolve_basis

    check_folder(args.out)
    people = _people(args)
    protocol = protocol_of(args)
    args.model = args.model or model_of_identities([person.identity for person in people])
    basis, _ = resolve_basis(args.model, args.basis)
    model = load_model(args, basis=basis)
    people, left_out = without_celebrities(people, basis.names if basis else ())
    with at_once():
        judge = model.get_judge(
            [person.identity for person in people], reader=args.judge, clip=args.clip, default_clip=protocol.clip
        )
    with Progress(quiet=args.quiet) as progress:
        report, measured = evaluate_people(
            model.pipe,
            people,
            judge=judge,
            basis=basis,
            protocol=protocol,
            seeds=args.seeds,
            seed=args.seed,
            celebrities=args.celebrities,
            with_diversity=args.diversity,
            image_cache=ImageCache(
                model.pipe,
                args.num_inference_steps,
                args.guidance_scale,
                args.out / "pictures",
                args.sampler,
                args.negative_prompt,
            ),
            largest_face=args.largest_face,
            progress=progress,
        )
    make_folder(args.out)
    if left_out:
        report["left_out"] = left_out
    report["pictures"] = str(args.out / "pictures")
    report["contact_sheets"] = _sheets(args, people, measured)
    report["file"] = _write(args.out / "report.json", report)
    return report


def _people(args: argparse.Namespace) -> list[Person]:
    from ..evaluation.evaluate import Person
    from ..evaluation.people_table import read_people
    from ..faces.photo import open_photos
    from ..identity import Identity
    from ..library import find_identity

    if args.people:
        return read_people(args.people)
    photos = open_photos(args.photo)
    return [Person(Identity.load(find_identity(args.identity)), photos)]


def protocol_of(args: argparse.Namespace) -> Protocol:
    """Return the protocol asked for, or one of the user's prompts."""
    from ..evaluation.protocols import PROTOCOLS, Protocol

    if args.prompts is None:
        return PROTOCOLS[args.protocol or PROTOCOL_NAMES[0]]
    if args.protocol:
        raise PromptError("--prompts brings its own: leave out --protocol")
    prompts = read_prompts(args.prompts)
    if any(prompt.count("{}") != 1 for prompt in prompts):
        raise PromptError(f"{args.prompts} must hold one prompt a line, with {{}} once where the name stands")
    return Protocol({"yours": tuple(prompts)})


def _sheets(args: argparse.Namespace, people: Sequence[Person], measured: Sequence[Measured]) -> list[str]:
    """Draw a contact sheet of each person: the photograph, and images with their likeness."""
    from ..evaluation.plots import contact_sheet
    from ..image_files import save_image

    files = []
    for person, own in zip(people, measured, strict=True):
        name = person.identity.placeholder_token
        titles = [
            f"{alike:.2f}  {text.removeprefix('a photo of a person ')[:24]}"
            for alike, text in zip(own.scores.identity, own.prompts, strict=True)
        ]
        titles = titles[:SHEET_PICTURES]
        heading = f"{name}: mean likeness {own.scores.identity.mean():.2f}"
        sheet = contact_sheet(person.photos[0], own.pictures[:SHEET_PICTURES], titles, heading)
        file = args.out / f"sheet-{name[1:-1]}.png"
        save_image(sheet, file, prompt=" | ".join(dict.fromkeys(own.prompts)), seed=args.seed, model=args.model)
        files.append(str(file))
    return files


def _write(path: Path, report: Mapping[str, Any]) -> str:
    from ..io import write_atomically

    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return str(path)
