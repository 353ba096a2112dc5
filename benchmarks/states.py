"""Where a text encoder takes a new person: at its input rows, or as the states after one of its layers.

    python benchmarks/states.py runs/miniature/pipeline-text runs/miniature/pipeline-language

Models are the miniature and those of its world (tools/train_miniature.py). A celeb basis of states is a PCA of what a
layer makes of the celebrities' names, at each of their two tokens; people are learnt in it by the same recipe, and the
layers that follow read them as they would read a name. Results are one line a picture, in a file for each contender;
a run that was stopped goes on. At the end the table is printed.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Record, Result, read
from torch import Tensor, nn
from tqdm import tqdm
from work import REPORTED, TOKENS, Person, Work

from celeb_basis import CelebBasis, InstantMap, Recipe, fit_steps, load_pipeline
from celeb_basis.measuring.protocols import PROMPTS
from celeb_basis.measuring.scores import interval
from celeb_basis.miniature.captions import asked
from celeb_basis.models.encoders import fingerprint, name_rows
from celeb_basis.models.families import denoiser_of
from celeb_basis.models.hooks import hook
from celeb_basis.models.pipeline import model_card, model_name
from celeb_basis.training.methods import CelebBasisMethod, Method, TextualInversion

RESULTS = Path(__file__).parent / "results/states"
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


@torch.no_grad()
def basis_after(pipe: Any, number: int, names: Sequence[str], n_components: int) -> CelebBasis:
    """A celeb basis of the states after layer `number`, at the two tokens of names, mean over the card's prompts."""
    card, tokenizer = model_card(pipe), pipe.tokenizer
    prompts = (*(card.templates or ()), *(card.portraits or ()))
    total: Tensor | float = 0.0
    for prompt in prompts:
        at = len(tokenizer(prompt.split("{}")[0]).input_ids) - 1  # an end follows
        texts = [prompt.format(name) for name in names]
        found = []
        for start in range(0, len(texts), 64):
            ids = tokenizer(texts[start : start + 64], padding=True, return_tensors="pt").input_ids
            states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[number]
            found.append(states[:, at : at + 2])
        total = total + torch.cat(found)
    return CelebBasis.fit(
        total / len(prompts), names, n_components, fingerprint=fingerprint(pipe), model=model_name(pipe)
    )


@dataclass(frozen=True, eq=False)
class Model:
    """A model of the miniature's world with its own basis and instant map."""

    pipe: Any
    basis: CelebBasis
    instant: InstantMap

    @classmethod
    def load(cls, name: str) -> Model:
        """The model in a folder that tools/train_miniature.py packed, or the miniature."""
        pipe = load_pipeline(name, device="cpu")
        return cls(pipe, CelebBasis.from_card(pipe.card), InstantMap.from_card(pipe.card))

    @property
    def mean(self) -> Tensor:
        """Input rows (2, dim) of the mean celebrity."""
        return self.basis.inverse_transform(torch.zeros_like(self.basis.sigma))

    def fit(self, people: Sequence[Person], method: Method, recipe: Recipe, basis: CelebBasis | None = None) -> Tensor:
        """Vectors (people, 2, dim) of people learnt by a method, in the model's own basis or in another."""
        faces = [person.faces for person in people]
        for step in tqdm(
            fit_steps(self.pipe, basis or self.basis, faces, recipe, method=method, instant=self.instant),
            f"fit of {len(people)}", disable=None, leave=False,
        ):  # fmt: skip
            vectors = step.vectors
        return vectors


@dataclass(frozen=True, eq=False)
class Contender:
    """Vectors (people, 2, dim) of people, and where the text encoder takes them."""

    learn: Callable[[Sequence[Person]], Tensor]
    place: Callable[[], AbstractContextManager[None]] = nullcontext
    celebrities: bool = False


def contenders(model: Model, recipe: Recipe) -> dict[str, Contender]:
    """By name, ceiling and floor first."""
    mean, instant = CelebBasisMethod(init="mean"), CelebBasisMethod(init="instant")

    def named(people: Sequence[Person]) -> Tensor:
        return torch.cat([name_rows(model.pipe, [person.name])[0] for person in people])

    def states(number: int) -> Contender:
        basis = basis_after(model.pipe, number, model.basis.names, model.basis.n_components)

        def learn(people: Sequence[Person]) -> Tensor:
            with after_layer(model.pipe, number, model.mean):
                return model.fit(people, mean, recipe, basis)

        return Contender(learn, lambda: after_layer(model.pipe, number, model.mean))

    return {
        "celebrities": Contender(named, celebrities=True),
        "mean person": Contender(lambda people: model.mean.expand(len(people), -1, -1)),
        "instant map": Contender(lambda people: model.fit(people, instant, Recipe(max_train_steps=0))),
        "input rows": Contender(lambda people: model.fit(people, instant, recipe)),
        "input rows, from the mean": Contender(lambda people: model.fit(people, mean, recipe)),
        "free input rows": Contender(lambda people: model.fit(people, TextualInversion(), recipe)),
        **{f"states after layer {i}, from the mean": states(i) for i in range(1, len(layers(model.pipe)))},
    }


def measure(
    name: str, contender: Contender, model: Model, work: Work, out: Path, settings: dict[str, Any], seeds: int
) -> Result:
    """Draw and score everybody whom the contender's file does not hold yet; returns what it holds then."""
    weights = f"{denoiser_of(model.pipe).digest}{fingerprint(model.pipe)}"
    record = Record(
        out,
        {
            "name": name, "settings": settings, "seeds": seeds, "first": work.first,
            "weights": hashlib.sha256(weights.encode()).hexdigest()[:12],
            "prompts": [[kind, text, list(asked(text.format(*TOKENS)))] for kind, text in WORDS],
        },
    )  # fmt: skip
    done = record.done()
    people = [p for p in (work.celebrities if contender.celebrities else work.people) if str(p.number) not in done]
    if people:
        vectors = contender.learn(people)
        for i, person in enumerate(tqdm(people, name, disable=None)):
            with contender.place():
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
    work = Work(args.people, args.first)
    tables = []
    for name in args.models:
        model = Model.load(name)
        everybody = contenders(model, Recipe(max_train_steps=args.steps))
        chosen = {key: everybody[key] for key in args.only or everybody}
        title, card = Path(name).name, model_card(model.pipe)
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
