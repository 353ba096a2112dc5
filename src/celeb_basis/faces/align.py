"""Faces cut out of photographs, upright and square."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from .photo import GREY

# Where recognisers expect eyes, nose and mouth corners in a picture of 112 x 112; from ArcFace (Deng et al., 2019).
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
ALIGNED = 112  # side of the picture that TEMPLATE is about, in pixels
CROP = 512  # side of what `align_ffhq` cuts out, in pixels


def align_ffhq(photo: Image.Image, landmarks: Any, size: int = CROP) -> Image.Image:
    """Cut a face out turned upright, framed as in the FFHQ data set (Karras et al., 2019).

    landmarks: (5, 2) in pixels: the eye on the picture's left, the other, nose, mouth corners likewise.
    """
    corner, across = frame(landmarks)
    return cut_square(photo, corner, across, size)


def inside_photo(photo: Image.Image, landmarks: Any) -> Image.Image | None:
    """Return which part of what `align_ffhq` cuts out lies in the photograph: white, in mode L; None for all of it."""
    corner, across = frame(landmarks)
    white = Image.new("RGB", photo.size, "white")
    inside = cut_square(white, corner, across, 128, outside=(0, 0, 0)).convert("L")
    return None if inside.getextrema()[0] == 255 else inside


def frame(landmarks: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return where a face's upright square lies: (x, y) of its top left, and (x, y) from there to its top right.

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
    return eyes + 0.1 * down - x - y, 2 * x


def align_arcface(photo: Image.Image, landmarks: np.ndarray) -> Image.Image:
    """Cut a face out, 112 x 112, with its landmarks (5, 2) as near to TEMPLATE as turning and scaling bring them."""
    return cut_square(photo, *alignment(landmarks), ALIGNED)


def alignment(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the square of `align_arcface` lies: (x, y) of its top left, and from there to its top right."""
    # As complex numbers a turn and a scale are one factor, and least squares has it in closed form.
    here, there = landmarks @ (1, 1j), TEMPLATE @ (1, 1j)
    spread = here - here.mean()
    factor = (spread.conj() @ spread) / (spread.conj() @ (there - there.mean()))  # from the template to the photo
    half = (1 + 1j) / 2  # landmarks count from the middle of the first pixel, a cut from its corner
    corner, across = here.mean() + half - factor * (there.mean() + half), factor * ALIGNED
    return np.array([corner.real, corner.imag]), np.array([across.real, across.imag])


def aligned_in_crop(landmarks: np.ndarray) -> tuple[float, float, float, float]:
    """Return where the square of `align_arcface` lies in what `align_ffhq` cuts out, as a `Square` in its pixels."""
    return _in_crop(landmarks, *alignment(landmarks))


def eyes_in_crop(landmarks: np.ndarray) -> tuple[float, float, float, float]:
    """Return an eye and the way to the other in what `align_ffhq` cuts out, as `Face.crop_eyes` has it."""
    left, right = landmarks[:2]
    return _in_crop(landmarks, left + 0.5, right - left)  # counted from the corner of the first pixel


def _in_crop(landmarks: np.ndarray, place: Any, way: Any) -> tuple[float, float, float, float]:
    """Return a place in the photograph and a way from there in pixels of what `align_ffhq` cuts out."""
    corner, across = (each @ (1, 1j) for each in frame(landmarks))
    x, right = ((place @ (1, 1j)) - corner) / across * CROP, (way @ (1, 1j)) / across * CROP
    return (float(x.real), float(x.imag), float(right.real), float(right.imag))


def cut_square(
    photo: Image.Image, corner: Any, across: Any, size: int, outside: tuple[int, int, int] = GREY
) -> Image.Image:
    """Cut a square that may lie askew in a photograph out upright, size x size; what is outside is grey.

    corner: (x, y) in pixels of what becomes the top left; across: (x, y) from there to the top right.
    """
    side = max(round(float(np.hypot(*across))), 1)  # cut at the photograph's own scale, so that nothing aliases
    (x, y), (dx, dy) = corner, np.asarray(across) / side
    affine = (dx, -dy, x, dy, dx, y)
    cut = photo.convert("RGB").transform(
        (side, side), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC, fillcolor=outside
    )
    return cut.resize((size, size), Image.Resampling.LANCZOS)
