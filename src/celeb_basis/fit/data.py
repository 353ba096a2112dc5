"""Training images: a face at random sizes and places on black, and their latents."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ..backend.denoiser import Denoiser
from ..errors import IdentityError, ModelError
from ..faces.face import Face, FaceReader, Square
from ..faces.network import FaceNetwork, pixels_of
from ..notation import excerpt
from .recipe import SCALES

logger = logging.getLogger(__name__)

FINER = 2  # where images are made for every step, a crop keeps so many times the pixels that are read of it
HAIR_WEIGHT = 0.1  # of the head around a face in the loss, where the face counts 1


@dataclass(frozen=True)
class Augmentation:
    """How a face crop becomes a training image; it is mirrored half of the time.

    scales: sizes on the black canvas, as shares of its side, of which each image takes one.
    continuous: any size from the least scale to the largest, at any place; otherwise sides and places are multiples of
        the autoencoder's factor, so that a face covers whole latents.
    aspect: the width is the height times 1 - aspect to 1 + aspect.
    crop: side of the part of the crop that is taken, somewhere in it, as a share.
    colour: brightness, contrast and saturation are multiplied by 1 - colour to 1 + colour each.
    hue: by how much of a turn colours move, at most.
    """

    scales: Sequence[float] = SCALES
    continuous: bool = False
    aspect: float = 0.0
    crop: float = 1.0
    colour: float = 0.2
    hue: float = 0.0


WHOLE = Augmentation(scales=(1.0,), continuous=True, colour=0.0)
"""The crop as it is."""


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """A face on black.

    pixels: (3, size, size) in -1..1.
    box: what the face covers: top, left, height, width in pixels.
    weights: of each latent in a loss on faces, (1, size / vae_scale_factor, size / vae_scale_factor).
    face: the changed crop that lies on the black, (3, side, side) in 0..1.
    square: what of it a recogniser is to see; None where the reader of the face did not say.
    """

    pixels: Tensor
    box: tuple[int, int, int, int]
    weights: Tensor
    face: Tensor
    square: Square | None


def image_network(reader: FaceReader | None, people: Sequence[Sequence[Face]]) -> FaceNetwork | None:
    """Return the network that is to describe the faces of training images; where there is none, the log says why."""
    faces = [face for own in people for face in own]
    network = None
    try:
        network = getattr(reader, "network", None)
        why = f"{reader.name} has no network of torch" if reader else "no face reader is at hand"
    except ModelError as error:
        why = error.message
    if reader and isinstance(network, FaceNetwork):
        if others := sorted({face.face_reader for face in faces} - {reader.name}):
            why = f"the photos were read by {excerpt(', '.join(others))}, not by {reader.name}"
        elif not all(face.crop_square for face in faces):
            why = f"{reader.name} does not say where in these faces it looked"
        else:
            return network
    logger.info(f"training images count with the face feature of the photograph, not with their own: {why}")
    return None


class TrainingImages:
    """A person's training images as latents, each made and encoded when it is first needed.

    A short fit needs few of them, and encoding one costs as much as a step.

    resolution: side of the images in pixels. Raises IdentityError unless it fits the denoiser.
    num_train_images: how many there are; None makes a new one whenever one is asked for, and takes a sample of the
        autoencoder's posterior instead of its mode.
    network: describes the face of each image, before it is pasted on black.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        faces: Sequence[Face],
        *,
        resolution: int,
        augmentation: Augmentation,
        num_train_images: int | None,
        generator: torch.Generator,
        network: FaceNetwork | None = None,
    ) -> None:
        if resolution % denoiser.size_multiple:
            raise IdentityError(
                f"a resolution of {resolution} pixels must be a multiple of {denoiser.size_multiple}",
                argument="resolution",
            )
        self._denoiser, self._faces, self._resolution, self._augmentation = denoiser, faces, resolution, augmentation
        self._generator, self._fresh, self._network = generator, num_train_images is None, network
        if self._fresh:
            self._faces = [_shrunk(face, _pixels_read(face, resolution, augmentation, network)) for face in faces]
        self._seeds = torch.randint(2**62, (num_train_images or 0,), generator=generator).tolist()
        self._latents: dict[int, Tensor] = {}
        self._weights: dict[int, Tensor] = {}
        self._features: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._seeds)

    def draw(self, n: int) -> Tensor:
        """Return the numbers of n images taken at random, (n,)."""
        if not self._fresh:
            return torch.randint(len(self), (n,), generator=self._generator)
        for made in (self._latents, self._weights, self._features):
            made.clear()
        self._seeds = torch.randint(2**62, (n,), generator=self._generator).tolist()
        return torch.arange(n)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the latents (n, c, h, w) of the images with these numbers, (n,)."""
        wanted = index.tolist()
        if new := sorted(set(wanted) - self._latents.keys()):
            images = [self._make(i) for i in new]
            encoded = self._denoiser.encode(
                torch.stack([image.pixels for image in images]), self._generator if self._fresh else None
            )
            self._latents |= zip(new, encoded, strict=True)
            self._weights |= zip(new, (image.weights for image in images), strict=True)
            if self._network is not None:
                self._features |= zip(new, _described(images, self._network), strict=True)
        return torch.stack([self._latents[i] for i in wanted])

    def face_weights(self, index: Tensor) -> Tensor:
        """Return the weights of the latents in a loss on faces, (n, 1, h, w), for images that were made before."""
        return torch.stack([self._weights[i] for i in index.tolist()])

    def features(self, index: Tensor) -> Tensor | None:
        """Return the features (n, d) of the faces in images that were made before, if a network describes them."""
        return None if self._network is None else torch.stack([self._features[i] for i in index.tolist()])

    def _make(self, i: int) -> TrainingImage:
        return training_image(
            self._faces,
            size=self._resolution,
            vae_scale_factor=self._denoiser.vae_scale_factor,
            augmentation=self._augmentation,
            generator=torch.Generator().manual_seed(self._seeds[i]),
        )


def _pixels_read(face: Face, resolution: int, augmentation: Augmentation, network: FaceNetwork | None) -> int:
    """Return the side in pixels that a face's crop needs: more shows neither in an image nor to a network."""
    side = resolution / augmentation.crop
    if network is not None and face.crop_square is not None:
        side = max(side, network.size * face.crop.width / max(math.hypot(*face.crop_square[2:]), 1.0))
    return math.ceil(side)


