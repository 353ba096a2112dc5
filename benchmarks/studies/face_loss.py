"""What the face loss adds to a fit: identity by the fit's own reader and by the judge, prompt, faces, diversity, cost.

    python benchmarks face_loss                                # the default
    python benchmarks face_loss --set learning_rate=.01 used=2 # another setting, beside the same start
    python benchmarks face_loss --checks                       # also JPEG, blur, moved crops, diversity, and a sheet

On the miniature, with people for tuning. A line of JSON for each setting is added to results/face_loss.jsonl.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import work as work_module
from model import Model
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from record import origin, short, weights_of
from tables import table
from torch import Tensor
from work import SHORT, Work
from worlds import TUNED, Person

from celeb_basis import Recipe
from celeb_basis.backend.pipeline import model_card
from celeb_basis.evaluation.scores import diversity
from celeb_basis.fit.face_loss import FaceLoss, minimize_face_loss
from celeb_basis.fit.loop import fit_steps
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.fit.methods.method import FitContext
from celeb_basis.io import load_safetensors, save_safetensors
from celeb_basis.miniature.drawn.readers import evaluation_reader, fitting_reader, looks

RESULTS = Path(__file__).parent / "results"
FIRST = TUNED + 100


def jpeg(picture: Image.Image, quality: int = 40) -> Image.Image:
    """The picture as a small JPEG keeps it."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


# What is done to a picture, and by how many pixels the cut-out of its face is moved.
DAMAGES: dict[str, tuple[Callable[[Image.Image], Image.Image], float]] = {
    "as drawn": (lambda picture: picture, 0),
    "JPEG of quality 40": (jpeg, 0),
    "blurred by a pixel": (lambda picture: picture.filter(ImageFilter.GaussianBlur(1)), 0),
    "crop moved by 2 pixels": (lambda picture: picture, 2),
}


class Study:
    """The same people, fitted without the face loss, from where each setting starts."""

    def __init__(self, people: int, first: int, sampler_steps: int | None, work: Path) -> None:
        work_module.GALLERY = work_module.STARS = people  # nobody is recognised among others here
        self.model, self.work = Model(), Work(people, first)
        self.sampler_steps = sampler_steps
        self.context = FitContext(
            self.model.pipe, self.model.basis, [p.faces for p in self.work.people], [], self.model.instant_map
        )
        self.start = self._start(work / f"start-{first}-{people}-{weights_of(self.model.pipe)}.safetensors")

    def _start(self, path: Path) -> Tensor:
        if not path.exists():
            recipe = Recipe(max_train_steps=40, face_loss=False)
            people = self.context.people
            *_, last = fit_steps(
                self.model.pipe, self.model.basis, people, ["<one>"] * len(people), recipe,
                instant_map=self.model.instant_map,
            )  # fmt: skip
            path.parent.mkdir(parents=True, exist_ok=True)
            save_safetensors(path, {"vectors": last.vectors}, {})
        return load_safetensors(path, RuntimeError)[0]["vectors"]  # type: ignore[arg-type]

    def learn(self, settings: FaceLoss, looked_at: Sequence[int], scenes: Sequence[str]) -> list[dict[str, Any]]:
        """Follow a setting; return what pictures show after some steps."""
        method, basis = CelebBasisMethod(init="instant"), self.model.basis
        parametrization = method.start(self.context)
        free = (basis.transform(self.start) / basis.sigma).requires_grad_()
        begun = free.detach().clone()

        def vectors_of(free: Tensor) -> Tensor:
            return parametrization.vectors(parametrization.averaged(free, torch.arange(len(free))))

        losses = minimize_face_loss(
            self.model.pipe, basis, fitting_reader(), self.context.features(), free, vectors_of,
            max_train_steps=settings.max_train_steps, scenes=scenes, settings=settings,
        )  # fmt: skip
        seconds, found = 0.0, []
        for step in range(settings.max_train_steps + 1):
            before = time.process_time()
            loss = next(losses) if step else None
            seconds += time.process_time() - before
            if step in (*looked_at, settings.max_train_steps):
                moved = float((free.detach() - begun).square().mean().sqrt())
                cost = {"step": step, "loss": loss, "cpu_seconds": seconds / len(self.work.people), "moved": moved}
                found.append(cost | self.look(vectors_of(free.detach())))
                print(json.dumps(rounded(found[-1] | {"identity": float(np.mean(found[-1]["identity"]))})), flush=True)
        self.vectors = vectors_of(free.detach())
        return found

    def look(self, vectors: Tensor) -> dict[str, Any]:
        """Each person's mean identity in the scenes, one picture each, and what else is seen."""
        rows, own = [], []
        for person, each in zip(self.work.people, vectors, strict=True):
            pictures, seen = self.draw(each, person)
            rows.append(seen)
            own.append(float(likeness(pictures, fitting_reader(), person.faces[0].feature).mean()))
        return {
            "identity": [float(np.mean([row["identity"] for row in of_one])) for of_one in rows],
            "own": float(np.mean(own)),
            "prompt": float(np.mean([hit for of_one in rows for row in of_one for hit in row["asked"].values()])),
            "found": float(np.mean([row["found"] for of_one in rows for row in of_one])),
        }

    def draw(self, vectors: Tensor, person: Person, seeds: int = 1) -> tuple[list[Image.Image], list[dict[str, Any]]]:
        return self.work.draw(
            self.model.pipe, vectors[None], [person], SHORT, seeds, 8, num_inference_steps=self.sampler_steps
        )

    def checks(self, out: Path) -> str:
        """What is left of identity in damaged pictures, and how different two pictures of a prompt are; a sheet."""
        rows, sheet, people = [], [], self.work.people
        for name, vectors in (("denoising alone", self.start), ("and the face loss", self.vectors)):
            drawn = [self.draw(each, person, seeds=2)[0] for each, person in zip(vectors, people, strict=True)]
            cells = [
                np.mean([likeness(map(damage, own), *who, moved) for own, who in zip(drawn, readers, strict=True)])
                for readers in (
                    [(evaluation_reader(), person.feature) for person in people],
                    [(fitting_reader(), person.faces[0].feature) for person in people],
                )
                for damage, moved in DAMAGES.values()
            ]
            cells.append(np.mean([diversity(pair) for own in drawn for pair in looks(own).split(2)]))
            rows.append([name, *(f"{cell:.3f}" for cell in cells)])
            sheet.append([own[::2] for own in drawn])
        contact(people, sheet, out)
        head = [f"{who}: {name}" for who in ("judge", "own reader") for name in DAMAGES]
        return table(["", *head, "diversity"], rows)


