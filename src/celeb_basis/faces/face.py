"""Face: what a reader finds in a photograph, and the feature that describes it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import NoFaceError, PhotoError, SeveralFacesError
from ..notation import excerpt

logger = logging.getLogger(__name__)

Square = tuple[float, float, float, float]
"""A square that may lie askew: (x, y) of its top left, and (x, y) from there to its top right, in pixels."""


@dataclass(frozen=True)
class Face:
    """One face: an upright square cut-out, where it was, and how a recogniser describes it.

    crop: square RGB picture, the head with some space around it.
    box: (left, top, right, bottom) of the face in the photograph, in pixels.
    feature: (d,) float32 of length one; the cosine of two features tells how alike two faces are.
    face_reader: the name of the reader that described it; features of two readers cannot be compared.
    flaws: what makes its likeness suffer, in words.
    weight: what it counts among several of one person, above 0 and at most 1.
    inside: which part of the crop lies in the photograph: white, in mode L; None for all of it.
    square: what of the photograph the recogniser saw; None where the reader does not say.
    crop_square: the same in pixels of the crop.
    crop_eyes: (x, y) of the eye on the crop's left, and (x, y) from there to the other, in its pixels; None likewise.
    """

    crop: Image.Image
    box: tuple[float, float, float, float]
    feature: Tensor
    face_reader: str = ""
    flaws: Sequence[str] = ()
    weight: float = 1.0
    inside: Image.Image | None = None
    square: Square | None = None
    crop_square: Square | None = None
    crop_eyes: Square | None = None


class FaceReader(Protocol):
    """Finds and describes faces. `name` goes into every face, and into the files made of them.

    A reader may say in an attribute `hint` what photos it can read, for the message where it finds nobody, and in
    `same_person` from which cosine on two faces are one person's. The loss on faces needs its `network`, a
    `FaceNetwork`, and the `square` of each face; methods that read each training image need their `crop_square`.
    """

    name: str

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """Return the faces of each picture, the largest first; an empty list where there is none."""
        ...


def mean_features(people: Sequence[Sequence[Face]]) -> Tensor:
    """Return each person's face feature (people, d) of length one: the mean over their photos, by their weights."""
    means = [torch.stack([face.weight * face.feature.float().cpu() for face in faces]).mean(0) for faces in people]
    return normalize(torch.stack(means), dim=-1)


def mean_feature(faces: Sequence[Face]) -> Tensor:
    """Return one person's face feature (d,), as `mean_features` does."""
    return mean_features([faces])[0]


def find_face(photo: Image.Image, reader: FaceReader, *, largest_face: bool = False) -> Face:
    """Return the face of a photograph; with `largest_face` the largest of several.

    Raises NoFaceError, or SeveralFacesError that says how many there are.
    """
    faces = reader.read([photo])[0]
    name = photo.info.get("path", "the photo")
    if not faces:
        hint = getattr(reader, "hint", "use a photo where the face is large, upright and in front")
        raise NoFaceError(f"{name}: no face found; {hint}")
    if len(faces) > 1 and not largest_face:
        raise SeveralFacesError(
            f"{name}: {len(faces)} faces found; cut the photo to one person, or take the largest",
            count=len(faces),
            argument="largest_face",
        )
    return faces[0]


def find_person(
    photos: Sequence[Image.Image], reader: FaceReader, *, largest_face: bool = False, mixed: bool = False
) -> list[Face]:
    """Return the face of one person in each of their photographs; the log names photos that are left out.

    Of several faces in a photo the one counts that is the person's in the other photos, or, with `largest_face`, the
    largest. Left out are photos without a face and, of three or more, those that show somebody else. What makes
    likeness suffer in the others is logged. With `mixed`, photos of different people are all kept, for a mix of them.

    Raises NoFaceError where no photo has a face, SeveralFacesError where it is unclear whose photo one is, and
    PhotoError where the photos show different people, none of them on most.
    """
    faces = [find_face(photos[0], reader, largest_face=largest_face)] if len(photos) == 1 else []
    named = [(faces[0], _name(photos[0]))] if faces else _of_several(photos, reader, largest_face, mixed)
    for face, name in named:
        for flaw in face.flaws:
            logger.warning(f"{name}: likeness will suffer, as {flaw}")
    if len(named) > 1 and any(face.flaws for face, _ in named):
        logger.warning(f"the best of these photos is {max(named, key=lambda each: each[0].weight)[1]}")
    return [face for face, _ in named]


def _of_several(
    photos: Sequence[Image.Image], reader: FaceReader, largest_face: bool, mixed: bool
) -> list[tuple[Face, str]]:
    seen = [([*faces], photo) for faces, photo in zip(reader.read(photos), photos, strict=True)]
    if not any(faces for faces, _ in seen):
        find_face(photos[0], reader)  # raises with the reader's own hint
    alone = [faces[0] for faces, _ in seen if len(faces) == 1]
    found = []
    for faces, photo in seen:
        if not faces:
            logger.warning(f"{_name(photo)}: no face found; this photo is left out")
            continue
        if len(faces) > 1 and not largest_face:
            faces = _the_persons(faces, alone, reader) or [find_face(photo, reader)]  # which raises
        found.append((faces[0], _name(photo)))
    return found if mixed else _without_others(found, reader)


def _the_persons(faces: Sequence[Face], alone: Sequence[Face], reader: FaceReader) -> list[Face]:
    """Return the face of a group that is the person's, as in the photos with one face; none where that is unclear."""
    threshold = getattr(reader, "same_person", None)
    if threshold is None or not alone:
        return []
    alike = [max(float(face.feature @ other.feature) for other in alone) for face in faces]
    return [faces[alike.index(max(alike))]] if max(alike) >= threshold else []


def _without_others(found: list[tuple[Face, str]], reader: FaceReader) -> list[tuple[Face, str]]:
    """Return the photos of whoever is on most of them. Raises PhotoError where nobody is."""
    threshold = getattr(reader, "same_person", None)
    if threshold is None or len(found) < 2:
        return found
    features = torch.stack([face.feature for face, _ in found])
    same = features @ features.T >= threshold
    for _ in found:  # photos of one person are linked, directly or through others
        same = (same.float() @ same.float()) > 0
    most = int(same.sum(1).max())
    if most == len(found):
        return found
    groups = {tuple(row.tolist()) for row in same if int(row.sum()) == most}
    if len(groups) > 1:
        names = ", ".join(name for _, name in found)
        raise PhotoError(
            f"these photos look like different people, and nobody is on most of them: {excerpt(names)}; leave out "
            "those of others, or ask for a mix of all",
            argument="mixed",
        )
    [kept] = groups
    for (_, name), stays in zip(found, kept, strict=True):
        if not stays:
            logger.warning(f"{name}: looks like somebody else than the other photos; this photo is left out")
    return [each for each, stays in zip(found, kept, strict=True) if stays]


def _name(photo: Image.Image) -> str:
    return str(photo.info.get("path", "the photo"))
