"""Where a text encoder takes a new person: at its input rows, or as the states after one of its layers.

    python benchmarks states runs/miniature/pipeline-text runs/miniature/pipeline-language

Models are the miniature and those of its world (tools/train_miniature.py). A celeb basis of states is a PCA of what a
layer makes of the celebrities' names, at each of their two tokens; people are learnt in it by the same recipe, and the
layers that follow read them as they would read a name. The start is the mean, or a map from face to coefficients,
learnt as the instant map from what the model draws of its celebrities. Celebrities are drawn by their names, and as
they are in each basis, which is the most that a person learnt there could be.

Results are one line a picture, in a file for each contender; a run that was stopped goes on. At the end the table is
printed.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Record, Result, read, weights_of
from torch import Tensor, nn
from tqdm import tqdm
from work import TOKENS, Work
from worlds import REPORTED, Person

import celeb_basis as cb
from celeb_basis import CelebBasis, InstantMap, Recipe
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.pipeline import hook, model_card, model_name
from celeb_basis.backend.text_encoders import fingerprint, name_rows
from celeb_basis.evaluation.protocols import PROMPTS
from celeb_basis.evaluation.scores import interval
from celeb_basis.fit.loop import fit_steps
from celeb_basis.fit.methods import CelebBasisMethod, Method, TextualInversion
from celeb_basis.known_names import Portraits, draw_portraits
from celeb_basis.miniature.drawn.captions import asked

logger = logging.getLogger(__name__)
RESULTS = Path(__file__).parent / "results/states"
KEPT = Path("runs/states")
EVERY = 2  # each second celebrity is drawn for the maps
WORDS = [("scene", text.replace("{}", "{0}")) for text in PROMPTS]


def layers(pipe: Any) -> nn.ModuleList:
    """The layers of a text encoder, in their order."""
    return next(module for module in pipe.text_encoder.modules() if isinstance(module, nn.ModuleList))


@contextmanager
def after_layer(pipe: Any, number: int, rows: Tensor) -> Iterator[None]:
    """Inside the block a person's two vectors are states after layer `number`, from 1 on, and no input rows.

    rows: (2, dim) that stand at the input in their place.
    """
    encoder, first = pipe.text_encoder, len(pipe.tokenizer)  # placeholders have the ids from here on
    table = encoder.get_input_embeddings()
    where: list[Tensor] = []  # of the call in progress: which of the two vectors stands at a place, or -1
    vectors: list[Tensor] = []

    def begin(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        ids = options["input_ids"] if "input_ids" in options else args[0]
        where[:] = [torch.where(ids >= first, (ids - first) % 2, -1)[..., None]]

        def take(_: nn.Module, args: tuple[Any, ...], found: Tensor) -> Tensor:
            taking.remove()
            vectors[:] = [found]
            return torch.where(where[0] < 0, found, rows.to(found)[where[0][..., 0]])

        # Only now, so that it comes behind what puts the vectors there.
        taking = table.register_forward_hook(take)

    def put(_: nn.Module, args: tuple[Any, ...], states: Tensor) -> Tensor:
        return torch.where(where[0] < 0, states, vectors[0])

    with ExitStack() as undo:
        hook(undo, encoder.register_forward_pre_hook, begin, with_kwargs=True)
        # Before transformers notes what a layer gave.
        hook(undo, layers(pipe)[number - 1].register_forward_hook, put, prepend=True)
        yield


def states_after(pipe: Any, number: int, names: Sequence[str]) -> Tensor:
    """States (names, 2, dim) after layer `number` at the two tokens of names, mean over the prompts of the card."""
    card, tokenizer = model_card(pipe), pipe.tokenizer
    prompts = (*(card.templates or ()), *(card.portraits or ()))
    total = torch.zeros(())
    for prompt in prompts:
        at = len(tokenizer(prompt.split("{}")[0]).input_ids) - 1  # an end follows
        texts = [prompt.format(name) for name in names]
        found = []
        for start in range(0, len(texts), 64):
            ids = tokenizer(texts[start : start + 64], padding=True, return_tensors="pt").input_ids
            states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[number]
            found.append(states[:, at : at + 2])
        total = total + torch.cat(found) / len(prompts)
    return total


@dataclass(frozen=True, eq=False)
class Model:
    """A model of the miniature's world with its own basis and instant map."""

    pipe: Any
    basis: CelebBasis
    portraits: Portraits

    @classmethod
    def load(cls, name: str, kept: Path) -> Model:
        """The model in a folder that tools/train_miniature.py packed, or the miniature.

        kept: the folder for the faces that it draws of its celebrities.
        """
        model = cb.Model.load(name, device="cpu")
        pipe, basis = model.pipe, model.basis
        kept /= f"{get_denoiser(pipe).digest[:12]}.safetensors"
        if kept.exists():
            return cls(pipe, basis, Portraits.load(kept))
        steps = (model_card(pipe).num_inference_steps or 20) // 2
        names = basis.names[::EVERY]
        with tqdm(total=len(names), desc="portraits", disable=None) as bar:
            for drawn in draw_portraits(
                pipe, names, model.face_reader, num_images=2, num_inference_steps=steps, batch_size=32
            ):
                bar.update(len(drawn.names) - bar.n)
        kept.parent.mkdir(parents=True, exist_ok=True)
        drawn.save(kept)
        return cls(pipe, basis, drawn)

    @property
    def mean(self) -> Tensor:
        """Input rows (2, dim) of the mean celebrity."""
        return self.basis.inverse_transform(torch.zeros_like(self.basis.sigma))


