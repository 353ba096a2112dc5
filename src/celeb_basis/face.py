"""Photographs and the faces in them: a file becomes an upright RGB picture, and that a `Face`."""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import ModelError, NoFaceError, PhotoError, SeveralFacesError

GREY = (128, 128, 128)  # stands where a picture has nothing: under alpha, outside its edges
LONG_SIDE = 2048  # pixels; more than any face model or training crop looks at
# What cameras, phones and editors write. Others (EPS, PDF, ...) run foreign programs or are no photographs.
FORMATS = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"}
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands; films have others


@dataclass(frozen=True)
class Face:
    """One face: an upright square cut-out, where it was, and what a recogniser says of it.

    crop: square RGB picture, the head with some room around it.
    box: (left, top, right, bottom) of the face in the photograph, in pixels.
    feature: (d,) float32 of length one; the cosine of two features tells how alike two faces are.
    reader: the name of the reader that said so; features of two readers cannot be compared.
    """

    crop: Image.Image
    box: tuple[float, float, float, float]
    feature: torch.Tensor
    reader: str = ""


class FaceReader(Protocol):
    """Finds and describes faces. `name` goes into every face, and into the files made of them.

    A reader may say in an attribute `hint` what photos it can read, for the message where it finds nobody.
    """

    name: str

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """The faces of each picture, the largest first; an empty list where there is none."""
        ...


def open_photo(path: str | Path) -> Image.Image:
    """Open a photograph as people have them: upright RGB, at most 2,048 pixels long, metadata left behind.

    The first picture of an animation is taken; transparency is laid over grey. The file's name stays in
    `.info["path"]` for messages. Raises PhotoError with one line that says what is wrong with the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = file.read(12)
    except IsADirectoryError:
        raise PhotoError(f"{path} is a folder; give one photo file") from None
    except FileNotFoundError:
        raise PhotoError(f"{path}: there is no such file") from None
    except OSError as error:
        raise PhotoError(f"{path} cannot be read: {error.strerror}") from None
    if not header:
        raise PhotoError(f"{path} is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and of broken metadata; only what it refuses matters to us.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.format not in FORMATS:
                    raise PhotoError(f"{path} is a {image.format} file; save the photo as JPEG or PNG")
                # A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough.
                image.draft(None, (LONG_SIDE, LONG_SIDE))
                photo = _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        if header[4:8] != b"ftyp":
            what = "is not a picture that can be read; save the photo as JPEG or PNG"
        elif header[8:12] in HEIC:
            what = "is a HEIC photo, which cannot be read here; save it as JPEG"
        elif header[8:12] in {b"avif", b"avis"}:
            what = "is damaged or cut short"
        else:
            what = "is a film rather than a photo; save one picture of it as JPEG"
        raise PhotoError(f"{path} {what}") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{path} has more than 178 megapixels; scale it down first") from None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error) as error:
        raise PhotoError(f"{path} is damaged or cut short ({error})") from None
    photo.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    photo.info = {"path": str(path)}
    return photo


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's as RGB, 16-bit greys scaled rather than clipped, transparency over grey."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.float64) / 257  # 65535 -> 255
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*GREY, 255)), image)
    return image.convert("RGB")


def find_face(photo: Image.Image, reader: FaceReader, *, largest: bool = False) -> Face:
    """The face of a photograph; with `largest` the largest of several.

    Raises NoFaceError, or SeveralFacesError that says how many there are.
    """
    faces = reader.read([photo])[0]
    name = photo.info.get("path", "the photo")
    if not faces:
        hint = getattr(reader, "hint", "use a photo where the face is large, upright and in front")
        raise NoFaceError(f"{name}: no face found; {hint}")
    if len(faces) > 1 and not largest:
        raise SeveralFacesError(
            f"{name}: {len(faces)} faces found; cut the photo to one person, "
            "or take the largest with --largest-face (largest=True)"
        )
    return faces[0]


class OpenCVReader:
    """YuNet finds the faces (MIT), SFace describes them (Apache-2.0, 128 numbers); both run in OpenCV.

    Their files come from the model hub once (40 MB) and are checked against the sums written here.
    """

    name = "sface-2021dec"
    yunet = (
        "opencv/face_detection_yunet",
        "face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    )
    sface = (
        "opencv/face_recognition_sface",
        "face_recognition_sface_2021dec.onnx",
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
    )

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError:
            raise ModelError("faces in real photographs need OpenCV: pip install 'celeb-basis[photo]'") from None
        self._detector = cv2.FaceDetectorYN.create(_fetch(*self.yunet), "", (320, 320))
        self._recogniser = cv2.FaceRecognizerSF.create(_fetch(*self.sface), "")

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        return [self._read(image) for image in images]

    def _read(self, image: Image.Image) -> list[Face]:
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])  # OpenCV wants BGR
        rows = sorted(self._detect(image), key=lambda row: -row[2] * row[3])
        return [
            Face(
                crop=upright_square(image, row[4:14].reshape(5, 2)),
                box=(float(row[0]), float(row[1]), float(row[0] + row[2]), float(row[1] + row[3])),
                feature=self._feature(pixels, row),
                reader=self.name,
            )
            for row in rows
        ]

    def _detect(self, image: Image.Image) -> np.ndarray:
        """Detections (n, 15) in the picture's own pixels: box (4), landmarks (10), score."""
        # YuNet knows faces of 10 to 300 pixels: a close-up is found once the picture is small enough.
        for side in (640, 320, 160):
            small = image.convert("RGB")
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
            self._detector.setInputSize(small.size)
            rows = self._detector.detect(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))[1]
            if rows is not None:
                zoom = np.array([image.width / small.width, image.height / small.height])
                return np.hstack([rows[:, :14] * np.tile(zoom, 7), rows[:, 14:]]).astype(np.float32)
        return np.empty((0, 15), dtype=np.float32)

    def _feature(self, pixels: np.ndarray, row: np.ndarray) -> torch.Tensor:
        aligned = self._recogniser.alignCrop(pixels, row)
        feature = torch.from_numpy(np.array(self._recogniser.feature(aligned), dtype=np.float32).ravel())
        return feature / feature.norm().clamp_min(1e-12)


