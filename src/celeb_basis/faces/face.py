"""Face: what a reader finds in a photograph, and the feature that describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image

from ..errors import NoFaceError, SeveralFacesError


@dataclass(frozen=True)
class Face:
    """One face: an upright square cut-out, where it was, and how a recogniser describes it.

    crop: square RGB picture, the head with some space around it.
    box: (left, top, right, bottom) of the face in the photograph, in pixels.
    feature: (d,) float32 of length one; the cosine of two features tells how alike two faces are.
    face_reader: the name of the reader that described it; features of two readers cannot be compared.
    flaws: what makes its likeness suffer, in words.
    weight: what it counts among several of one person, above 0 and at most 1.
    """

    crop: Image.Image
    box: tuple[float, float, float, float]
    feature: torch.Tensor
    face_reader: str = ""
    flaws: Sequence[str] = ()
    weight: float = 1.0


class FaceReader(Protocol):
    """Finds and describes faces. `name` goes into every face, and into the files made of them.

    A reader may say in an attribute `hint` what photos it can read, for the message where it finds nobody, and in
    `same_person` from which cosine on two faces are one person's.
    """

    name: str

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """The faces of each picture, the largest first; an empty list where there is none."""
        ...


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
            f"{name}: {len(faces)} faces found; cut the photo to one person, or take the largest with largest=True",
            len(faces),
        )
    return faces[0]
