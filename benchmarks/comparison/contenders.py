"""The contenders: every way of putting a person into the model that is compared, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from model import Learnt, Model
from own_unet import CustomDiffusion, DreamBooth, DreamBoothLoRA, OwnUNet
from worlds import Person

from celeb_basis import Recipe
from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.fit.face_loss import FaceLoss
from celeb_basis.fit.loop import fit_steps
from celeb_basis.fit.methods import CelebBasisMethod, CrossInitialization, Paper, StableIdentity, TextualInversion
from celeb_basis.fit.methods.method import FitContext, Method

PEOPLE = {1: 50, 2: 60, 3: 50}  # how many of the first people are drawn alone, in pairs and in threes


class Fixed:
    """Needs no photograph and no step."""

    steps: ClassVar[int] = 0
    side_by_side: ClassVar[bool] = True  # several people in one fit, each as if alone
    regions: ClassVar[bool] = False  # people are kept apart while they are drawn
    people: ClassVar[Mapping[int, int]] = PEOPLE


@dataclass(frozen=True)
class Celebrities(Fixed):
    """The model's own people, by their own names: the ceiling."""

    regions: bool = False

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the celebrities' own vectors."""
        yield Learnt(name_rows(model.pipe, [person.name for person in people])[0])


@dataclass(frozen=True)
class MeanPerson(Fixed):
    """Nobody: the floor."""

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the mean celebrity for everybody."""
        yield Learnt(model.mean.expand(len(people), -1, -1))


@dataclass(frozen=True)
class Fitted:
    """A method of the library, as its users call it; steps, learning rate and batch are the benchmark's own."""

    method: Method
    steps: int
    learning_rate: float
    batch: int
    regions: bool = False
    people: ClassVar[Mapping[int, int]] = PEOPLE

    @property
    def side_by_side(self) -> bool:
        """Whether several people in one fit are each as if alone."""
        return not self.method.joint

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the start and every step."""
        faces = [person.faces for person in people]
        free = self._free(model, people) if self.steps else 0
        for step in fit_steps(
            model.pipe,
            model.basis,
            faces,
            ["<one>"] * len(faces),
            self._recipe(model),
            method=self.method,
            instant_map=model.instant_map,
            face_reader=model.face_reader,
        ):
            yield Learnt(step.vectors, free)

    def _recipe(self, model: Model) -> Recipe:
        """The denoising loss alone."""
        return Recipe(
            max_train_steps=self.steps,
            learning_rate=self.learning_rate,
            train_batch_size=self.batch,
            face_loss=False,
        )

    def _free(self, model: Model, people: Sequence[Person]) -> int:
        """How many numbers are learnt for one person."""
        generators = [torch.Generator()]
        context = FitContext(model.pipe, model.basis, [people[0].faces], generators, model.instant_map)
        return self.method.start(context).free[0].numel()


@dataclass(frozen=True)
class WithFaceLoss(Fitted):
    """A method of the library that goes on with the face loss; what it was set to belongs to the results."""

    face_loss: FaceLoss = field(default_factory=FaceLoss)

    def _recipe(self, model: Model) -> Recipe:
        """Steps with the face loss follow, as many as by default where the steps before them are."""
        recipe = replace(super()._recipe(model), face_loss=True)
        return replace(recipe, max_train_steps=None) if self.steps == model.steps else recipe


PROGRAM = ("weight_decay", "max_grad_norm", "independent_images", "reads_images", "joint", "augmentation")
"""What a method's program does beside its formula; what is as in our own method is not recorded."""
OUTDATED = ("Textual Inversion",)
"""Whose stored results are of an earlier version of the method, which did not follow its published program."""

Contender = Celebrities | MeanPerson | Fitted | OwnUNet


def settings(contender: Contender) -> dict[str, Any]:
    """Everything that decides what a contender learns and how it is drawn, for the file of its results."""
    values = asdict(contender)
    if not isinstance(contender, Fitted):
        return values
    method = contender.method
    program = {name: getattr(method, name) for name in PROGRAM if getattr(method, name) != getattr(Method, name)}
    return values | {"method": repr(method)} | ({"program": repr(program)} if program else {})


def tuned(contender: Contender, values: Mapping[str, Any]) -> Contender:
    """The contender with other settings, its own or its method's."""
    if not isinstance(contender, Fitted):
        return replace(contender, **values)
    of_method = {field.name for field in fields(contender.method)} & values.keys()
    method = replace(contender.method, **{name: values[name] for name in of_method})
    return replace(contender, method=method, **{name: values[name] for name in values.keys() - of_method})


def as_by_default(contender: Contender, model: Model) -> Contender:
    """The contender, ours with as many steps as the model's card has."""
    if isinstance(contender, WithFaceLoss):
        contender = replace(contender, face_loss=replace(contender.face_loss, max_train_steps=model.face_loss_steps))
    ours = isinstance(contender, Fitted) and isinstance(contender.method, CelebBasisMethod) and contender.steps
    return replace(contender, steps=model.steps) if ours else contender


def learnt_alike(contender: Contender) -> Contender:
    """The contender that learns the same and is drawn without regions."""
    return replace(contender, regions=False) if contender.regions else contender


OURS = Fitted(CelebBasisMethod(init="instant"), 40, 3e-2, 2)
PAPER = Fitted(Paper(), 400, 1e-2, 2)


def _vectors(method: Method, steps: int, learning_rate: float = 5e-3) -> Fitted:
    return Fitted(method, steps, learning_rate, batch=2)


# The paper's recipe and StableIdentity are as published: of the rates that were tried on ten people for tuning (3000 to
# 3009), eight scenes each, the published ones are the best.
# The steps of Textual Inversion were chosen on ten people for tuning (3100 to 3109), eight scenes each, partly from two
# seeds, by the identity after 50, 100, 150, 200, 300, 400 and 500; the learning rate of Cross Initialization there, too
# (best of two, of five with the weights before). The learning rates of the methods that train the UNet (best of three
# or four) and their steps (200 or 400) were chosen on the first four people for tuning, with all prompts of one person.
CONTENDERS: dict[str, Contender] = {
    "celebrities": Celebrities(),
    "mean person": MeanPerson(),
    "Celeb Basis, instant": replace(OURS, steps=0),
    "Celeb Basis, refined": OURS,
    "Celeb Basis, face loss": WithFaceLoss(**vars(OURS)),
    "the paper's recipe": PAPER,
    "Textual Inversion": _vectors(TextualInversion(num_vectors=2), 150),
    "Cross Initialization": Fitted(CrossInitialization(), 320, 5e-3, 8),
    "StableIdentity": Fitted(StableIdentity(), 450, 5e-5, 1),
    "DreamBooth": DreamBooth(),
    "DreamBooth-LoRA": DreamBoothLoRA(),
    "Custom Diffusion": CustomDiffusion(),
}
# Ways that differ from the above in pictures of several people only.
REGIONS: dict[str, Contender] = {
    "celebrities, in regions": Celebrities(regions=True),
    "Celeb Basis, refined, in regions": replace(OURS, regions=True),
}
# Who is drawn in threes, and who is not drawn in pictures of so many people.
THREE_PEOPLE = (
    "celebrities",
    "Celeb Basis, refined",
    "Celeb Basis, face loss",
    "Celeb Basis, refined, in regions",
    "Textual Inversion",
)
NOT_DRAWN = {1: set(REGIONS), 2: set[str](), 3: (CONTENDERS | REGIONS).keys() - set(THREE_PEOPLE)}
