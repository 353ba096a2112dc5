"""What a face looks like, in numbers that no network here has learnt: SFace's, and pixels of the head and the face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from tqdm import tqdm

from celeb_basis.faces.detect import Detector
from celeb_basis.faces.recognise import DEFAULT_RECOGNISER, RECOGNISERS, YUNET, opencv
from celeb_basis.miniature.portraits.heads import CROP_REACH, Heads

from . import pack

FILE = "features.safetensors"
COARSE, FINE = 24, 48
"""Sides in pixels of the heads on grey."""
COMPONENTS = {"coarse": 16, "fine": 96}
"""How many principal components are taken of each."""
EDGES, PLAIN, BLUR = 4.0, 0.5, 2.0
"""In the middle of a face, what is finer than a blur of so many pixels counts more than what is not."""
MIDDLE = (0.3, 0.45)
"""How far it reaches to the sides, and up and down: the spread of a bell, in halves of the square."""
GREY = 0.5


class Reader:
    """YuNet and recognisers, as the package reads any photograph, without what only fits need."""

    def __init__(self, *recognisers: str) -> None:
        self._detector = Detector()
        self._describe = [RECOGNISERS[name].load(RECOGNISERS[name].file.fetch()) for name in recognisers]

    def features(self, images: Sequence[Image.Image]) -> list[list[Tensor]]:
        """Return by each recogniser the features `(faces, 128)`, of length one, of each picture's faces.

        They are in the order of the pictures, and in each from left to right.
        """
        found = [
            sorted(self._detector.find(image), key=lambda face: float(face.box[0] + face.box[2])) for image in images
        ]
        return [
            [
                normalize(torch.tensor(np.array([describe(image, face.landmarks).astype(np.float32).ravel()
                                                 for face in faces])).view(len(faces), 128), dim=-1)
                for image, faces in zip(images, found, strict=True)
            ]
            for describe in self._describe
        ]  # fmt: skip


def images(pictures: Tensor) -> list[Image.Image]:
    """Return bytes `(n, 3, h, w)` as images."""
    return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]


def of_crops(crops: Tensor, recogniser: str = DEFAULT_RECOGNISER) -> Tensor:
    """Return features `(n, 128)` of face crops, bytes `(n, 3, side, side)`, by one look of YuNet at each.

    They are of length one, and not a number where no face is found.
    """
    cv2.setNumThreads(1)
    side = crops.shape[-1]
    finder = opencv().FaceDetectorYN.create(YUNET.fetch(), "", (side, side))
    describe = RECOGNISERS[recogniser].load(RECOGNISERS[recogniser].file.fetch())
    read = torch.full((len(crops), 128), torch.nan)
    for i, image in enumerate(tqdm(images(crops), "features", mininterval=10)):
        rows = finder.detect(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))[1]
        if rows is not None:
            largest = max(rows, key=lambda row: row[2] * row[3])
            read[i] = torch.from_numpy(describe(image, largest[4:14].reshape(5, 2).astype(np.float64)).ravel())
    return normalize(read, dim=-1)


def coarse(heads: Heads) -> Tensor:
    """Return the heads on grey, without what surrounds them, `(n, 3 * 24 * 24)` in [0, 1]."""
    parts = torch.arange(len(heads)).split(64)
    return torch.cat([_on_grey("head", heads, part, COARSE).flatten(1) for part in parts])


def fine(heads: Heads) -> Tensor:
    """Return the middles of faces in grey, as the heads lie in pictures: `(n, 48 * 48)`.

    Eyes, nose and mouth are small, and say who somebody is: principal components of whole heads say it late. By SFace,
    112 of the plain heads' give back .26 of a face, 16 of theirs and 96 of these .52. They are not taken from crops,
    whose eyes are not in one place.
    """
    across, down = (torch.exp(-((torch.linspace(-1, 1, FINE) / spread) ** 2) / 2) for spread in MIDDLE)
    seen = []
    for part in torch.arange(len(heads)).split(64):
        grey = interpolate(_on_grey("whole", heads, part, 2 * FINE), (FINE, FINE), mode="area").mean(1)
        blurred = np.stack([cv2.GaussianBlur(picture, (0, 0), BLUR) for picture in grey.numpy()])
        weighed = EDGES * (grey - torch.from_numpy(blurred)) + PLAIN * grey
        seen.append((weighed * across * down[:, None]).flatten(1))
    return torch.cat(seen)


def _on_grey(mask: str, heads: Heads, picture: Tensor, side: int) -> Tensor:
    """Return heads on grey, framed as face crops are, `(n, 3, side, side)` in [0, 1]."""
    middle = torch.full((len(picture),), side / 2)
    laid = heads.laid((mask,), picture, torch.zeros(len(picture)), middle, middle, middle / CROP_REACH, side, side)
    return GREY + (laid[:, :3] - GREY) * laid[:, 3:]


def run(folder: Path, *, device: str) -> None:
    """Read all heads, once."""
    if (folder / FILE).exists():
        return
    heads = pack.load(folder)
    state = {"sface": filled(of_crops(heads.crops)), "coarse": coarse(heads), "fine": fine(heads)}
    save_file(state, folder / FILE)


def filled(features: Tensor) -> Tensor:
    """Return features with the mean of all others where they are not a number."""
    missing = features.isnan().any(1)
    print(f"{int(missing.sum())} of {len(missing)} crops without a face: they count as the mean of all others")
    return torch.where(missing[:, None], features[~missing].mean(0), features)


def of_celebrities(folder: Path, heads: Heads) -> dict[str, Tensor]:
    """Return features of celebrities, the most famous first: SFace's `(n, 128)`, and the pixels' first components."""
    return {key: averaged(value, heads, COMPONENTS.get(key)) for key, value in load_file(folder / FILE).items()}


def averaged(features: Tensor, heads: Heads, components: int | None = None) -> Tensor:
    """Return features `(photographs, d)` of celebrities, the most famous first, or their first principal components.

    All are centred, and every number is divided by the root of its spread, so that what varies most still counts most
    and little is lost. Several photographs of one person are averaged.
    """
    kept = heads.celebrity >= 0
    rank = heads.celebrity[kept]
    many = rank.bincount()[:, None]
    x = torch.zeros(len(many), features.shape[1]).index_add(0, rank, features[kept]) / many
    x = x - x.mean(0)
    if components:
        _, _, directions = torch.linalg.svd(x, full_matrices=False)
        x = x @ directions[:components].T
    return x / x.std(0).sqrt()
