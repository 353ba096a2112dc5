"""Photographs and the faces in them: a file becomes an upright RGB picture, and that a `Face`."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import NoFaceError, PhotoError, SeveralFacesError

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
    return cut_square(photo, eyes + 0.1 * down - x - y, 2 * x, size)


def cut_square(photo: Image.Image, corner: Any, across: Any, size: int) -> Image.Image:
    """Cut a square that may lie askew in a photograph out upright, size x size; what is outside is grey.

    corner: (x, y) in pixels of what becomes the top left; across: (x, y) from there to the top right.
    """
    side = max(round(float(np.hypot(*across))), 1)  # cut at the photograph's own scale, so that nothing aliases
    (x, y), (dx, dy) = corner, np.asarray(across) / side
    affine = (dx, -dy, x, dy, dx, y)
    cut = photo.convert("RGB").transform(
        (side, side), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC, fillcolor=GREY
    )
    return cut.resize((size, size), Image.Resampling.LANCZOS)
