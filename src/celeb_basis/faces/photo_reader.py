"""PhotoReader: faces in real photographs, found by YuNet and described by a recogniser."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ..errors import ModelError
from .crop import upright_square
from .detector import Detector
from .face import Face
from .quality import quality_of
from .recognisers import DEFAULT_RECOGNISER, RECOGNISERS

logger = logging.getLogger(__name__)


class PhotoReader:
    """Reads faces in real photographs; `recogniser` is one of RECOGNISERS.

    Raises ModelError where OpenCV, ONNX Runtime, dlib or a model file is missing and cannot be had.
    """

    def __init__(self, recogniser: str = DEFAULT_RECOGNISER) -> None:
        if recogniser not in RECOGNISERS:
            raise ModelError(f"no face reader {recogniser!r}: there are {', '.join(RECOGNISERS)}")
        chosen = RECOGNISERS[recogniser]
        self._detector = Detector()
        self._describe = chosen.load(chosen.file.fetch())
        self.name, self.same_person = chosen.name, chosen.same_person
        if chosen.notice:
            logger.warning(chosen.notice)

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """The faces of each picture, the largest first."""
        return [self._read(image.convert("RGB")) for image in images]

    def _read(self, photo: Image.Image) -> list[Face]:
        faces = []
        for found in self._detector.find(photo):
            feature = torch.from_numpy(self._describe(photo, found.landmarks).astype(np.float32).ravel())
            left, top, right, bottom = found.box.tolist()
            quality = quality_of(photo, found)
            faces.append(
                Face(
                    crop=upright_square(photo, found.landmarks),
                    box=(left, top, right, bottom),
                    feature=torch.nn.functional.normalize(feature, dim=0),
                    face_reader=self.name,
                    flaws=quality.flaws,
                    weight=quality.weight,
                )
            )
        return faces
