"""What a face looks like, in numbers that no network here has learnt: SFace's, and the head's coarse pixels on grey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from celeb_basis.faces.detect import Detector
from celeb_basis.faces.recognise import DEFAULT_RECOGNISER, RECOGNISERS, YUNET, opencv
from celeb_basis.miniature.portraits.heads import CROP_REACH, Heads

from . import pack

FILE = "features.safetensors"
COARSE, COMPONENTS = 24, 48
"""Side of the coarse pictures in pixels, and how many of their principal components are taken."""
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


def of_crops(crops: Tensor) -> Tensor:
    """Return SFace's features `(n, 128)` of face crops, bytes `(n, 3, side, side)`, by one look of YuNet at each.

    They are of length one, and not a number where no face is found.
    """
    cv2.setNumThreads(1)
    side = crops.shape[-1]
    finder = opencv().FaceDetectorYN.create(YUNET.fetch(), "", (side, side))
    recogniser = RECOGNISERS[DEFAULT_RECOGNISER]
    describe = recogniser.load(recogniser.file.fetch())
    read = torch.full((len(crops), 128), torch.nan)
    for i, image in enumerate(tqdm(images(crops), "features", mininterval=10)):
        rows = finder.detect(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))[1]
        if rows is not None:
            largest = max(rows, key=lambda row: row[2] * row[3])
            read[i] = torch.from_numpy(describe(image, largest[4:14].reshape(5, 2).astype(np.float64)).ravel())
    return normalize(read, dim=-1)


def coarse(heads: Heads) -> Tensor:
    """Return the heads on grey, without what surrounds them, `(n, 3 * 24 * 24)` in [0, 1]."""
    middle = torch.full((len(heads),), COARSE / 2)
    seen = []
    for part in torch.arange(len(heads)).split(64):
        at = middle[part]
        laid = heads.laid(("head",), part, torch.zeros(len(part)), at, at, at / CROP_REACH, COARSE, COARSE)
        seen.append((GREY + (laid[:, :3] - GREY) * laid[:, 3:]).flatten(1))
    return torch.cat(seen)


def run(folder: Path, *, device: str) -> None:
    """Read all heads, once."""
    if (folder / FILE).exists():
        return
    heads = pack.load(folder)
    sface = of_crops(heads.crops)
    missing = sface.isnan().any(1)
    print(f"{int(missing.sum())} of {len(missing)} crops without a face: they count as the mean of all others")
    sface[missing] = sface[~missing].mean(0)
    save_file({"sface": sface, "coarse": coarse(heads)}, folder / FILE)


def of_celebrities(folder: Path, heads: Heads) -> tuple[Tensor, Tensor]:
    """Return SFace's features `(n, 128)` and the coarse components `(n, 48)` of celebrities, the most famous first.

    Both are centred, and every number is divided by the root of its spread, so that what varies most still counts most
    and little is lost. Several photographs of one person are averaged.
    """
    state = load_file(folder / FILE)
    kept = heads.celebrity >= 0
    rank = heads.celebrity[kept]
    many = rank.bincount()[:, None]
    sface, pixels = (torch.zeros(len(many), state[key].shape[1]).index_add(0, rank, state[key][kept]) / many
                     for key in ("sface", "coarse"))  # fmt: skip
    pixels = pixels - pixels.mean(0)
    _, _, components = torch.linalg.svd(pixels, full_matrices=False)
    return _standardised(sface), _standardised(pixels @ components[:COMPONENTS].T)


def _standardised(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0).sqrt()
