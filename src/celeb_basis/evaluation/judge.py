"""Judges: who looks at a model's pictures, with networks that the fit did not use."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ..backend.pipeline import Pipeline, model_card, model_name
from ..backend.plugins import check_has, load_plugin, plugin_errors
from ..errors import ModelError
from ..faces.face import FaceReader
from ..faces.reader import READER, CheckedReader, PhotoReader
from ..faces.recognise import RECOGNISERS
from ..identity import Identity
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
        """Return how far each picture shows what its prompt asks for; an empty list where nothing can tell."""
        ...

    def features(self, images: Sequence[Image.Image]) -> Tensor | None:
        """Return what each picture looks like as a whole, (n, d) of unit length; None where nothing can tell."""
        ...

    def photograph(self, name: str) -> Image.Image | None:
        """Return a photograph of one of the model's own celebrities, if there is one."""
        ...


class PhotoJudge:
    """Judges photographs: a face reader that did not fit them, and a CLIP, if there is one, for the prompts."""

    def __init__(self, reader: FaceReader, clip: Clip | None) -> None:
        self.reader, self._clip = reader, clip
        self.measure = f"CLIP score, {clip.name}" if clip else "not measured"

    def prompt_scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Return 100 times the cosine of picture and prompt, at least 0."""
        return self._clip.scores(images, prompts) if self._clip else []

    def features(self, images: Sequence[Image.Image]) -> Tensor | None:
        """Return CLIP's features of the pictures."""
        return self._clip.image_features(images) if self._clip else None

    def photograph(self, name: str) -> Image.Image | None:
        """Return none: photographs of celebrities do not come with the program."""
        return None


JUDGE = {"reader": object, "measure": str, "prompt_scores": Callable, "features": Callable, "photograph": Callable}


class CheckedJudge:
    """A judge of another package, whose answers are looked at before they are used."""

    def __init__(self, judge: Judge, name: str) -> None:
        self._judge, self._what, self.measure = judge, f"the judge {name!r}", judge.measure
        with plugin_errors(f"the reader of {self._what}"):
            check_has(judge.reader, READER)
        self.reader: FaceReader = CheckedReader(judge.reader)

    def prompt_scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Return the judge's scores. Raises ModelError where they are no such numbers, or too few."""
        with plugin_errors(self._what):
            scores = [float(score) for score in self._judge.prompt_scores(images, prompts)]
            if scores and (len(scores) != len(images) or any(map(math.isinf, scores))):
                raise ValueError(f"{len(scores)} prompt scores of {len(images)} pictures, or infinite ones")
        return scores

    def features(self, images: Sequence[Image.Image]) -> Tensor | None:
        """Return the judge's features. Raises ModelError where they are no numbers, or too few."""
        with plugin_errors(self._what):
            found = self._judge.features(images)
            if found is not None and not (
                isinstance(found, torch.Tensor) and found.ndim == 2 and len(found) == len(images)
                and found.is_floating_point() and found.isfinite().all()
            ):  # fmt: skip
                raise ValueError(f"its features are no finite numbers in {len(images)} rows")
        return found

    def photograph(self, name: str) -> Image.Image | None:
        """Return the judge's photograph of a celebrity. Raises ModelError where it is no picture."""
        with plugin_errors(self._what):
            photo = self._judge.photograph(name)
            if not isinstance(photo, Image.Image | None):
                raise TypeError(f"its photograph of {name!r} is a {type(photo).__name__}")
        return photo


def get_judge(
    pipe: Pipeline,
    identities: Sequence[Identity],
    *,
    reader: str | None = None,
    clip: str | None = None,
    default_clip: str | None = None,
) -> Judge:
    """Return the judge that the model's card names, or one of photographs whose face reader fitted nobody here.

    reader: one of RECOGNISERS; by default the first that is independent and can be had of dlib, AuraFace and SFace.
    clip: hub id or folder of the CLIP for prompts; "none" leaves them unmeasured, where the model brings no judge.
        default_clip: where none is named, instead of OpenAI's ViT-L/14.

    Raises ModelError where the reader fitted somebody, or none can be had.
    """
    fitted_with = {each.placeholder_token: each.provenance.get("face_reader", "") for each in identities}
    own = model_card(pipe).judge
    if own:
        if reader or clip not in (None, "none"):
            argument = "judge" if reader else "clip"
            raise ModelError(f"{model_name(pipe)} brings its own judge: leave out {reader or clip}", argument=argument)
        judge: Judge = CheckedJudge(load_plugin("judges", own, JUDGE), own)
    else:
        judge = PhotoJudge(
            _independent(fitted_with, reader), None if clip == "none" else Clip.load(clip or default_clip)
        )
    for token, name in fitted_with.items():
        if _family(name) == _family(judge.reader.name):
            raise ModelError(
                f"{token} was fitted with {name}, so {judge.reader.name} cannot judge it: "
                + (f"{model_name(pipe)} has no other, fit with another face reader" if own else "name another one"),
                argument=None if own else "judge",
            )
        if not name:
            logger.warning(
                f"{token} does not say which face reader it was fitted with: if that was {judge.reader.name}, which "
                "judges here, its likeness is overrated"
            )
    return judge


def _independent(fitted_with: Mapping[str, str], wish: str | None) -> FaceReader:
    """Return the reader asked for, or the first available one that fitted nobody here."""
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
    """Return the family of a reader; readers of one family are too alike to judge each other."""
    return next((each.family for each in RECOGNISERS.values() if each.name == name), name)
