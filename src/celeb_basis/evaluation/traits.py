"""Traits: what a face reader, or a CLIP beside it, sees of a face besides whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from ..errors import ModelError
from ..faces.face import Face, FaceReader
from .clip import Clip

# Each trait as two captions: of a face that has it, and of one that has not.
CAPTIONS = {
    "smile": ("a photo of a smiling person", "a photo of a person with a serious face"),
    "age": ("a photo of an old person", "a photo of a young person"),
    "glasses": ("a photo of a person with glasses", "a photo of a person without glasses"),
    "beard": ("a photo of a person with a beard", "a photo of a clean-shaven person"),
    "long-hair": ("a photo of a person with long hair", "a photo of a person with short hair"),
    "fair-hair": ("a photo of a person with blond hair", "a photo of a person with black hair"),
}


@runtime_checkable
class TraitReader(Protocol):
    """A face reader in whose features traits show: how much of each is the product with the trait's row."""

    name: str

    def trait_rows(self) -> Mapping[str, Tensor]:
        """Return the row (d,) of each trait."""
        ...

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """Return the faces of each picture, as `FaceReader.read` does."""
        ...


class ClipReader:
    """Describes the faces that another reader finds as a CLIP sees their cut-outs; captions say what a trait is.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), whose
    zero-shot classifier this is, without its softmax.
    """

    def __init__(self, reader: FaceReader, clip: Clip) -> None:
        self._reader, self._clip = reader, clip
        self.name = f"{clip.name} of faces found by {reader.name}"

    def trait_rows(self) -> Mapping[str, Tensor]:
        """Return the row (d,) of each trait: the difference of its captions' features."""
        has, has_not = (self._clip.text_features([pair[i] for pair in CAPTIONS.values()]) for i in range(2))
        return dict(zip(CAPTIONS, has - has_not, strict=True))

    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """Return the faces of each picture with CLIP's features."""
        found = self._reader.read(images)
        crops = [face.crop for faces in found for face in faces]
        features = iter(self._clip.image_features(crops)) if crops else iter(())
        return [[replace(face, feature=next(features), face_reader=self.name) for face in faces] for faces in found]


def get_trait_reader(reader: FaceReader, clip: str | None = None) -> TraitReader:
    """Return the reader itself where it sees traits, or else a CLIP that describes the faces it finds.

    clip: hub id or folder, by default that of `Clip.load`. Raises ModelError where it cannot be had, or is not needed.
    """
    if isinstance(reader, TraitReader):
        if clip:
            raise ModelError(f"{reader.name} sees traits itself: leave {clip} out", argument="clip")
        return reader
    if clip == "none":
        raise ModelError("traits are seen by a CLIP: name a folder or hub id", argument="clip")
    return ClipReader(reader, Clip.load(clip))
