"""Readers of real photographs: YuNet finds the faces, one of three recognisers describes them.

Their files come from the model hub once and are checked against the sums written here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import ModelError
from ..models.quiet import quiet
from .crop import cut_square, upright_square
from .face import Face

logger = logging.getLogger(__name__)

# Where recognisers expect eyes, nose and mouth corners in a picture of 112 x 112; from ArcFace (Deng et al., 2019).
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)

Describe = Callable[[Image.Image], np.ndarray]  # a face of 112 x 112 becomes numbers


@dataclass(frozen=True)
class HubFile:
    """A file on the model hub, known by its SHA-256."""

    repository: str
    path: str
    sha256: str

    def fetch(self) -> str:
        """Where the file lies, downloaded once. Raises ModelError when offline or when the sum differs."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            with quiet():
                try:
                    path = hf_hub_download(self.repository, self.path, local_files_only=True)
                except LocalEntryNotFoundError:
                    path = hf_hub_download(self.repository, self.path)
        except OSError as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"the face model {self.repository} has to be downloaded once: {reason}") from error
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                # Not the link but what it points to in the hub's cache.
                where = Path(path).resolve()
                raise ModelError(f"{where} is not the file expected (its SHA-256 differs): delete it and try again")
        return str(path)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise ModelError("faces in real photographs need OpenCV: pip install 'celeb-basis[photo]'") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it prints a notice for each model that it loads
    return cv2


def _sface(path: str) -> Describe:
    recogniser = _opencv().FaceRecognizerSF.create(path, "")
    return lambda face: np.array(recogniser.feature(np.ascontiguousarray(np.asarray(face)[:, :, ::-1])))


def _arcface(path: str) -> Describe:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError("this face reader needs ONNX Runtime: pip install 'celeb-basis[photo]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [pixels] = session.get_inputs()

    def describe(face: Image.Image) -> np.ndarray:
        normed = (np.asarray(face, dtype=np.float32) - 127.5) / 127.5
        return np.asarray(session.run(None, {pixels.name: normed.transpose(2, 0, 1)[None]})[0])

    return describe


YUNET = HubFile(
    "opencv/face_detection_yunet",
    "face_detection_yunet_2023mar.onnx",
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
)


@dataclass(frozen=True)
class Recogniser:
    """A model that describes faces: its name in files, where it is, how it is run, what its licence demands."""

    name: str
    file: HubFile
    load: Callable[[str], Describe]
    notice: str = ""


RECOGNISERS = {
    # Apache-2.0, 128 numbers, 39 MB
    "sface": Recogniser(
        "sface-2021dec",
        HubFile(
            "opencv/face_recognition_sface",
            "face_recognition_sface_2021dec.onnx",
            "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        ),
        _sface,
    ),
    # Apache-2.0, 512 numbers, 261 MB
    "auraface": Recogniser(
        "auraface-v1",
        HubFile(
            "fal/AuraFace-v1",
            "glintr100.onnx",
            "a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60",
        ),
        _arcface,
    ),
    # 512 numbers, 174 MB: w600k_r50.onnx of the pack buffalo_l
    "insightface": Recogniser(
        "insightface-buffalo_l",
        HubFile(
            "immich-app/buffalo_l",
            "recognition/model.onnx",
            "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        ),
        _arcface,
        notice="insightface's weights are for non-commercial research only, and so is what is made with them",
    ),
}


class PhotoReader:
    """Reads faces in real photographs; `recogniser` is one of RECOGNISERS.

    Raises ModelError where OpenCV, ONNX Runtime or a model file is missing and cannot be had.
    """

    def __init__(self, recogniser: str = "sface") -> None:
        if recogniser not in RECOGNISERS:
            raise ModelError(f"no face reader {recogniser!r}: there are {', '.join(RECOGNISERS)}")
        chosen = RECOGNISERS[recogniser]
        self._cv2 = _opencv()
        self._detector = self._cv2.FaceDetectorYN.create(YUNET.fetch(), "", (320, 320))
        self._describe = chosen.load(chosen.file.fetch())
        self.name = chosen.name
        if chosen.notice:
            logger.warning(chosen.notice)

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        return [self._read(image.convert("RGB")) for image in images]

    def _read(self, photo: Image.Image) -> list[Face]:
        faces = []
        for left, top, width, height, *points in self._detect(photo)[:, :14].tolist():
            landmarks = np.array(points).reshape(5, 2)
            feature = torch.from_numpy(self._describe(aligned(photo, landmarks)).astype(np.float32).ravel())
            faces.append(
                Face(
                    crop=upright_square(photo, landmarks),
                    box=(left, top, left + width, top + height),
                    feature=torch.nn.functional.normalize(feature, dim=0),
                    face_reader=self.name,
                )
            )
        return faces

    def _detect(self, photo: Image.Image) -> np.ndarray:
        """Detections (n, 15), the largest first, in the photograph's own pixels: box (4), landmarks (10), score."""
        found = [np.empty((0, 15))]
        # YuNet knows faces of 10 to 300 pixels: a close-up is found once the picture is small enough.
        for side in (640, 320, 160):
            small = photo.copy()
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
            self._detector.setInputSize(small.size)
            rows = self._detector.detect(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))[1]
            if rows is not None:
                zoom = np.array([photo.width / small.width, photo.height / small.height])
                found.append(np.hstack([rows[:, :14] * np.tile(zoom, 7), rows[:, 14:]]))
        rows = np.concatenate(found)
        # One face found at several sizes is one face: of boxes that overlap, the surest stays.
        rows = rows[list(self._cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), 0.0, 0.3))]
        return rows[np.argsort(-rows[:, 2] * rows[:, 3])]


def aligned(photo: Image.Image, landmarks: np.ndarray) -> Image.Image:
    """Cut a face out, 112 x 112, with its landmarks (5, 2) as near to TEMPLATE as turning and scaling bring them."""
    # As complex numbers a turn and a scale are one factor, and least squares has it in closed form.
    here, there = landmarks @ (1, 1j), TEMPLATE @ (1, 1j)
    spread = here - here.mean()
    factor = (spread.conj() @ spread) / (spread.conj() @ (there - there.mean()))  # from the template to the photo
    half = (1 + 1j) / 2  # landmarks count from the middle of the first pixel, a cut from its corner
    corner, across = here.mean() + half - factor * (there.mean() + half), factor * 112
    return cut_square(photo, (corner.real, corner.imag), (across.real, across.imag), 112)
