"""Session: what one visitor of the page has, and no other sees."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from .. import (
    CelebBasisError,
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
from ..backend.card import SHIPPED
from ..backend.pipeline import pipeline_lock
from ..backend.text_encoders import vocabulary
from ..embedding_io import in_prompts, name_advice
from ..faces.face import mean_feature
from ..image_files import Drawn, file_stem, how_drawn, likeness_text
from ..notation import Box, placeholder_token, slugify
from ..regions import mentions
from .studio import Studio

Check = Callable[[], None]
PORTRAIT = "a close up photo of {} in a studio"
ROW = (0.0, 0.25, 0.5, 0.75, 1.0)  # weights of the pictures between two people
MAX_RESUMED = 100  # people, and pictures, that come back when the page is loaded again
DISK_FULL = "the page's disk is full: try again later"


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody whom prompts can name: the identity, its file, and a picture of them."""

    identity: Identity
    file: Path
    portrait: Path
    feature: Tensor | None = None  # of the face in their photos, as long as the visitor is here


@dataclass(frozen=True)
class Drawing:
    """A picture that was drawn: its file, its seed, and how alike the people in it are who have a photo."""

    file: Path
    seed: int
    likeness: Mapping[str, float | None]

    @property
    def caption(self) -> str:
        """Return the line below the picture."""
        alike = [f"{'not seen' if cosine is None else f'{cosine:.2f}'}" for cosine in self.likeness.values()]
        return f"seed {self.seed}{', likeness ' if alike else ''}{' and '.join(alike)}"


@dataclass(frozen=True)
class FitProgress:
    """How far a fit is: `preview` after some steps, `person` at the end."""

    step: int
    steps: int
    seconds_left: float | None  # None until it can be estimated
    likeness: float | None = None  # at the last milestone
    preview: Path | None = None
    person: Person | None = None


def go_on() -> None:
    """Let a job run to its end."""


