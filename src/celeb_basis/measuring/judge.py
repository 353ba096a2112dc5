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
    pipe: Pipeline, fitted_with: Mapping[str, str], *, reader: str | None = None, clip: str | None = None
) -> Judge:
    """The judge that the model's card names, or one of photographs whose face reader fitted nobody.

    fitted_with: whom to judge, and the name of the reader that fitted each, "" where their file does not say.
    reader: of RECOGNISERS; by default the first that is independent and can be had of dlib, AuraFace and SFace.
    clip: hub id or folder of the CLIP for prompts; "none" leaves them unmeasured.

    Raises ModelError where the reader named fitted somebody, or none can be had.
    """
    own = model_card(pipe).judge
    if own:
        if reader or clip:
            given = f"judge={reader}" if reader else f"clip={clip}"
            raise ModelError(f"{model_name(pipe)} brings its own judge: leave {given} out")
        judge: Judge = installed("judges", own)()
        for who, name in fitted_with.items():
            if name == judge.reader.name:
                raise ModelError(f"{who} was fitted with {name}, which cannot judge it: fit again with another reader")
        return judge
    chosen = _independent(fitted_with, reader)
    if unknown := [who for who, name in fitted_with.items() if not name]:
        logger.warning(
            f"the file of {unknown[0]} does not say which face reader fitted it: if it was {chosen.name}, which judges "
            "here, likeness is overrated"
        )
    return PhotoJudge(chosen, None if clip == "none" else Clip.load(clip))


def _independent(fitted_with: Mapping[str, str], wish: str | None) -> FaceReader:
    families = {each.family: each.name for each in RECOGNISERS.values() if each.name in fitted_with.values()}
    if wish:
        if wish in RECOGNISERS and RECOGNISERS[wish].family in families:
            who = next(who for who, name in fitted_with.items() if name == families[RECOGNISERS[wish].family])
            raise ModelError(
                f"{who} was fitted with {fitted_with[who]}, and {RECOGNISERS[wish].name} cannot judge it: "
                f"name another one as judge="
            )
        return PhotoReader(wish)
    missing = ""
    for candidate in CANDIDATES:
        if RECOGNISERS[candidate].family in families:
            continue
        try:
            return PhotoReader(candidate)
        except ModelError as error:
            missing = missing or str(error)
    raise ModelError(f"no face reader is left to judge with that fitted nobody: {missing}")