def upright_square(photo: Image.Image, landmarks: Any, size: int = 512) -> Image.Image:
    """Cut a face out turned upright, framed as in the FFHQ data set (Karras et al., 2019).

    landmarks: (5, 2) in pixels: the eye on the picture's left, the other, nose, mouth corners likewise.
    The square's half side is the larger of twice the distance between the eyes and 1.8 times that from eyes
    to mouth, and its centre lies a tenth of the way from the eyes to the mouth.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = np.asarray(landmarks, dtype=np.float64)
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across, down = right_eye - left_eye, mouth - eyes
    half = max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down))
    x = across + (down[1], -down[0])  # both say where the face's right is; their sum is steadier than either
    x = x / max(np.hypot(*x), 1e-12) * half
    y = np.array((-x[1], x[0]))
    corner = eyes + 0.1 * down - x - y
    side = max(round(2 * half), 1)
    step_x, step_y = 2 * x / side, 2 * y / side
    affine = (step_x[0], step_y[0], corner[0], step_x[1], step_y[1], corner[1])
    crop = photo.convert("RGB").transform(
        (side, side), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC, fillcolor=GREY
    )
    return crop.resize((size, size), Image.Resampling.LANCZOS)


def _fetch(repository: str, file: str, sha256: str) -> str:
    """The path of a hub file, downloaded once. Raises ModelError when offline or when the sum differs."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repository, file)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"the face model {repository} has to be downloaded once: {reason}") from error
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != sha256:
        raise ModelError(f"{path} is not the file expected (its SHA-256 differs); delete it and try again")
    return path