def likeness(pictures: Iterable[Image.Image], reader: Any, feature: Tensor, moved: float = 0) -> NDArray[np.float64]:
    """The cosine of each picture's largest face to a photograph's, its crop moved by pixels; 0 where there is none."""
    found = []
    for picture in pictures:
        [faces] = reader.read([picture])
        if faces:
            x, y, right, down = faces[0].square
            pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
            seen = reader.network.features(pixels, [(x + moved, y + moved, right, down)])[0]
        found.append(float(seen @ feature) if faces else 0.0)
    return np.array(found)


def contact(people: Sequence[Person], sheet: Sequence[Sequence[Sequence[Image.Image]]], out: Path) -> None:
    """Save a sheet: of each person the photograph, the pictures before, and below them those after."""
    side, width = 128, 1 + len(SHORT)
    whole = Image.new("RGB", (side * width, 2 * side * len(people)), "white")
    for i, person in enumerate(people):
        whole.paste(person.photo.resize((side, side)), (0, 2 * i * side))
        for k, drawn in enumerate(sheet):
            for j, picture in enumerate(drawn[i]):
                whole.paste(picture.resize((side, side)), ((1 + j) * side, (2 * i + k) * side))
    whole.save(out)


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {k: [short(x) for x in v] if isinstance(v, list) else short(v) for k, v in values.items()}


def setting(text: str) -> tuple[str, Any]:
    """learning_rate=3e-4 -> ("learning_rate", 0.0003)"""
    key, _, value = text.partition("=")
    return key, ast.literal_eval(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--set", nargs="+", type=setting, default=[], metavar="NAME=VALUE", help="of FaceLoss")
    parser.add_argument("--look", nargs="+", type=int, default=[0], help="steps after which pictures are drawn")
    parser.add_argument("--sampler-steps", type=int, help="of the pictures that are measured (default: the model's)")
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("runs/face-loss"))
    parser.add_argument("--out", type=Path, default=RESULTS / "face_loss.jsonl")
    args = parser.parse_args()
    study, settings = Study(args.people, args.first, args.sampler_steps, args.work), FaceLoss(**dict(args.set))
    found = study.learn(settings, args.look, model_card(study.model.pipe).scenes or ())
    line = asdict(settings) | {
        "first": args.first,
        "sampler_steps": args.sampler_steps,
        "course": list(map(rounded, found)),
    }
    with args.out.open("a") as file:
        file.write(json.dumps(line | origin()) + "\n")
    before, after = (np.array(each["identity"]) for each in (found[0], found[-1]))
    less = after - before
    print(f"{less.mean():+.3f} +- {2 * less.std(ddof=1) / len(less) ** 0.5:.3f}")
    if args.checks:
        print(study.checks(args.work / "sheet.png"))


if __name__ == "__main__":
    main()