class Place:
    """Where a text encoder takes people: at its input rows, number 0, or as the states after a layer."""

    def __init__(self, model: Model, number: int) -> None:
        self.model, self.number, pipe = model, number, model.pipe
        names, drawn = model.basis.names, model.portraits
        with torch.no_grad():
            self.known = states_after(pipe, number, names) if number else name_rows(pipe, names)[0]
        self.basis = model.basis
        if number:
            self.basis = CelebBasis.fit(
                self.known, names, model.basis.n_components, fingerprint=fingerprint(pipe), model=model_name(pipe)
            )
        some = drawn.found > 0
        vectors = self.known[[names.index(name) for name in drawn.names]]
        self.instant_map = InstantMap.fit(
            torch.nn.functional.normalize(drawn.features[some].sum(1), dim=-1),
            self.basis.transform(vectors)[some], basis=self.basis, face_reader=drawn.face_reader,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"states after layer {self.number}" if self.number else "input rows"

    def taken(self) -> AbstractContextManager[None]:
        """Inside the block the pipeline takes people's vectors here."""
        return after_layer(self.model.pipe, self.number, self.model.mean) if self.number else nullcontext()

    def fit(self, people: Sequence[Person], method: Method, recipe: Recipe) -> Tensor:
        """Vectors (people, 2, dim) of people learnt here."""
        faces = [person.faces for person in people]
        with self.taken():
            for step in tqdm(
                fit_steps(self.model.pipe, self.basis, faces, ["<annika>"] * len(faces), recipe, method=method,
                          instant_map=self.instant_map),
                f"{self}, fit of {len(people)}", disable=None, leave=False,
            ):  # fmt: skip
                vectors = step.vectors
        return vectors

    def celebrities(self, people: Sequence[Person]) -> Tensor:
        """Vectors (people, 2, dim) of celebrities as they are in the basis."""
        known = self.known[[self.basis.names.index(person.name) for person in people]]
        return self.basis.inverse_transform(self.basis.transform(known))


@dataclass(frozen=True, eq=False)
class Contender:
    """How vectors (people, 2, dim) of new people, or of celebrities, come about, and where they are taken."""

    place: Place
    learn: Callable[[Sequence[Person]], Tensor]
    celebrities: bool = False


def contenders(model: Model, recipe: Recipe) -> dict[str, Contender]:
    """By name: ceiling and floor first, then each place."""
    rows, *states = (Place(model, number) for number in range(len(layers(model.pipe))))
    found = {
        "celebrities": Contender(rows, lambda people: name_rows(model.pipe, [p.name for p in people])[0], True),
        "mean person": Contender(rows, lambda people: model.mean.expand(len(people), -1, -1)),
        "input rows, free": _fitted(rows, TextualInversion(num_vectors=2), recipe),
    }
    for place in (rows, *states):
        # The score is of held-out celebrities.
        logger.info(f"{place}: R2 of the map from face to coefficients {place.instant_map.loo_r2:.3f}")
        found |= {
            f"celebrities in the basis of {place}": Contender(place, place.celebrities, True),
            f"{place}, by the map": _fitted(place, CelebBasisMethod(init="instant"), Recipe(max_train_steps=0)),
            f"{place}, from the map": _fitted(place, CelebBasisMethod(init="instant"), recipe),
            f"{place}, from the mean": _fitted(place, CelebBasisMethod(init="mean"), recipe),
        }
    return found


def _fitted(place: Place, method: Method, recipe: Recipe) -> Contender:
    return Contender(place, lambda people: place.fit(people, method, recipe))


def measure(
    name: str, contender: Contender, model: Model, work: Work, out: Path, settings: dict[str, Any], seeds: int
) -> Result:
    """Draw and score everybody whom the contender's file does not hold yet; returns what it holds then."""
    record = Record(
        out,
        {
            "name": name, "settings": settings, "seeds": seeds, "first": work.first,
            "weights": weights_of(model.pipe),
            "prompts": [[kind, text, list(asked(text.format(*TOKENS)))] for kind, text in WORDS],
        },
    )  # fmt: skip
    done = record.done()
    people = [p for p in (work.celebrities if contender.celebrities else work.people) if str(p.number) not in done]
    if people:
        vectors = contender.learn(people)
        for i, person in enumerate(tqdm(people, name, disable=None)):
            with contender.place.taken():
                _, rows = work.draw(model.pipe, vectors[i : i + 1], [person], WORDS, seeds, batch_size=len(WORDS))
            record.add(str(person.number), rows)
    return read(record.path)


def table(found: dict[str, Result], title: str) -> str:
    """Means in Markdown, with 95% intervals over people."""
    rows = []
    for name, result in found.items():
        people = list(result.people.values())
        means = [[np.mean([row[key] for row in own]) for own in people] for key in ("identity", "rank1", "found")]
        means.insert(2, [np.mean([hit for row in own for hit in row["asked"].values()]) for own in people])
        rows.append(f"| {name} | {len(people)} | " + " | ".join(_cell(np.array(each)) for each in means) + " |")
    head = f"| {title} | people | identity | recognised | prompt | one face |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _cell(values: Any) -> str:
    """.712 (.690 to .733)"""
    low, high = interval(values)
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="folders, or miniature")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--first", type=int, default=REPORTED, help="number of the first; 3000 and on are for tuning")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of the fits, instead of each method's own")
    parser.add_argument("--only", nargs="+", metavar="CONTENDER")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    work = Work(args.people, args.first)
    tables = []
    for name in args.models:
        title = Path(name).name
        model = Model.load(name, KEPT)
        everybody = contenders(model, Recipe(max_train_steps=args.steps))
        chosen = {key: everybody[key] for key in args.only or everybody}
        card = model_card(model.pipe)
        settings = {
            "steps of a fit": args.steps, "sampler steps": card.num_inference_steps, "guidance": card.guidance_scale
        }  # fmt: skip
        found = {
            key: measure(key, each, model, work, args.out / title, settings, args.seeds) for key, each in chosen.items()
        }
        tables.append(table(found, title))
    print("\n".join(tables))


if __name__ == "__main__":
    main()
