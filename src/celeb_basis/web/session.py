"""One visitor of the page: their people, their pictures, the model they chose."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .. import (
    Face,
    Identity,
    IdentityError,
    Model,
    OutputError,
    PhotoError,
    PromptError,
    miniature,
    open_photo,
    save_image,
)
from ..backend.card import DEFAULT_MODEL
from ..backend.pipeline import pipeline_lock
from ..backend.text_encoders import vocabulary
from ..embedding_io import in_prompts, name_advice
from ..faces.face import find_face
from ..image_files import file_stem
from .studio import Studio

Check = Callable[[], None]


def _go_on() -> None:
    """Nobody stops the job."""


PORTRAIT = "a close up photo of {} in a studio"
ROW = (0.0, 0.25, 0.5, 0.75, 1.0)  # weights of the pictures between two people


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody prompts can name: the identity, its file, and a picture of them."""

    identity: Identity
    file: Path
    portrait: Path


@dataclass(frozen=True)
class Fitting:
    """Where a fit stands: `preview` after some steps, `person` at the end."""

    step: int
    steps: int
    seconds_left: float | None  # None until it can be estimated
    preview: Path | None = None
    person: Person | None = None


class Session:
    """What one visitor has; no other visitor sees it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.model: Model = studio.first
        self.people: dict[str, Person] = {}  # by placeholder token
        self.folder = studio.out / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{secrets.token_hex(8)}"  # not to be guessed
        studio.folders.append(str(self.folder))
        self._drawn = 0

    def __deepcopy__(self, memo: Any) -> Session:
        return Session(self.studio)  # Gradio gives every visitor a copy of a state's first value

    def end(self) -> None:
        """The visitor has left."""
        self.studio.leave(self.folder)

    def choose_model(self, name: str, basis_file: str | None, instant_file: str | None) -> Path:
        """Use another model from now on; returns the file of its basis."""
        self.model = self.studio.open(name.strip() or DEFAULT_MODEL, basis_file, instant_file)
        file = self._file("basis.safetensors")
        self.model.basis.save(file)
        return file

    def find(self, photo: str | None, *, largest_face: bool = False) -> tuple[Image.Image, Face]:
        """The upright photo and the face in it."""
        if photo is None:
            raise PhotoError("add a photo first")
        reader = self.model.face_reader
        upright = open_photo(photo)
        with pipeline_lock(self.model.pipe):
            return upright, find_face(upright, reader, largest_face=largest_face)

    def fit(
        self, photo: str | None, name: str, steps: int | None, *, largest_face: bool = False, check: Check = _go_on
    ) -> Iterator[Fitting]:
        """Learn the person in a photo; nothing is kept unless the fit comes to its end.

        steps: None takes the default from the model's start.
        check: called before every step; what it raises ends the fit.
        """
        _, face = self.find(photo, largest_face=largest_face)
        token, model = self._token(name), self.model
        start = 0.0
        for at in model.fit_steps(face, token, max_train_steps=steps):
            check()
            preview = person = None
            if at.is_milestone:
                [identity] = at.identities
                preview = self._portrait(identity, f"{token[1:-1]}-{at.step:04}")
                person = self._keep(identity, preview) if at.is_last else None
            if at.step == 1:  # slower than the others, so it is not counted
                start = time.monotonic()
            left = (time.monotonic() - start) / (at.step - 1) * (at.max_train_steps - at.step) if at.step > 1 else None
            yield Fitting(at.step, at.max_train_steps, left, preview, person)

    def draw(
        self,
        prompt: str,
        count: int,
        steps: int | None,
        guidance: float | None,
        seed: int,
        *,
        apart: bool = False,
        strength: float = 1.0,
        check: Check = _go_on,
    ) -> Iterator[Path]:
        """Draw pictures one after the other, so that they can be seen in between.

        apart: each person in a column of their own.
        strength: of everybody, between the mean person and themselves, or a little beyond.
        check: called after every step; what it raises ends the drawing.
        """
        if not prompt.strip():
            raise PromptError("write what the pictures should show")
        named = [person.identity for token, person in self.people.items() if token in prompt.lower()]
        if strength != 1:
            named = [identity.scaled(self.model.basis, strength) for identity in named]
        for number in range(seed, seed + count):
            self._drawn += 1
            stem = f"{self._drawn:03}-{file_stem(prompt, number)}"
            yield self._draw(stem, prompt, named, number, steps=steps, guidance=guidance, apart=apart, check=check)

    def pair(self, first: str, second: str) -> tuple[Identity, Identity]:
        """Two people of this visitor by their tokens."""
        if first == second or not {first, second} <= self.people.keys():
            raise IdentityError("choose two different people first")
        return self.people[first].identity, self.people[second].identity

    def row(self, first: str, second: str, check: Check = _go_on) -> Iterator[tuple[Path, float]]:
        """Pictures between one person and another, with the share of the other in each."""
        for weight in ROW:
            check()
            blend = self._blend(first, second, weight, "<blend>")
            yield self._portrait(blend, f"{first[1:-1]}-{second[1:-1]}-{weight:.2f}"), weight

    def keep_blend(self, first: str, second: str, weight: float, name: str) -> Person:
        """Name the person between two others."""
        return self._keep(self._blend(first, second, weight, self._token(name)))

    def sample(self, name: str, seed: int) -> Person:
        """Make up somebody who does not exist; the same seed, the same person."""
        return self._keep(self.model.sample(self._token(name), seed=seed))

    def load(self, file: str, name: str) -> Person:
        """Take in the person of an identity file, under their own name or another."""
        return self._keep(Identity.load(file, self._token(name) if name.strip() else None))

    def in_programs(self) -> dict[str, dict[str, str]]:
        """What to write for each person in prompts of each program, and a note where their name breaks one."""
        known, texts = vocabulary(self.model.pipe), {}
        for token, person in self.people.items():
            texts[token] = in_prompts(person.file.name, token)
            if advice := name_advice(person.file.stem, known):
                texts[token]["Note"] = advice
        return texts

    def stranger(self) -> Path:
        """The photo of somebody the miniature has never seen."""
        seed = 5000 + secrets.randbelow(1_000_000)
        file = self._file(f"stranger-{seed}.png")
        miniature.person(seed).save(file)
        return file

    def _token(self, name: str) -> str:
        """The placeholder token of a new person; the library checks its spelling."""
        if not name.strip():
            raise PromptError("name the person first, in lower-case letters")
        if name != name.lower():  # the library's message mentions brackets, which nobody types here
            raise PromptError(f"names are written in lower-case letters: {name.strip().lower()}")
        token = f"<{name.strip().removeprefix('<').removesuffix('>')}>"
        if token in self.people:
            raise IdentityError(f"there is a {token} already: choose another name")
        return token

    def _blend(self, first: str, second: str, weight: float, token: str) -> Identity:
        one, other = self.pair(first, second)
        return one.blend(other, weight, token)

    def _keep(self, identity: Identity, portrait: Path | None = None) -> Person:
        token = self._token(identity.placeholder_token)
        portrait = portrait or self._portrait(identity, token[1:-1])
        file = self._file(f"{token[1:-1]}.safetensors")
        identity.save(file)
        person = self.people[token] = Person(identity, file, portrait)
        return person

    def _portrait(self, identity: Identity, stem: str) -> Path:
        return self._draw(stem, PORTRAIT.format(identity.placeholder_token), [identity], 0)

    def _draw(
        self,
        stem: str,
        prompt: str,
        identities: list[Identity],
        seed: int,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        apart: bool = False,
        check: Check = _go_on,
    ) -> Path:
        [picture] = self.model.generate(
                prompt, identities, num_inference_steps=steps, guidance_scale=guidance, seed=seed,
                regions="auto" if apart else None, between_steps=check,
            )  # fmt: skip
        file = self._file(f"{stem}.png")
        save_image(picture, file)
        return file

    def _file(self, name: str) -> Path:
        if not self.studio.has_room():
            raise OutputError("the page's disk is full: try again later")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror}") from None
        return self.folder / name