def _shrunk(face: Face, read: int) -> Face:
    """Return a face whose crop is FINER times what is read of it, if it was larger."""
    whole, side = face.crop.width, FINER * read
    if whole <= side:
        return face
    inside = face.inside
    if inside is not None:
        inside = inside.resize((side, side), Image.Resampling.BOX)
    crop = face.crop.resize((side, side), Image.Resampling.BICUBIC)
    square, eyes = (_scaled(each, side / whole) for each in (face.crop_square, face.crop_eyes))
    return replace(face, crop=crop, inside=inside, crop_square=square, crop_eyes=eyes)


def _scaled(square: Square | None, factor: float) -> Square | None:
    if square is None:
        return None
    x, y, right, down = square
    return x * factor, y * factor, right * factor, down * factor


@torch.no_grad()
def _described(images: Sequence[TrainingImage], network: FaceNetwork) -> Tensor:
    """Return the features (n, d) of the faces in some images, each as bright, coloured and mirrored as it is there."""
    squares = [image.square for image in images if image.square is not None]
    return network.features([image.face * 2 - 1 for image in images], squares).float().cpu()


def training_image(
    faces: Sequence[Face],
    *,
    size: int,
    vae_scale_factor: int,
    augmentation: Augmentation = Augmentation(),
    generator: torch.Generator,
) -> TrainingImage:
    """Make a training image of `size` pixels from one of several faces, on a black canvas.

    Source: the training images of Yuan et al. (2023).
    """
    chosen, unit = faces[_pick(len(faces), generator)], vae_scale_factor
    face = _jitter(pixels_of(chosen.crop), augmentation, generator)
    # What lies outside the photograph is grey, and not the person's.
    inside = torch.ones_like(face[:1]) if chosen.inside is None else pixels_of(chosen.inside)[:1]
    square = chosen.crop_square
    if _pick(2, generator):
        face, inside = face.flip(-1), inside.flip(-1)
        if square is not None:
            x, y, right, down = square
            square = (face.shape[-1] - x - right, y + down, right, -down)
    whole_face = face
    place = _anywhere if augmentation.continuous else _on_grid
    box = top, left, height, width = place(augmentation, size, unit, generator)
    whole = face.shape[-1]
    part = round(augmentation.crop * whole)
    down, across = (_pick(whole - part + 1, generator) if part < whole else 0 for _ in range(2))
    face, inside = (x[None, :, down : down + part, across : across + part] for x in (face, inside))
    face = interpolate(face, (height, width), mode="bicubic", antialias=True, align_corners=False)[0]
    pixels = torch.full((3, size, size), -1.0)
    pixels[:, top : top + height, left : left + width] = face.clamp(0, 1) * 2 - 1
    covered = torch.zeros(1, size, size)
    covered[:, top : top + height, left : left + width] = interpolate(inside, (height, width), mode="area")[0]
    # The face lies in the crop as a whole, of which a part was taken.
    tall, wide = height * whole / part, width * whole / part
    head = (top - down * height / part, left - across * width / part, tall, wide)
    weights = face_weights(size // unit, *(length / unit for length in head)) * avg_pool2d(covered, unit)
    return TrainingImage(pixels, box, weights, whole_face, square)


def _on_grid(augmentation: Augmentation, size: int, unit: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Return a square of one of the scales: top, left, height and width, multiples of the unit."""
    options = augmentation.scales
    side = min(size, max(unit, round(options[_pick(len(options), generator)] * size / unit) * unit))
    top, left = (_pick((size - side) // unit + 1, generator) * unit for _ in range(2))
    return top, left, side, side


def _anywhere(
    augmentation: Augmentation, size: int, unit: int, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Return a box of any height between the scales and about as wide: top, left, height and width."""
    least, most, wide = min(augmentation.scales), max(augmentation.scales), augmentation.aspect
    tall, ratio = torch.rand(2, generator=generator).tolist()
    height = min(size, max(1, int(size * (least + (most - least) * tall))))
    width = min(size, max(1, int(height * (1 - wide + 2 * wide * ratio))))
    top, left = (_pick(size - side + 1, generator) for side in (height, width))
    return top, left, height, width


def face_weights(size: int, top: float, left: float, height: float, width: float) -> Tensor:
    """Return weights (1, size, size) for a face crop that covers a box: 1 on the face, .1 on the head, 0 elsewhere.

    Two ellipses approximate the masks of a face parser: in the framing of `align_ffhq` a face from brows to chin is
    about .6 of the crop wide and .76 high, a little below its centre, and the head fills the crop.
    """
    centre = torch.arange(size) + 0.5
    y, x = ((centre - top) / height)[:, None], (centre - left) / width
    face = ((x - 0.5) / 0.3).square() + ((y - 0.57) / 0.38).square() <= 1
    head = (x - 0.5).square() + (y - 0.5).square() <= 0.25
    return (face + HAIR_WEIGHT * (head & ~face))[None]


def _pick(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _jitter(face: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue a little."""
    if augmentation.colour:
        low, high = 1 - augmentation.colour, 1 + augmentation.colour
        brightness, contrast, saturation = (low + (high - low) * torch.rand(3, generator=generator)).tolist()
        face = (face * brightness).clamp(0, 1)
        face = torch.lerp(face.mean(), face, contrast).clamp(0, 1)
        face = torch.lerp(face.mean(0, keepdim=True), face, saturation).clamp(0, 1)
    if augmentation.hue:
        turn = augmentation.hue * (2 * float(torch.rand((), generator=generator)) - 1)
        face = (_hue_rotation(turn) @ face.flatten(1)).view_as(face).clamp(0, 1)
    return face


def _hue_rotation(turn: float) -> Tensor:
    """Return the matrix that turns colours about the grey axis, by a part of a full turn."""
    angle = 2 * math.pi * turn
    cos, sin = math.cos(angle), math.sin(angle) / math.sqrt(3)
    mean = (1 - cos) / 3
    return torch.tensor([[cos + mean, mean - sin, mean + sin], [mean + sin, cos + mean, mean - sin],
                         [mean - sin, mean + sin, cos + mean]])  # fmt: skip
