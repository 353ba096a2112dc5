"""Judges: who looks at a model's pictures, with networks that the fit did not use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from PIL import Image
from torch import Tensor

from ..errors import ModelError
from ..faces.face import FaceReader
from ..faces.photo_reader import PhotoReader
from ..faces.recognisers import RECOGNISERS
from ..identity import Identity
from ..models.card import installed
from ..models.pipeline import Pipeline, model_card, model_name
from .clip import Clip

logger = logging.getLogger(__name__)
CANDIDATES = ("dlib", "auraface", "sface-int8")  # readers of photographs that may judge, the first to be had


class Judge(Protocol):
    """Looks at a model's pictures; no fit has seen it.

    reader: finds and describes faces.
    measure: what its prompt scores are, in words.
    """

    reader: FaceReader
    measure: str

    def prompt_scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """How far each picture shows what its prompt asks for; an empty list where nothing can tell."""
        ...

    def features(self, images: Sequence[Image.Image]) -> Tensor | None:
        """What each picture looks like as a whole, (n, d) of unit length; None where nothing can tell."""
        ...

    def photograph(self, name: str) -> Image.Image | None:
        """A photograph of one of the model's own celebrities, if there is one."""
        ...


class PhotoJudge:
    """Judges photographs: a face reader that did not fit them, and a CLIP, if there is one, for the prompts."""

    def __init__(self, reader: FaceReader, clip: Clip | None) -> None:
        self.reader, self._clip = reader, clip
        self.measure = f"CLIP score, {clip.name}" if clip else "not measured"

    def prompt_scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """100 times the cosine of picture and prompt, at least 0."""
        return self._clip.scores(images, prompts) if self._clip else []

    def features(self, images: Sequence[Image.Image]) -> Tensor | None:
        """CLIP's features of the pictures."""
        return self._clip.image_features(images) if self._clip else None

    def photograph(self, name: str) -> Image.Image | None:
        """None: photographs of celebrities do not come with the program."""
        return None


def judge_of(
    pipe: Pipeline, identities: Sequence[Identity], *, reader: str | None = None, clip: str | None = None
) -> Judge:
    """The judge that the model's card names, or one of photographs whose face reader fitted none of these identities.

    reader: one of RECOGNISERS; by default the first that is independent and can be had of dlib, AuraFace and SFace.
    clip: hub id or folder of the CLIP for prompts; "none" leaves them unmeasured.

    Raises ModelError where the reader fitted somebody, or none can be had.
    """
    fitted_with = {each.placeholder_token: each.provenance.get("face_reader", "") for each in identities}
    own = model_card(pipe).judge
    if own:
        if reader or clip:
            given = f"judge={reader}" if reader else f"clip={clip}"
            raise ModelError(f"{model_name(pipe)} brings its own judge: leave out {given}")
        judge: Judge = installed("judges", own)()
    else:
        judge = PhotoJudge(_independent(fitted_with, reader), None if clip == "none" else Clip.load(clip))
    for token, name in fitted_with.items():
        if _family(name) == _family(judge.reader.name):
            raise ModelError(
                f"{token} was fitted with {name}, so {judge.reader.name} cannot judge it: name another one with judge="
            )
        if not name:
            logger.warning(
                f"{token} does not say which face reader it was fitted with: if that was {judge.reader.name}, which "
                "judges here, its likeness is overrated"
            )
    return judge


def _independent(fitted_with: Mapping[str, str], wish: str | None) -> FaceReader:
    """The reader wished for, or the first to be had that fitted nobody."""
    if wish:
        return PhotoReader(wish)
    families = {_family(name) for name in fitted_with.values()}
    missing = []
    for candidate in CANDIDATES:
        if RECOGNISERS[candidate].family not in families:
            try:
                return PhotoReader(candidate)
            except ModelError as error:
                missing.append(str(error))
    raise ModelError(f"no face reader can be had that fitted nobody here: {missing[0]}")


def _family(name: str) -> str:
    """Readers of one family are too alike to judge each other."""
    return next((each.family for each in RECOGNISERS.values() if each.name == name), name)