class Session:
    """What one visitor has; no other visitor sees it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.model: Model = studio.first
        self.presented: Model = studio.first  # whose facts the page shows
        self.people: dict[str, Person] = {}  # by placeholder token
        self.folder = studio.out / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{secrets.token_hex(8)}"  # not to be guessed
        studio.folders.append(self.folder)
        self.history: list[Path] = []  # the pictures, the newest first
        self.shown: list[Path] = []  # those of the last drawing
        self.chosen: Path | None = None  # the one to draw again
        self.faces: list[Face] = []  # in the photo on the page
        self.corner: tuple[float, float] | None = None  # of a box that is being drawn, in shares of the picture
        self._drawn = 0

    def __deepcopy__(self, memo: Any) -> Session:
        return Session(self.studio)  # Gradio gives every visitor a copy of a state's first value

    def end(self) -> None:
        """Forget the visitor, who has left."""
        self.studio.leave(self.folder)

    def resume(self, ticket: str | None) -> str:
        """Take up what a visitor had before they loaded the page again; return the ticket for the next time.

        ticket: what was returned the last time. The model is the shipped one of the newest person, or else the page's
            first; people of other models stay in their files.
        """
        before = self.studio.find_folder(ticket or "")
        if before is not None and not self.people and not self.history:
            self.studio.folders.append(before)
            self.studio.leave(self.folder)
            self.folder = before
            files = sorted(before.glob("*.safetensors"), key=os.path.getmtime)[-MAX_RESUMED:]
            for file in reversed(files):
                with suppress(CelebBasisError):
                    self._use_shipped(Identity.load(file).model)
                    break
            for file in files:
                with suppress(CelebBasisError):
                    self._take_up(file)
            self.history = sorted(before.glob(f"{'[0-9]' * 3}-*.png"), reverse=True)[:MAX_RESUMED]
            self._drawn = int(self.history[0].name[:3]) if self.history else 0
        return self.folder.name

    def _take_up(self, file: Path) -> None:
        """Add the person of a file in the visitor's folder. Raises the error of a file that is none, or cannot be."""
        identity = Identity.load(file)
        identity.check(self.model.pipe)
        token = identity.placeholder_token
        if file.stem != token[1:-1]:
            return
        portraits = [*sorted(file.parent.glob(f"{file.stem}-{'[0-9]' * 4}.png")), file.with_suffix(".png")]
        portrait = next((each for each in reversed(portraits) if each.is_file()), None)
        self.people[token] = Person(identity, file, portrait or self._draw_portrait(identity, file.stem))

    def rename(self, token: str | None, name: str) -> Person:
        """Give one of the visitor's people another name."""
        person = self._person(token)
        identity = replace(person.identity, placeholder_token=self._new_token(name))
        renamed = self._keep(identity, person.portrait, person.feature)
        self.remove(token, portrait=False)
        return renamed

    def remove(self, token: str | None, *, portrait: bool = True) -> None:
        """Take one of the visitor's people out, and delete their file."""
        person = self._person(token)
        person.file.unlink(missing_ok=True)
        if portrait:
            person.portrait.unlink(missing_ok=True)
        del self.people[person.identity.placeholder_token]

    def _person(self, token: str | None) -> Person:
        """Return one of the visitor's people. Raises IdentityError where there is no such person."""
        if (token or "") not in self.people:
            raise IdentityError("choose one of your people first")
        return self.people[token or ""]

    def choose_model(self, name: str, basis_file: str | None, map_file: str | None) -> Path:
        """Use another model from now on; return the file of its basis."""
        self.model = self.studio.load(name.strip() or self.studio.first.name, basis_file, map_file)
        file = self._file("basis.safetensors")
        self.model.basis.save(file)
        return file

    def find_faces(self, photo: str | None) -> list[Face]:
        """Return the faces in a photo, the largest first. Raises NoFaceError where there is none."""
        self.faces = []
        upright = open_photo(_given(photo))
        self._suit(upright)
        with pipeline_lock(self.model.pipe):
            self.faces = self.model.face_reader.read([upright])[0] or self.model.find_faces(upright)
        return self.faces

    def _suit(self, photo: Image.Image) -> None:
        """Use the shipped model that takes such a face; who has people already stays with the model they live in."""
        if self.model.name in SHIPPED and not self.people:
            self._use_shipped(miniature.model_for([photo]))

    def _use_shipped(self, name: str) -> None:
        """Go from one of the models that ship to the other."""
        if name != self.model.name and {name, self.model.name} <= SHIPPED.keys() and self.studio.offers(name):
            self.model = self.studio.load(name)

    def face_at(self, x: float, y: float) -> int | None:
        """Return which face of the photo lies at a point of it, counted from 1; None where there is none."""
        for number, face in enumerate(self.faces, start=1):
            left, top, right, bottom = face.box
            if left <= x <= right and top <= y <= bottom:
                return number
        return None

    def fit(
        self,
        photo: str | None,
        name: str,
        steps: int | None,
        *,
        more_photos: Sequence[str] = (),
        which: int | None = None,
        check: Check = go_on,
    ) -> Iterator[FitProgress]:
        """Learn a person from one or several photos; nothing is kept unless the fit comes to its end.

        steps: None takes the default from the model's start.
        which: of the faces in the first photo, counted from 1; None where there is one, or where the others tell.
        check: called before every step; what it raises ends the fit.
        """
        photos: list[str | Face] = [_given(photo), *more_photos]
        token, model = self._new_token(name), self.model
        if which is not None:
            seen = self.find_faces(photo)
            if not 1 <= which <= len(seen):
                raise PhotoError(f"there is no face {which} in this photo: click one")
            photos[0] = seen[which - 1]
        with pipeline_lock(model.pipe):
            faces = model.find_faces(photos)
        start, likeness = 0.0, None
        # With the default left open, a GPU's time limit counts.
        asked = None if steps == model.default_train_steps else steps
        for at in model.fit_steps(faces, token, max_train_steps=asked):
            check()
            preview = person = None
            if at.is_preview:
                [identity] = at.identities
                preview = self._draw_portrait(identity, f"{token[1:-1]}-{at.step:04}")
                person = self._keep(identity, preview, mean_feature(faces)) if at.is_last else None
            if at.step == 1:  # slower than the others, so it is not counted
                start = time.monotonic()
            left = (time.monotonic() - start) / (at.step - 1) * (at.max_train_steps - at.step) if at.step > 1 else None
            likeness = at.likeness[0] if at.likeness else likeness
            yield FitProgress(at.step, at.max_train_steps, left, likeness, preview, person)

    def named(self, prompt: str) -> list[Person]:
        """Return the people whom a prompt names.

        Raises PromptError where it names nobody, and has a person's name without brackets, which means nobody.
        """
        named = [person for token, person in self.people.items() if token in prompt.lower()]
        bare = [token for token in self.people if f"-{token[1:-1]}-" in f"-{slugify(prompt)}-"]
        if bare and not named:
            raise PromptError(f"write {bare[0]} where the person should stand: without brackets it is any word")
        return named

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
        negative_prompt: str = "",
        boxes: Mapping[str, Box] | None = None,
        width: int | None = None,
        height: int | None = None,
        check: Check = go_on,
    ) -> Iterator[Drawing]:
        """Draw pictures one after the other, so that they can be seen in between; yield each.

        apart: each person in a column of their own, where nobody whom the prompt names has one of the boxes.
        strength: of everybody, between the mean person and themselves, or a little beyond.
        check: called after every step; what it raises ends the drawing.
        """
        if not prompt.strip():
            raise PromptError("write what the pictures should show")
        self.shown, self.chosen = [], None
        named = self.named(prompt)
        known = {p.identity.placeholder_token: p.feature for p in named if p.feature is not None}
        identities = [person.identity for person in named]
        if strength != 1:
            identities = [identity.scaled(self.model.basis, strength) for identity in identities]
        placed = {self._written(name): box for name, box in (boxes or {}).items()}
        placed = {name: box for name, box in placed.items() if mentions(prompt, name)}
        for number in range(seed, seed + count):
            self._drawn += 1
            stem = f"{self._drawn:03}-{file_stem(prompt, number)}"
            [image] = self.model.generate(
                prompt, identities, seed=number, num_inference_steps=steps, guidance_scale=guidance,
                between_steps=check, negative_prompt=negative_prompt.strip() or None,
                regions=placed or ("auto" if apart else None), width=width or None, height=height or None,
            )  # fmt: skip
            with pipeline_lock(self.model.pipe):
                alike = self.model.likeness(image, known) if known else {}
            picture = self._save(image, stem, **({"likeness": likeness_text(alike)} if alike else {}))
            self.history.insert(0, picture)
            self.shown.append(picture)
            yield Drawing(picture, number, alike)

    def _written(self, name: str) -> str:
        """Return a name as the prompt has it: <annika> for one of the visitor's people, other words as they are."""
        token = f"<{name.strip('<>').lower()}>"
        return token if token in self.people else name

    def choose(self, shown: Sequence[Path], index: int | None) -> None:
        """Remember which of the pictures shown is the one to draw again."""
        self.chosen = shown[index] if index is not None and 0 <= index < len(shown) else None

    def settings(self) -> Drawn:
        """Return how the chosen picture was drawn, or else the last one. Raises PromptError where there is none."""
        picture = self.chosen or next(iter(self.history), None)
        if picture is None:
            raise PromptError("draw a picture first")
        return how_drawn(picture)

    def pair(self, first: str | None, second: str | None) -> tuple[Identity, Identity]:
        """Return two people of this visitor by their tokens."""
        one, other = self.people.get(first or ""), self.people.get(second or "")
        if one is None or other is None or one is other:
            raise IdentityError("choose two different people first")
        return one.identity, other.identity

    def draw_between(self, first: str | None, second: str | None, check: Check = go_on) -> Iterator[tuple[Path, float]]:
        """Draw pictures between one person and another; yield each with the share of the other in it."""
        for weight in ROW:
            check()
            one, other = self.pair(first, second)
            stem = f"{one.placeholder_token[1:-1]}-{other.placeholder_token[1:-1]}-{weight:.2f}"
            yield self._draw_portrait(one.blend(other, weight, "<blend>"), stem), weight

    def keep_blend(self, first: str | None, second: str | None, weight: float, name: str) -> Person:
        """Add the person between two others under a name."""
        one, other = self.pair(first, second)
        return self._keep(one.blend(other, weight, self._new_token(name)))

    def sample(self, name: str, seed: int, amounts: Sequence[float] = ()) -> Person:
        """Add somebody who does not exist; the same seed gives the same person.

        amounts: how much more of each of the traits of which the model has directions.
        """
        directions = self.model.directions
        traits = () if directions is None else directions.traits
        more = {trait: amount for trait, amount in zip(traits, amounts, strict=False) if amount}
        return self._keep(self.model.sample(self._new_token(name), seed=seed, more=more))

    def load(self, file: str | None, name: str) -> Person:
        """Add the person of an identity file, under their own name or another."""
        if file is None:
            raise IdentityError("choose an identity file first")
        return self._keep(Identity.load(file, self._new_token(name) if name.strip() else None))

    def in_programs(self) -> dict[str, dict[str, str]]:
        """Return what to write for each person in prompts of each program, with a note where their name breaks one."""
        known, texts = vocabulary(self.model.pipe), {}
        for token, person in self.people.items():
            texts[token] = in_prompts(person.file.name, token)
            if advice := name_advice(person.file.stem, known):
                texts[token]["Note"] = advice
        return texts

    def save_example(self, index: int) -> Path:
        """Save one of the example photographs as if the visitor had sent it. Raises PhotoError where there is none."""
        photos = self.studio.examples(self.model)
        if not 0 <= index < len(photos):
            raise PhotoError("there is no such example: click another one")
        file = self._file(f"example-{index + 1}.png")
        photos[index].save(file)
        return file

    def _new_token(self, name: str) -> str:
        """Return the placeholder token of a new person, whose name may be written as people write it."""
        if not name.strip():
            raise PromptError("name the person first")
        return self._check_new(placeholder_token(slugify(name)))

    def _check_new(self, token: str) -> str:
        """Return a token. Raises IdentityError where somebody has it."""
        if token in self.people or (self.folder / f"{token[1:-1]}.safetensors").exists():
            raise IdentityError(f"there is a {token} already: choose another name")
        return token

    def _keep(self, identity: Identity, portrait: Path | None = None, feature: Tensor | None = None) -> Person:
        """Save an identity, and add the person to those whom prompts can name."""
        token = self._check_new(identity.placeholder_token)
        portrait = portrait or self._draw_portrait(identity, token[1:-1])
        file = self._file(f"{token[1:-1]}.safetensors")
        identity.save(file)
        person = self.people[token] = Person(identity, file, portrait, feature)
        return person

    def _draw_portrait(self, identity: Identity, stem: str) -> Path:
        [image] = self.model.generate(PORTRAIT.format(identity.placeholder_token), [identity])
        return self._save(image, stem)

    def _save(self, image: Image.Image, stem: str, **details: Any) -> Path:
        """Save a picture in the visitor's folder."""
        file = self._file(f"{stem}.png")
        save_image(image, file, **details)
        return file

    def _file(self, name: str) -> Path:
        """Return the path of a file in the visitor's folder, which is made."""
        if not self.studio.has_room():
            raise OutputError(DISK_FULL)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror}") from None
        return self.folder / name


def _given(photo: str | None) -> str:
    """Return a photo. Raises PhotoError where there is none."""
    if photo is None:
        raise PhotoError("add a photo first")
    return photo
