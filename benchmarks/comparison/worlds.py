"""The worlds that people come from: who they are, how a fit reads them, and who looks at the pictures."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image
from torch import Tensor

from celeb_basis import Face, miniature
from celeb_basis.backend.card import DEFAULT_MODEL, PORTRAITS
from celeb_basis.faces.face import FaceReader, find_face
from celeb_basis.faces.reader import PhotoReader
from celeb_basis.miniature.drawn.captions import asked
from celeb_basis.miniature.drawn.people import celebrities, celebrity_identities, portraits
from celeb_basis.miniature.drawn.readers import evaluation_reader, fitting_reader, shown
from celeb_basis.miniature.portraits.captions import OF_A_HEAD
from celeb_basis.miniature.portraits.judge import PortraitsJudge
from celeb_basis.miniature.portraits.people import celebrities as photographed_celebrities
from celeb_basis.miniature.portraits.people import ranks

REPORTED, TUNED = 5000, 3000  # people from here on are for reports, and for tuning


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody with a photograph: `faces` is all that a fit sees of it, `feature` what the evaluation compares with."""

    number: int
    photo: Image.Image
    faces: list[Face]
    feature: Tensor
    name: str = ""  # by which the model knows a celebrity


class World(ABC):
    """People with photographs, those whom a model knows and those whom it does not."""

    model: str
    names: Sequence[str]  # of the celebrities
    fitting_reader: FaceReader
    evaluation_reader: FaceReader

    @abstractmethod
    def photo(self, number: int) -> Image.Image:
        """Return the photograph of a new person; numbers from TUNED on are for tuning, from REPORTED on for reports."""

    @abstractmethod
    def star(self, i: int) -> Image.Image:
        """Return the photograph of celebrity number `i`."""

    @abstractmethod
    def seen(self, pictures: Sequence[Image.Image], faces: Sequence[Sequence[Face]]) -> list[dict[str, int]]:
        """Return what networks see in each picture, in which the evaluation's reader has found these faces."""

    def said(self, prompt: str) -> str:
        """Return a prompt in words that the model knows."""
        return prompt

    def asked(self, text: str) -> Mapping[str, int]:
        """Return what of a prompt can be seen."""
        return asked(text)

    def judged_by(self, number: int) -> Image.Image:
        """Return the photograph with which pictures of a new person are compared."""
        return self.photo(number)

    def person(self, number: int) -> Person:
        """Read a new person."""
        faces = [find_face(self.photo(number), self.fitting_reader)]
        return Person(number, self.photo(number), faces, self.feature(self.judged_by(number)))

    def celebrity(self, i: int, number: int) -> Person:
        """Read celebrity number `i`, with the number, and so the noise, of a new person."""
        photo = self.star(i)
        return Person(number, photo, [find_face(photo, self.fitting_reader)], self.feature(photo), self.names[i])

    def feature(self, photo: Image.Image) -> Tensor:
        """Return what the evaluation's reader says of a photograph, (d,)."""
        return find_face(photo, self.evaluation_reader).feature


class Drawn(World):
    """The drawn world of the miniature."""

    model = DEFAULT_MODEL

    @cached_property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        return celebrities()

    @property
    def fitting_reader(self) -> FaceReader:  # type: ignore[override]
        return fitting_reader()

    @property
    def evaluation_reader(self) -> FaceReader:  # type: ignore[override]
        return evaluation_reader()

    def photo(self, number: int) -> Image.Image:
        return miniature.person(number)

    def star(self, i: int) -> Image.Image:
        return portraits(celebrity_identities()[i][None])[0]

    def seen(self, pictures: Sequence[Image.Image], faces: Sequence[Sequence[Face]]) -> list[dict[str, int]]:
        return shown(pictures)


class Photographed(World):
    """Photographed people, in a folder with portraits.csv and portraits-crops.zip; nobody's photograph is kept here.

    The role `new` is of people whom nothing was trained on: those with even numbers are for tuning, those with odd ones
    for reports. Those who have several photographs come first. another: compare with another photograph of the person;
    only those who have one are taken, with the same numbers.
    """

    model = PORTRAITS

    def __init__(self, folder: Path, another: bool = False) -> None:
        self._crops = zipfile.ZipFile(folder / "portraits-crops.zip")
        self._file = {tuple(map(int, re.findall(r"\d+", name)[:2])): name for name in self._crops.namelist()}
        self.names, self._another = photographed_celebrities(), another
        self.fitting_reader, self._judge = PhotoReader(), PortraitsJudge()
        self.evaluation_reader = self._judge.reader
        self.genders: dict[int, str] = {}  # as recorded, by the folder's number of a person
        pictures: dict[tuple[str, int], list[int]] = {}
        with (folder / "portraits.csv").open() as file:
            for row in csv.DictReader(file):
                pictures.setdefault((row["role"], int(row["person"])), []).append(int(row["picture"]))
                self.genders[int(row["person"])] = row["gender"]
        self._pictures = {person: sorted(own) for (_, person), own in pictures.items()}
        once = {person for person, own in self._pictures.items() if len(own) == 1}
        new = [person for role, person in pictures if role == "new" and not (another and person in once)]
        new.sort(key=lambda person: (person in once, person))
        self._new = {TUNED: [p for p in new if p % 2 == 0], REPORTED: [p for p in new if p % 2]}
        rank = ranks([person for role, person in pictures if role == "celebrity"])
        self._stars = sorted(rank, key=rank.__getitem__)

    def photo(self, number: int) -> Image.Image:
        return self._photo(self.who(number), 0)

    def judged_by(self, number: int) -> Image.Image:
        return self._photo(self.who(number), int(self._another))

    def star(self, i: int) -> Image.Image:
        return self._photo(self._stars[i], 0)

    def seen(self, pictures: Sequence[Image.Image], faces: Sequence[Sequence[Face]]) -> list[dict[str, int]]:
        return self._judge.seen(pictures, faces)

    def said(self, prompt: str) -> str:
        """Return the prompt without the expressions that no photograph has."""
        return re.sub(r" (sad|surprised)\b", "", prompt)

    def asked(self, text: str) -> Mapping[str, int]:
        return {key: value for key, value in asked(text).items() if key not in OF_A_HEAD}

    def who(self, number: int) -> int:
        """Return the folder's number of a new person. Raises SystemExit where there are not so many."""
        first = REPORTED if number >= REPORTED else TUNED
        if not 0 <= number - first < len(self._new[first]):
            raise SystemExit(f"there are {len(self._new[first])} new people from {first} on: ask for fewer")
        return self._new[first][number - first]

    def _photo(self, person: int, which: int) -> Image.Image:
        name = self._file[person, self._pictures[person][which]]
        return Image.open(io.BytesIO(self._crops.read(name))).convert("RGB")


DRAWN = Drawn()


def world_of(portraits: Path | None, another: bool = False) -> World:
    """Return the world of the photographs in a folder, the drawn one without a folder."""
    return Photographed(portraits, another) if portraits else DRAWN
